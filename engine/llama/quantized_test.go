package llama

import (
	"math"
	"testing"

	"serve/engine"
	"serve/models/testmodel"
)

// quantized is a model in a type of weights, wide enough for all of them.
func quantized(weights string) testmodel.Options {
	return testmodel.Options{Width: 256, Hidden: 256, Type: weights, Attention: 0.1}
}

// exact is the same model in F32, with the very values of the weights.
func exact(weights string) testmodel.Options {
	o := quantized(weights)
	o.Dequantized = true
	return o
}

// tolerances are how far logits may lie from those of other kernels, or of another shape of
// batch, by the type of the KV cells. Kernels round activations to eight bits, and cells
// are rounded to their type; where rounding goes the other way, a step of it is the
// difference.
var tolerances = map[string]struct {
	logits float64 // of a row: the mean square of the differences over that of the row
	margin float64 // how much more probable the best token is, as a logarithm, so that it stays the best
}{
	"f16":  {3e-3, 0.5}, // three times what was seen on Zen 4, as with the others
	"q8_0": {3e-3, 0.5},
	"q4_0": {4e-2, 1},
}

// oneThread computes where many small graphs do: threads wait for each other in every
// operation, for long when other packages' tests have the processors.
const oneThread = 1

// row is a token at a position of a sequence.
type row struct {
	token         engine.Token
	seq, position int
}

// rowsOfLogits computes rows in one batch and returns the logits of each.
func rowsOfLogits(t *testing.T, c *Context, rows []row) [][]float32 {
	t.Helper()
	var b engine.Batch
	for _, r := range rows {
		b.Add(r.token, r.position, r.seq, true)
	}
	if err := c.Decode(&b); err != nil {
		t.Fatal(err)
	}

	logits := make([][]float32, len(rows))
	for i := range rows {
		l, err := c.Logits(i)
		if err != nil {
			t.Fatal(err)
		}
		logits[i] = l
	}
	return logits
}

// shapesOfLogits computes a model's logits in each shape of batch that has kernels of its
// own: many tokens of a prompt, one token, one of each of eight sequences.
func shapesOfLogits(t *testing.T, m *Model, kvType string) map[string][][]float32 {
	t.Helper()
	const prompt, sequences = 80, 8
	c := newContext(t, m, ContextOptions{
		Cells: 256 * sequences, Sequences: sequences, Batch: 128, Threads: oneThread, KVType: kvType,
	})
	token := func(i int) engine.Token { return engine.Token(270 + i*7%200) }

	var prefill, crowd []row
	for i := range prompt {
		prefill = append(prefill, row{token(i), 0, i})
	}
	logits := map[string][][]float32{"80 rows": rowsOfLogits(t, c, prefill)}
	logits["1 row"] = rowsOfLogits(t, c, []row{{token(prompt), 0, prompt}})

	c.RemoveKV(0, prompt)
	for seq := range sequences {
		if seq > 0 {
			c.CopyKV(0, seq)
		}
		crowd = append(crowd, row{token(prompt + seq), seq, prompt})
	}
	logits["8 rows"] = rowsOfLogits(t, c, crowd)
	return logits
}

// difference returns the mean square of the differences over that of want; infinite when
// a value is not a number.
func difference(got, want []float32) float64 {
	var errors, squares float64
	for i := range want {
		errors += math.Pow(float64(got[i]-want[i]), 2)
		squares += math.Pow(float64(want[i]), 2)
	}
	if e := errors / squares; !math.IsNaN(e) {
		return e
	}
	return math.Inf(1)
}

// greatest returns the greatest difference of any two rows.
func greatest(got, want [][]float32) float64 {
	worst := 0.0
	for i := range want {
		worst = max(worst, difference(got[i], want[i]))
	}
	return worst
}

// TestQuantizedLogits compares each quantization with the same model in F32, whose
// weights are the quantized ones' very values: what differs is what kernels round. All
// kernels that this machine can run are tried.
func TestQuantizedLogits(t *testing.T) {
	plain := shapesOfLogits(t, loadModel(t, quantized(testmodel.F32)), "f16")
	for _, weights := range testmodel.Types {
		path := write(t, quantized(weights))
		reference := loadModel(t, exact(weights))
		for kvType, tolerance := range tolerances {
			wants := shapesOfLogits(t, reference, kvType)
			t.Run(weights+"/KV "+kvType, func(t *testing.T) {
				useAll(t, func(t *testing.T) {
					m, err := LoadModel(path, LoadOptions{})
					if err != nil {
						t.Fatal(err)
					}

					t.Cleanup(m.Close)
					for shape, got := range shapesOfLogits(t, m, kvType) {
						if worst := greatest(got, wants[shape]); worst > tolerance.logits {
							t.Errorf("%s: the logits differ by %.2g, more than %g", shape, worst, tolerance.logits)
						}
						// The tolerance is no excuse for weights that are only nearly right.
						lossy := weights != "F16" && weights != "Q8_0" && weights != "Q6_K"
						if worst := greatest(got, plain[shape]); lossy && kvType == "f16" && worst < tolerance.logits {
							t.Errorf("%s: the logits are those of other weights, within %.2g", shape, worst)
						}
					}
				})
			})
		}
	}
}

