package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"serve/engine"
)

// Options say how a Runner starts its child and watches it. Zero values take the
// defaults named.
type Options struct {
	Spawn   func() (*Child, error)
	Request func() []byte                        // what to load, for the child's Open; nothing by default
	Refused func(answer []byte) error            // why a restarted child loaded nothing; its answer by default
	Stall   time.Duration                        // that a step or a call may take, 2 minutes
	CPU     time.Duration                        // that a call may take, and as much again a MiB that it sends; 0 for any
	Name    string                               // of the child in logs, "engine"
	Load    time.Duration                        // that the first load may take; 0 for any time
	Report  func(Crash)                          // receives every crash
	Fault   func(ChildExit) Fault                // what the end of a child says of its device; by default nothing
	Log     *slog.Logger                         // slog.Default()
	Sleep   func(time.Duration) <-chan time.Time // time.After; tests do not wait

	// Spare keeps another child loaded, which takes the place of one that ends at once.
	Spare bool

	// Check says whether a model can be the one that was asked for: what a child says is not believed.
	Check func(*engine.ModelInfo, engine.Limits) error

	// Discard and Prepare are those of engine.Runner for the memory to which children save sequences; nil if they save
	// none.
	Discard func(region, kept engine.Region)
	Prepare func(engine.Region)

	// Restarted reads the answer of a child that has taken another's place.
	Restarted func(answer []byte)
}

// Runner is an engine.Runner and an engine.Text whose work a child does: as much of it as the child's Model can. When
// the child dies it starts another; Step then fails with engine.ErrRestarted or ErrCrashed, calls are made again.
type Runner struct {
	o          Options
	model      engine.ModelInfo
	textOnly   bool // the child makes no steps
	vocabulary int  // tokens
	limits     engine.Limits
	first      engine.Limits // of the first child
	nextID     atomic.Uint64 // of samplers and parsers
	aborted    chan struct{} // closed by Abort
	abort      sync.Once
	loading    time.Duration   // that the first child took to load
	ended      context.Context // done when there will be no child any more, for the reason that is its cause
	end        context.CancelCauseFunc

	mu       sync.Mutex
	current  *generation          // nil while there is none
	changed  chan struct{}        // closed when current or failed changes
	failed   error                // why there will be none any more
	spare    *generation          // that takes the place of current; nil while there is none
	retired  map[*generation]bool // that were replaced and have not ended
	restarts int
	freed    []uint64 // samplers
	closed   []uint64 // parsers

	// What may have crashed a child is tried again alone, so that it is known what did:
	// then the lock is held, otherwise only read-locked.
	alone   sync.RWMutex
	quiet   atomic.Int32 // ends since the last step that was computed
	faults  atomic.Int32 // those of them that were faults of the device
	resized atomic.Bool  // the limits have changed, and the loop does not know
	work    sync.WaitGroup

	// Of the loop's goroutine:
	seen int      // number of the generation whose cells the loop knows, 0 for none
	ops  [][2]int // copies for the next message, from and to; a source of -1 empties
	out  message
	in   []byte
}

var (
	_ engine.Runner = (*Runner)(nil)
	_ engine.Text   = (*Runner)(nil)
)

// Start starts a child and has it load the model. The answer is that of the child's
// Open; without a Runner and without an error it says why not.
func Start(ctx context.Context, o Options) (r *Runner, answer []byte, err error) {
	if o.Stall == 0 {
		o.Stall = 2 * time.Minute
	}
	if o.Name == "" {
		o.Name = "engine"
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Sleep == nil {
		o.Sleep = time.After
	}
	if o.Refused == nil {
		o.Refused = func(answer []byte) error { return fmt.Errorf("the model was not loaded: %s", answer) }
	}
	if o.Fault == nil {
		o.Fault = func(ChildExit) Fault { return Fault{} }
	}
	if o.Restarted == nil {
		o.Restarted = func([]byte) {}
	}

	r = &Runner{
		o:       o,
		aborted: make(chan struct{}),
		changed: make(chan struct{}),
		retired: map[*generation]bool{},
	}
	r.ended, r.end = context.WithCancelCause(context.Background())
	began := time.Now()
	g, answer, known, err := r.spawn(ctx, 1)
	r.loading = time.Since(began)
	if g == nil {
		return nil, answer, err
	}

	r.model = known.Model
	r.limits = known.Limits
	r.first = known.Limits
	r.vocabulary = len(known.Model.Pieces)
	if known.Vocabulary > 0 {
		r.textOnly = true
		r.vocabulary = known.Vocabulary
	}
	r.seen = 1
	r.set(g, nil)
	return r, answer, nil
}

// Model implements engine.Runner, as do the methods after it.
func (r *Runner) Model() *engine.ModelInfo { return &r.model }

// Process is the system's number of the child, 0 while there is none.
func (r *Runner) Process() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == nil {
		return 0
	}
	return r.current.p.ID
}

