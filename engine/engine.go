// Package engine batches requests continuously: requests in, events out. It is
// pure Go and knows neither C nor HTTP; a Runner computes.
//
// One goroutine, Run's, owns the Runner and all scheduling state. Callers hand
// it requests through a short queue under a lock and read events from Streams
// that it never waits for. See docs/architecture.md.
package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options bound an Engine. Zero values take the defaults named.
type Options struct {
	MaxWaiting int // choices and embedding inputs in the queue, 512
	MaxChoices int // choices of a request, 128
}

// Engine answers requests with one model.
type Engine struct {
	runner Runner
	opts   Options
	limits Limits
	sched  *scheduler // Run's goroutine's

	mu      sync.Mutex
	arrived []*sequence // not yet seen by the loop
	embeds  []*embedInput
	waiting int // sequences and inputs that hold a place in the queue
	stopped error
	stats   Stats
	wake    chan struct{} // holds one token when there is something for the loop

	calls   sync.WaitGroup   // uses of the runner outside the loop, which closes it
	byBytes map[string]Token // control tokens by their text, for Request.Preserved

	longestPiece int // bytes of the longest token
}

// request is what the choices of a Request share. The loop owns it but for
// canceled.
type request struct {
	Request
	ctx       context.Context // whose end is the request's
	preserved map[Token]bool
	parse     ParseFunc
	stream    *Stream
	canceled  atomic.Bool
	left      int   // choices that have not ended
	err       error // that ended the first one
	usage     Usage // under stream.mu
	unhook    func() bool
	wake      func()
}

func (r *request) cancel() {
	r.canceled.Store(true)
	r.wake()
}

// New returns an engine for a runner. It answers once Run runs. The engine owns
// the runner from then on: Run closes it.
func New(r Runner, o Options) *Engine {
	if o.MaxWaiting == 0 {
		o.MaxWaiting = 512
	}
	if o.MaxChoices == 0 {
		o.MaxChoices = 128
	}
	e := &Engine{runner: r, opts: o, limits: r.Limits(), wake: make(chan struct{}, 1), byBytes: map[string]Token{}}
	e.sched = newScheduler(e.limits)
	m := r.Model()
	e.longestPiece = 1
	for t, b := range m.Special {
		e.longestPiece = max(e.longestPiece, len(b), len(m.Pieces[t]))
		if len(m.Pieces[t]) == 0 && len(b) > 0 {
			e.byBytes[string(b)] = Token(t)
		}
	}
	e.stats.Cells = e.limits.Cells
	return e
}

// Model describes the model.
func (e *Engine) Model() *Model { return e.runner.Model() }

// Limits returns the sizes that requests must keep to.
func (e *Engine) Limits() Limits { return e.limits }

// enter keeps the runner open until leave, e.calls.Done. It fails when it is
// closed, or about to be.
func (e *Engine) enter() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped != nil {
		return fmt.Errorf("%w: %w", ErrStopped, e.stopped)
	}
	e.calls.Add(1)
	return nil
}

// Tokenize splits text into tokens; special as in Runner. A text of so many bytes
// that it must have more than limit tokens is a LengthError at once: splitting
// megabytes takes seconds.
func (e *Engine) Tokenize(text string, special bool, limit int) ([]Token, error) {
	// An encoder's vocabulary may have one token for any word it does not know.
	if n := len(text) / e.longestPiece; n > limit && e.runner.Model().Generates {
		return nil, &LengthError{Tokens: n, Limit: limit, AtLeast: true}
	}
	if err := e.enter(); err != nil {
		return nil, err
	}
	defer e.calls.Done()
	return e.runner.Tokenize(text, special)
}

// Render writes a conversation as the model reads it. What the template cannot
// render is an ErrRequest.
func (e *Engine) Render(c Chat) (*Rendered, error) {
	if err := e.enter(); err != nil {
		return nil, err
	}
	defer e.calls.Done()
	r, err := e.runner.Render(c)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return r, nil
}

// Stats returns a snapshot.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	s.Waiting += len(e.arrived) + len(e.embeds)
	s.Stopped = e.stopped
	return s
}