// TestQuantized runs what is tested of a model over each quantization and type of KV cells.
func TestQuantized(t *testing.T) {
	for _, weights := range append([]string{testmodel.F32}, testmodel.Types...) {
		path := write(t, quantized(weights))
		m, err := LoadModel(path, LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		for kvType, tolerance := range tolerances {
			t.Run(weights+"/KV "+kvType, func(t *testing.T) {
				same := func(t *testing.T, what string, got, want []float32) {
					t.Helper()
					if d := difference(got, want); d > tolerance.logits {
						t.Errorf("%s: logits differ by %.2g", what, d)
					}
				}
				testKV(t, m, ContextOptions{Threads: oneThread, KVType: kvType}, same)
				testAnswers(t, path, kvType, tolerance.margin)
			})
		}
	}
}

// prompts are longer than a batch of testAnswers, and some begin alike.
var prompts = []string{
	"the man had three boy and a canary that could read the world and all the word of it",
	"the man had three boy and a canary that could read the world and all the people of it",
	"the man had three boy and a canary that could read the world",
	"we want to find water and land, and a house near the world",
	"how many people can read and write and say what they think",
	"at the end of the day the old animal went home by a small light",
	"put the picture here and do not change it again for any reason",
	"she said that the letter came from a place under the water",
}

// testAnswers lets an engine answer prompts one by one and then all together: in pieces of
// a prefill, from beginnings that are kept, in batches of up to eight rows.
func testAnswers(t *testing.T, path, kvType string, margin float64) {
	t.Helper()
	e := startEngine(t, path, Options{
		Context: 256, Sequences: len(prompts), Batch: 16, Threads: oneThread, KVType: kvType,
	})

	var alone [][]engine.TokenInfo
	for _, prompt := range prompts {
		alone = append(alone, read(t, ask(t, e, prompt)))
	}
	streams := make([]*engine.Stream, len(prompts))
	for i, prompt := range prompts {
		streams[i] = ask(t, e, prompt)
	}

	compared := 0
	for i, s := range streams {
		compared += compareAnswers(t, read(t, s), alone[i], margin)
	}
	if least := answerTokens * len(prompts) / 4; compared < least {
		t.Errorf("%d tokens were so probable that they could be compared, and %d should be", compared, least)
	}
}

// compareAnswers compares the answer to a prompt among others with the one alone, up to
// where another token was nearly as probable and came. It returns how many tokens could
// have been none but these.
func compareAnswers(t *testing.T, crowd, alone []engine.TokenInfo, margin float64) (sure int) {
	t.Helper()
	for i, token := range alone {
		best := token.Alternatives[0].LogProb
		second := token.Alternatives[1].LogProb
		certain := float64(best-second) >= margin
		if crowd[i].Token != token.Token {
			if certain {
				t.Errorf("token %d is %d alone and %d among others", i, token.Token, crowd[i].Token)
			}
			break
		}
		if certain {
			sure++
		}
	}
	return sure
}

// answerTokens are those of an answer in testAnswers.
const answerTokens = 16

// ask begins an answer of the most probable tokens.
func ask(t *testing.T, e *engine.Engine, text string) *engine.Stream {
	t.Helper()
	prompt, err := e.Tokenize(t.Context(), engine.Caller{}, text, engine.Reading{Control: true, Ends: true}, 128)
	if err != nil {
		t.Fatal(err)
	}
	sampling := engine.DefaultSampling()
	sampling.Temperature = 0
	sampling.IgnoreEOS = true
	s, err := e.Generate(t.Context(), engine.Request{
		Prompt: prompt, MaxTokens: answerTokens, Sampling: sampling, LogProbs: true, Top: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read reads an answer to its end.
func read(t *testing.T, s *engine.Stream) (tokens []engine.TokenInfo) {
	t.Helper()
	defer s.Close()
	for {
		events, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if events == nil {
			break
		}
		for _, e := range events {
			tokens = append(tokens, e.Tokens...)
		}
	}
	if len(tokens) != answerTokens {
		t.Fatalf("an answer of %d tokens", len(tokens))
	}
	return tokens
}