// Processes are the system's numbers of the children there are, also of the spare one and of those that only end calls.
func (r *Runner) Processes() (ids []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range []*generation{r.current, r.spare} {
		if g != nil {
			ids = append(ids, g.p.ID)
		}
	}
	for g := range r.retired {
		ids = append(ids, g.p.ID)
	}
	return ids
}

// Failed is done when the child could not be started again, for the reason that is its
// cause, or when the Runner was closed. Nothing that is asked of it then succeeds.
func (r *Runner) Failed() context.Context { return r.ended }

// Limits are those of the child's Runner.
func (r *Runner) Limits() engine.Limits {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.limits
}

// Tokenize asks the child.
func (r *Runner) Tokenize(ctx context.Context, text string, how engine.Reading) (tokens []engine.Token, err error) {
	in, err := r.ask(ctx, "tokenize", func(m *message) {
		m.u8(askTokenize)
		m.string(text)
		m.reading(how)
	})
	if err == nil {
		tokens = in.tokens(r.vocabulary, mostTokens(len(text)))
	}
	return tokens, done(in, err)
}

// EncodeImage asks the child.
func (r *Runner) EncodeImage(img *engine.Bitmap, limit int) (chunks []engine.Chunk, err error) {
	in, err := r.ask(context.Background(), "encode image", func(m *message) {
		m.u8(askEncodeImage)
		m.int(img.Width)
		m.int(img.Height)
		m.int(limit)
		m.bytes(img.Pixels)
	})
	if err == nil {
		chunks = in.chunks(r.model.InputSize)
		in.checkChunks(chunks, len(r.model.Pieces), limit)
	}
	return chunks, done(in, err)
}

// Check asks the child.
func (r *Runner) Check(ctx context.Context, s engine.Sampling) error {
	text, err := json.Marshal(specOf(s, nil))
	if err != nil {
		return err
	}
	return done(r.ask(ctx, "check", func(m *message) {
		m.u8(askCheck)
		m.bytes(text)
	}))
}

// Render asks the child.
func (r *Runner) Render(ctx context.Context, c engine.Chat) (*engine.Rendered, error) {
	var text []byte
	var err error
	lane{long: engine.IsLate(ctx)}.run(func() { text, err = encode(c) })
	if err != nil {
		return nil, err
	}
	in, err := r.ask(ctx, "render", func(m *message) {
		m.u8(askRender)
		m.bytes(text)
	})
	if err != nil {
		return nil, err
	}
	rendered := new(engine.Rendered)
	err = json.Unmarshal(in.bytes(), rendered)
	if err == nil {
		err = engine.Reading{Quoted: rendered.Quoted}.Check(len(rendered.Prompt))
	}
	if tokens := in.tokens(r.vocabulary, mostTokens(len(rendered.Prompt))); len(tokens) > 0 && c.Split {
		rendered.Split = &engine.Split{Text: rendered.Prompt, Tokens: tokens}
	}
	return rendered, errors.Join(in.end(), err)
}

// CopyKV is done before the next step.
func (r *Runner) CopyKV(src, dst int) { r.ops = append(r.ops, [2]int{src, dst}) }

