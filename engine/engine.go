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
	"hash/maphash"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options bound an Engine. Zero values take the defaults named.
type Options struct {
	MaxWaiting       int           // requests in the queue, 512
	MaxWaitingTokens int           // of the prompts of those, 1 Mi; of one request at most four fifths count
	MaxWait          time.Duration // in the queue, 0 for any
	MaxChoices       int           // choices of a request, 128
	// Gap is how long a stream may always wait for others' prompts between two tokens; with 0 only 2.5 times a step.
	Gap time.Duration
	// PrefixCache is the size in bytes of the memory to which the runner saves sequences that lose their slots (see
	// Limits.Saves); 0 saves none.
	PrefixCache int64
	// SaveAfter is how long nothing must happen until what slots keep is saved, 100 ms.
	SaveAfter time.Duration
	// SaveAll saves and restores also what would be computed as fast.
	SaveAll bool
	// Folder keeps what is saved beyond the end of this process; nil for none. It is used until Run returns.
	Folder PrefixFolder
	// Speculation is SpeculationAuto to have steps compute guesses of what answers go on with, where that pays and the
	// runner rolls back.
	Speculation string
	// Reproducible makes all requests and embeddings so, which the runner must be made for.
	Reproducible bool
}

// Engine answers requests with one model.
type Engine struct {
	runner   Runner
	text     Text
	opts     Options
	limits   Limits
	sched    *scheduler          // Run's goroutine's
	inputs   *queue[*embedInput] // Run's goroutine's
	meter    *meter
	images   *imageCache
	refusals *refusals

	mu        sync.Mutex
	arrived   []*sequence // not yet seen by the loop
	embeds    []*embedInput
	admission admission
	forgotten []string  // tenants whose cells the loop has to drop
	fetched   []fetched // prefixes that were read from the folder
	stopped   error
	stats     Stats
	wake      chan struct{} // holds one token when there is something for the loop

	calls   sync.WaitGroup   // uses of the runner outside the loop, which closes it
	byBytes map[string]Token // control tokens by their text, for Request.Preserved

	longestPiece int // bytes of the longest token
}

