package llama

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"serve/engine"
	"serve/models/testmodel"
)

// write writes a test model and returns its path.
func write(t testing.TB, o testmodel.Options) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := testmodel.Write(path, o); err != nil {
		t.Fatal(err)
	}
	return path
}

func loadModel(t *testing.T, o testmodel.Options) *Model {
	t.Helper()
	m, err := LoadModel(write(t, o), LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func newContext(t *testing.T, m *Model, o ContextOptions) *Context {
	t.Helper()
	if o.Threads == 0 {
		o.Threads = 2
	}
	if o.Pooling == 0 && !o.Embeddings {
		o.Pooling = PoolingModel
	}
	c, err := NewContext(m, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func tokenize(t *testing.T, m *Model, text string) []engine.Token {
	t.Helper()
	tokens, err := m.Tokenize(text, engine.Reading{Control: true, Ends: true})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// decode computes tokens of a sequence from a position on, the last one's row too.
func decode(t *testing.T, c *Context, seq, from int, tokens []engine.Token) []float32 {
	t.Helper()
	var b engine.Batch
	for i, token := range tokens {
		b.Add(token, from+i, seq, i == len(tokens)-1)
	}
	if err := c.Decode(&b); err != nil {
		t.Fatal(err)
	}
	logits, err := c.Logits(len(tokens) - 1)
	if err != nil {
		t.Fatal(err)
	}
	return logits
}

// tolerance is how far logits may lie apart when only the shape of the batch
// differs, fewer than 64 tokens each: attention adds up in f16. They have a
// deviation of about 8.
const tolerance = 0.05

func sameLogits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	worst := 0.0
	for i := range want {
		worst = max(worst, math.Abs(float64(got[i]-want[i])))
	}
	if worst > tolerance {
		t.Errorf("%s: logits differ by %g", what, worst)
	}
}

func TestTokenize(t *testing.T) {
	m := loadModel(t, testmodel.Options{})
	pieces := m.pieces(true)
	for _, text := range []string{"the man and the world", "Hello, World 42!", "caf\u00e9 \u20ac \U0001F600", "", "a\nb"} {
		tokens := tokenize(t, m, text)
		if len(tokens) == 0 || tokens[0] != 1 {
			t.Errorf("%q: got %v, want BOS first", text, tokens)
			continue
		}
		var b strings.Builder
		for _, token := range tokens[1:] {
			b.Write(pieces[token])
		}
		if got := strings.TrimPrefix(b.String(), " "); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}

	special, _ := m.Tokenize("<|im_start|>", engine.Reading{Control: true})
	plain, _ := m.Tokenize("<|im_start|>", engine.Reading{})
	if len(special) != 1 || len(plain) < 2 {
		t.Errorf("a control token is %v, its text %v", special, plain)
	}
	if p := m.pieces(false)[special[0]]; len(p) != 0 {
		t.Errorf("a control token's text is %q", p)
	}
	if ends := m.endsGeneration(); !ends[2] || ends[1] || ends[300] {
		t.Error("the end of generation is not </s>")
	}
}

func TestDecodeRefusesBadBatches(t *testing.T) {
	m := loadModel(t, testmodel.Options{})
	c := newContext(t, m, ContextOptions{Cells: 512, Sequences: 2, Batch: 8})
	batch := func(token engine.Token, pos, seq, n int) *engine.Batch {
		var b engine.Batch
		for i := range n {
			b.Add(token, pos+i, seq, i == n-1)
		}
		return &b
	}

	for name, b := range map[string]*engine.Batch{
		"empty":             {},
		"too long":          batch(5, 0, 0, 9),
		"unknown token":     batch(1<<20, 0, 0, 1),
		"negative token":    batch(-1, 0, 0, 1),
		"unknown sequence":  batch(5, 0, 2, 1),
		"negative sequence": batch(5, 0, -1, 1),
		"negative position": batch(5, -1, 0, 1),
		"a gap":             batch(5, 7, 0, 1), // fine for an empty sequence, and see below
	} {
		err := c.Decode(b)
		if name == "a gap" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			err = c.Decode(batch(5, 20, 0, 1))
		}
		if !errors.Is(err, engine.ErrInvalidBatch) {
			t.Errorf("%s: got %v", name, err)
		}
	}

	if _, err := c.Logits(99); err == nil {
		t.Error("a row that is not there was returned")
	}
}

func TestDecodeWithoutCells(t *testing.T) {
	m := loadModel(t, testmodel.Options{})
	c := newContext(t, m, ContextOptions{Cells: 256, Sequences: 2, Batch: 256, Shared: true})
	decode(t, c, 0, 0, make([]engine.Token, 200))
	var b engine.Batch
	for i := range 100 {
		b.Add(5, i, 1, i == 99)
	}
	if err := c.Decode(&b); !errors.Is(err, engine.ErrNoSlot) {
		t.Fatalf("got %v", err)
	}
	c.RemoveKV(0, 0)
	if err := c.Decode(&b); err != nil {
		t.Errorf("after the cells were freed: %v", err)
	}
}

func TestAbort(t *testing.T) {
	m := loadModel(t, testmodel.Options{})
	c := newContext(t, m, ContextOptions{Cells: 256, Sequences: 1, Batch: 64})
	c.Abort()
	var b engine.Batch
	b.Add(5, 0, 0, true)
	if err := c.Decode(&b); !errors.Is(err, engine.ErrAborted) {
		t.Errorf("got %v", err)
	}
}

// TestKV tries the operations on cells with both layouts of them.
func TestKV(t *testing.T) {
	m := loadModel(t, testmodel.Options{})
	for _, shared := range []bool{false, true} {
		testKV(t, m, ContextOptions{Shared: shared}, sameLogits)
	}
}

// testKV compares every operation on cells with a context that never saw it. same says
// whether two rows of logits are of the same tokens.
func testKV(t *testing.T, m *Model, o ContextOptions, same func(t *testing.T, what string, got, want []float32)) {
	t.Helper()
	story := tokenize(t, m, "the man had three boy and a canary that could read the world")
	other := tokenize(t, m, "we want to find water")
	fresh := func(tokens []engine.Token) []float32 {
		c := newContext(t, m, ContextOptions{Cells: 512, Sequences: 1, Batch: 64, Threads: o.Threads, KVType: o.KVType})
		return decode(t, c, 0, 0, tokens)
	}
	want := fresh(story)
	wantOther := fresh(other)
	o.Cells = 2048
	o.Sequences = 4
	o.Batch = 64
	c := newContext(t, m, o)
	same(t, "another sequence number", decode(t, c, 2, 0, story), want)

	half := len(story) / 2
	decode(t, c, 0, 0, story[:half])
	same(t, "in two parts", decode(t, c, 0, half, story[half:]), want)

	if !c.RemoveKV(0, half) || c.LastPosition(0) != half-1 {
		t.Fatalf("the last position is %d after a removal from %d", c.LastPosition(0), half)
	}
	decode(t, c, 0, half, other)
	c.RemoveKV(0, half)
	same(t, "after a removal", decode(t, c, 0, half, story[half:]), want)

	c.CopyKV(0, 1)
	if !c.RemoveKV(1, len(story)-1) {
		t.Fatal("cannot remove from a copy")
	}
	same(t, "in a copy", decode(t, c, 1, len(story)-1, story[len(story)-1:]), want)
	c.RemoveKV(0, len(story)-1)
	same(t, "in the original of a copy", decode(t, c, 0, len(story)-1, story[len(story)-1:]), want)

	state := c.State(0)
	if err := c.SetState(3, state); err != nil {
		t.Fatal(err)
	}
	c.RemoveKV(3, len(story)-1)
	same(t, "in a restored state", decode(t, c, 3, len(story)-1, story[len(story)-1:]), want)
	if err := c.SetState(3, state[:len(state)/2]); err == nil {
		t.Error("half a state was restored")
	}

	c.ClearKV()
	if c.LastPosition(0) != -1 {
		t.Error("a cleared cache is not empty")
	}
	var b engine.Batch
	for i, token := range story {
		b.Add(token, i, 0, i == len(story)-1)
	}
	for i, token := range other {
		b.Add(token, i, 1, i == len(other)-1)
	}
	if err := c.Decode(&b); err != nil {
		t.Fatal(err)
	}
	got, _ := c.Logits(len(story) - 1)
	gotOther, _ := c.Logits(b.Len() - 1)
	same(t, "two sequences in a batch, the first", got, want)
	same(t, "two sequences in a batch, the second", gotOther, wantOther)
}

func sampleOne(t *testing.T, c *Context, s *Sampler, index, top int) engine.Row {
	t.Helper()
	rows := []engine.Row{{Sampler: s, Index: index, Top: top}}
	if err := c.sample(new(engine.Batch), rows, new(rowBuffers)); err != nil {
		t.Fatal(err)
	}
	return rows[0]
}

func TestSamplers(t *testing.T) {
	m := loadModel(t, testmodel.Options{Sharpness: 0.05}) // a flat distribution, so that samplers matter
	c := newContext(t, m, ContextOptions{Cells: 256, Sequences: 1, Batch: 64})
	prompt := tokenize(t, m, "the world")
	logits := decode(t, c, 0, 0, prompt)
	best := engine.Token(0)
	for i, l := range logits {
		if l > logits[best] {
			best = engine.Token(i)
		}
	}
	index := len(prompt) - 1
	draw := func(change func(*engine.Sampling)) map[engine.Token]int {
		seen := map[engine.Token]int{}
		for seed := range 40 {
			p := engine.DefaultSampling()
			p.MinP = 0
			p.Seed = uint32(seed)
			change(&p)
			s, err := m.NewSampler(p)
			if err != nil {
				t.Fatal(err)
			}
			row := sampleOne(t, c, s, index, -1)
			if row.Err != nil {
				t.Fatal(row.Err)
			}
			seen[row.Token]++
			s.Close()
		}
		return seen
	}
	only := func(token engine.Token, seen map[engine.Token]int) bool { return len(seen) == 1 && seen[token] > 0 }
	if seen := draw(func(*engine.Sampling) {}); len(seen) < 10 {
		t.Errorf("40 seeds gave %d tokens", len(seen))
	}
	seven := func(p *engine.Sampling) { p.Seed = 7 }
	a := draw(seven)
	b := draw(seven)
	if len(a) != 1 || len(b) != 1 {
		t.Errorf("one seed gave %v and %v", a, b)
	}
	greedy := map[string]func(*engine.Sampling){
		"temperature": func(p *engine.Sampling) { p.Temperature = 0 },
		"top-k":       func(p *engine.Sampling) { p.TopK = 1 },
		"top-p":       func(p *engine.Sampling) { p.TopP = 0.0001 },
		"min-p":       func(p *engine.Sampling) { p.MinP = 1 },
		"top-n-sigma": func(p *engine.Sampling) { p.TopNSigma = 0.0001 },
		"bias":        func(p *engine.Sampling) { p.LogitBias = []engine.LogitBias{{Token: best, Bias: 100}} },
	}
	for name, change := range greedy {
		if seen := draw(change); !only(best, seen) {
			t.Errorf("%s: got %v, want only %d", name, seen, best)
		}
	}
	for name, change := range map[string]func(*engine.Sampling){
		"typical":    func(p *engine.Sampling) { p.TypicalP = 0.2 },
		"xtc":        func(p *engine.Sampling) { p.XTCProbability, p.XTCThreshold = 1, 0.0001 },
		"mirostat":   func(p *engine.Sampling) { p.Mirostat, p.MirostatTau = 1, 3 },
		"mirostat 2": func(p *engine.Sampling) { p.Mirostat, p.MirostatTau = 2, 3 },
		"dynatemp":   func(p *engine.Sampling) { p.DynatempRange = 0.5 },
		"dry":        func(p *engine.Sampling) { p.DRYMultiplier = 1 },
	} {
		if seen := draw(change); len(seen) == 0 {
			t.Errorf("%s drew nothing", name)
		}
	}
	// A banned token never comes, greedy or not.
	for _, temperature := range []float32{0, 1} {
		seen := draw(func(p *engine.Sampling) {
			p.Temperature = temperature
			p.LogitBias = []engine.LogitBias{{Token: best, Bias: -100}}
		})
		if seen[best] > 0 {
			t.Errorf("a banned token came at temperature %g", temperature)
		}
	}
	after, _ := c.Logits(index)
	sameLogits(t, "after sampling with biases", after, logits)

	// A penalty keeps a greedy sampler from its own repetition.
	p := engine.DefaultSampling()
	p.Temperature = 0
	p.PresencePenalty = 2
	p.RepeatPenalty = 5
	s, err := m.NewSampler(p)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if first, second := sampleOne(t, c, s, index, -1), sampleOne(t, c, s, index, -1); first.Token == second.Token {
		t.Errorf("with penalties %d came twice", first.Token)
	}
	if _, err := m.NewSampler(engine.Sampling{LogitBias: []engine.LogitBias{{Token: 1 << 20}}}); err == nil {
		t.Error("a bias for a token that is not there was taken")
	}
}

// TestSamplersGoOn makes a sampler anew in the middle of an answer.
func TestSamplersGoOn(t *testing.T) {
	m := loadModel(t, testmodel.Options{Sharpness: 0.05})
	c := newContext(t, m, ContextOptions{Cells: 256, Sequences: 1, Batch: 64})
	prompt := tokenize(t, m, "the world")
	decode(t, c, 0, 0, prompt)
	draw := func(p engine.Sampling, n int) (drawn []engine.Token) {
		t.Helper()
		s, err := m.NewSampler(p)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for range n {
			row := sampleOne(t, c, s, len(prompt)-1, -1)
			if row.Err != nil {
				t.Fatal(row.Err)
			}
			drawn = append(drawn, row.Token)
		}
		return drawn
	}

	for name, change := range map[string]func(*engine.Sampling){
		"temperature": func(*engine.Sampling) {},
		"the whole":   func(p *engine.Sampling) { p.MinP = 0 },
		"greedy":      func(p *engine.Sampling) { p.Temperature = 0 },
		"filters": func(p *engine.Sampling) {
			p.TopK = 50
			p.TopP = 0.9
			p.TypicalP = 0.9
		},
		"penalties": func(p *engine.Sampling) {
			p.PresencePenalty = 1
			p.FrequencyPenalty = 1
			p.RepeatPenalty = 1.5
		},
		"greedy by penalties": func(p *engine.Sampling) {
			p.Temperature = 0
			p.PresencePenalty = 2
		},
		"dry": func(p *engine.Sampling) {
			p.DRYMultiplier = 2
			p.DRYAllowedLength = 1
			p.MinP = 0
		},
		"a grammar": func(p *engine.Sampling) {
			p.Grammar.Text = `root ::= ("the" | " world" | [a-f ] | "x" ` +
				`root)*`
		},
		"a large grammar": func(p *engine.Sampling) { p.Grammar.Text = "root ::= \"[\" [a-z ]* \"]\"" },
	} {
		for seed := range uint32(5) {
			p := engine.DefaultSampling()
			p.Seed = seed
			p.IgnoreEOS = true
			change(&p)
			whole := draw(p, 20)
			for _, at := range []int{1, 7, 19} {
				p.Drawn = whole[:at]
				if rest := draw(p, 20-at); !slices.Equal(rest, whole[at:]) {
					t.Fatalf("%s, seed %d: from token %d on it draws %v, not %v", name, seed, at, rest, whole[at:])
				}
			}
		}
	}
}

// TestDrawsHaveTheirProbabilities counts what many seeds draw first, and what one seed
// draws in a row.
func TestDrawsHaveTheirProbabilities(t *testing.T) {
	m := loadModel(t, testmodel.Options{Sharpness: 0.05})
	c := newContext(t, m, ContextOptions{Cells: 256, Sequences: 1, Batch: 64})
	prompt := tokenize(t, m, "the world")
	logits := decode(t, c, 0, 0, prompt)
	sum := 0.0
	for _, l := range logits {
		sum += math.Exp(float64(l))
	}

	const n = 4000
	p := engine.DefaultSampling()
	p.MinP = 0
	counts := map[string]map[engine.Token]int{"seeds": {}, "a row": {}}
	one, err := m.NewSampler(p)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	for seed := range uint32(n) {
		p.Seed = seed
		s, err := m.NewSampler(p)
		if err != nil {
			t.Fatal(err)
		}
		counts["seeds"][sampleOne(t, c, s, len(prompt)-1, -1).Token]++
		s.Close()
		counts["a row"][sampleOne(t, c, one, len(prompt)-1, -1).Token]++
	}

	for name, seen := range counts {
		for token, l := range logits {
			want := n * math.Exp(float64(l)) / sum
			if got := float64(seen[engine.Token(token)]); math.Abs(got-want) > 6*math.Sqrt(want)+6 {
				t.Errorf("%s: token %d came %g times of %d, its probability says %.1f", name, token, got, n, want)
			}
		}
	}
}

func TestGrammar(t *testing.T) {
	m := loadModel(t, testmodel.Options{})
	c := newContext(t, m, ContextOptions{Cells: 256, Sequences: 1, Batch: 64})
	p := engine.DefaultSampling()
	p.Grammar.Text = `root ::= "yes" | "no"`
	s, err := m.NewSampler(p)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tokens := tokenize(t, m, "is it so")
	pieces := m.pieces(false)
	ends := m.endsGeneration()
	decode(t, c, 0, 0, tokens)
	said := ""
	index := len(tokens) - 1
	for pos := len(tokens); pos < 40; pos++ {
		row := sampleOne(t, c, s, index, -1)
		if row.Err != nil {
			t.Fatal(row.Err)
		}
		if ends[row.Token] {
			break
		}
		said += string(pieces[row.Token])
		decode(t, c, 0, pos, []engine.Token{row.Token})
		index = 0
	}

	if said != "yes" && said != "no" {
		t.Errorf("under the grammar it said %q", said)
	}

	p.Grammar.Text = `root ::= (`
	if _, err := m.NewSampler(p); err == nil {
		t.Error("a broken grammar was taken")
	}
}

// TestGrammarLanguages writes many texts by each grammar, all from one row of logits.
// Every one must be of its language, and of a small language every text must come.
func TestGrammarLanguages(t *testing.T) {
	m := loadModel(t, testmodel.Options{Sharpness: 0.01})
	c := newContext(t, m, ContextOptions{Cells: 256, Sequences: 1, Batch: 64})
	tokens := tokenize(t, m, "the world")
	decode(t, c, 0, 0, tokens)
	pieces := m.pieces(true)
	ends := m.endsGeneration()
	write := func(p engine.Sampling, limit int) (string, error) {
		s, err := m.NewSampler(p)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		said := ""
		for range limit {
			row := sampleOne(t, c, s, len(tokens)-1, -1)
			if row.Err != nil || ends[row.Token] {
				return said, row.Err
			}
			said += string(pieces[row.Token])
		}
		return said, errors.New("no end")
	}
	for _, test := range []struct {
		grammar, language string
		texts             int // of the language, when few
	}{
		{`root ::= "yes" | "no" | "maybe"`, `yes|no|maybe`, 3},
		{`root ::= ("a" | "a" "b")? "c"{1,3}`, `(ab?)?c{1,3}`, 9},
		{`root ::= one | two | ""
one ::= "x" one-more
one-more ::= "" | [0-2]
two ::= [x-z] "0"?`, `|x[0-2]?|[xyz]0?`, 9},
		{`root ::= [é-ë] | "日" [^a-z\x00-\x7F]{0}`, `[é-ë]|日`, 4},
		{`root ::= [^\x00-\x7F]{1,3} "\n"`, `[^\x00-\x7f]{1,3}\n`, 0},
		{`root ::= [\U00010000-\U0010FFFF] [à-ÿ日-本] .`, `(?s)[\x{10000}-\x{10ffff}][à-ÿ日-本].`, 0},
		{`root ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4})){0,9} "\""`,
			`"([^"\\\x00-\x1f\x7f]|\\(["\\bfnrt]|u[0-9a-fA-F]{4})){0,9}"`, 0},
		{`root ::= "a"{40,50} "b"`, `a{40,50}b`, 0},
		{`root ::= <[300]> "x" | "y"`, regexp.QuoteMeta(string(pieces[300])) + `x|y`, 2},
		{`root ::= !<[300]> "!"`, `(?s).+!`, 0},
	} {
		language := regexp.MustCompile(`\A(?:` + test.language + `)\z`)
		came := map[string]bool{}
		for seed := range 400 {
			p := engine.DefaultSampling()
			p.Seed = uint32(seed)
			if seed%8 == 0 {
				p.Temperature = 0
			}
			p.Grammar.Text = test.grammar
			said, err := write(p, 200)
			if err != nil || !language.MatchString(said) {
				t.Fatalf("%s: seed %d wrote %q, %v", test.grammar, seed, said, err)
			}
			came[said] = true
		}
		if len(came) < min(max(test.texts, 2), 400) || test.texts > 0 && len(came) > test.texts {
			t.Errorf("%s: %d texts of %d came", test.grammar, len(came), test.texts)
		}
	}

	// A lazy grammar allows all until its trigger, and begins there: in the midst of
	// tokens, and with a word whose beginning came more than once.
	p := engine.DefaultSampling()
	p.Grammar = engine.Grammar{
		Text:     `root ::= "ee" [0-9]{3}`,
		Lazy:     true,
		Triggers: []engine.Trigger{{Kind: 1, Value: "ee"}},
	}
	woken := regexp.MustCompile(`\Aee[0-9]{3}\z`)
	free := 0
	for seed := range 60 {
		p.Seed = uint32(seed)
		said, err := write(p, 3000)
		at := strings.Index(said, "ee")
		if at > 0 {
			free++
		}
		if at >= 0 && err == nil && !woken.MatchString(said[at:]) {
			t.Errorf("the lazy grammar let it write %q", said)
		}
	}
	if free < 10 {
		t.Errorf("only %d texts came to the trigger", free)
	}
	p.Grammar.Triggers = []engine.Trigger{{Kind: 2, Value: "^never"}, {Kind: 2, Value: "[a-z](e\\s*e)"}}
	p.Grammar.Text = `root ::= "e" [ \t\n]* "e" [0-9]{3}`
	woken = regexp.MustCompile(`[a-z]e\s*e[0-9]{3}\z`)
	first := regexp.MustCompile(`[a-z]e\s*e`)
	for seed := range 60 {
		p.Seed = uint32(seed)
		said, err := write(p, 3000)
		if at := first.FindStringIndex(said); at != nil && err == nil && (!woken.MatchString(said) || len(said) != at[1]+3) {
			t.Errorf("the lazy grammar let it write %q", said)
		}
	}

	// One that means the same in ever more ways ends in an error, not in all memory.
	p = engine.DefaultSampling()
	p.Temperature = 0
	p.Grammar.Text = "root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"a\" root \"d\""
	if said, err := write(p, 100); err == nil || !strings.Contains(err.Error(), "too many ways") {
		t.Errorf("wrote %q, %v", said, err)
	}
	p.Grammar.Text = `root ::= root "a" | "b"`
	if _, err := m.NewSampler(p); err == nil {
		t.Error("a left-recursive grammar was taken")
	}
}

func TestLogProbs(t *testing.T) {
	m := loadModel(t, testmodel.Options{Sharpness: 0.1})
	c := newContext(t, m, ContextOptions{Cells: 256, Sequences: 1, Batch: 64})
	prompt := tokenize(t, m, "the world")
	logits := decode(t, c, 0, 0, prompt)
	var sum float64
	for _, l := range logits {
		sum += math.Exp(float64(l))
	}

	p := engine.DefaultSampling()
	p.Temperature = 0
	p.LogitBias = []engine.LogitBias{{Token: 300, Bias: 100}}
	s, err := m.NewSampler(p)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	row := sampleOne(t, c, s, len(prompt)-1, 20)
	if row.Token != 300 {
		t.Fatalf("got token %d", row.Token)
	}

	near := func(got float32, token engine.Token) bool {
		return math.Abs(float64(got)-(float64(logits[token])-math.Log(sum))) < 1e-4
	}
	if !near(row.LogProb, 300) {
		t.Errorf("the log-probability %g is not the model's own", row.LogProb)
	}

	order := make([]engine.Token, len(logits))
	for i := range order {
		order[i] = engine.Token(i)
	}

	slices.SortStableFunc(order, func(a, b engine.Token) int {
		return int(math.Copysign(1, float64(logits[b]-logits[a])))
	})
	for i, alt := range row.Alternatives {
		if alt.Token != order[i] || !near(alt.LogProb, alt.Token) {
			t.Errorf("alternative %d is %+v, want token %d", i, alt, order[i])
		}
	}

	if len(row.Alternatives) != 20 {
		t.Errorf("%d alternatives", len(row.Alternatives))
	}
}

func TestEmbeddings(t *testing.T) {
	vectors := map[int][]float32{}
	for _, pooling := range []int{PoolingMean, PoolingCLS, PoolingLast} {
		path := write(t, testmodel.Options{Pooling: pooling})
		r, err := Load(path, Options{Context: 256, Sequences: 2})
		if err != nil {
			t.Fatal(err)
		}
		if r.Model().Generates {
			t.Error("a model that pools generates")
		}

		m := r.model
		a := tokenize(t, m, "the man")
		b := tokenize(t, m, "the world and the water")
		together, err := r.Embed([][]engine.Token{a, b}, false)
		if err != nil {
			t.Fatal(err)
		}

		alone, err := r.Embed([][]engine.Token{b}, false)
		if err != nil {
			t.Fatal(err)
		}

		sameLogits(t, "an embedding alone and with others", together[1], alone[0])
		if len(alone[0]) != r.Model().EmbeddingSize {
			t.Errorf("%d floats", len(alone[0]))
		}

		vectors[pooling] = alone[0]
		r.Close()
	}

	if slices.Equal(vectors[PoolingMean], vectors[PoolingCLS]) || slices.Equal(vectors[PoolingCLS], vectors[PoolingLast]) {
		t.Error("different poolings give one vector")
	}
}

func TestRank(t *testing.T) {
	path := write(t, testmodel.Options{Architecture: "qwen3", Pooling: PoolingRank, Classes: 2})
	r, err := Load(path, Options{Context: 256, Sequences: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m := r.model
	scores, err := r.Embed([][]engine.Token{tokenize(t, m, "the man"), tokenize(t, m, "water")}, false)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Model().Ranks || len(scores[0]) != 2 || scores[0][0] == scores[1][0] {
		t.Errorf("got %v", scores)
	}
}

func TestRenderAndParse(t *testing.T) {
	m := loadModel(t, testmodel.Options{ChatTemplate: testmodel.ChatML})
	r, err := m.Render(
		engine.Chat{Messages: []byte(`[{"role":"system","content":"Be kind."},{"role":"user","content":"Hi \"you\""}]`)},
	)
	if err != nil {
		t.Fatal(err)
	}
	want := "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi \"you\"<|im_end|>\n<|im_start|>assistant\n"
	if r.Prompt != want || r.Parser != "" {
		t.Errorf("got %q, parser %q", r.Prompt, r.Parser)
	}
	if _, err := m.Render(engine.Chat{Messages: []byte(`{"role":"user"}`)}); err == nil {
		t.Error("a conversation that is no list was rendered")
	}

	thinking := loadModel(t, testmodel.Options{ChatTemplate: `{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking %}<think>
{% endif %}{% endif %}`})
	r, err = thinking.Render(engine.Chat{Messages: []byte(`[{"role":"user","content":"Why?"}]`)})
	if err != nil {
		t.Fatal(err)
	}
	if r.Parser == "" {
		t.Fatal("a template that thinks has no parser")
	}
	parser, err := thinking.Parser(r.Parser)
	if err != nil {
		t.Fatal(err)
	}
	defer parser.Close()
	first, err := parser.Append("it is", false)
	if err != nil || first.Content != "" || !strings.Contains(first.Reasoning, "it is") {
		t.Errorf("first: got %+v, %v", first, err)
	}
	rest, err := parser.Append(" so\n</think>Because.", true)
	if err != nil || rest.Content != "Because." || !strings.Contains(rest.Reasoning, " so") {
		t.Errorf("the rest: got %+v, %v", rest, err)
	}
	if _, err := thinking.Parser("{"); err == nil {
		t.Error("a broken parser was taken")
	}
}

// TestTemplateArgs has a template print what it is given. Of the names that a client may use, none changes what the
// conversation is; those that would are prompt.Reserved.
func TestTemplateArgs(t *testing.T) {
	m := loadModel(t, testmodel.Options{
		ChatTemplate: `{{ messages | length }} of{% for m in messages %} {{ m.role }}: {{ m.content }}{% endfor %}` +
			`. {{ documents }}`,
	})
	chat := engine.Chat{Messages: []byte(`[{"role":"user","content":"Hi"}]`)}
	for _, test := range []struct {
		args map[string]json.RawMessage
		want string
	}{
		{nil, "1 of user: Hi. "},
		{map[string]json.RawMessage{"documents": json.RawMessage(`"some"`)}, "1 of user: Hi. some"},
		{map[string]json.RawMessage{"Messages": json.RawMessage(`[]`), "message": json.RawMessage(`[]`)}, "1 of user: Hi. "},
	} {
		chat.TemplateArgs = test.args
		r, err := m.Render(chat)
		if err != nil {
			t.Fatal(err)
		}
		if r.Prompt != test.want {
			t.Errorf("with %s the template is given %q, want %q", test.args, r.Prompt, test.want)
		}
	}
}

func TestBadFiles(t *testing.T) {
	good := testmodel.Bytes(testmodel.Options{})
	dir := t.TempDir()
	for name, tt := range map[string]struct {
		file []byte
		want string
	}{
		"garbage":      {[]byte("this is no model"), ""},
		"truncated":    {good[:len(good)/2], ""},
		"architecture": {testmodel.Bytes(testmodel.Options{Architecture: "martian"}), "martian"},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, tt.file, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadModel(path, LoadOptions{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := Measure(path, Options{Context: 128, Sequences: 1}); err == nil {
			t.Errorf("%s was measured", name)
		}
	}

	if _, err := LoadModel(filepath.Join(dir, "absent"), LoadOptions{}); err == nil {
		t.Error("a file that is not there was loaded")
	}
}

func TestProgressCanStopALoad(t *testing.T) {
	path := write(t, testmodel.Options{})
	calls := 0
	m, err := LoadModel(path, LoadOptions{Progress: func(f float32) bool {
		calls++
		return true
	}})
	if err != nil || calls == 0 {
		t.Fatalf("%d calls, %v", calls, err)
	}
	m.Close()
	if _, err := LoadModel(path, LoadOptions{Progress: func(float32) bool { return false }}); err == nil {
		t.Error("a load that was stopped went on")
	}
}

func TestMeasure(t *testing.T) {
	path := write(t, testmodel.Options{})
	few, err := Measure(path, Options{Context: 256, Sequences: 1})
	if err != nil {
		t.Fatal(err)
	}
	many, err := Measure(path, Options{Context: 256, Sequences: 8})
	if err != nil {
		t.Fatal(err)
	}
	host := few.Devices[len(few.Devices)-1]
	hostMany := many.Devices[len(many.Devices)-1]
	if host.Weights == 0 || host.Compute == 0 || hostMany.KV != 8*host.KV {
		t.Errorf("got %+v and %+v", host, hostMany)
	}
	// Two of three layers' keys and values: 2 heads of 16 f16 each, times 256 cells.
	if want := uint64(3 * 2 * 2 * 16 * 2 * 256); host.KV != want {
		t.Errorf("%d bytes of KV cells, want %d", host.KV, want)
	}
}

// recorder keeps log records.
type recorder struct {
	mu      sync.Mutex
	records []slog.Record
}

func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recorder) WithGroup(string) slog.Handler            { return r }
func (r *recorder) Handle(_ context.Context, rec slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, rec)
	return nil
}

func TestLogGoesToSlogAtItsLevel(t *testing.T) {
	rec := &recorder{}
	old := slog.Default()
	slog.SetDefault(slog.New(rec))
	defer slog.SetDefault(old)
	m := loadModel(t, testmodel.Options{})
	if _, err := LoadModel("/nonexistent", LoadOptions{}); err == nil {
		t.Fatal("loaded")
	}

	p := engine.DefaultSampling()
	p.Grammar = engine.Grammar{Text: `root ::= "secretword"`, Lazy: true, FromChat: true,
		Triggers: []engine.Trigger{{Kind: 1, Value: "secretword"}}}
	s, err := m.NewSampler(p)
	if err != nil {
		t.Fatal(err)
	}

	s.Close()
	levels := map[slog.Level]int{}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, r := range rec.records {
		levels[r.Level]++
		if strings.Contains(r.Message, "secretword") || strings.HasSuffix(r.Message, "\n") {
			t.Errorf("logged %q", r.Message)
		}
	}

	if levels[slog.LevelInfo] == 0 || levels[slog.LevelError] == 0 {
		t.Errorf("levels %v", levels)
	}
}
