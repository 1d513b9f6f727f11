package remote

import (
	"errors"
	"fmt"
	"math"
	"time"

	"serve/engine"
)

// What no model exceeds. A child that somebody has taken over says what that one likes: the parent makes lists of these
// sizes, and takes tokens for indices into them.
const (
	maxSequences  = 1 << 16
	maxRows       = 1 << 16
	maxCells      = math.MaxInt32
	maxSize       = 1 << 20 // floats of an embedding, scores of a classifier, inputs of a call
	maxNumber     = 1 << 56 // bytes, parameters
	maxTraining   = math.MaxInt32
	maxName       = 4 << 10 // bytes of a name
	maxTemplate   = 16 << 20
	maxPiece      = 64 << 10
	maxVocabulary = 1 << 24
)

// maxText is the size in bytes of an error's text, and maxCalls how many tool calls an answer can skip.
const (
	maxText  = 4 << 10
	maxCalls = 16
)

// encode writes what a child says of its model.
func (f *facts) encode() []byte {
	var m message
	i := &f.Model
	for _, text := range []string{i.Name, i.Architecture, i.Quantization, i.RankTemplate, i.ChatTemplate, i.Build} {
		m.string(text)
	}
	m.u64(i.Size)
	m.u64(i.Parameters)
	for _, n := range []int{i.TrainContext, i.EmbeddingSize, i.InputSize, i.Classes} {
		m.int(n)
	}
	for _, b := range []bool{i.Vision, i.Generates, i.Ranks, i.Marks.AddBOS, i.Marks.AddEOS, i.Marks.AddSeparator} {
		m.bool(b)
	}
	for _, mark := range marksOf(&i.Marks) {
		m.u32(uint32(*mark))
	}

	for _, pieces := range [][][]byte{i.Pieces, i.Special} {
		m.u32(uint32(len(pieces)))
		for _, p := range pieces {
			m.bytes(p)
		}
	}
	m.u32(uint32(len(i.EndsGeneration)))
	for _, b := range i.EndsGeneration {
		m.bool(b)
	}

	l := &f.Limits
	for _, n := range []int{l.Sequences, l.Context, l.Cells, l.Batch, l.Rows, l.EmbedTokens, l.EmbedInputs} {
		m.int(n)
	}
	m.bool(l.Shared)
	m.bool(l.RollsBack)
	m.bool(l.Reproducible)
	m.bool(l.Saves)
	m.bool(l.SavesWhole)
	m.int(f.Vocabulary)
	return m.b
}

// decodeFacts reads what a child says of its model, and refuses what cannot be.
func decodeFacts(b []byte) (*facts, error) {
	r := &reader{b: b}
	f := new(facts)
	i := &f.Model
	for _, text := range []*string{&i.Name, &i.Architecture, &i.Quantization, &i.RankTemplate, &i.ChatTemplate, &i.Build} {
		*text = r.string()
	}
	i.Size = r.u64()
	i.Parameters = r.u64()
	for _, n := range []*int{&i.TrainContext, &i.EmbeddingSize, &i.InputSize, &i.Classes} {
		*n = r.int()
	}
	for _, b := range []*bool{
		&i.Vision, &i.Generates, &i.Ranks, &i.Marks.AddBOS, &i.Marks.AddEOS, &i.Marks.AddSeparator,
	} {
		*b = r.bool()
	}
	for _, mark := range marksOf(&i.Marks) {
		*mark = engine.Token(r.u32())
	}

	for _, pieces := range []*[][]byte{&i.Pieces, &i.Special} {
		n := r.count(4)
		*pieces = make([][]byte, 0, n)
		for range n {
			*pieces = append(*pieces, append([]byte{}, r.bytes()...))
		}
	}
	i.EndsGeneration = make([]bool, r.count(1))
	for j := range i.EndsGeneration {
		i.EndsGeneration[j] = r.bool()
	}

	l := &f.Limits
	for _, n := range []*int{&l.Sequences, &l.Context, &l.Cells, &l.Batch, &l.Rows, &l.EmbedTokens, &l.EmbedInputs} {
		*n = r.int()
	}
	l.Shared = r.bool()
	l.RollsBack = r.bool()
	l.Reproducible = r.bool()
	l.Saves = r.bool()
	l.SavesWhole = r.bool()
	f.Vocabulary = r.int()
	if err := r.end(); err != nil {
		return nil, err
	}
	return f, f.check()
}

// marksOf returns the tokens among the marks.
func marksOf(m *engine.Marks) []*engine.Token {
	return []*engine.Token{&m.BOS, &m.EOS, &m.Separator, &m.FIMPrefix, &m.FIMSuffix, &m.FIMMiddle}
}

