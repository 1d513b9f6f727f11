package remote

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"serve/engine"
)

// Process is a child that has been started.
type Process struct {
	Conn
	// Kill ends it at once. With dump it is first asked to tell what it does.
	Kill func(dump bool)
	// Wait returns when it has ended.
	Wait func() Exit
}

// Exit says how a child ended.
type Exit struct {
	How    string   // in words
	Fault  bool     // by itself: a signal that a fault raises, or an exit code
	Paused bool     // it had been stopped from outside, when it was killed
	Log    []string // the last lines that it wrote
}

// Crash is what is known of an end that nobody asked for. It holds no text of anyone.
type Crash struct {
	Exit     Exit
	Stalled  time.Duration // without an answer, after which it was killed; 0 if it ended by itself
	Wire     error         // what it sent made no sense
	Batch    []Part        // what it computed
	Embeds   []int         // tokens of the inputs that it embedded
	Calls    []string      // what else it was asked
	Lived    time.Duration
	Restarts int // before this one
}

// Part is a sequence's part of a batch.
type Part struct{ Sequence, Tokens, From int }

// Options say how a Runner starts its child and watches it. Zero values take the
// defaults named.
type Options struct {
	Spawn   func() (*Process, error)
	Request func() []byte                        // what to load, for the child's Open; nothing by default
	Stall   time.Duration                        // that a step or a call may take, 2 minutes
	Report  func(Crash)                          // is told of every crash
	Log     *slog.Logger                         // slog.Default()
	Sleep   func(time.Duration) <-chan time.Time // time.After; tests do not wait
}

// How often a child may fail in a row.
const (
	maxFailures = 5                      // to start, before the Runner gives up
	maxQuiet    = 3                      // without a step in between, before what it computes is suspected
	firstDelay  = 100 * time.Millisecond // before it is started again, doubled with every failure
	lastDelay   = 10 * time.Second
)

// errLost says that the child has gone.
var errLost = errors.New("the engine's process has gone")

// Runner is an engine.Runner whose work a child does. When the child dies it starts
// another; Step then fails with engine.ErrRestarted or ErrCrashed, calls are made again.
type Runner struct {
	o       Options
	model   engine.Model
	limits  engine.Limits
	nextID  atomic.Uint64 // of samplers
	aborted chan struct{} // closed by Abort
	abort   sync.Once

	mu       sync.Mutex
	current  *generation   // nil while there is none
	changed  chan struct{} // closed when current or failed changes
	failed   error         // why there will be none any more
	restarts int
	freed    []uint64 // samplers

	// What may have crashed a child is tried again alone, so that it is known what did:
	// then the lock is held, otherwise only read-locked.
	alone sync.RWMutex
	quiet atomic.Int32 // ends since the last step that was computed
	work  sync.WaitGroup

	// Of the loop's goroutine:
	seen int      // number of the generation whose cells the loop knows, 0 for none
	ops  [][2]int // copies for the next message, from and to; a source of -1 empties
	out  message
	in   []byte
}

var _ engine.Runner = (*Runner)(nil)

// generation is one child.
type generation struct {
	number int
	p      *Process
	began  time.Time
	steps  *bufio.Reader

	write   sync.Mutex // of the socket of calls
	mu      sync.Mutex
	nextID  uint32
	pending map[uint32]*pendingCall
	gone    chan struct{} // closed when it is known to be lost
	once    sync.Once

	watch   *time.Timer  // runs while a step is computed
	stalled atomic.Int64 // nanoseconds without an answer, after which it was killed
	wire    error        // what it sent that made no sense

	// Held by the loop while it waits for an answer, and until it has told what the child
	// died of.
	exchanging sync.Mutex
}

type pendingCall struct {
	name  string
	reply chan []byte
}