// Generate queues a request. It fails with ErrRequest, a LengthError, ErrCannot,
// ErrQueueFull or ErrStopped; a sampler that cannot be made is an ErrRequest. The
// request ends early when ctx is done or the stream is closed; the caller must
// read the stream to its end or close it.
func (e *Engine) Generate(ctx context.Context, r Request) (*Stream, error) {
	if err := e.check(&r); err != nil {
		return nil, err
	}
	if err := e.enter(); err != nil {
		return nil, err
	}
	defer e.calls.Done()
	req := &request{Request: r, ctx: ctx, left: r.Choices, wake: e.signal}
	for _, text := range r.Preserved {
		if t, ok := e.byBytes[text]; ok {
			if req.preserved == nil {
				req.preserved = map[Token]bool{}
			}
			req.preserved[t] = true
		}
	}
	if r.Parser != "" {
		parse, err := e.runner.Parser(r.Parser)
		if err != nil {
			return nil, err
		}
		req.parse = parse
	}
	req.stream = newStream(req, r.Choices)
	req.usage.Prompt = len(r.Prompt)
	sequences, err := e.sequences(req)
	if err != nil {
		return nil, err
	}
	// The loop looks at ctx at every step; this wakes it when it makes none.
	req.unhook = context.AfterFunc(ctx, req.cancel)
	if err := e.enqueue(sequences, nil); err != nil {
		req.unhook()
		closeSamplers(sequences)
		return nil, err
	}
	return req.stream, nil
}

// check validates a request and fills in its defaults.
func (e *Engine) check(r *Request) error {
	m := e.runner.Model()
	if !m.Generates {
		return fmt.Errorf("%w: it embeds and does not generate", ErrCannot)
	}
	if r.Choices == 0 {
		r.Choices = 1
	}
	if r.Choices < 0 || r.Choices > e.opts.MaxChoices {
		return fmt.Errorf("%w: %d choices where at most %d are allowed", ErrRequest, r.Choices, e.opts.MaxChoices)
	}
	if len(r.Prompt) == 0 {
		return fmt.Errorf("%w: the prompt is empty", ErrRequest)
	}
	// One token at least must have room after the prompt.
	if len(r.Prompt) >= e.limits.Context {
		return &LengthError{Tokens: len(r.Prompt), Limit: e.limits.Context - 1}
	}
	for _, t := range r.Prompt {
		if t < 0 || int(t) >= len(m.Pieces) {
			return fmt.Errorf("%w: token %d of a vocabulary of %d", ErrRequest, t, len(m.Pieces))
		}
	}
	r.Stop = slices.DeleteFunc(slices.Clone(r.Stop), func(s string) bool { return s == "" })
	return nil
}

// sequences makes one for each choice. Choice i draws with the seed plus i.
func (e *Engine) sequences(req *request) ([]*sequence, error) {
	sequences := make([]*sequence, 0, req.Choices)
	for i := range req.Choices {
		sampling := req.Sampling
		sampling.Seed += uint32(i)
		sampler, err := e.runner.NewSampler(sampling)
		if err != nil {
			closeSamplers(sequences)
			return nil, fmt.Errorf("%w: %w", ErrRequest, err)
		}
		sequences = append(sequences, &sequence{
			req: req, index: i, tokens: slices.Clone(req.Prompt), prompt: len(req.Prompt), slot: -1, cached: -1,
			sampler: sampler, text: answerText{stops: req.Stop},
		})
	}
	return sequences, nil
}

func closeSamplers(sequences []*sequence) {
	for _, q := range sequences {
		q.sampler.Close()
	}
}

// enqueue hands work to the loop, all of it or none.
func (e *Engine) enqueue(sequences []*sequence, inputs []*embedInput) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(sequences) + len(inputs)
	switch {
	case e.stopped != nil:
		return fmt.Errorf("%w: %w", ErrStopped, e.stopped)
	case e.waiting+n > e.opts.MaxWaiting:
		return ErrQueueFull
	}
	if e.stats.Waiting+e.stats.Running+len(e.arrived)+len(e.embeds) == 0 {
		e.stats.Since = time.Now()
	}
	e.waiting += n
	e.arrived = append(e.arrived, sequences...)
	e.embeds = append(e.embeds, inputs...)
	e.signal()
	return nil
}

