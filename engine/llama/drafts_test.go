package llama

import (
	"fmt"
	"math/rand"
	"testing"

	"serve/engine"
	"serve/models/testmodel"
)

// drafting draws a sequence's answer by a runner, step by step.
type drafting struct {
	t       *testing.T
	r       *Runner
	sampler engine.Sampler
	tokens  []engine.Token
	fed     int // whose cells are there
	refused int // guesses so far
	taken   int
	top     int // alternatives; negative for no log-probabilities, with which nothing is drawn by a backend
}

func newDrafting(t *testing.T, r *Runner, p engine.Sampling, prompt []engine.Token) *drafting {
	t.Helper()
	s, err := r.NewSampler(p)
	if err != nil {
		t.Fatal(err)
	}
	r.RemoveKV(0, 0)
	return &drafting{t: t, r: r, sampler: s, tokens: append([]engine.Token{}, prompt...), top: 2}
}

// step computes what is not computed yet, and a guess after it. It returns what was drawn.
func (d *drafting) step(guess ...engine.Token) (drawn []engine.Row) {
	d.t.Helper()
	var b engine.Batch
	for i := d.fed; i < len(d.tokens); i++ {
		b.Add(d.tokens[i], i, 0, i == len(d.tokens)-1)
	}
	rows := []engine.Row{{Sampler: d.sampler, Index: b.Len() - 1, Top: d.top}}
	for i, token := range guess {
		rows = append(rows, engine.Row{Sampler: d.sampler, Index: b.Len(), Top: d.top, Draft: true})
		b.Add(token, len(d.tokens)+i, 0, true)
	}
	b.Reproducible = true
	if err := d.r.Step(&b, rows); err != nil {
		d.t.Fatal(err)
	}

	d.fed = len(d.tokens)
	for i := range rows {
		if rows[i].Refused {
			d.refused++
			continue
		}
		if rows[i].Err != nil {
			d.t.Fatal(rows[i].Err)
		}
		if i > 0 {
			d.taken++
			d.fed++
		}
		d.tokens = append(d.tokens, rows[i].Token)
		drawn = append(drawn, rows[i])
	}
	if last := d.r.ctx.LastPosition(0); last != d.fed-1 {
		d.t.Fatalf("the last cell is at %d after %d tokens", last, d.fed)
	}
	return drawn
}

// TestDraftsAreDrawnAlike draws answers token by token and with guesses that are right for a while: the tokens and their
// log-probabilities are the same, whatever the samplers remember.
func TestDraftsAreDrawnAlike(t *testing.T) {
	for _, where := range []string{"off", "on"} {
		t.Run("backend sampling "+where, func(t *testing.T) { draftsAreDrawnAlike(t, where) })
	}
}

