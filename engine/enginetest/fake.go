// Package enginetest has a model that is none: it computes in microseconds what
// a sequence's tokens say comes next, and notices every mistake in the use of
// the KV cache. The tests of the engine and of the server use it.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"serve/engine"
)

// Tokens of the fake's vocabulary: one for each byte, and these after them.
const (
	EOS   engine.Token = 256 // ends generation
	Think engine.Token = 257 // a control token, "<think>"
	words engine.Token = 258
)

// Options shape a Fake. The zero value is a model that generates, with a context
// of 256 tokens for each of 4 sequences and a batch of 32.
type Options struct {
	Limits engine.Limits
	// Next says what follows tokens; by default a function of all of them that
	// never ends by itself.
	Next func(tokens []engine.Token) engine.Token
	// Tenant says whose a sequence is that holds tokens, as far as they tell; empty while they do not. A cell that
	// sequences of two tenants have held, by a copy or one after the other, is a mistake.
	Tenant func(tokens []engine.Token) string
	// BeforeDecode may fail, or wait, before a batch is computed.
	BeforeDecode func(*engine.Batch) error
	// Embeds makes it an encoder, which does not generate.
	Embeds bool
	// Ranks makes its Embed give scores.
	Ranks bool
	// Vision makes it read images, an embedding a column, between the tokens { and }.
	// Those of fewer rows than columns take as many positions as rows, on a grid; one
	// whose first pixel is blue must be read in one batch.
	Vision bool
	// Parse is the parser of every rendered chat; nil for none.
	Parse ParseFunc
	// Memory is what sequences are saved to; nil for memory of the fake's own.
	Memory *Memory
	// RenderError is what the template says to messages it does not like.
	RenderError func(messages []byte) error
}

// cell is what a KV cell holds: a token, or what an embedding stands for (seen).
type cell struct {
	number  int // of all that were computed: a copy has the same
	token   engine.Token
	at, end int32 // its position, and the greatest of its coordinates
	next    int32 // the position after all coordinates of it and of the cells before it
	grid    bool
	first   bool // of the embeddings of an image
	rest    int  // embeddings that must follow

	reproducible bool // as its batch was
}

// Model is all of a model.
type Model interface {
	engine.Runner
	engine.Text
}

// Fake is an engine.Runner and an engine.Text.
type Fake struct {
	opts  Options
	model engine.ModelInfo

	mu       sync.Mutex
	kv       map[int][]cell
	rows     map[int]engine.Token // by batch index: what follows
	computed int                  // cells
	tenants  map[int]string       // by number of a cell: whose it is, once that is known
	saved    *Memory
	floors   map[int]int // by sequence: cells that it was restored with and must not go back below
	aborted  bool
	closed   bool
	samplers int
	encoded  int       // images
	batches  [][]int32 // the sequences of every batch
	faults   []string
}

var (
	_ engine.Runner = (*Fake)(nil)
	_ engine.Text   = (*Fake)(nil)
)

// New returns a fake.
func New(o Options) *Fake {
	l := &o.Limits
	setDefault(&l.Sequences, 4)
	setDefault(&l.Context, 256)
	setDefault(&l.Batch, 32)
	setDefault(&l.Cells, l.Sequences*l.Context)
	setDefault(&l.Rows, l.Sequences)
	setDefault(&l.EmbedTokens, 64)
	setDefault(&l.EmbedInputs, 4)
	if o.Next == nil {
		o.Next = Hash
	}

	f := &Fake{opts: o, kv: map[int][]cell{}, tenants: map[int]string{}, floors: map[int]int{}, saved: o.Memory}
	if f.saved == nil {
		f.saved = NewMemory(1 << 40)
	}
	f.model = engine.ModelInfo{
		Name:          "fake",
		Architecture:  "fake",
		Quantization:  "none",
		TrainContext:  l.Context,
		EmbeddingSize: 3,
		InputSize:     seenSize,
		Vision:        o.Vision,
		Generates:     !o.Embeds,
		Ranks:         o.Ranks,
		Marks:         engine.Marks{BOS: -1, EOS: EOS, Separator: -1, FIMPrefix: '<', FIMSuffix: '|', FIMMiddle: '>'},
	}
	for t := range words {
		piece := []byte{byte(t)}
		special := piece
		if t >= EOS {
			piece = nil
			special = []byte([]string{"<eos>", "<think>"}[t-EOS])
		}
		f.model.Pieces = append(f.model.Pieces, piece)
		f.model.Special = append(f.model.Special, special)
		f.model.EndsGeneration = append(f.model.EndsGeneration, t == EOS)
	}

	return f
}

