package llama

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"serve/engine"
	"serve/models/testmodel"
)

// onBackend lets a context draw tokens where the logits are, which the processor can, too. The graphs have so many
// small operations that several threads wait for each other most of the time: these tests have one.
func onBackend(o ContextOptions) ContextOptions {
	o.BackendSampling = true
	return o
}

// samplings returns how requests may want their tokens to be drawn, by name, so that they can be drawn where the logits
// are.
func samplings(m *Model) map[string]engine.Sampling {
	change := func(f func(*engine.Sampling)) engine.Sampling {
		p := engine.DefaultSampling()
		p.MinP = 0
		f(&p)
		return p
	}
	few := []engine.LogitBias{{Token: 280, Bias: 3}, {Token: 300, Bias: -100}, {Token: 280, Bias: -1}}
	return map[string]engine.Sampling{
		"greedy":      change(func(p *engine.Sampling) { p.Temperature = 0 }),
		"everything":  change(func(*engine.Sampling) {}),
		"hot":         change(func(p *engine.Sampling) { p.Temperature = 2 }),
		"cold":        change(func(p *engine.Sampling) { p.Temperature = 0.01 }),
		"min_p":       change(func(p *engine.Sampling) { p.MinP = 0.1 }),
		"all of it":   change(func(p *engine.Sampling) { p.MinP = 1 }),
		"top_k":       change(func(p *engine.Sampling) { p.TopK = 7 }),
		"one":         change(func(p *engine.Sampling) { p.TopK = 1 }),
		"top_p":       change(func(p *engine.Sampling) { p.TopP = 0.5 }),
		"least":       change(func(p *engine.Sampling) { p.TopP = 0 }),
		"both":        change(func(p *engine.Sampling) { p.TopK, p.TopP, p.Temperature = 30, 0.8, 0.7 }),
		"three":       change(func(p *engine.Sampling) { p.TopK, p.TopP, p.MinP = 30, 0.9, 0.2 }),
		"biased":      change(func(p *engine.Sampling) { p.LogitBias = few }),
		"biased best": change(func(p *engine.Sampling) { p.LogitBias, p.Temperature = few, 0 }),
		"endless":     change(func(p *engine.Sampling) { p.IgnoreEOS, p.TopK = true, 20 }),
		"goes on":     change(func(p *engine.Sampling) { p.Drawn = []engine.Token{290, 291, 292} }),
		"long on":     change(func(p *engine.Sampling) { p.MinTokens, p.Drawn = 2, []engine.Token{290, 291} }),
		"long":        change(func(p *engine.Sampling) { p.MinTokens, p.Ends = 2, []engine.Token{281, 282} }),
	}
}

// hostSamplings returns what cannot be drawn where the logits are.
func hostSamplings() map[string]engine.Sampling {
	greedy := engine.DefaultSampling()
	greedy.Temperature = 0

	penalty := greedy
	penalty.RepeatPenalty = 1.5
	grammar := greedy
	grammar.Grammar.Text = `root ::= [a-z ]+`
	dry := greedy
	dry.DRYMultiplier = 1
	mirostat := greedy
	mirostat.Temperature = 1
	mirostat.Mirostat = 2
	typical := engine.DefaultSampling()
	typical.TypicalP = 0.5
	many := greedy
	for i := range engine.Token(100) {
		many.LogitBias = append(many.LogitBias, engine.LogitBias{Token: 270 + i, Bias: float32(i)})
	}
	return map[string]engine.Sampling{
		"penalty": penalty, "grammar": grammar, "dry": dry, "mirostat": mirostat, "typical_p": typical, "many biases": many,
	}
}

// drawRows draws n times from the last token's row, by samplers of seeds from 0 on, in one step. It returns the tokens,
// and how many were drawn where the logits are.
func drawRows(
	t *testing.T, c *Context, prompt []engine.Token, p engine.Sampling, n int,
) (drawn []engine.Token, there int) {
	t.Helper()
	var b engine.Batch
	for i, token := range prompt {
		b.Add(token, i, 0, i == len(prompt)-1)
	}
	rows := make([]engine.Row, n)
	for i := range rows {
		p.Seed = uint32(i)
		s, err := c.model.NewSampler(p)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		rows[i] = engine.Row{Sampler: s, Index: len(prompt) - 1, Top: -1}
	}
	c.ClearKV()
	if err := c.step(&b, rows, new(rowBuffers)); err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if rows[i].Err != nil {
			t.Fatal(rows[i].Err)
		}
		drawn = append(drawn, rows[i].Token)
		if rows[i].OnBackend {
			there++
		}
	}
	return drawn, there
}

