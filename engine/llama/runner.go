package llama

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"serve/engine"
	"serve/hostmem"
)

// Options size a Runner. Zero values take the defaults named.
type Options struct {
	Model      LoadOptions
	Projector  string // file of what makes embeddings of images; none
	Context    int    // tokens a sequence can hold, at most what the model was trained for; required
	Sequences  int    // sequences decoded together; required
	Cells      int    // KV cells in all; 0 for Context*Sequences, fewer make the sequences share one buffer
	Batch      int    // tokens of a step, 512
	MicroBatch int    // tokens of a compute graph, at most and by default those of a step
	Threads    int    // Threads()
	KVType     string // f16
	VType      string // of values, where they have another type than keys
	FlashAttn  string // on, off or auto
	RoPE       RoPE
	// BackendSampling says whether tokens are drawn on the device that computes the logits: on, off, the default, or
	// auto, which draws there on a GPU.
	BackendSampling string
	EmbedLimit      int // most tokens of an embedding input of a model that generates, 2048
	// Reproducible makes everything so (engine.Limits), embeddings too: Verify fails where it cannot be.
	Reproducible bool
	// NotReproducible says that Verify has found that nothing can be so, in an earlier process.
	NotReproducible bool
}

const (
	defaultBatch = 512
	embedInputs  = 64
	// leastRows is how many rows of logits there is room for at least: those of one sequence with its drafts.
	leastRows = 16
	// poll is how hard ggml's threads spin between graphs. Measured on two cores
	// (docs/performance.md): they must be awake when the next step comes.
	poll = 50
)

// Text implements engine.Text: a vocabulary and chat templates.
type Text struct{ model *Model }

var _ engine.Text = (*Text)(nil)

// LoadText loads the vocabulary and the chat templates of a model, with some metadata replaced. The caller must Close
// it.
func LoadText(path string, replaced []Metadata) (*Text, error) {
	m, err := LoadModel(path, LoadOptions{VocabOnly: true, CPUOnly: true, Placement: Placement{Metadata: replaced}})
	if err != nil {
		return nil, err
	}
	return &Text{m}, nil
}

// Tokenize implements engine.Text, as do the methods after it. None of them looks at its context: C++ cannot be
// interrupted.
func (t *Text) Tokenize(_ context.Context, text string, how engine.Reading) ([]engine.Token, error) {
	return t.model.Tokenize(text, how)
}

// Render has the chat template render a conversation.
func (t *Text) Render(_ context.Context, c engine.Chat) (*engine.Rendered, error) {
	return t.model.Render(c)
}

// Parser makes the parser of an answer.
func (t *Text) Parser(_ context.Context, spec string) (engine.Parser, error) {
	return t.model.Parser(spec)
}

// Check makes a sampler and frees it.
func (t *Text) Check(_ context.Context, s engine.Sampling) error {
	sampler, err := t.model.NewSampler(s)
	if err != nil {
		return err
	}
	sampler.Close()
	return nil
}

// Vocabulary returns the number of tokens.
func (t *Text) Vocabulary() int { return t.model.info.Vocabulary }

// Close frees the vocabulary.
func (t *Text) Close() { t.model.Close() }

// Runner implements engine.Runner: a model, a context that generates, and one
// that embeds, made when it is first needed. Unless Options.Model.NoChat is set, it is an engine.Text, too.
type Runner struct {
	Text

	ctx       *Context // nil for an encoder
	embed     *Context
	projector *Projector // nil without image input
	opts      Options
	facts     engine.ModelInfo
	limits    engine.Limits
	buf       rowBuffers
	saved     *hostmem.Arena // for sequences; nil if none are saved
	onePath   bool           // whether the generating context computes reproducibly
}

var _ engine.Runner = (*Runner)(nil)

// contextOptions sizes the generating context.
func (o Options) contextOptions(m *Model) ContextOptions {
	c := ContextOptions{
		Cells: o.Cells, Sequences: o.Sequences, Batch: o.Batch, Threads: o.Threads, Poll: poll, KVType: o.KVType,
		VType: o.VType, FlashAttn: o.FlashAttn, RoPE: o.RoPE, MicroBatch: o.MicroBatch,
		Outputs: max(o.Sequences, leastRows), Pooling: PoolingModel,
		BackendSampling: o.BackendSampling == "on" || o.BackendSampling == "auto" && m.offloads(),
	}
	if c.Cells == 0 {
		c.Cells = o.Context * o.Sequences
	}
	c.Shared = c.Cells < o.Context*o.Sequences
	if c.Batch == 0 {
		c.Batch = max(defaultBatch, o.Sequences)
	}
	return c
}