func setDefault(field *int, value int) {
	if *field == 0 {
		*field = value
	}
}

// Hash returns a lower-case letter that depends on every token before it.
func Hash(tokens []engine.Token) engine.Token {
	h := uint32(2166136261)
	for i, t := range tokens {
		h = (h ^ uint32(t) ^ uint32(i)<<16) * 16777619
	}
	return engine.Token('a' + h>>8%26)
}

// Say returns a Next that answers a prompt with a text and then ends. The prompt
// is everything up to and with the first newline.
func Say(text string) func([]engine.Token) engine.Token {
	return func(tokens []engine.Token) engine.Token {
		said := len(tokens) - 1 - slices.Index(tokens, '\n')
		if said < len(text) {
			return engine.Token(text[said])
		}
		return EOS
	}
}

// Answer returns the n tokens that follow a prompt with media, computed by itself.
func (f *Fake) Answer(prompt []engine.Token, n int, media ...*engine.Media) []engine.Token {
	tokens := slices.Clone(prompt)
	for i := 0; i < len(tokens); i++ {
		if tokens[i] < 0 {
			for k := range media[0].Len {
				tokens[i+k] = seen(media[0].Embeddings[seenSize*k:])
			}
			i += media[0].Len - 1
			media = media[1:]
		}
	}
	for range n {
		tokens = append(tokens, f.opts.Next(tokens))
	}
	return tokens[len(prompt):]
}

// Faults returns the mistakes made in its use, and whether anything is left open
// after Close.
func (f *Fake) Faults() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	faults := slices.Clone(f.faults)
	if f.closed && f.samplers > 0 {
		faults = append(faults, fmt.Sprintf("%d samplers were never closed", f.samplers))
	}
	return faults
}

// Held returns the tokens of each sequence that has cells.
func (f *Fake) Held() (list [][]engine.Token) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, held := range f.kv {
		if len(held) > 0 {
			list = append(list, tokensOf(held))
		}
	}
	return list
}

// Batches returns the sequences of every token of every batch so far.
func (f *Fake) Batches() [][]int32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.batches)
}

func (f *Fake) fault(format string, args ...any) error {
	f.faults = append(f.faults, fmt.Sprintf(format, args...))
	return fmt.Errorf("%w: "+format, append([]any{engine.ErrFatal}, args...)...)
}

// Model implements engine.Runner, as do the methods after it.
func (f *Fake) Model() *engine.ModelInfo { return &f.model }

// Limits returns the options' limits.
func (f *Fake) Limits() engine.Limits { return f.opts.Limits }

// seenSize is the floats of an embedding: a pixel's red, its column, and how many
// columns are right of it.
const seenSize = 3

// seen is the token that an embedding stands for: far below any ID.
func seen(embedding []float32) engine.Token {
	return -1<<24 - engine.Token(embedding[0])*1024 - engine.Token(embedding[1])
}

// Letter returns the red of the pixel that a token which Options.Next gets stands for.
func Letter(t engine.Token) engine.Token { return (-1<<24 - t) / 1024 }

