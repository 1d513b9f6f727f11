package prompt

import (
	"math"
	"slices"
	"testing"

	"serve/engine"
)

// bytewise is a model of which a guard needs only the pieces of its tokens, which are bytes.
type bytewise struct{ other }

type other = Renderer

func (bytewise) Model() *engine.ModelInfo {
	m := &engine.ModelInfo{Pieces: make([][]byte, 256)}
	for i := range m.Pieces {
		m.Pieces[i] = []byte{byte(i)}
	}
	return m
}

// TestJudge reads verdicts of a guard.
func TestJudge(t *testing.T) {
	g := Guard{
		model:      bytewise{},
		categories: map[string]string{"S1": "Violent Crimes", "S5": "Defamation", "S9": "Hate"},
	}
	for answer, want := range map[string]struct {
		unsafe     bool
		categories []string
	}{
		"\n\nsafe":               {false, nil},
		"safe":                   {false, nil},
		"\n\nunsafe\nS1":         {true, []string{"Violent Crimes"}},
		"unsafe\nS9,S5,S9":       {true, []string{"Hate", "Defamation"}},
		"\n\nunsafe\nS5":         {true, []string{"Defamation"}},
		"\n\nunsafe\nS1,S5,S9\n": {true, []string{"Violent Crimes", "Defamation", "Hate"}},
	} {
		if v := g.Judge(answer, nil); v.Unsafe != want.unsafe || !slices.Equal(v.Categories, want.categories) {
			t.Errorf("%q: %+v", answer, v)
		}
	}
}

func TestUnsafeProbability(t *testing.T) {
	at := func(token byte, p float64) engine.TokenLogProb {
		return engine.TokenLogProb{Token: engine.Token(token), LogProb: float32(math.Log(p))}
	}
	// "s" begins safe, "u" unsafe.
	tokens := []engine.TokenInfo{
		{
			TokenLogProb: at('\n', 0.9),
			Bytes:        []byte("\n"),
			Alternatives: []engine.TokenLogProb{at('u', 0.05)},
		},
		{
			TokenLogProb: at('s', 0.6),
			Bytes:        []byte("s"),
			Alternatives: []engine.TokenLogProb{at('s', 0.6), at('u', 0.2), at('x', 0.1)},
		},
	}
	g := Guard{model: bytewise{}}
	if v := g.Judge("safe", tokens); math.Abs(v.Probability-0.25) > 1e-6 {
		t.Errorf("%+v", v)
	}
}