// TestBackendSampling draws where the logits are, and by the same seeds on the host: the same tokens.
func TestBackendSampling(t *testing.T) {
	m := loadModel(t, testmodel.Options{Sharpness: 0.05})
	o := ContextOptions{Cells: 256, Sequences: 1, Batch: 64, Threads: oneThread}
	there := newContext(t, m, onBackend(o))
	here := newContext(t, m, o)
	prompt := tokenize(t, m, "the world")

	const n = 64
	for name, p := range samplings(m) {
		got, onIt := drawRows(t, there, prompt, p, n)
		want, onHost := drawRows(t, here, prompt, p, n)
		if onIt != n || onHost != 0 {
			t.Errorf("%s: %d and %d of %d tokens were drawn where the logits are", name, onIt, onHost, n)
		}
		others := 0
		for i := range got {
			if got[i] != want[i] {
				others++
			}
		}
		// A draw that falls on a border between two tokens may be rounded to either.
		if others > 0 && p.Temperature == 0 || others > 1 {
			t.Errorf("%s: %d of %d tokens are others", name, others, n)
		}
		kinds := len(slices.Compact(slices.Sorted(slices.Values(want))))
		if kinds < 3 && (name == "everything" || name == "both") {
			t.Errorf("%s: only %d tokens came: the test is too easy", name, kinds)
		}
	}

	for name, p := range hostSamplings() {
		got, onIt := drawRows(t, there, prompt, p, 3)
		want, _ := drawRows(t, here, prompt, p, 3)
		if onIt != 0 || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %d of them drawn where the logits are, and not %v", name, got, onIt, want)
		}
	}
}

// TestBackendDrawsHaveTheirProbabilities is a chi-squared test of what is drawn where the logits are.
func TestBackendDrawsHaveTheirProbabilities(t *testing.T) {
	m := loadModel(t, testmodel.Options{Sharpness: 0.05})
	c := newContext(t, m, onBackend(ContextOptions{Cells: 256, Sequences: 1, Batch: 64, Threads: oneThread}))
	prompt := tokenize(t, m, "the world")

	for _, temperature := range []float64{1, 0.5} {
		p := engine.DefaultSampling()
		p.MinP = 0
		p.Temperature = float32(temperature)
		const n = 4000
		drawn, _ := drawRows(t, c, prompt, p, n)
		seen := map[engine.Token]float64{}
		for _, token := range drawn {
			seen[token]++
		}

		c.ClearKV()
		logits := decode(t, c, 0, 0, prompt)
		sum := 0.0
		for _, l := range logits {
			sum += math.Exp(float64(l) / temperature)
		}
		// Tokens that follow each other are a class once 20 draws are expected of them.
		var statistic, got, want float64
		classes := 0
		for token, l := range logits {
			want += n * math.Exp(float64(l)/temperature) / sum
			got += seen[engine.Token(token)]
			if want >= 20 || token == len(logits)-1 {
				statistic += (got - want) * (got - want) / want
				classes++
				got = 0
				want = 0
			}
		}

		freedom := float64(classes - 1)
		if classes < 20 {
			t.Fatalf("%d classes: the test is too easy", classes)
		}
		if limit := freedom + 4*math.Sqrt(2*freedom); statistic > limit {
			t.Errorf("temperature %g: chi-squared is %.1f with %g degrees of freedom, at most %.1f", temperature, statistic,
				freedom, limit)
		}
	}
}

// TestBackendSamplingInABatch computes sequences that are drawn in each way beside each other: each has what it has
// alone, in any layout of the cells.
func TestBackendSamplingInABatch(t *testing.T) {
	m := loadModel(t, testmodel.Options{})
	all := samplings(m)
	want := map[string]engine.Sampling{}
	for _, name := range []string{"greedy", "cold", "both", "biased best", "long"} {
		want[name] = all[name]
	}
	for name, p := range hostSamplings() {
		want[name] = p
	}
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range want {
			if !yield(name) {
				return
			}
		}
	})

	alone := newContext(t, m, ContextOptions{Cells: 256, Sequences: 1, Batch: 64, Threads: oneThread})
	for _, o := range []ContextOptions{
		{Cells: 256 * len(names), Sequences: len(names), Batch: 128, Threads: oneThread},
		{Cells: 256 * len(names), Sequences: len(names), Batch: 128, Threads: oneThread, Shared: true},
		{Cells: 256 * len(names), Sequences: len(names), Batch: 128, Threads: oneThread, Shared: true, MicroBatch: 4},
	} {
		t.Run(fmt.Sprintf("shared %t, %d", o.Shared, o.MicroBatch), func(t *testing.T) {
			c := newContext(t, m, onBackend(o))
			crowd := answersTo(t, c, names, want)
			for i, name := range names {
				one := answersTo(t, alone, names[i:i+1], want)
				alone.ClearKV()
				if !slices.Equal(crowd[name], one[name]) {
					t.Errorf("%s: %v in a crowd and %v alone", name, crowd[name], one[name])
				}
			}
		})
	}
}