// Start starts a child and has it load the model. The answer is that of the child's
// Open; without a Runner and without an error it says why not.
func Start(ctx context.Context, o Options) (r *Runner, answer []byte, err error) {
	if o.Stall == 0 {
		o.Stall = 2 * time.Minute
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Sleep == nil {
		o.Sleep = time.After
	}
	r = &Runner{o: o, aborted: make(chan struct{}), changed: make(chan struct{})}
	g, answer, known, err := r.spawn(ctx, 1)
	if g == nil {
		return nil, answer, err
	}
	r.model, r.limits, r.seen = known.Model, known.Limits, 1
	r.set(g, nil)
	return r, answer, nil
}

// spawn starts a child and waits until it has loaded. Without room for the model it
// returns its answer and nothing else.
func (r *Runner) spawn(ctx context.Context, number int) (*generation, []byte, *facts, error) {
	p, err := r.o.Spawn()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("start the engine's process: %w", err)
	}
	g := &generation{number: number, p: p, began: time.Now(), steps: bufio.NewReaderSize(p.Steps, 64<<10),
		pending: map[uint32]*pendingCall{}, gone: make(chan struct{})}
	g.watch = time.AfterFunc(time.Hour, func() { g.stall(r.o.Stall) })
	g.watch.Stop()
	unhook := context.AfterFunc(ctx, func() { p.Kill(false) })
	defer unhook()
	go g.readCalls()
	var request []byte
	if r.o.Request != nil {
		request = r.o.Request()
	}
	reply, err := g.call("load", func(m *message) {
		m.u8(askLoad)
		m.bytes(request)
	})
	var answer []byte
	var known *facts
	if err == nil {
		in := reader{b: reply}
		err = in.failure()
		answer = bytes.Clone(in.bytes())
		described := in.bytes()
		err = errors.Join(err, in.end())
		if err == nil && len(described) > 0 {
			known = new(facts)
			err = gob.NewDecoder(bytes.NewReader(described)).Decode(known)
		}
	}
	if err != nil || known == nil {
		p.Kill(false)
		exit := p.Wait()
		p.close()
		if ctx.Err() != nil {
			return nil, nil, nil, context.Cause(ctx)
		}
		if err != nil {
			err = fmt.Errorf("%w: %s%s", err, exit.How, lastLines(exit.Log))
		}
		return nil, answer, nil, err
	}
	return g, answer, known, nil
}

func lastLines(log []string) string {
	text := ""
	for _, line := range log[max(0, len(log)-5):] {
		text += "\n  " + line
	}
	return text
}

func (p *Process) close() {
	p.Steps.Close()
	p.Calls.Close()
}

// readCalls hands out replies until the connection ends.
func (g *generation) readCalls() {
	in := bufio.NewReaderSize(g.p.Calls, 64<<10)
	for {
		frame, err := receive(in, nil)
		r := reader{b: frame}
		id := r.u32()
		if err == nil {
			err = r.err
		}
		if err != nil {
			g.lose(err)
			return
		}
		g.mu.Lock()
		call := g.pending[id]
		delete(g.pending, id)
		g.mu.Unlock()
		if call == nil {
			g.lose(fmt.Errorf("%w: a reply to nothing", errWire))
			return
		}
		call.reply <- r.b
	}
}

// lose marks the child as lost, and makes sure of it.
func (g *generation) lose(err error) {
	g.once.Do(func() {
		if errors.Is(err, errWire) {
			g.wire = err
		}
		close(g.gone)
		g.p.Kill(false)
	})
}

// stall ends a child that has not answered for so long.
func (g *generation) stall(d time.Duration) {
	g.stalled.Store(int64(d))
	g.p.Kill(true)
}

// call asks the child and waits for its reply.
func (g *generation) call(name string, write func(*message)) ([]byte, error) {
	c := &pendingCall{name, make(chan []byte, 1)}
	g.mu.Lock()
	g.nextID++
	id := g.nextID
	g.pending[id] = c
	g.mu.Unlock()
	m := newMessage(nil)
	m.u32(id)
	write(&m)
	g.write.Lock()
	err := m.send(g.p.Calls)
	g.write.Unlock()
	if err != nil {
		g.lose(err)
	}
	select {
	case reply := <-c.reply:
		return reply, nil
	case <-g.gone:
	}
	select {
	case reply := <-c.reply: // its last words
		return reply, nil
	default:
		return nil, errLost
	}
}

// generation returns the child there is, and waits for one that is being started.
func (r *Runner) generation() (*generation, error) {
	for {
		r.mu.Lock()
		g, changed, failed := r.current, r.changed, r.failed
		r.mu.Unlock()
		switch {
		case failed != nil:
			return nil, failed
		case g != nil:
			select {
			case <-g.gone:
				r.lost(g, nil)
				continue
			default:
				return g, nil
			}
		}
		select {
		case <-changed:
		case <-r.aborted:
			return nil, engine.ErrAborted
		}
	}
}