// EncodeImage makes an embedding of every pixel of the first row.
func (f *Fake) EncodeImage(img *engine.Bitmap, limit int) ([]engine.Chunk, error) {
	n := img.Width
	if n+2 > limit {
		return nil, &engine.LengthError{Tokens: n + 2, Limit: limit}
	}
	f.mu.Lock()
	f.encoded++
	f.mu.Unlock()
	m := &engine.Media{Len: n, Span: min(n, img.Height), Whole: img.Pixels[2] == 255}
	for i := range n {
		m.Embeddings = append(m.Embeddings, float32(img.Pixels[3*i]), float32(i), float32(n-1-i))
	}
	if m.Span < n {
		m.Grid = make([]int32, 4*n)
		for i := range n {
			m.Grid[n+i] = int32(i % m.Span)
			m.Grid[2*n+i] = int32(min(i/m.Span, m.Span-1))
		}
	}
	return []engine.Chunk{{Tokens: []engine.Token{'{'}}, {Media: m}, {Tokens: []engine.Token{'}'}}}, nil
}

// EncodedImages returns how many images were encoded.
func (f *Fake) EncodedImages() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.encoded
}

// Tokenize makes a token of every byte; control reads <think> as its token.
func (f *Fake) Tokenize(_ context.Context, text string, how engine.Reading) ([]engine.Token, error) {
	if err := how.Check(len(text)); err != nil {
		return nil, err
	}
	quoted := func(from, to int) bool {
		return slices.ContainsFunc(how.Quoted, func(q engine.Range) bool { return q.From < to && from < q.To })
	}

	var tokens []engine.Token
	for i := 0; i < len(text); i++ {
		if how.Control && strings.HasPrefix(text[i:], "<think>") && !quoted(i, i+len("<think>")) {
			tokens = append(tokens, Think)
			i += len("<think>") - 1
			continue
		}
		tokens = append(tokens, engine.Token(text[i]))
	}
	return tokens, nil
}

type sampler struct {
	f     *Fake
	least int // tokens before one may end the answer
	ends  []engine.Token
}

// draw returns the token that comes in the place of t: another one if that would end the answer too early.
func (s *sampler) draw(t engine.Token) engine.Token {
	if s.least > 0 && (t == EOS || slices.Contains(s.ends, t)) {
		t = '.'
	}
	s.least--
	return t
}

func (s *sampler) Close() {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.f.samplers--
}

// Check fails on the grammar "bad".
func (f *Fake) Check(_ context.Context, s engine.Sampling) error {
	if s.Grammar.Text == "bad" {
		return errors.New("failed to parse grammar")
	}
	return nil
}

// NewSampler fails on the grammar "bad".
func (f *Fake) NewSampler(s engine.Sampling) (engine.Sampler, error) {
	if err := f.Check(context.Background(), s); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.samplers++
	return &sampler{f: f, least: int(s.MinTokens) - len(s.Drawn), ends: s.Ends}, nil
}

// Step checks that every token comes at the end of its sequence's cells. It draws what
// Next says.
func (f *Fake) Step(b *engine.Batch, rows []engine.Row) error {
	if err := f.decode(b); err != nil {
		return err
	}
	return f.sample(b, rows)
}