// answersTo generates an answer for each name, all at the same time.
func answersTo(t *testing.T, c *Context, names []string, how map[string]engine.Sampling) map[string][]engine.Token {
	t.Helper()
	said := map[string][]engine.Token{}
	samplers := make([]*Sampler, len(names))
	next := make([][]engine.Token, len(names))
	for i, name := range names {
		s, err := c.model.NewSampler(how[name])
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		samplers[i] = s
		next[i] = tokenize(t, c.model, "the "+name)
	}

	at := make([]int, len(names))
	var buf rowBuffers
	for range 8 {
		var b engine.Batch
		var rows []engine.Row
		for seq := range names {
			for i, token := range next[seq] {
				b.Add(token, at[seq]+i, seq, i == len(next[seq])-1)
			}
			at[seq] += len(next[seq])
			rows = append(rows, engine.Row{Sampler: samplers[seq], Index: b.Len() - 1, Top: -1 + 2*(seq%2)*(at[seq]%2)})
		}
		if err := c.step(&b, rows, &buf); err != nil {
			t.Fatal(err)
		}
		for seq, name := range names {
			if rows[seq].Err != nil {
				t.Fatal(name, rows[seq].Err)
			}
			said[name] = append(said[name], rows[seq].Token)
			next[seq] = []engine.Token{rows[seq].Token}
		}
	}
	return said
}

// TestBackendSamplingBesideScores asks for a token of one sequence beside the probabilities of all tokens of another,
// and for several choices of one row that are drawn in both ways.
func TestBackendSamplingBesideScores(t *testing.T) {
	m := loadModel(t, testmodel.Options{Sharpness: 0.05})
	o := ContextOptions{Cells: 512, Sequences: 2, Batch: 64, Threads: oneThread}
	prompt := tokenize(t, m, "the world and all that is in it")

	results := func(c *Context) []engine.Row {
		var b engine.Batch
		var rows []engine.Row
		for i, token := range prompt {
			b.Add(token, i, 0, true)
			rows = append(rows, engine.Row{Index: b.Len() - 1, Token: prompt[(i+1)%len(prompt)], Top: 2})
		}
		for i, token := range prompt {
			b.Add(token, i, 1, i == len(prompt)-1)
		}
		for seed := range uint32(6) {
			p := engine.DefaultSampling()
			p.Seed = seed
			s, err := m.NewSampler(p)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			rows = append(rows, engine.Row{Sampler: s, Index: b.Len() - 1, Top: int(seed%2) - 1})
		}
		if err := c.step(&b, rows, new(rowBuffers)); err != nil {
			t.Fatal(err)
		}
		return rows
	}

	got := results(newContext(t, m, onBackend(o)))
	want := results(newContext(t, m, o))
	there := 0
	for i := range got {
		if got[i].Err != nil || want[i].Err != nil {
			t.Fatal(got[i].Err, want[i].Err)
		}
		if got[i].OnBackend {
			there++
		}
		if got[i].Token != want[i].Token || math.Abs(float64(got[i].LogProb-want[i].LogProb)) > tolerance ||
			len(got[i].Alternatives) != len(want[i].Alternatives) {
			t.Errorf("row %d is %+v, and not %+v", i, got[i], want[i])
		}
	}
	if there != 3 {
		t.Errorf("%d rows were drawn where the logits are, want 3", there)
	}
}

// TestBackendSamplingWithoutNumbers has a model compute no logit that is a number: each row fails alone, as on the
// host.
func TestBackendSamplingWithoutNumbers(t *testing.T) {
	m := loadModel(t, testmodel.Options{Sharpness: float32(math.Inf(1))})
	for _, on := range []bool{true, false} {
		o := ContextOptions{Cells: 256, Sequences: 2, Batch: 64, Threads: oneThread, BackendSampling: on}
		c := newContext(t, m, o)
		for name, p := range map[string]engine.Sampling{
			"greedy": samplings(m)["greedy"], "drawn": samplings(m)["everything"], "both": samplings(m)["both"],
		} {
			s, err := m.NewSampler(p)
			if err != nil {
				t.Fatal(err)
			}
			var b engine.Batch
			b.Add(280, 0, 0, true)
			rows := []engine.Row{{Sampler: s, Top: -1}}
			if err := c.step(&b, rows, new(rowBuffers)); err != nil {
				t.Fatal(err)
			}
			if s.Close(); rows[0].Err == nil || rows[0].OnBackend {
				t.Errorf("backend sampling %t, %s: drew token %d", on, name, rows[0].Token)
			}
			c.ClearKV()
		}
	}
}