// projectorDevice says where images are encoded: where there are layers, too.
func (o Options) projectorDevice() ProjectorDevice {
	d := ProjectorDevice{GPU: o.Model.GPULayers != 0 && !o.Model.CPUOnly}
	if names := o.Model.Devices; d.GPU && len(names) > 0 {
		d.Name = names[0]
		if o.Model.SplitMode == SplitNone && o.Model.MainGPU < len(names) {
			d.Name = names[o.Model.MainGPU]
		}
	}
	return d
}

// generates says whether a model writes text. An embedding model says how it pools, and so
// does a reranker.
func (i *modelInfo) generates() bool { return i.HasDecoder && i.Causal && i.Pooling <= PoolingNone }

// embedTokens is the longest input that is embedded.
func (o Options) embedTokens(info *modelInfo) int {
	n := min(o.Context, info.ContextTrain)
	if info.generates() {
		n = min(n, cmp.Or(o.EmbedLimit, 2048))
	}
	return n
}

// embeddingContext sizes the embedding context: an input must fit one compute graph, since pooling is part of the
// graph. llama.cpp lays out graphs for as many tokens of each sequence as of every other, so the sizes are multiples.
func (o Options) embeddingContext(info *modelInfo) ContextOptions {
	pooling := PoolingModel
	if info.Pooling <= PoolingNone {
		pooling = PoolingMean
	}
	each := (o.embedTokens(info) + embedInputs - 1) / embedInputs
	n := each * embedInputs
	return ContextOptions{
		Cells: n, Sequences: embedInputs, Shared: true, Batch: n,
		Threads: o.Threads, Poll: poll, Embeddings: true, Pooling: pooling, FlashAttn: o.FlashAttn, RoPE: o.RoPE,
	}
}

// Load loads a model and allocates its KV cells. Verify it before anybody relies on it.
func Load(path string, o Options) (*Runner, error) {
	m, err := LoadModel(path, o.Model)
	if err != nil {
		return nil, err
	}
	r := &Runner{Text: Text{m}, opts: o}
	if err := r.start(); err != nil {
		r.Close()
		return nil, fmt.Errorf("load model %q: %w", path, err)
	}
	return r, nil
}

func (r *Runner) start() error {
	info := r.model.info
	if info.HasEncoder && info.HasDecoder {
		return errors.New("encoder-decoder models are not supported")
	}
	if info.Diffusion {
		return errors.New("diffusion models are not supported")
	}

	r.describe()
	r.limits = engine.Limits{Context: r.opts.Context, RollsBack: info.RollsBack, EmbedInputs: embedInputs}
	r.limits.EmbedTokens = r.opts.embedTokens(&info)
	if r.facts.Generates {
		return r.startGeneration()
	}
	if r.facts.Vision {
		return errors.New("a projector is for a model that generates")
	}
	return r.startEmbed()
}

// describe fills in what the engine knows of the model.
func (r *Runner) describe() {
	info := r.model.info
	r.facts = engine.ModelInfo{
		Name:         info.Name,
		Architecture: info.Architecture,
		// llama.cpp says so when the file names no type and most tensors do.
		Quantization:   strings.TrimPrefix(info.Quantization, "(guessed) "),
		Size:           info.Size,
		Ranks:          info.Pooling == PoolingRank,
		Parameters:     info.Parameters,
		TrainContext:   info.ContextTrain,
		EmbeddingSize:  info.EmbeddingOut,
		InputSize:      info.EmbeddingIn,
		Vision:         r.opts.Projector != "",
		Generates:      info.generates(),
		ChatTemplate:   info.Template,
		Build:          info.Build + " " + CurrentKernels(),
		RankTemplate:   info.RankTemplate,
		Classes:        info.Classes,
		Pieces:         r.model.pieces(false),
		Special:        r.model.pieces(true),
		EndsGeneration: r.model.endsGeneration(),
	}

	r.facts.Marks = engine.Marks{
		BOS:          info.BOS,
		EOS:          info.EOS,
		Separator:    info.SEP,
		AddBOS:       info.AddBOS,
		AddEOS:       info.AddEOS,
		AddSeparator: info.AddSEP,
		FIMPrefix:    info.FIMPrefix,
		FIMSuffix:    info.FIMSuffix,
		FIMMiddle:    info.FIMMiddle,
	}
}

// startGeneration makes the context that generates, and the projector.
func (r *Runner) startGeneration() error {
	if err := r.newContext(); err != nil || r.opts.Projector == "" {
		return err
	}
	var err error
	r.projector, err = NewProjector(r.model, r.opts.Projector, r.opts.projectorDevice(), r.opts.Threads)
	return err
}

