package llama

import (
	"slices"
	"testing"

	"serve/engine"
	"serve/models/testmodel"
)

// TestShortcuts draws the same tokens with and without what the shim leaves out when it can, and none is
// left out that would have drawn another token.
func TestShortcuts(t *testing.T) {
	m := loadModel(t, testmodel.Options{Sharpness: 0.05})
	c := newContext(t, m, ContextOptions{Cells: 256, Sequences: 1, Batch: 64})
	prompt := tokenize(t, m, "the world")
	decode(t, c, 0, 0, prompt)

	draw := func(seed uint32, set map[string]float64) (drawn []engine.Token) {
		t.Helper()
		p := engine.DefaultSampling()
		p.Seed = seed
		for i := range engine.Parameters {
			if value, ok := set[engine.Parameters[i].Name]; ok {
				engine.Parameters[i].Set(&p, value)
			}
		}
		s, err := m.NewSampler(p)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for range 20 {
			row := sampleOne(t, c, s, len(prompt)-1, -1)
			if row.Err != nil {
				t.Fatal(row.Err)
			}
			drawn = append(drawn, row.Token)
		}
		return drawn
	}

	everything := float64(len(m.pieces(false))) // top_k that takes nothing away
	for seed := range uint32(5) {
		short := draw(seed, map[string]float64{"min_p": 0.1})
		if whole := draw(seed, map[string]float64{"min_p": 0.1, "top_k": everything}); !slices.Equal(short, whole) {
			t.Errorf("with min_p first, %v are drawn, and %v by the whole chain", short, whole)
		}
	}

	greedy := draw(1, map[string]float64{"temperature": 0})
	same := map[string]map[string]float64{
		"truncation": {"top_k": 3, "top_p": 0.5, "min_p": 0.2, "top_n_sigma": 1},
		"dynatemp":   {"dynatemp_range": 0.5},
		"slow":       {"xtc_probability": 1e-9, "xtc_threshold": 0.4},
	}
	for name, set := range same {
		set["temperature"] = 0
		if got := draw(1, set); !slices.Equal(got, greedy) {
			t.Errorf("%s: %v are drawn, and not the most probable %v", name, got, greedy)
		}
	}

	other := map[string]map[string]float64{
		"presence":  {"presence_penalty": 2},
		"frequency": {"frequency_penalty": 2},
		"repeat":    {"repeat_penalty": 10},
		"dry":       {"dry_multiplier": 10, "dry_allowed_length": 1},
		"xtc":       {"xtc_probability": 1, "xtc_threshold": 1e-6},
	}
	for name, set := range other {
		set["temperature"] = 0
		if got := draw(1, set); slices.Equal(got, greedy) {
			t.Errorf("%s: it was left out, and the most probable tokens %v drawn", name, got)
		}
	}
}

// TestMinTokens keeps an answer from ending before it has enough tokens, unless its grammar has no more.
func TestMinTokens(t *testing.T) {
	m := loadModel(t, testmodel.Options{Sharpness: 0.05})
	c := newContext(t, m, ContextOptions{Cells: 256, Sequences: 1, Batch: 64})
	prompt := tokenize(t, m, "the world")
	decode(t, c, 0, 0, prompt)
	end := engine.Token(slices.Index(m.endsGeneration(), true))
	other := prompt[0]

	for name, tt := range map[string]struct {
		grammar string
		least   int32
		ends    []engine.Token
		want    int // tokens before the first that ends
	}{
		"the model's end":     {"", 3, nil, 3},
		"none":                {"", 0, nil, 0},
		"a token of its own":  {"", 4, []engine.Token{other}, 4},
		"a grammar":           {`root ::= "a" [a-z]*`, 3, nil, 3},
		"a grammar of a word": {`root ::= "a"`, 3, nil, 1},
	} {
		for _, temperature := range []float32{0, 1} {
			p := engine.DefaultSampling()
			p.Temperature = temperature
			p.MinTokens = tt.least
			p.Ends = tt.ends
			p.Grammar.Text = tt.grammar
			p.LogitBias = []engine.LogitBias{{Token: end, Bias: 99}}
			if tt.ends != nil {
				p.LogitBias = []engine.LogitBias{{Token: other, Bias: 99}}
			}
			s, err := m.NewSampler(p)
			if err != nil {
				t.Fatal(name, err)
			}

			drawn := 0
			for ; drawn < 10; drawn++ {
				row := sampleOne(t, c, s, len(prompt)-1, -1)
				if row.Err != nil {
					t.Fatal(name, row.Err)
				}
				if row.Token == end || slices.Contains(tt.ends, row.Token) {
					break
				}
			}
			if s.Close(); drawn != tt.want {
				t.Errorf("%s, temperature %v: ended after %d tokens, want %d", name, temperature, drawn, tt.want)
			}
		}
	}
}

// TestGrammarOutranksBans has an answer that a grammar describes follow it to its end, although the request bans what
// it allows.
func TestGrammarOutranksBans(t *testing.T) {
	m := loadModel(t, testmodel.Options{Sharpness: 0.05})
	c := newContext(t, m, ContextOptions{Cells: 256, Sequences: 1, Batch: 64})
	prompt := tokenize(t, m, "the world")
	decode(t, c, 0, 0, prompt)

	pieces := m.pieces(false)
	bans := make([]engine.LogitBias, m.info.Vocabulary)
	for i := range bans {
		bans[i] = engine.LogitBias{Token: engine.Token(i), Bias: -100}
	}
	for name, change := range map[string]func(*engine.Sampling){
		"no end":     func(p *engine.Sampling) { p.IgnoreEOS = true },
		"everything": func(p *engine.Sampling) { p.LogitBias = bans },
	} {
		for _, temperature := range []float32{0, 1} {
			p := engine.DefaultSampling()
			p.Temperature = temperature
			p.Grammar.Text = `root ::= "ab"`
			change(&p)
			s, err := m.NewSampler(p)
			if err != nil {
				t.Fatal(name, err)
			}

			text := ""
			ended := false
			for range 3 {
				row := sampleOne(t, c, s, len(prompt)-1, -1)
				if row.Err != nil {
					t.Fatalf("%s, temperature %v: after %q: %v", name, temperature, text, row.Err)
				}
				if ended = m.endsGeneration()[row.Token]; ended {
					break
				}
				text += string(pieces[row.Token])
			}
			if s.Close(); text != "ab" || !ended {
				t.Errorf("%s, temperature %v: %q, ended %v", name, temperature, text, ended)
			}
		}
	}
}