// RemoveKV of all cells is done before the next step; of a part it is asked for at once.
func (r *Runner) RemoveKV(seq, from int) bool {
	if from <= 0 {
		r.ops = append(r.ops, [2]int{-1, seq})
		return true
	}

	g, err := r.generation(context.Background())
	if err != nil || g.number != r.seen || r.resized.Load() {
		return true // as the next step will say
	}

	removed := true
	err = r.exchange(g, false, func() Crash { return Crash{} }, func(m *message) error {
		if err := r.begin(m, askRemove, g, nil); err != nil {
			return err
		}
		m.int(seq)
		m.int(from)
		return nil
	}, func(in *reader) error {
		removed = in.bool()
		return in.end()
	})
	if err != nil {
		removed = true
		r.seen = 0 // as the next step will say
	}
	return removed
}

// Step has the child compute a batch and draw.
func (r *Runner) Step(b *engine.Batch, rows []engine.Row) error {
	g, err := r.known()
	if err != nil {
		return err
	}

	failed := makeLacking(rows, g)
	err = r.exchange(g, b.Suspect, func() Crash { return Crash{Batch: partsOf(b)} }, func(m *message) error {
		if err := r.begin(m, askStep, g, rows); err != nil {
			return err
		}
		m.batch(b)
		m.u32(uint32(len(rows)))
		for i := range rows {
			id := uint64(0)
			if q, ok := rows[i].Sampler.(*sampler); ok && (failed == nil || failed[i] == nil) {
				id = q.id
			}
			m.u64(id)
			m.int(rows[i].Index)
			m.int(rows[i].Top)
			m.u32(uint32(rows[i].Token))
			m.bool(rows[i].Draft)
		}
		return nil
	}, func(in *reader) error {
		failed := in.failure()
		if failed == nil {
			in.rows(b, rows, len(r.model.Pieces))
		}
		return errors.Join(in.end(), failed)
	})
	if err != nil {
		return err
	}

	r.works()
	for i := range rows {
		if failed != nil && failed[i] != nil {
			rows[i].Err = failed[i]
		}
		if q, ok := rows[i].Sampler.(*sampler); ok && rows[i].Err == nil && !rows[i].Refused {
			q.drawn = append(q.drawn, rows[i].Token)
		}
	}
	return nil
}

// rows reads what was drawn from a vocabulary after a batch.
func (r *reader) rows(b *engine.Batch, rows []engine.Row, vocabulary int) {
	token := func() engine.Token {
		t := int32(r.u32())
		if t < 0 || int(t) >= vocabulary {
			r.fail("token %d of %d", t, vocabulary)
		}
		return t
	}

	for i := range rows {
		row := &rows[i]
		row.Alternatives = row.Alternatives[:0]
		row.Err = nil
		if row.Refused = r.bool(); row.Refused != refuses(b, rows, i) {
			r.fail("row %d is refused: %t", i, row.Refused)
		}
		if row.Refused {
			continue
		}
		if row.Err = r.failure(); row.Err != nil {
			continue
		}

		row.Token = token()
		row.LogProb = r.logProb()
		row.OnBackend = r.bool()
		alternatives := r.count(8)
		if alternatives > max(row.Top, 0) {
			r.fail("%d alternatives where %d were asked for", alternatives, row.Top)
		}
		for range alternatives {
			row.Alternatives = append(row.Alternatives, engine.TokenLogProb{Token: token(), LogProb: r.logProb()})
		}
	}
}

// refuses reports whether a row is a draft and the row before it has not drawn what it guesses.
func refuses(b *engine.Batch, rows []engine.Row, i int) bool {
	if !rows[i].Draft {
		return false
	}
	before := &rows[i-1]
	return before.Refused || before.Err != nil || before.Token != b.Tokens[rows[i].Index]
}