func (f *Fake) decode(b *engine.Batch) error {
	if f.opts.BeforeDecode != nil {
		if err := f.opts.BeforeDecode(b); err != nil {
			return err
		}
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	if f.aborted {
		return engine.ErrAborted
	}

	l := f.opts.Limits
	if b.Len() == 0 || b.Len() > l.Batch {
		return f.fault("a batch of %d tokens", b.Len())
	}
	if l.Shared && f.cells()+b.Len() > l.Cells {
		return engine.ErrNoSlot
	}

	f.batches = append(f.batches, slices.Clone(b.Sequences))
	f.rows = map[int]engine.Token{}
	if media := len(b.Embeddings) > 0; media == (len(b.Tokens) > 0) || media && len(b.Embeddings) != seenSize*b.Len() {
		return f.fault("%d tokens and %d floats for a batch of %d", len(b.Tokens), len(b.Embeddings), b.Len())
	}
	if n := b.Len(); b.Whole && (b.Embeddings[1] > 0 || b.Embeddings[seenSize*n-1] > 0) {
		return f.fault("an image that must be in one batch is in several")
	}

	for i := range b.Len() {
		seq := int(b.Sequences[i])
		if i > 0 && b.Sequences[i] < b.Sequences[i-1] {
			return f.fault("the sequences of a batch are not in order: %v", b.Sequences)
		}
		if seq >= l.Sequences {
			return f.fault("sequence %d of %d", seq, l.Sequences)
		}
		c := newCell(b, i)
		if !c.follows(f.kv[seq]) {
			return f.fault(
				"sequence %d gets %+v after %d tokens: %+v", seq, c, len(f.kv[seq]), f.kv[seq][max(0, len(f.kv[seq])-3):],
			)
		}
		c.next = max(nextPosition(f.kv[seq]), c.end+1)
		c.number = f.computed
		f.computed++
		if f.kv[seq] = append(f.kv[seq], c); len(f.kv[seq]) > l.Context {
			return f.fault("sequence %d has more than %d tokens", seq, l.Context)
		}
		if err := f.claim(f.kv[seq]); err != nil {
			return err
		}
		if b.Outputs[i] == 1 {
			f.rows[i] = f.opts.Next(tokensOf(f.kv[seq]))
		}
	}

	return nil
}

// claim makes the cells of a sequence its tenant's. What is to be reproducible has only such cells.
func (f *Fake) claim(held []cell) error {
	last := held[len(held)-1]
	if last.reproducible && !f.opts.Limits.Reproducible {
		return f.fault("a cell is to be reproducible, which nothing is")
	}
	if i := slices.IndexFunc(held, func(c cell) bool { return last.reproducible && !c.reproducible }); i >= 0 {
		return f.fault("token %d of a sequence was not computed reproducibly, and what follows is to be", i)
	}
	if f.opts.Tenant == nil {
		return nil
	}
	tenant := f.opts.Tenant(tokensOf(held))
	if tenant == "" {
		return nil
	}
	for i, c := range held {
		if other, taken := f.tenants[c.number]; taken && other != tenant {
			return f.fault("the first %d tokens of a sequence of %q are a cell of %q", i+1, tenant, other)
		}
		f.tenants[c.number] = tenant
	}
	return nil
}

func newCell(b *engine.Batch, i int) cell {
	c := cell{at: b.Positions[i], end: b.Positions[i], grid: len(b.Grid) > 0, reproducible: b.Reproducible}
	if len(b.Embeddings) == 0 {
		c.token = b.Tokens[i]
		return c
	}
	e := b.Embeddings[seenSize*i:]
	c.token = seen(e)
	c.first = e[1] == 0
	c.rest = int(e[2])
	for axis := 0; axis < len(b.Grid); axis += b.Len() {
		c.end = max(c.end, b.Grid[axis+i])
	}
	return c
}

// follows reports whether a cell is the next one of a sequence.
func (c cell) follows(held []cell) bool {
	next := nextPosition(held)
	if n := len(held); n > 0 && held[n-1].rest > 0 {
		last := held[n-1]
		if c.grid {
			next = last.at
		}
		return c.token < 0 && c.rest == last.rest-1 && c.at == next
	}
	return c.at == next && (c.token >= 0 || c.first)
}

// nextPosition returns the position that follows the cells of a sequence.
func nextPosition(held []cell) int32 {
	if len(held) == 0 {
		return 0
	}
	return held[len(held)-1].next
}

// tokensOf returns what cells hold.
func tokensOf(held []cell) []engine.Token {
	tokens := make([]engine.Token, len(held))
	for i, c := range held {
		tokens[i] = c.token
	}
	return tokens
}

// cells counts what a shared buffer holds: cells that several sequences share count once.
func (f *Fake) cells() int {
	different := map[int]bool{}
	for _, held := range f.kv {
		for _, c := range held {
			different[c.number] = true
		}
	}
	return len(different)
}

// refuse reports whether the row before another one has not drawn the token that this one is computed after. Its
// sequence then has no cells from there on.
func (f *Fake) refuse(b *engine.Batch, rows []engine.Row, i int) (bool, error) {
	r := &rows[i]
	if i == 0 || rows[i-1].Sampler != r.Sampler || r.Sampler == nil || rows[i-1].Index != r.Index-1 ||
		b.Sequences[r.Index] != b.Sequences[r.Index-1] {
		return false, f.fault("row %d is a draft that follows none", i)
	}
	if !f.opts.Limits.RollsBack {
		return false, f.fault("drafts of a model that cannot go back")
	}

	before := rows[i-1]
	if !before.Refused && before.Err == nil && before.Token == b.Tokens[r.Index] {
		return false, nil
	}
	if !before.Refused {
		seq := int(b.Sequences[r.Index])
		held := f.kv[seq]
		f.kv[seq] = slices.DeleteFunc(held, func(c cell) bool { return c.at >= b.Positions[r.Index] })
		if len(f.kv[seq]) < f.floors[seq] {
			return false, f.fault("drafts of sequence %d are dropped below where it was restored", seq)
		}
	}
	return true, nil
}

// sample draws what Next said; every alternative has half the probability of the one
// before.
func (f *Fake) sample(b *engine.Batch, rows []engine.Row) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(rows) > f.opts.Limits.Rows {
		return f.fault("%d rows of %d", len(rows), f.opts.Limits.Rows)
	}
	for i := range rows {
		r := &rows[i]
		if r.Refused = false; r.Draft {
			refused, err := f.refuse(b, rows, i)
			if err != nil {
				return err
			}
			if refused {
				r.Refused = true
				continue
			}
		}
		t, ok := f.rows[r.Index]
		if !ok {
			return f.fault("no row at batch index %d", r.Index)
		}

		r.Err = nil
		if r.Sampler != nil {
			t = r.Sampler.(*sampler).draw(t)
			r.Token = t
			r.LogProb = -0.5
		} else {
			// What a prompt goes on with is the less probable the greater its number.
			t = r.Token
			r.LogProb = -float32(r.Token) / 128
		}

		r.Alternatives = r.Alternatives[:0]
		for k := range r.Top {
			r.Alternatives = append(
				r.Alternatives, engine.TokenLogProb{Token: (t + engine.Token(k)) % 128, LogProb: -0.5 - float32(k)},
			)
		}

		if t < 0 {
			r.Err = errors.New("the model computed no finite logit")
		}
	}

	return nil
}

