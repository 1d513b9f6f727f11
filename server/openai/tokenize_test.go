package openai

import (
	"slices"
	"testing"

	"serve/engine"
)

// TestWithoutEnds takes from a text's tokens what was added, and nothing that was in it.
func TestWithoutEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		marks engine.Marks
		given []engine.Token
		want  []engine.Token
	}{
		"nothing is added":        {engine.Marks{BOS: 1, EOS: 2, Separator: 3}, []engine.Token{1, 7, 2}, []engine.Token{1, 7, 2}},
		"a beginning":             {engine.Marks{BOS: 1, EOS: 2, AddBOS: true}, []engine.Token{1, 7, 2}, []engine.Token{7, 2}},
		"a beginning in the text": {engine.Marks{BOS: 1, EOS: 2, AddBOS: true}, []engine.Token{1, 1}, []engine.Token{1}},
		"an end":                  {engine.Marks{BOS: 1, EOS: 2, AddEOS: true}, []engine.Token{7, 2}, []engine.Token{7}},
		"an encoder's":            {engine.Marks{BOS: 1, Separator: 3, AddBOS: true, AddSeparator: true}, []engine.Token{1, 7, 3}, []engine.Token{7}},
		"of no text":              {engine.Marks{BOS: 1, EOS: 2, AddBOS: true, AddEOS: true}, []engine.Token{1, 2}, nil},
		"none":                    {engine.Marks{BOS: 1, EOS: 2, AddBOS: true, AddEOS: true}, nil, nil},
	} {
		if got := withoutEnds(tt.given, &tt.marks); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}