// Embed has the child embed.
func (r *Runner) Embed(inputs [][]engine.Token, suspect bool) (vectors [][]float32, err error) {
	g, err := r.known()
	if err != nil {
		return nil, err
	}

	crash := func() (c Crash) {
		for _, tokens := range inputs {
			c.Embeds = append(c.Embeds, len(tokens))
		}
		return c
	}

	err = r.exchange(g, suspect, crash, func(m *message) error {
		if err := r.begin(m, askEmbed, g, nil); err != nil {
			return err
		}
		m.u32(uint32(len(inputs)))
		for _, tokens := range inputs {
			m.i32s(tokens)
		}
		return nil
	}, func(in *reader) error {
		failed := in.failure()
		for range in.count(4) {
			vectors = append(vectors, in.f32s(nil))
		}
		in.checkVectors(vectors, &r.model)
		if failed == nil && len(vectors) != len(inputs) {
			in.fail("%d vectors of %d inputs", len(vectors), len(inputs))
		}
		return errors.Join(in.end(), failed)
	})
	if err == nil {
		r.works()
	}
	return vectors, err
}

// known returns the child that has the loop's cells. There may be another by now.
func (r *Runner) known() (*generation, error) {
	g, err := r.generation(context.Background())
	if err == nil && (r.resized.Swap(false) || g.number != r.seen) {
		r.seen = g.number
		r.ops = r.ops[:0]
		return nil, engine.ErrRestarted
	}
	return g, err
}

// exchange sends a message on the socket of steps and reads the answer. crash says what
// to tell if the child dies meanwhile. The error is then ErrRestarted or ErrCrashed.
func (r *Runner) exchange(
	g *generation, alone bool, crash func() Crash, write func(*message) error, read func(*reader) error,
) error {
	r.out = newMessage(r.out.b)
	if err := write(&r.out); err != nil {
		return fmt.Errorf("%w: %w", engine.ErrFatal, err)
	}

	unlock := r.take(alone)
	// Whoever had the child before may have ended it, which is then not the fault of what comes now.
	g.watch.Reset(r.o.Stall)
	asked := !g.isGone() && (!alone || g.answers())
	g.exchanging.Lock()
	defer g.exchanging.Unlock()
	err := errNotSent
	if asked {
		err = r.out.send(g.p.Steps)
	}
	if err == nil {
		r.in, err = receive(g.steps, r.in)
	}
	if err == nil {
		err = read(&reader{b: r.in})
	} else if asked {
		err = fmt.Errorf("%w: %w", errLost, err)
	}

	g.watch.Stop()
	if !errors.Is(err, errWire) && !errors.Is(err, errLost) {
		unlock()
		return err
	}

	g.lose(err)
	unlock() // whoever comes next sees that this child is gone
	if !asked {
		crash = func() Crash { return Crash{} }
	}
	suspicious := r.lost(g, crash) && asked
	fault := g.fault.Kind
	// The next child, or one after it, knows nothing, and the loop will know that.
	r.seen = g.number + 1
	r.ops = r.ops[:0]
	select {
	case <-r.aborted:
		return engine.ErrAborted
	default:
	}
	switch {
	case fault == FaultOfMemory:
		return engine.ErrExhausted
	case suspicious && fault != NoFault:
		return engine.ErrFaulted
	case suspicious:
		return engine.ErrCrashed
	}
	return engine.ErrRestarted
}

// works notes that the child has computed something.
func (r *Runner) works() {
	r.quiet.Store(0)
	r.faults.Store(0)
}

// begin writes what comes first in a message on the socket of steps: what is asked for,
// the samplers that are of no use any more, those of the rows that the child has not,
// and changes of cells.
func (r *Runner) begin(m *message, ask uint8, g *generation, rows []engine.Row) error {
	m.u8(ask)
	r.mu.Lock()
	m.u32(uint32(len(r.freed)))
	for _, id := range r.freed {
		m.u64(id)
	}

	r.freed = r.freed[:0]
	r.mu.Unlock()
	var lacking []*sampler
	for i := range rows {
		if q, ok := rows[i].Sampler.(*sampler); ok && q.at != g.number {
			lacking = append(lacking, q)
		}
	}

	m.u32(uint32(len(lacking)))
	for _, q := range lacking {
		text, err := q.text()
		if err != nil {
			return err
		}
		m.u64(q.id)
		m.bytes(text)
		q.at = g.number
	}

	m.u32(uint32(len(r.ops)))
	for _, op := range r.ops {
		m.int(op[0])
		m.int(op[1])
	}

	r.ops = r.ops[:0]
	return nil
}