// RemoveKV drops cells; without Limits.RollsBack only all of them.
func (f *Fake) RemoveKV(seq, from int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := slices.DeleteFunc(slices.Clone(f.kv[seq]), func(c cell) bool { return int(c.at) >= from })
	if len(kept) > 0 && len(kept) < len(f.kv[seq]) && !f.opts.Limits.RollsBack {
		return false
	}
	if len(kept) == 0 {
		delete(f.floors, seq)
	} else if len(kept) < f.floors[seq] {
		_ = f.fault("sequence %d goes back to %d cells, and was restored with %d", seq, len(kept), f.floors[seq])
	}
	f.kv[seq] = kept
	return true
}

// LoseKV drops the cells of all sequences, as the end of an engine's process does.
func (f *Fake) LoseKV() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.kv)
	clear(f.floors)
}

// CopyKV copies cells.
func (f *Fake) CopyKV(src, dst int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kv[dst] = slices.Clone(f.kv[src])
	f.floors[dst] = f.floors[src]
}

// Embed returns the length and the first two tokens of every input.
func (f *Fake) Embed(inputs [][]engine.Token, _ bool) ([][]float32, error) {
	total := 0
	vectors := make([][]float32, len(inputs))
	for i, in := range inputs {
		total += len(in)
		vectors[i] = []float32{float32(len(in)), float32(in[0]), float32(in[min(1, len(in)-1)])}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if total > f.opts.Limits.EmbedTokens || len(inputs) > f.opts.Limits.EmbedInputs {
		return nil, f.fault("%d inputs of %d tokens to embed", len(inputs), total)
	}
	return vectors, nil
}

// Abort makes Step fail from now on.
func (f *Fake) Abort() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.aborted = true
}

// Close ends the fake's use.
func (f *Fake) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
}
