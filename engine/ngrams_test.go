package engine

import (
	"math/rand"
	"testing"
)

// TestNgrams compares what the index finds with a search through the whole text.
func TestNgrams(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	found := 0
	for range 200 {
		var x ngrams
		var text []Token
		for range 400 {
			text = append(text, Token(r.Intn(12)))
			if r.Intn(10) == 0 && len(text) > 20 {
				from := r.Intn(len(text) - 10)
				text = append(text, text[from:from+10]...)
			}
			if r.Intn(3) > 0 {
				continue
			}

			x.extend(text)
			place, match := x.find(text, text)
			if match == 0 {
				continue
			}
			found++
			if match != commonEnd(text[:place], text) || match < gram {
				t.Fatalf("%d tokens before place %d are said to match", match, place)
			}
			// The latest places are all compared.
			seen := 0
			for at := len(text) - 1; at >= gram && seen < mostPlaces/4; at-- {
				if n := commonEnd(text[:at], text); n >= gram {
					seen++
					if n > match {
						t.Fatalf("%d tokens match at %d, and %d were found at %d", n, at, match, place)
					}
				}
			}
		}
	}
	if found < 500 {
		t.Errorf("found %d times: the test is too easy", found)
	}
}

// TestNgramsAreBounded: an index of a long text is made in pieces, and takes so much memory.
func TestNgramsAreBounded(t *testing.T) {
	text := make([]Token, 100_000)
	for i := range text {
		text[i] = Token(i % 50_000)
	}
	var x ngrams
	for pieces := 1; ; pieces++ {
		x.extend(text)
		if len(x.before) == len(text) {
			if pieces < 3 {
				t.Errorf("made in %d pieces", pieces)
			}
			break
		}
		if pieces > 10 {
			t.Fatalf("%d of %d tokens after %d pieces", len(x.before), len(text), pieces)
		}
	}
	if n := 4 * (cap(x.latest) + cap(x.before)); n > 16*len(text) {
		t.Errorf("%d bytes for %d tokens", n, len(text))
	}
	if place, match := x.find(text, text[:60_000]); match != mostMatch || place != 60_000 {
		t.Errorf("found %d tokens before %d", match, place)
	}
}

// TestDrafterFollows: a prediction is followed from the answer's beginning, and found again after an edit.
func TestDrafterFollows(t *testing.T) {
	prediction := []Token{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	d := newDrafter(1, prediction, nil)
	tokens := []Token{99}
	say := func(said ...Token) []Token {
		tokens = append(tokens, said...)
		d.propose(tokens)
		return d.draft
	}

	if got := say(); len(got) != 12 || d.kind != DraftPrediction {
		t.Errorf("at the beginning %v, %s", got, d.kind)
	}
	if got := say(1, 2); len(got) == 0 || got[0] != 3 {
		t.Errorf("after two tokens %v", got)
	}
	if got := say(50); len(got) > 0 {
		t.Errorf("after another token %v", got)
	}
	if got := say(4, 5, 6); len(got) == 0 || got[0] != 7 {
		t.Errorf("after an edit %v", got)
	}
	if got := d.agreement(append(tokens, 7, 8)); got != 4 {
		t.Errorf("%d tokens agree, not 4", got)
	}
}

// TestDrafterLearns: guesses that are wrong count for less, and those that are right for more, whether they were in a
// step or not.
func TestDrafterLearns(t *testing.T) {
	for name, tt := range map[string]struct {
		next func(i int) Token
		good bool
	}{
		"a loop":        {func(i int) Token { return Token(i % 40) }, true},
		"few are right": {func(i int) Token { return []Token{1, 2, 3, Token(4 + i)}[i%4] }, false},
	} {
		d := newDrafter(0, nil, nil)
		var tokens []Token
		least := 1.
		last := 0.
		for i := range 300 {
			tokens = append(tokens, tt.next(i))
			if d.propose(tokens); len(d.draft) > 0 {
				last = d.chance()
				least = min(least, last)
			}
		}
		if tt.good && last < 0.9 || !tt.good && least > 0.15 {
			t.Errorf("%s: a guess is right with probability %.2f, at times %.2f", name, last, least)
		}
	}
}