// newContext makes the context that generates.
func (r *Runner) newContext() error {
	o := r.opts.contextOptions(r.model)
	ctx, err := NewContext(r.model, o)
	if err != nil {
		return err
	}

	r.ctx = ctx
	cells, perSequence := ctx.Shape()
	r.limits.Sequences = o.Sequences
	r.limits.Batch = o.Batch
	r.limits.Rows = min(o.Outputs, o.Batch)
	r.limits.Shared = o.Shared
	r.limits.Cells = min(cells, o.Cells)
	r.limits.Context = min(r.limits.Context, perSequence)
	r.limits.Reproducible = r.separate(o) && ctx.onePath(false)
	return nil
}

// separate reports whether what is computed of a sequence depends on nothing but its own cells, in the order of its
// tokens: in a buffer that sequences share, they lie in the order in which cells were free. Weights that were packed
// for the processor have other kernels for one row than for several.
func (r *Runner) separate(o ContextOptions) bool {
	return !o.Shared && !r.opts.NotReproducible && r.model.plain()
}

// startEmbed makes the embedding context.
func (r *Runner) startEmbed() error {
	o := r.opts.embeddingContext(&r.model.info)
	o.ThreadsOf = r.ctx
	ctx, err := NewContext(r.model, o)
	if err != nil {
		return err
	}
	r.embed = ctx
	if r.opts.Reproducible && (!ctx.onePath(true) || !r.model.plain()) {
		return ErrNotReproducible
	}
	return nil
}

func (r *Runner) Model() *engine.ModelInfo { return &r.facts }

func (r *Runner) Limits() engine.Limits { return r.limits }

func (r *Runner) EncodeImage(img *engine.Bitmap, limit int) ([]engine.Chunk, error) {
	return r.projector.EncodeImage(img, limit)
}

func (r *Runner) NewSampler(s engine.Sampling) (engine.Sampler, error) { return r.model.NewSampler(s) }

func (r *Runner) Step(b *engine.Batch, rows []engine.Row) error {
	if b.Reproducible != r.onePath {
		r.ctx.onePath(b.Reproducible)
		r.onePath = b.Reproducible
	}
	if err := r.ctx.step(b, rows, &r.buf); err != nil {
		return err
	}
	return r.dropRefused(b, rows)
}

// dropRefused drops the cells of guesses that were wrong.
func (r *Runner) dropRefused(b *engine.Batch, rows []engine.Row) error {
	for i := range rows {
		if !rows[i].Refused || rows[i-1].Refused {
			continue
		}
		at := rows[i].Index
		if !r.ctx.RemoveKV(int(b.Sequences[at]), int(b.Positions[at])) {
			return fmt.Errorf("%w: sequence %d cannot go back", engine.ErrFatal, b.Sequences[at])
		}
	}
	return nil
}

func (r *Runner) RemoveKV(seq, from int) bool { return r.ctx.RemoveKV(seq, from) }

func (r *Runner) CopyKV(src, dst int) { r.ctx.CopyKV(src, dst) }

func (r *Runner) Abort() {
	if r.ctx != nil {
		r.ctx.Abort()
	}
}

// Embed computes one vector an input, together in one batch. Reproducible ones are computed one by one: what pools
// them, and attention without a cache, sums in an order that depends on where an input lies in the batch.
func (r *Runner) Embed(inputs [][]engine.Token, _ bool) ([][]float32, error) {
	if r.embed == nil {
		if err := r.startEmbed(); err != nil {
			return nil, err
		}
	}
	if !r.opts.Reproducible {
		return r.embedBatch(inputs)
	}

	vectors := make([][]float32, 0, len(inputs))
	for i := range inputs {
		v, err := r.embedBatch(inputs[i : i+1])
		if err != nil {
			return nil, err
		}
		vectors = append(vectors, v...)
	}
	return vectors, nil
}

// embedBatch computes one vector an input, together in one batch.
func (r *Runner) embedBatch(inputs [][]engine.Token) ([][]float32, error) {
	size := r.model.info.EmbeddingOut
	if r.model.info.Pooling == PoolingRank {
		size = r.model.info.Classes
	}

	var b engine.Batch
	for seq, tokens := range inputs {
		for pos, t := range tokens {
			b.Add(t, pos, seq, true)
		}
	}

	r.embed.ClearKV()
	if err := r.embed.Decode(&b); err != nil {
		return nil, err
	}

	vectors := make([][]float32, len(inputs))
	for seq := range inputs {
		v, err := r.embed.Embedding(seq, 0, size)
		if err != nil {
			return nil, err
		}
		vectors[seq] = v
	}

	return vectors, nil
}

// Close frees the contexts and the model.
func (r *Runner) Close() {
	if r.ctx != nil {
		r.ctx.Close()
	}
	if r.embed != nil {
		r.embed.Close()
	}
	if r.projector != nil {
		r.projector.Close()
	}
	r.model.Close()
	if r.saved != nil {
		_ = r.saved.Close()
	}
}