// request is what the choices of a Request share. The loop owns it but for
// canceled.
type request struct {
	Request
	entry     *queueEntry     // which several requests may share
	ctx       context.Context // whose end is the request's
	arrived   time.Time
	spans     []span // of the media among the prompt
	preserved map[Token]bool
	stream    *Stream
	canceled  atomic.Bool
	forgotten bool  // its tenant was, since it came: nothing of it is kept
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

// New returns an engine for a runner and for what reads and writes text for it. It answers once Run runs. The engine
// owns the runner from then on: Run closes it. It uses the Text until Run returns.
func New(r Runner, t Text, o Options) *Engine {
	if o.MaxWaiting == 0 {
		o.MaxWaiting = 512
	}
	if o.MaxWaitingTokens == 0 {
		o.MaxWaitingTokens = 1 << 20
	}
	if o.MaxChoices == 0 {
		o.MaxChoices = 128
	}
	if o.SaveAfter == 0 {
		o.SaveAfter = 100 * time.Millisecond
	}

	e := &Engine{
		runner:  r,
		text:    t,
		opts:    o,
		limits:  r.Limits(),
		wake:    make(chan struct{}, 1),
		byBytes: map[string]Token{},
	}
	e.sched = newScheduler(e.limits, o.Gap)
	if e.limits.Saves {
		e.sched.saving.size = o.PrefixCache / regionUnit * regionUnit
		e.sched.saving.all = o.SaveAll
		e.sched.folder = o.Folder
		e.sched.saving.whole = e.limits.SavesWhole || !e.limits.RollsBack
	}
	e.sched.spec.on = o.Speculation == SpeculationAuto && e.limits.RollsBack
	if o.Speculation == SpeculationAuto && !e.limits.RollsBack && r.Model().Generates {
		slog.Warn("no speculation: the model cannot go back", "architecture", r.Model().Architecture)
	}
	e.stats.Drafts = maps.Clone(e.sched.spec.counts)
	e.meter = newMeter()
	e.images = newImageCache()
	e.refusals = newRefusals()
	e.inputs = newQueue(func(in *embedInput) *ticket[*embedInput] { return &in.ticket })
	e.admission = admission{
		maxRequests: o.MaxWaiting,
		maxTokens:   o.MaxWaitingTokens,
		maxWait:     o.MaxWait,
	}
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
func (e *Engine) Model() *ModelInfo { return e.runner.Model() }

// LongestPiece returns the bytes of the longest token: a text has at least so many tokens as it is times as long. 0
// stands for a vocabulary in which one token may be any word.
func (e *Engine) LongestPiece() int {
	if !e.runner.Model().Generates {
		return 0
	}
	return e.longestPiece
}

// Limits returns the sizes that requests must keep to.
func (e *Engine) Limits() Limits { return e.limits }

// hold keeps the runner open until e.calls.Done. It fails when it is closed, or about
// to be.
func (e *Engine) hold() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped != nil {
		return fmt.Errorf("%w: %w", ErrStopped, e.stopped)
	}
	e.calls.Add(1)
	return nil
}

// Tokenize splits text into tokens. A text of so many bytes that it must have more than
// limit tokens is a LengthError at once: splitting megabytes takes seconds.
func (e *Engine) Tokenize(ctx context.Context, by Caller, text string, how Reading, limit int) ([]Token, error) {
	if err := e.checkText(text, limit); err != nil {
		return nil, err
	}
	if err := e.hold(); err != nil {
		return nil, err
	}
	defer e.calls.Done()
	var tokens []Token
	err := e.judged(by, hashOf("tokenize", text), func() (err error) {
		tokens, err = e.text.Tokenize(ctx, text, how)
		return err
	})
	return tokens, ended(err)
}

// checkText returns a LengthError for a text that has so many bytes that it must have more than limit tokens.
func (e *Engine) checkText(text string, limit int) error {
	if n := len(text) / max(e.LongestPiece(), 1); n > limit && e.runner.Model().Generates {
		return &LengthError{Tokens: n, Limit: limit, AtLeast: true}
	}
	return nil
}

// hashOf writes texts, each with its length.
func hashOf(texts ...string) func(*maphash.Hash) {
	return func(h *maphash.Hash) {
		for _, text := range texts {
			_, _ = fmt.Fprintf(h, "%d:", len(text))
			_, _ = h.WriteString(text)
		}
	}
}

// judged makes a call that is given what is hashed, unless the same has ended a process lately.
func (e *Engine) judged(by Caller, hashed func(*maphash.Hash), call func() error) error {
	if err := e.refusals.check(by.Tenant, hashed, time.Now()); err != nil {
		return err
	}
	err := call()
	if errors.Is(err, ErrTooComplex) || errors.Is(err, ErrCrashed) {
		e.refusals.add(by.Tenant, hashed, time.Now())
	}
	return err
}

// Render writes a conversation as the model reads it. What the template cannot
// render is an ErrRequest.
func (e *Engine) Render(ctx context.Context, by Caller, c Chat) (*Rendered, error) {
	if err := e.hold(); err != nil {
		return nil, err
	}
	defer e.calls.Done()
	var r *Rendered
	hashed := func(h *maphash.Hash) {
		hashOf("render", string(c.Messages), string(c.Tools), c.Schema, c.Written)(h)
		for _, name := range slices.Sorted(maps.Keys(c.TemplateArgs)) {
			hashOf(name, string(c.TemplateArgs[name]))(h)
		}
	}
	err := e.judged(by, hashed, func() (err error) {
		r, err = e.text.Render(ctx, c)
		return err
	})
	if err != nil {
		return nil, blame(ctx, err)
	}
	return r, nil
}

// Stats returns a snapshot.
func (e *Engine) Stats() Stats {
	var folder FolderStats
	if e.opts.Folder != nil {
		folder = e.opts.Folder.Stats() // before the mutex, for which the loop waits
	}

	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	s.Waiting += len(e.arrived) + len(e.embeds)
	s.Queued = e.admission.requests
	s.WaitingTokens = e.admission.tokens
	s.Room = e.admission.maxRequests - e.admission.requests
	s.Stopped = e.stopped
	s.Measures, s.Rate = e.meter.read(time.Now())
	s.Folder = folder
	return s
}

// Waiting returns how many requests have a place in the queue, by client. Clients that have none are not there.
func (e *Engine) Waiting() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	waiting := map[string]int{}
	for key, usage := range e.admission.clients {
		waiting[key.client] += usage.total()
	}
	return waiting
}