// signal wakes the loop.
func (e *Engine) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Run computes until ctx is done, which is no error, or the runner fails for
// good, which is. Requests that have not ended then end with ErrStopped. It
// closes the runner.
func (e *Engine) Run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	aborted := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(aborted)
		e.runner.Abort()
	})
	err := e.loop(ctx)
	if !unhook() {
		<-aborted // before the runner is closed
	}
	if ctx.Err() != nil && (err == nil || errors.Is(err, ErrAborted)) {
		err = nil
	}
	e.stop(err)
	e.calls.Wait()
	e.runner.Close()
	return err
}

func (e *Engine) loop(ctx context.Context) error {
	for ctx.Err() == nil {
		inputs := e.intake()
		if e.sched.idle() && len(inputs) == 0 {
			e.publish(0)
			select {
			case <-e.wake:
			case <-ctx.Done():
			}
			continue
		}
		if !e.sched.idle() {
			if err := e.generate(); err != nil {
				return err
			}
		}
		if len(inputs) > 0 {
			if err := e.embed(inputs); err != nil {
				return err
			}
		}
		e.publish(1)
	}
	return nil
}

// intake takes what arrived, ends what was cancelled or is too late, and returns
// the embedding inputs of one batch.
func (e *Engine) intake() []*embedInput {
	e.mu.Lock()
	e.sched.waiting = append(e.sched.waiting, e.arrived...)
	clear(e.arrived)
	e.arrived = e.arrived[:0]
	inputs := e.nextInputs()
	e.mu.Unlock()

	var now time.Time
	for _, list := range [][]*sequence{e.sched.running, e.sched.waiting} {
		// Backwards, and over a copy of the header: finish takes sequences out.
		for i := len(list) - 1; i >= 0; i-- {
			q := list[i]
			switch {
			case q.req.canceled.Load() || q.req.ctx.Err() != nil:
				e.finish(q, "", context.Canceled)
			case !q.req.Deadline.IsZero():
				if now.IsZero() {
					now = time.Now()
				}
				if now.After(q.req.Deadline) {
					e.finish(q, "", ErrDeadline)
				}
			}
		}
	}
	return inputs
}

// generate makes one decode step.
func (e *Engine) generate() error {
	s := e.sched
	before := len(s.waiting)
	st := s.plan()
	e.left(before - len(s.waiting))
	if !e.changeKV(st) {
		return nil // plan again from what is left
	}
	if st.batch.Len() == 0 {
		return nil
	}
	e.publish(0) // so that a step that never ends is noticed
	start := time.Now()
	if err := e.runner.Decode(&st.batch); err != nil {
		return e.recover(err)
	}
	s.apply(st)
	if err := e.runner.Sample(st.rows); err != nil {
		return err
	}
	s.observe(st, time.Since(start))
	e.count(st)
	for i, q := range st.drawn {
		e.draw(q, &st.rows[i])
	}
	return nil
}

// changeKV carries out a step's operations. It reports false, and has forgotten
// every cell, when the model cannot do one after all: the step is then void, and
// what runs is computed again.
func (e *Engine) changeKV(st *step) bool {
	defer func() { st.ops = st.ops[:0] }()
	for _, op := range st.ops {
		if op.copy {
			e.runner.CopyKV(op.src, op.slot)
		} else if !e.runner.RemoveKV(op.slot, op.from) {
			e.forgetAll()
			return false
		}
	}
	return true
}

// forgetAll empties the KV cache.
func (e *Engine) forgetAll() {
	for i := range e.sched.slots {
		e.runner.RemoveKV(i, 0)
		e.sched.forget(i)
	}
}

// recover makes the best of a failed decode.
func (e *Engine) recover(err error) error {
	s := e.sched
	switch {
	case errors.Is(err, ErrNoSlot):
		// The cells are as before the step.
		if !s.relieve() {
			e.finish(s.running[0], "", fmt.Errorf("one sequence alone: %w", err))
		}
		return nil
	case errors.Is(err, ErrInvalidBatch):
		// A defect of ours: nobody knows whose, so all that run end, and the cells
		// start anew.
		for len(s.running) > 0 {
			e.finish(s.running[0], "", err)
		}
		e.forgetAll()
		return nil
	}
	return err
}