func draftsAreDrawnAlike(t *testing.T, where string) {
	r, err := Load(write(t, testmodel.Options{Sharpness: 0.05}), Options{
		Context:         256,
		Sequences:       2,
		Threads:         oneThread,
		BackendSampling: where,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if !r.Limits().Reproducible || r.Limits().Rows < 8 {
		t.Fatalf("limits %+v", r.Limits())
	}
	prompt := tokenize(t, r.model, "the world")
	top := 2
	if where == "on" {
		top = -1
	}

	refused := 0
	taken := 0
	for name, change := range map[string]func(*engine.Sampling){
		"greedy":      func(p *engine.Sampling) { p.Temperature = 0 },
		"temperature": func(*engine.Sampling) {},
		"penalties":   func(p *engine.Sampling) { p.FrequencyPenalty, p.RepeatPenalty = 1.5, 1.3 },
		"dry":         func(p *engine.Sampling) { p.Temperature, p.DRYMultiplier = 0, 2 },
		"mirostat":    func(p *engine.Sampling) { p.Mirostat = 2 },
		"min_tokens":  func(p *engine.Sampling) { p.MinTokens = 12 },
		"grammar": func(p *engine.Sampling) {
			p.Grammar.Text = `root ::= ([a-z] [a-z] " " [0-9] ", ")+`
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := engine.DefaultSampling()
			p.Seed = 5
			change(&p)
			const n = 40
			plain := newDrafting(t, r, p, prompt)
			plain.top = top
			defer plain.sampler.Close()
			var want []engine.Row
			for range n {
				want = append(want, plain.step()...)
			}

			rng := rand.New(rand.NewSource(1))
			d := newDrafting(t, r, p, prompt)
			d.top = top
			defer d.sampler.Close()
			var got []engine.Row
			for len(got) < n {
				guess := append([]engine.Token{}, plain.tokens[len(d.tokens):min(len(d.tokens)+rng.Intn(7), len(plain.tokens))]...)
				if len(guess) > 0 && rng.Intn(2) == 0 {
					guess[rng.Intn(len(guess))] = 300
				}
				got = append(got, d.step(guess...)...)
			}
			for i := range want {
				if fmt.Sprint(got[i].Token, got[i].LogProb, got[i].Alternatives) !=
					fmt.Sprint(want[i].Token, want[i].LogProb, want[i].Alternatives) {
					t.Fatalf("token %d is %+v, and %+v one by one", i, got[i], want[i])
				}
			}
			refused += d.refused
			taken += d.taken
		})
	}
	if refused < 50 || taken < 50 {
		t.Errorf("%d guesses were right and %d were not: the test is too easy", taken, refused)
	}
}

// TestDraftedDistribution compares what is drawn with and without guesses, by other seeds, by a chi-squared test: of the
// first token, and of the second after one that was guessed right.
func TestDraftedDistribution(t *testing.T) {
	const (
		draws  = 1500
		among  = 8
		most   = 24.3 // that chi-squared with 7 degrees of freedom exceeds once in 1,000 times
		second = 2
	)
	r, err := Load(write(t, testmodel.Options{Sharpness: 0.05}), Options{Context: 64, Sequences: 1, Threads: oneThread})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	prompt := tokenize(t, r.model, "the world")
	p := engine.DefaultSampling()
	p.TopK = among

	// The guess is one of several that come often.
	p.Seed = 77
	first := newDrafting(t, r, p, prompt)
	guess := first.step()[0].Token
	first.sampler.Close()

	var seen [2][second]map[engine.Token]float64
	for which := range seen {
		for i := range seen[which] {
			seen[which][i] = map[engine.Token]float64{}
		}
		for i := range draws {
			p.Seed = uint32(1000 + which*draws + i)
			d := newDrafting(t, r, p, prompt)
			var drawn []engine.Row
			if which == 1 {
				drawn = d.step(guess)
			} else {
				drawn = d.step()
			}
			seen[which][0][drawn[0].Token]++
			if drawn[0].Token == guess {
				if which == 0 {
					drawn = append(drawn, d.step()...)
				}
				seen[which][1][drawn[1].Token]++
			}
			d.sampler.Close()
		}
	}

	for i := range second {
		if len(seen[0][i]) < among/2 || len(seen[0][i]) > among {
			t.Errorf("token %d is one of %d: the test is too easy", i, len(seen[0][i]))
		}
		if x := chiSquared(seen[0][i], seen[1][i]); x > most {
			t.Errorf("token %d: chi-squared %.1f (at most %.1f): %v and %v", i, x, most, seen[0][i], seen[1][i])
		}
	}
}

// chiSquared says how unlike two counts of the same are.
func chiSquared(a, b map[engine.Token]float64) (x float64) {
	sum := func(m map[engine.Token]float64) (n float64) {
		for _, c := range m {
			n += c
		}
		return n
	}
	all := map[engine.Token]bool{}
	for token := range a {
		all[token] = true
	}
	for token := range b {
		all[token] = true
	}
	na := sum(a)
	nb := sum(b)
	for token := range all {
		expected := (a[token] + b[token]) / (na + nb)
		x += (a[token]-na*expected)*(a[token]-na*expected)/(na*expected) +
			(b[token]-nb*expected)*(b[token]-nb*expected)/(nb*expected)
	}
	return x
}