// lost is told of a child that has gone by each that notices. The first starts another;
// the loop comes first, if it has asked for something, to say what. It returns whether
// the child may have died of what it did.
func (r *Runner) lost(g *generation, crash func() Crash) (suspicious bool) {
	g.lose(errLost)
	exit := g.p.Wait()
	var c Crash
	if crash != nil {
		c = crash()
	} else {
		g.exchanging.Lock()
		defer g.exchanging.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == g {
		r.current = nil
		r.quiet.Add(1)
		c.Exit, c.Wire, c.Stalled = exit, g.wire, time.Duration(g.stalled.Load())
		c.Lived, c.Restarts = time.Since(g.began), r.restarts
		g.mu.Lock()
		for _, call := range g.pending {
			c.Calls = append(c.Calls, call.name)
		}
		g.mu.Unlock()
		g.p.close()
		select {
		case <-r.aborted:
		default:
			r.restarts++
			r.work.Go(func() { r.revive(g.number+1, c) })
		}
	}
	return exit.Fault || g.wire != nil || g.stalled.Load() > 0 && !exit.Paused || r.quiet.Load() >= maxQuiet
}

// revive starts another child, again and again until one is there.
func (r *Runner) revive(number int, c Crash) {
	if r.o.Report != nil {
		r.o.Report(c)
	}
	delay := time.Duration(0)
	if quiet := r.quiet.Load(); quiet > 1 {
		delay = min(firstDelay<<min(quiet-2, 10), lastDelay)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-r.aborted:
			cancel()
		case <-ctx.Done():
		}
	}()
	began := time.Now()
	for failures := 0; ; failures++ {
		if delay > 0 {
			select {
			case <-r.o.Sleep(delay):
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return
		}
		g, err := r.restart(ctx, number)
		if err == nil {
			r.o.Log.Warn("the engine was restarted", "because", c.Exit.How, "after", time.Since(began).Round(time.Millisecond), "restarts", c.Restarts+1)
			r.set(g, nil)
			return
		}
		if ctx.Err() != nil {
			return
		}
		r.o.Log.Error("the engine could not be restarted", "error", err, "attempt", failures+1)
		if failures+1 == maxFailures {
			r.set(nil, fmt.Errorf("%w: it could not be restarted: %w", engine.ErrFatal, err))
			return
		}
		delay = min(max(2*delay, firstDelay), lastDelay)
	}
}

// restart starts a child that must be like the one before.
func (r *Runner) restart(ctx context.Context, number int) (*generation, error) {
	g, answer, known, err := r.spawn(ctx, number)
	if err == nil && g == nil {
		err = fmt.Errorf("the model was not loaded: %s", answer)
	}
	if err == nil && (known.Limits != r.limits || len(known.Model.Pieces) != len(r.model.Pieces) || known.Model.Size != r.model.Size) {
		err = errors.New("the model is not the same any more")
	}
	if err != nil && g != nil {
		g.lose(errLost)
		g.p.Wait()
		g.p.close()
	}
	return g, err
}

func (r *Runner) set(g *generation, failed error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current, r.failed = g, failed
	close(r.changed)
	r.changed = make(chan struct{})
	if g != nil {
		// Also when nobody asks it for anything.
		r.work.Go(func() { <-g.gone; r.lost(g, nil) })
	}
	select {
	case <-r.aborted:
		if g != nil {
			g.lose(errLost) // Abort came before it was there
		}
	default:
	}
}

// Restarts returns how often the child was started again.
func (r *Runner) Restarts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.restarts
}

// ask makes a call, again with another child when one is lost. What crashes one alone
// is an engine.ErrCrashed.
func (r *Runner) ask(name string, write func(*message)) (*reader, error) {
	for suspect := false; ; {
		unlock := r.take(suspect)
		g, err := r.generation()
		var reply []byte
		if err == nil {
			watch := time.AfterFunc(r.o.Stall, func() { g.stall(r.o.Stall) })
			reply, err = g.call(name, write)
			watch.Stop()
		}
		unlock()
		switch {
		case err == nil:
			in := &reader{b: reply}
			return in, in.failure()
		case g == nil:
			return nil, err
		case r.lost(g, nil):
			if suspect {
				return nil, fmt.Errorf("%w: %s", engine.ErrCrashed, name)
			}
			suspect = true
		}
	}
}

// take keeps others from asking a child meanwhile, or only those that must be alone.
func (r *Runner) take(alone bool) (unlock func()) {
	if alone {
		r.alone.Lock()
		return r.alone.Unlock
	}
	r.alone.RLock()
	return r.alone.RUnlock
}

// done is a reply's error: the child's, or that it makes no sense.
func done(in *reader, err error) error {
	if err != nil {
		return err
	}
	return in.end()
}

// Model implements engine.Runner, as do the methods after it.
func (r *Runner) Model() *engine.Model { return &r.model }

// Limits are those of the child's Runner.
func (r *Runner) Limits() engine.Limits { return r.limits }

// Tokenize asks the child.
func (r *Runner) Tokenize(text string, control, ends bool) (tokens []engine.Token, err error) {
	in, err := r.ask("tokenize", func(m *message) {
		m.u8(askTokenize)
		m.string(text)
		m.bool(control)
		m.bool(ends)
	})
	if err == nil {
		tokens = in.i32s(nil)
	}
	return tokens, done(in, err)
}