// draw takes a sequence's next token.
func (e *Engine) draw(q *sequence, row *Row) {
	if row.Err != nil {
		e.finish(q, "", row.Err)
		return
	}
	m := e.runner.Model()
	if m.EndsGeneration[row.Token] {
		e.finish(q, FinishStop, nil)
		return
	}
	q.tokens = append(q.tokens, row.Token)
	piece := m.Pieces[row.Token]
	if q.req.preserved[row.Token] {
		piece = m.Special[row.Token]
	}
	if q.req.LogProbs {
		q.waiting = append(q.waiting, TokenInfo{
			TokenLogProb: TokenLogProb{row.Token, row.LogProb}, Bytes: piece, Alternatives: slices.Clone(row.Alternatives),
		})
	}
	show, stopped := q.text.add(piece)
	if stopped {
		e.emit(q, show, FinishStop)
		e.finish(q, FinishStop, nil)
		return
	}
	if n := len(q.tokens) - q.prompt; n == q.req.MaxTokens || len(q.tokens) >= e.limits.Context {
		e.emit(q, show, "")
		e.finish(q, FinishLength, nil)
		return
	}
	if len(show) > 0 {
		e.emit(q, show, "")
	}
}

// emit passes on text, and the log-probabilities of the tokens whose bytes are
// now shown. A finish means that what is held back will never be.
func (e *Engine) emit(q *sequence, show []byte, finish Finish) {
	tokens := q.waiting
	if finish == "" && len(q.text.held) > 0 {
		held := len(q.text.held)
		n := len(tokens)
		for n > 0 && held > 0 {
			n--
			held -= len(tokens[n].Bytes)
		}
		tokens = tokens[:n]
	} else if finish != "" {
		// The tokens from the stop string's first on are no part of the answer.
		cut := len(q.text.held)
		for len(tokens) > 0 && cut >= len(tokens[len(tokens)-1].Bytes) && cut > 0 {
			cut -= len(tokens[len(tokens)-1].Bytes)
			tokens = tokens[:len(tokens)-1]
		}
	}
	if len(show) > 0 || len(tokens) > 0 {
		q.req.stream.push(q.index, show, tokens, "")
	}
	q.waiting = append(q.waiting[:0:0], q.waiting[len(tokens):]...)
	if finish != "" {
		q.text.held, q.waiting = nil, nil
	}
}

// finish ends a choice: with a reason, or with an error, which ends the whole
// request's stream once its other choices have ended.
func (e *Engine) finish(q *sequence, reason Finish, err error) {
	req := q.req
	if q.slot < 0 && slices.Contains(e.sched.waiting, q) {
		e.left(1)
	}
	e.sched.release(q)
	q.sampler.Close()
	if err == nil {
		req.stream.push(q.index, q.text.rest(), q.waiting, reason)
	} else {
		// The other choices are of no use to anybody.
		req.canceled.Store(true)
		if req.err == nil || errors.Is(req.err, context.Canceled) {
			req.err = err
		}
	}
	req.stream.mu.Lock()
	req.usage.Completion += len(q.tokens) - q.prompt
	if q.index == 0 {
		req.usage.Cached = max(q.cached, 0)
	}
	req.stream.mu.Unlock()
	if req.left--; req.left == 0 {
		req.unhook()
		req.stream.end(req.err)
	}
}

// left gives up n places in the queue.
func (e *Engine) left(n int) {
	if n == 0 {
		return
	}
	e.mu.Lock()
	e.waiting -= n
	e.mu.Unlock()
}