// check refuses facts that cannot be.
func (f *facts) check() error {
	i := &f.Model
	l := &f.Limits
	vocabulary := len(i.Pieces)
	if len(i.Special) != vocabulary || len(i.EndsGeneration) != vocabulary {
		return fmt.Errorf("%w: a vocabulary of %d, %d and %d tokens", errWire, vocabulary, len(i.Special),
			len(i.EndsGeneration))
	}
	for _, mark := range marksOf(&i.Marks) {
		if int(*mark) >= max(vocabulary, f.Vocabulary) {
			return fmt.Errorf("%w: mark %d of %d tokens", errWire, *mark, vocabulary)
		}
	}
	for t := range vocabulary {
		if n := max(len(i.Pieces[t]), len(i.Special[t])); n > maxPiece {
			return fmt.Errorf("%w: a token of %d bytes", errWire, n)
		}
	}

	for _, c := range []struct {
		name       string
		value, max int
	}{
		{"name", len(i.Name), maxName},
		{"architecture", len(i.Architecture), maxName},
		{"quantization", len(i.Quantization), maxName},
		{"build", len(i.Build), maxName},
		{"template", len(i.ChatTemplate) + len(i.RankTemplate), maxTemplate},
		{"train context", i.TrainContext, maxTraining},
		{"size of an embedding", i.EmbeddingSize, maxSize},
		{"size of an input", i.InputSize, maxSize},
		{"classes", i.Classes, maxSize},
		{"sequences", l.Sequences, maxSequences},
		{"context", l.Context, maxCells},
		{"cells", l.Cells, maxCells},
		{"batch", l.Batch, maxCells},
		{"rows", l.Rows, maxRows},
		{"tokens to embed", l.EmbedTokens, maxCells},
		{"inputs to embed", l.EmbedInputs, maxSize},
		{"vocabulary", f.Vocabulary, maxVocabulary},
	} {
		if c.value < 0 || c.value > c.max {
			return fmt.Errorf("%w: %s %d (maximum %d)", errWire, c.name, c.value, c.max)
		}
	}
	if i.Size > maxNumber || i.Parameters > maxNumber {
		return fmt.Errorf("%w: %d bytes, %d parameters", errWire, i.Size, i.Parameters)
	}
	return nil
}

// tokens reads tokens of a vocabulary, at most so many.
func (r *reader) tokens(vocabulary, most int) []engine.Token {
	list := r.i32s(nil)
	if len(list) > most {
		r.fail("%d tokens (maximum %d)", len(list), most)
	}
	for _, t := range list {
		if t < 0 || int(t) >= vocabulary {
			r.fail("token %d of %d", t, vocabulary)
			return nil
		}
	}
	return list
}

// mostTokens is more than text of so many bytes can have: tokens of a byte each, after a normalization that takes
// letters and their marks apart, and what a model wants at the ends.
func mostTokens(bytes int) int { return 4*bytes + 16 }

// checkChunks refuses an image that is longer than it may be, or that has tokens or positions that cannot be.
func (r *reader) checkChunks(chunks []engine.Chunk, vocabulary, limit int) {
	total := 0
	for _, c := range chunks {
		total += len(c.Tokens)
		for _, t := range c.Tokens {
			if t < 0 || int(t) >= vocabulary {
				r.fail("token %d of %d", t, vocabulary)
			}
		}
		if c.Media == nil {
			continue
		}

		total += c.Media.Len
		if c.Media.Span > c.Media.Len {
			r.fail("an image of %d embeddings that takes %d positions", c.Media.Len, c.Media.Span)
		}
		for _, position := range c.Media.Grid {
			if position < 0 || int(position) > c.Media.Len {
				r.fail("position %d in an image of %d embeddings", position, c.Media.Len)
				break
			}
		}
	}
	if total > limit {
		r.fail("an image of %d tokens (maximum %d)", total, limit)
	}
}

// checkVectors refuses vectors that are not as long as the model's.
func (r *reader) checkVectors(vectors [][]float32, model *engine.ModelInfo) {
	size := model.EmbeddingSize
	if model.Ranks {
		size = max(model.Classes, 1)
	}
	for _, v := range vectors {
		if len(v) != size {
			r.fail("a vector of %d floats (the model's have %d)", len(v), size)
		}
	}
}

// logProb reads a log-probability, which rounding can make a little too large.
func (r *reader) logProb() float32 {
	p := r.f32()
	if !(p < 1) {
		r.fail("a log-probability of %v", p)
	}
	return p
}

// text reads an error's text, which is cut if it is too long.
func (r *reader) text() string {
	b := r.bytes()
	return string(b[:min(len(b), maxText)])
}

// check asks the parent whether it believes what a child says of its model.
func (o *Options) check(f *facts) error {
	if o.Check == nil {
		return nil
	}
	if err := o.Check(&f.Model, f.Limits); err != nil {
		return errors.Join(errWire, err)
	}
	return nil
}

// loadLimit is how long a load may take; 0 for any time. One that was done before is stuck if it takes much longer.
func (r *Runner) loadLimit(number int) time.Duration {
	if number > 1 {
		return r.o.Stall + slowerLoad*r.loading
	}
	return r.o.Load
}