// Generate queues a request. It fails with ErrRequest, a LengthError, ErrCannot, a
// BusyError or ErrStopped; a sampler that cannot be made is an ErrRequest. The
// request ends early when ctx is done or the stream is closed; the caller must
// read the stream to its end or close it. One whose ctx has a deadline that cannot be
// kept is not queued.
func (e *Engine) Generate(ctx context.Context, r Request) (*Stream, error) {
	if err := e.check(&r); err != nil {
		return nil, err
	}

	if err := e.refusals.check(r.Tenant, hashRequest(&r), time.Now()); err != nil {
		return nil, err
	}

	seen, err := spans(r.Prompt, r.Media)
	if err != nil {
		return nil, err
	}

	if err := e.hold(); err != nil {
		return nil, err
	}
	defer e.calls.Done()

	req := &request{
		Request: r, entry: &queueEntry{Caller: r.Caller, tokens: max(r.Together, len(r.Prompt)), waiting: r.Choices},
		spans: seen, ctx: ctx, arrived: time.Now(), left: r.Choices, wake: e.signal,
	}
	if r.Beside != nil {
		req.entry = r.Beside.req.entry
	}

	for _, text := range r.Preserved {
		if t, ok := e.byBytes[text]; ok {
			if req.preserved == nil {
				req.preserved = map[Token]bool{}
			}
			req.preserved[t] = true
		}
	}
	parsers, err := e.parsers(ctx, &r)
	if err != nil {
		return nil, err
	}

	req.stream = newStream(req, parsers)
	req.usage.Prompt = len(r.Prompt)
	sequences, err := e.sequences(ctx, req)
	if err != nil {
		req.stream.closeParsers()
		return nil, err
	}

	// The loop looks at ctx at every step; this wakes it when it makes none.
	req.unhook = context.AfterFunc(ctx, req.cancel)
	if err := e.enqueue(ctx, req, sequences); err != nil {
		req.unhook()
		closeSamplers(sequences)
		req.stream.closeParsers()
		return nil, err
	}
	return req.stream, nil
}

// hashRequest writes what is computed of a request.
func hashRequest(r *Request) func(*maphash.Hash) {
	return func(h *maphash.Hash) {
		hashOf("generate", r.Sampling.Grammar.Text)(h)
		hashTokens(h, r.Prompt)
	}
}

// check validates a request and fills in its defaults.
func (e *Engine) check(r *Request) error {
	m := e.runner.Model()
	if !m.Generates {
		return fmt.Errorf("%w: it is an embedding model", ErrCannot)
	}
	r.Reproducible = r.Reproducible || e.opts.Reproducible
	if r.Reproducible && !e.limits.Reproducible {
		return ErrNotReproducible
	}
	if r.Choices == 0 {
		r.Choices = 1
	}
	if r.Choices < 0 || r.Choices > e.opts.MaxChoices {
		return fmt.Errorf("%w: too many choices: %d (maximum %d)", ErrRequest, r.Choices, e.opts.MaxChoices)
	}
	if len(r.Prompt) == 0 {
		return fmt.Errorf("%w: the prompt is empty", ErrRequest)
	}

	// One token at least must have room after the prompt.
	if len(r.Prompt) >= e.limits.Context {
		return &LengthError{Tokens: len(r.Prompt), Limit: e.limits.Context - 1}
	}

	for _, t := range r.Prompt {
		if t < 0 && !m.Vision || int(t) >= len(m.Pieces) {
			return fmt.Errorf("%w: token %d is outside the vocabulary (size %d)", ErrRequest, t, len(m.Pieces))
		}
	}
	for _, t := range r.Prediction {
		if t < 0 || int(t) >= len(m.Pieces) {
			return fmt.Errorf("%w: token %d of the prediction is outside the vocabulary (size %d)",
				ErrRequest, t, len(m.Pieces))
		}
	}
	if r.Score && len(r.Media) > 0 {
		return fmt.Errorf("%w: an image has no log-probabilities", ErrRequest)
	}

	r.Stop = slices.DeleteFunc(slices.Clone(r.Stop), func(s string) bool { return s == "" })
	return nil
}