// count adds a step to the statistics.
func (e *Engine) count(st *step) {
	cached := 0
	for _, q := range st.drawn {
		if len(q.tokens) == q.prompt {
			cached += q.cached
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stats.Prompt += uint64(st.prompt)
	e.stats.Cached += uint64(cached)
	e.stats.Generated += uint64(len(st.rows))
}

// publish makes the scheduler's state visible to Stats, and how many steps have
// ended since it last did.
func (e *Engine) publish(steps uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.sched
	e.stats.Waiting, e.stats.Running = len(s.waiting), len(s.running)
	e.stats.CellsUsed, e.stats.CellsIdle = s.used()
	e.stats.Preempted = s.preempted
	e.stats.Steps += steps
	if steps > 0 {
		e.stats.Since = time.Now()
	}
}

// stop ends everything that waits or runs, now and from now on.
func (e *Engine) stop(err error) {
	e.mu.Lock()
	if err == nil {
		err = context.Canceled
	}
	e.stopped = err
	e.mu.Unlock()
	inputs := e.intake()
	stopped := fmt.Errorf("%w: %w", ErrStopped, err)
	for len(e.sched.running) > 0 {
		e.finish(e.sched.running[0], "", stopped)
	}
	for len(e.sched.waiting) > 0 {
		e.finish(e.sched.waiting[0], "", stopped)
	}
	for len(inputs) > 0 {
		for _, in := range inputs {
			in.done <- stopped
		}
		inputs = e.intake()
	}
	e.publish(0)
}

// embedInput is one text to embed.
type embedInput struct {
	ctx    context.Context
	tokens []Token
	vector []float32
	done   chan error // gets one value
}

// Embed returns the unit vectors of inputs, in their order, batched with other
// callers' inputs. It fails with ErrCannot, ErrRequest, a LengthError,
// ErrQueueFull or ErrStopped.
func (e *Engine) Embed(ctx context.Context, inputs [][]Token) ([][]float32, error) {
	if e.runner.Model().Ranks {
		return nil, fmt.Errorf("%w: it ranks and does not embed", ErrCannot)
	}
	work := make([]*embedInput, len(inputs))
	for i, tokens := range inputs {
		if len(tokens) == 0 {
			return nil, fmt.Errorf("%w: input %d is empty", ErrRequest, i)
		}
		if len(tokens) > e.limits.EmbedTokens {
			return nil, &LengthError{Tokens: len(tokens), Limit: e.limits.EmbedTokens}
		}
		for _, t := range tokens {
			if t < 0 || int(t) >= len(e.runner.Model().Pieces) {
				return nil, fmt.Errorf("%w: token %d of a vocabulary of %d", ErrRequest, t, len(e.runner.Model().Pieces))
			}
		}
		work[i] = &embedInput{ctx: ctx, tokens: tokens, done: make(chan error, 1)}
	}
	if err := e.enqueue(nil, work); err != nil {
		return nil, err
	}
	vectors := make([][]float32, len(inputs))
	for i, in := range work {
		select {
		case err := <-in.done:
			if err != nil {
				return nil, err
			}
			vectors[i] = normalize(in.vector)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return vectors, nil
}

// nextInputs takes as many inputs as one batch can hold, less those that nobody
// waits for any more. The lock is held.
func (e *Engine) nextInputs() []*embedInput {
	var batch []*embedInput
	tokens, taken := 0, 0
	for _, in := range e.embeds {
		if in.ctx.Err() == nil {
			if tokens+len(in.tokens) > e.limits.EmbedTokens || len(batch) == e.limits.EmbedInputs {
				break
			}
			tokens += len(in.tokens)
			batch = append(batch, in)
		}
		taken++
	}
	e.waiting -= taken
	e.embeds = slices.Delete(e.embeds, 0, taken)
	return batch
}

// embed computes one batch of inputs.
func (e *Engine) embed(inputs []*embedInput) error {
	tokens := make([][]Token, len(inputs))
	for i, in := range inputs {
		tokens[i] = in.tokens
	}
	vectors, err := e.runner.Embed(tokens)
	for i, in := range inputs {
		if err == nil {
			in.vector = vectors[i]
		}
		in.done <- err
	}
	if errors.Is(err, ErrFatal) || errors.Is(err, ErrAborted) {
		return err
	}
	return nil
}

// normalize scales a vector to length 1; one of zeros stays as it is.
func normalize(v []float32) []float32 {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if sum == 0 {
		return v
	}
	scale := float32(1 / math.Sqrt(sum))
	for i := range v {
		v[i] *= scale
	}
	return v
}
