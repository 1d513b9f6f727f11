package engine

import (
	"errors"
	"testing"
)

// echo is a parser whose content is the text.
type echo struct{ broken bool }

func (*echo) Close() {}

func (p *echo) Append(text string, last bool) (Delta, error) {
	if last && p.broken {
		return Delta{}, errors.New("not in the format")
	}
	return Delta{Content: text}, nil
}

func TestContinuation(t *testing.T) {
	for _, tt := range []struct{ begun, text, want string }{
		{"The answer is ", "The answer is four", "four"},
		{"The answer is", "The answer is four", " four"},
		{"The answer is ", "The answer isfour", "four"},
		{"The answer is \n", "The answer is  four", " four"},
		{"The answer", "The an", ""},
		{"The answer", "The answer", ""},
		{"The answer", "Something else", "Something else"},
		{"ha, ha", "ha, ha, ha", ", ha"},
	} {
		for n := 1; n <= len(tt.text); n++ {
			p := &continuation{Parser: &echo{}, begun: tt.begun}
			got := ""
			for i := 0; i < len(tt.text); i += n {
				d, err := p.Append(tt.text[i:min(i+n, len(tt.text))], false)
				if err != nil {
					t.Fatal(err)
				}
				got += d.Content
			}

			if got != tt.want {
				t.Errorf("%q without %q in pieces of %d is %q", tt.text, tt.begun, n, got)
			}
		}
	}
}

// TestBrokenFormat loses nothing of an answer that turns out at its end not to be in the format.
func TestBrokenFormat(t *testing.T) {
	p := answerParser{parser: &echo{broken: true}}
	first := Event{Text: "half "}
	last := Event{Text: "an answer", Finish: FinishStop}
	p.parse(&first)
	p.parse(&last)
	if first.Text != "half " || last.Text != "an answer" {
		t.Errorf("got %q and %q", first.Text, last.Text)
	}
}