// See asks the child.
func (r *Runner) See(img *engine.Image, limit int) (chunks []engine.Chunk, err error) {
	in, err := r.ask("see", func(m *message) {
		m.u8(askSee)
		m.int(img.Width)
		m.int(img.Height)
		m.int(limit)
		m.bytes(img.Pixels)
	})
	if err == nil {
		chunks = in.chunks(r.model.InputSize)
	}
	return chunks, done(in, err)
}

// Render asks the child.
func (r *Runner) Render(c engine.Chat) (*engine.Rendered, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	in, err := r.ask("render", func(m *message) {
		m.u8(askRender)
		m.bytes(text)
	})
	if err != nil {
		return nil, err
	}
	rendered := new(engine.Rendered)
	err = json.Unmarshal(in.bytes(), rendered)
	return rendered, errors.Join(in.end(), err)
}

// Parser asks the child to make a parser, which asks it to parse.
func (r *Runner) Parser(spec string) (engine.ParseFunc, error) {
	tell := func() error {
		in, err := r.ask("parser", func(m *message) {
			m.u8(askParser)
			m.string(spec)
		})
		return done(in, err)
	}
	key := sha256.Sum256([]byte(spec))
	parse := func(text string, partial bool) (parsed engine.Message, known bool, err error) {
		in, err := r.ask("parse", func(m *message) {
			m.u8(askParse)
			m.b = append(m.b, key[:]...)
			m.string(text)
			m.bool(partial)
		})
		if err != nil {
			return parsed, true, err
		}
		if known = in.bool(); known {
			parsed = in.parsed()
		}
		return parsed, known, in.end()
	}
	return func(text string, partial bool) (engine.Message, error) {
		parsed, known, err := parse(text, partial)
		// A child that was just started knows none, and one that knows many forgets some.
		if !known && err == nil {
			if err := tell(); err != nil {
				return engine.Message{}, err
			}
			parsed, known, err = parse(text, partial)
			if !known && err == nil {
				err = errors.New("the parser is forgotten at once")
			}
		}
		return parsed, err
	}, tell()
}

// sampler is a choice's sampler, wherever it is: in the child that made it, or to be
// made again of what it was and what it has drawn.
type sampler struct {
	r     *Runner
	id    uint64
	spec  engine.Sampling
	drawn []engine.Token
	at    int // number of the generation that has it
}

// NewSampler asks the child, if it may refuse; otherwise the first step brings it along.
func (r *Runner) NewSampler(s engine.Sampling) (engine.Sampler, error) {
	q := &sampler{r: r, id: r.nextID.Add(1), spec: s}
	if s.Grammar.Text == "" && !slices.ContainsFunc(s.LogitBias, func(b engine.LogitBias) bool { return b.Token < 0 || int(b.Token) >= len(r.model.Pieces) }) {
		return q, nil
	}
	text, err := q.text()
	if err != nil {
		return nil, err
	}
	g, err := r.generation()
	if err != nil {
		return nil, err
	}
	// If another child answers, this number is too low, and it is made once more.
	q.at = g.number
	in, err := r.ask("sampler", func(m *message) {
		m.u8(askSampler)
		m.u64(q.id)
		m.bytes(text)
	})
	if err := done(in, err); err != nil {
		return nil, err
	}
	return q, nil
}

func (q *sampler) text() ([]byte, error) { return json.Marshal(specOf(q.spec, q.drawn)) }

// Close has the child free it before its next step.
func (q *sampler) Close() {
	q.r.mu.Lock()
	defer q.r.mu.Unlock()
	q.r.freed = append(q.r.freed, q.id)
}

// CopyKV is done before the next step.
func (r *Runner) CopyKV(src, dst int) { r.ops = append(r.ops, [2]int{src, dst}) }

// RemoveKV of all cells is done before the next step; of a part it is asked for at once.
func (r *Runner) RemoveKV(seq, from int) bool {
	if from <= 0 {
		r.ops = append(r.ops, [2]int{-1, seq})
		return true
	}
	g, err := r.generation()
	if err != nil || g.number != r.seen {
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
		removed, r.seen = true, 0 // as the next step will say
	}
	return removed
}