// sequences makes one for each choice. They share the prompt until they are drawn. Choice i draws with the seed plus i.
func (e *Engine) sequences(ctx context.Context, req *request) ([]*sequence, error) {
	if req.Sampling.Grammar.Text != "" {
		// Before it reaches the process that holds everybody's cells.
		hashed := hashOf("grammar", req.Sampling.Grammar.Text)
		err := e.judged(req.Caller, hashed, func() error { return e.text.Check(ctx, req.Sampling) })
		if err != nil {
			return nil, blame(ctx, err)
		}
	}

	sequences := make([]*sequence, 0, req.Choices)
	for i := range req.Choices {
		sampling := req.Sampling
		sampling.Seed += uint32(i)
		sampling.Ends = req.StopTokens
		sampler, err := e.runner.NewSampler(sampling)
		if err != nil {
			closeSamplers(sequences)
			return nil, blame(ctx, err)
		}
		q := &sequence{
			ticket: ticket[*sequence]{Caller: req.Caller},
			req:    req, index: i, tokens: slices.Clip(req.Prompt), prompt: len(req.Prompt), slot: -1, cached: -1,
			sampler: sampler, text: answerText{stops: req.Stop},
		}
		if e.sched.spec.on {
			q.drafter = newDrafter(len(req.Prompt), req.Prediction, e.runner.Model().EndsGeneration)
		}
		if req.Score && i == 0 {
			q.toScore = len(req.Prompt) - 1 // nothing comes before the first
		}
		sequences = append(sequences, q)
	}
	return sequences, nil
}

// blame makes the request the cause of a runner's error, unless the runner is, or the end of the context.
func blame(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err = ended(err); errors.Is(err, ErrCrashed) || errors.Is(err, ErrStopped) || errors.Is(err, ErrRequest) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrRequest, err)
}

// ended makes the end of the runner the engine's.
func ended(err error) error {
	if errors.Is(err, ErrAborted) || errors.Is(err, ErrFatal) {
		return fmt.Errorf("%w: %w", ErrStopped, err)
	}
	return err
}

func closeSamplers(sequences []*sequence) {
	for _, q := range sequences {
		q.sampler.Close()
	}
}

// enqueue hands a request's sequences to the loop, all of them or none.
func (e *Engine) enqueue(ctx context.Context, r *request, sequences []*sequence) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.Beside != nil && e.stopped == nil {
		e.admission.extend(r.entry, len(sequences))
	} else if err := e.admit(ctx, r.entry); err != nil {
		return err
	}
	e.arrived = append(e.arrived, sequences...)
	e.signal()
	return nil
}

// Admits says whether Generate, Embed or Rank would queue a request of a caller's now, as
// far as that is known without its prompt: with a BusyError or ErrStopped if not. It
// spares those who are refused, and everybody else, the work of reading the prompt.
func (e *Engine) Admits(ctx context.Context, by Caller) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err := e.checkAdmission(ctx, &queueEntry{Caller: by}, e.admission.check)
	return err
}

// admit admits a request to the queue. The caller holds the mutex, and queues its work.
func (e *Engine) admit(ctx context.Context, entry *queueEntry) error {
	ahead, err := e.checkAdmission(ctx, entry, e.admission.admit)
	if err == nil && ahead == 0 {
		e.stats.Since = time.Now()
	}
	return err
}

// checkAdmission makes an admission check with a context's deadline, and returns how much work is
// there already. The caller holds the mutex.
func (e *Engine) checkAdmission(
	ctx context.Context, entry *queueEntry, check func(*queueEntry, time.Duration, bool) error,
) (ahead int, err error) {
	if e.stopped != nil {
		return 0, fmt.Errorf("%w: %w", ErrStopped, e.stopped)
	}
	var patience time.Duration
	if deadline, ok := ctx.Deadline(); ok {
		patience = max(time.Until(deadline), 1) // 0 would mean any
	}
	ahead = e.stats.Waiting + e.stats.Running + len(e.arrived) + len(e.embeds)
	if err := check(entry, patience, ahead >= e.limits.Sequences); err != nil {
		e.meter.refused(err)
		return ahead, err
	}
	return ahead, nil
}

// signal wakes the loop.
func (e *Engine) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}
