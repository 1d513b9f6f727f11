package openai

import (
	"slices"
	"strings"
	"testing"

	"serve/prompt"
)

// TestModerationResult finds OpenAI's categories for a guard's.
func TestModerationResult(t *testing.T) {
	for _, tt := range []struct {
		named   []string
		flagged string
	}{
		{nil, ""},
		{[]string{"Violent Crimes"}, "illicit illicit/violent violence"},
		{[]string{"Hate", "Defamation"}, "hate"},
		{[]string{"Defamation"}, ""}, // flagged, though OpenAI has no such category
		{[]string{"Violent Crimes", "Defamation", "Hate"}, "hate illicit illicit/violent violence"},
	} {
		unsafe := tt.named != nil
		r := newModerationResult(prompt.Verdict{
			Unsafe:      unsafe,
			Probability: 0.75,
			Categories:  tt.named,
		})
		if r.Flagged != unsafe || !slices.Equal(r.Named, tt.named) || len(r.Categories) != 13 || len(r.Scores) != 13 {
			t.Errorf("%q: %+v", tt.named, r)
		}

		var flagged []string
		for _, c := range moderationCategories {
			if r.Categories[c] {
				flagged = append(flagged, c)
			}
			judged := r.Scores[c] == 0.75
			if r.Categories[c] != judged || judged != slices.Equal(r.Applied[c], []string{"text"}) {
				t.Errorf("%q: %s %+v", tt.named, c, r)
			}
		}
		if strings.Join(flagged, " ") != tt.flagged {
			t.Errorf("%q: flagged %v", tt.named, flagged)
		}
	}
}