// Step has the child compute a batch and draw.
func (r *Runner) Step(b *engine.Batch, rows []engine.Row) error {
	g, err := r.known()
	if err != nil {
		return err
	}
	err = r.exchange(g, b.Suspect, func() Crash { return Crash{Batch: partsOf(b)} }, func(m *message) error {
		if err := r.begin(m, askStep, g, rows); err != nil {
			return err
		}
		m.batch(b)
		m.u32(uint32(len(rows)))
		for i := range rows {
			id := uint64(0)
			if q, ok := rows[i].Sampler.(*sampler); ok {
				id = q.id
			}
			m.u64(id)
			m.int(rows[i].Index)
			m.int(rows[i].Top)
			m.u32(uint32(rows[i].Token))
		}
		return nil
	}, func(in *reader) error {
		failed := in.failure()
		if failed == nil {
			in.rows(rows, len(r.model.Pieces))
		}
		return errors.Join(in.end(), failed)
	})
	if err != nil {
		return err
	}
	r.quiet.Store(0)
	for i := range rows {
		if q, ok := rows[i].Sampler.(*sampler); ok && rows[i].Err == nil {
			q.drawn = append(q.drawn, rows[i].Token)
		}
	}
	return nil
}

// rows reads what was drawn from a vocabulary.
func (r *reader) rows(rows []engine.Row, vocabulary int) {
	token := func() engine.Token {
		t := int32(r.u32())
		if t < 0 || int(t) >= vocabulary {
			r.fail("token %d of %d", t, vocabulary)
		}
		return t
	}
	for i := range rows {
		row := &rows[i]
		row.Err = r.failure()
		row.Alternatives = row.Alternatives[:0]
		if row.Err != nil {
			continue
		}
		row.Token, row.LogProb = token(), r.f32()
		for range r.count(8) {
			row.Alternatives = append(row.Alternatives, engine.TokenLogProb{Token: token(), LogProb: r.f32()})
		}
	}
}

// Embed has the child embed.
func (r *Runner) Embed(inputs [][]engine.Token) (vectors [][]float32, err error) {
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
	err = r.exchange(g, false, crash, func(m *message) error {
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
		if failed == nil && len(vectors) != len(inputs) {
			in.fail("%d vectors of %d inputs", len(vectors), len(inputs))
		}
		return errors.Join(in.end(), failed)
	})
	if err == nil {
		r.quiet.Store(0)
	}
	return vectors, err
}

// known returns the child that has the loop's cells. There may be another by now.
func (r *Runner) known() (*generation, error) {
	g, err := r.generation()
	if err == nil && g.number != r.seen {
		r.seen, r.ops = g.number, r.ops[:0]
		return nil, engine.ErrRestarted
	}
	return g, err
}

// exchange sends a message on the socket of steps and reads the answer. crash says what
// to tell if the child dies meanwhile. The error is then ErrRestarted or ErrCrashed.
func (r *Runner) exchange(g *generation, alone bool, crash func() Crash, write func(*message) error, read func(*reader) error) error {
	r.out = newMessage(r.out.b)
	if err := write(&r.out); err != nil {
		return fmt.Errorf("%w: %w", engine.ErrFatal, err)
	}
	unlock := r.take(alone)
	g.exchanging.Lock()
	defer g.exchanging.Unlock()
	g.watch.Reset(r.o.Stall)
	err := r.out.send(g.p.Steps)
	if err == nil {
		r.in, err = receive(g.steps, r.in)
	}
	g.watch.Stop()
	unlock()
	if err == nil {
		err = read(&reader{b: r.in})
		if !errors.Is(err, errWire) {
			return err
		}
	}
	g.lose(err)
	suspicious := r.lost(g, crash)
	// The next child, or one after it, knows nothing, and the loop will know that.
	r.seen, r.ops = g.number+1, r.ops[:0]
	select {
	case <-r.aborted:
		return engine.ErrAborted
	default:
	}
	if suspicious {
		return engine.ErrCrashed
	}
	return engine.ErrRestarted
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

// partsOf says what a batch holds, without what it says.
func partsOf(b *engine.Batch) (parts []Part) {
	for i, seq := range b.Sequences {
		if n := len(parts); n > 0 && parts[n-1].Sequence == int(seq) {
			parts[n-1].Tokens++
			continue
		}
		parts = append(parts, Part{int(seq), 1, int(b.Positions[i])})
	}
	return parts
}

// Abort ends the child.
func (r *Runner) Abort() {
	r.abort.Do(func() { close(r.aborted) })
	r.mu.Lock()
	g := r.current
	r.mu.Unlock()
	if g != nil {
		g.lose(errLost)
	}
}

// Close ends the child and returns when its memory is free.
func (r *Runner) Close() {
	r.Abort()
	r.work.Wait()
	r.mu.Lock()
	g := r.current
	r.mu.Unlock()
	if g != nil {
		g.p.Wait()
		g.p.close()
	}
}
