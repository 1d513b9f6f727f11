package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"time"
)

// What follows runs on the loop's goroutine alone.

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
	err := e.guard(ctx)
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

// guard runs the loop. Should a defect end it, this engine stops with an error, and others go on.
func (e *Engine) guard(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			slog.Error("the engine's loop has a defect", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: a defect in its loop: %v", ErrFatal, p)
		}
	}()
	return e.loop(ctx)
}

func (e *Engine) loop(ctx context.Context) error {
	for ctx.Err() == nil {
		e.intake()
		if e.sched.idle() && e.inputs.len() == 0 {
			e.changeKV(&e.sched.step) // no step will come that drops what was to be forgotten
			e.publish(0)
			e.wait(ctx)
			continue
		}

		if !e.sched.idle() {
			if err := e.generate(ctx); err != nil {
				return err
			}
		}

		// Only now: what has left the queue is embed's to answer.
		if inputs := e.nextInputs(); len(inputs) > 0 {
			if err := e.embed(inputs); err != nil {
				return err
			}
		}

		e.publish(1)
	}

	return nil
}

// intake takes what arrived, and ends what was cancelled or has waited too long.
func (e *Engine) intake() {
	e.mu.Lock()
	for _, q := range e.arrived {
		e.sched.queue.push(q)
	}
	for _, in := range e.embeds {
		e.inputs.push(in)
	}
	clear(e.arrived)
	clear(e.embeds)
	e.arrived = e.arrived[:0]
	e.embeds = e.embeds[:0]
	forgotten := e.forgotten
	e.forgotten = nil
	read := e.fetched
	e.fetched = nil
	e.mu.Unlock()
	e.takeFetched(read)
	for _, tenant := range forgotten {
		if e.opts.Folder != nil {
			e.opts.Folder.Forget(tenant) // also where it is not used any more
		}
		e.discard(e.sched.forget(tenant))
	}

	// Backwards, since finish takes sequences out.
	for i := len(e.sched.running) - 1; i >= 0; i-- {
		if q := e.sched.running[i]; q.req.over() != nil {
			e.finish(q, "", q.req.over())
		}
	}
	if e.sched.queue.len()+e.inputs.len() == 0 {
		return
	}
	now := time.Now()
	late := func(arrived time.Time, by *Caller) bool {
		patience := e.patience(by)
		return patience > 0 && now.Sub(arrived) > patience
	}
	sequences := slices.Collect(filter(e.sched.queue.all(), func(q *sequence) bool {
		return q.req.over() != nil || !q.begun && late(q.req.arrived, &q.req.Caller)
	}))
	for _, q := range sequences {
		e.finish(q, "", cmp.Or(q.req.over(), e.tooLong(q.req.entry)))
	}
	inputs := slices.Collect(filter(e.inputs.all(), func(in *embedInput) bool {
		return in.ctx.Err() != nil || late(in.arrived, &in.entry.Caller)
	}))
	for _, in := range inputs {
		e.settle(in, cmp.Or(context.Cause(in.ctx), e.tooLong(in.entry)))
	}
}

// patience is how long what a client asks for may be in the queue; 0 for any time.
func (e *Engine) patience(by *Caller) time.Duration {
	if by.Patience > 0 && (e.opts.MaxWait <= 0 || by.Patience < e.opts.MaxWait) {
		return by.Patience
	}
	return max(e.opts.MaxWait, 0)
}

func filter[T any](all iter.Seq[T], keep func(T) bool) iter.Seq[T] {
	return func(yield func(T) bool) {
		for v := range all {
			if keep(v) && !yield(v) {
				return
			}
		}
	}
}

// over returns why a request was ended from outside, or nil.
func (r *request) over() error {
	switch {
	case r.ctx.Err() != nil:
		return context.Cause(r.ctx)
	case r.canceled.Load():
		return context.Canceled
	}
	return nil
}

// tooLong is the error of a request that was queued and never had its turn.
func (e *Engine) tooLong(entry *queueEntry) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.admission.refuse(ErrWait, entry)
}

// generate makes one decode step.
func (e *Engine) generate(ctx context.Context) error {
	s := e.sched
	st := s.plan()
	if !e.changeKV(st) {
		return nil // plan again from what is left
	}
	e.admitted()
	if st.batch.Len() == 0 {
		if e.inputs.len() == 0 && len(e.sched.running) == 0 {
			e.waitForFetch(ctx)
		}
		return nil
	}

	e.publish(0) // so that a step that never ends is noticed
	start := time.Now()
	if err := e.runner.Step(&st.batch, st.rows); err != nil {
		return e.recover(st, err)
	}

	s.apply(st)
	now := time.Now()
	s.learn(s, st, now.Sub(start))
	s.observePrefill(st, now.Sub(start))
	e.count(st)
	for i, q := range st.drawn {
		row := &st.rows[i]
		if row.Refused {
			continue
		}
		if row.Draft {
			s.accept(q)
		}
		e.draw(q, row, now)
	}
	e.prepare()
	return nil
}

// changeKV carries out a step's operations. It reports false, and has forgotten
// every cell, when the model cannot do one after all: the step is then void, and
// what runs is computed again.
func (e *Engine) changeKV(st *step) bool {
	for _, op := range st.ops {
		done := true
		switch {
		case op.save != nil:
			e.save(op.slot, op.save)
		case op.restore != nil:
			done = e.restore(op.slot, op.restore)
		case op.fetch != nil:
			e.beginFetch(op.fetch)
		case op.copy:
			e.runner.CopyKV(op.src, op.slot)
		default:
			done = e.runner.RemoveKV(op.slot, op.from)
		}
		if !done {
			e.sched.voidFetches(st.ops)
			e.forgetAll()
			return false
		}
	}
	st.ops = st.ops[:0]
	e.sched.unpin()
	return true
}

// forgetAll empties the KV cache.
func (e *Engine) forgetAll() {
	for i := range e.sched.slots {
		e.runner.RemoveKV(i, 0)
	}
	e.sched.forgetAll()
}

// restarted notes that the runner has lost all its cells, and may have fewer of them now.
func (e *Engine) restarted() {
	limits := e.runner.Limits()
	if e.sched.resize(limits) {
		// What was saved of buffers of their own is not what a shared one restores.
		e.discard(e.sched.saving.dropAll(func(*prefix) bool { return true }))
		e.sched.folder = nil // whose files are keyed by the layout, until the model is loaded again
	}
	e.sched.forgetAll()
	e.mu.Lock()
	e.stats.Restarts++
	e.stats.Cells = limits.Cells
	e.mu.Unlock()
}

// recover makes the best of a step that failed.
func (e *Engine) recover(st *step, err error) error {
	s := e.sched
	switch {
	case errors.Is(err, ErrCrashed) && st.batch.Suspect:
		// It was alone, and the engine crashed before when it was there.
		q := st.fed[0].seq
		size := st.batch.Len()
		e.crashed()
		if errors.Is(err, ErrFaulted) {
			if works, err := e.probe(size); !works {
				return err // it is tried again, if the engine lives
			}
		}
		e.refusals.add(q.req.Tenant, hashRequest(&q.req.Request), time.Now())
		e.finish(q, "", ErrCrashed)
		return nil

	case errors.Is(err, ErrCrashed):
		for _, f := range st.fed {
			f.seq.suspect = true
		}
		e.crashed()
		return nil

	case errors.Is(err, ErrExhausted):
		e.crashed()
		return nil
	case errors.Is(err, ErrRestarted):
		e.restarted()
		return nil
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

// score passes on the probability of a token of the prompt.
func (e *Engine) score(q *sequence, row *Row) {
	m := e.runner.Model()
	piece := m.Pieces[row.Token]
	if len(piece) == 0 {
		piece = m.Special[row.Token]
	}

	q.toScore--
	q.req.stream.pushPrompt(TokenInfo{
		TokenLogProb: TokenLogProb{row.Token, row.LogProb},
		Bytes:        piece,
		Alternatives: slices.Clone(row.Alternatives),
	})
}

// draw takes a sequence's next token, or the probability of one of its prompt.
func (e *Engine) draw(q *sequence, row *Row, now time.Time) {
	if q.ended {
		return // by an earlier row of the same step
	}

	if row.Err != nil {
		e.finish(q, "", row.Err)
		return
	}

	if row.Sampler == nil {
		e.score(q, row)
		return
	}

	m := e.runner.Model()
	if m.EndsGeneration[row.Token] || slices.Contains(q.req.StopTokens, row.Token) {
		e.finish(q, FinishStop, nil)
		return
	}

	q.tokens = append(q.tokens, row.Token)
	q.req.stream.drawn(now)

	e.meter.token(q, row.sampledOn(), now)
	piece := m.Pieces[row.Token]
	if q.req.preserved[row.Token] {
		piece = m.Special[row.Token]
	}

	if q.req.LogProbs {
		q.waiting = append(q.waiting, TokenInfo{
			TokenLogProb: TokenLogProb{row.Token, row.LogProb}, Bytes: piece, Alternatives: slices.Clone(row.Alternatives),
		})
	}

	late := len(q.tokens)-q.prompt > int(q.req.Sampling.MinTokens)
	show, stopped := q.text.add(piece, late)
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
		q.req.stream.push(q.index, show, tokens)
	}

	q.waiting = append(q.waiting[:0:0], q.waiting[len(tokens):]...)
	if finish != "" {
		q.text.held = nil
		q.waiting = nil
	}
}

// finish ends a choice: with a reason, or with an error, which ends the whole
// request's stream once its other choices have ended.
func (e *Engine) finish(q *sequence, reason Finish, err error) {
	req := q.req
	if !q.begun {
		e.leave(req.entry, time.Now(), false)
	}

	e.sched.release(q)
	q.sampler.Close()
	q.ended = true
	e.meter.ended(q, reason, err)
	if err == nil {
		req.stream.pushLast(q.index, q.text.rest(), q.waiting, reason, q.text.matched)
	} else {
		// The other choices are of no use to anybody.
		req.canceled.Store(true)
		if req.err == nil || errors.Is(req.err, context.Canceled) {
			req.err = err
		}
	}

	req.stream.mu.Lock()
	if q.index == 0 {
		req.usage.Cached = max(q.cached, 0)
	}
	if q.drafter != nil {
		agreed := q.drafter.agreement(q.tokens)
		req.usage.Agreed += agreed
		req.usage.Disagreed += len(req.Prediction) - agreed
	}

	req.stream.mu.Unlock()
	if req.left--; req.left == 0 {
		req.unhook()
		req.stream.end(req.err)
	}
}

// admitted notes which sequences have just got their place in the batch.
func (e *Engine) admitted() {
	var now time.Time
	for _, q := range e.sched.running {
		if q.begun {
			continue
		}
		if now.IsZero() {
			now = time.Now()
		}
		q.begun = true
		e.meter.began(q, now)
		q.req.stream.begin(now)
		e.leave(q.req.entry, now, true)
	}
}

// leave takes a piece of a request's work out of what waits.
func (e *Engine) leave(entry *queueEntry, now time.Time, begun bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.admission.leave(entry, now, begun)
}

// count adds a step to the statistics.
func (e *Engine) count(st *step) {
	cached := 0
	generated := 0
	sequences := 0
	for i, q := range st.drawn {
		row := &st.rows[i]
		if row.Sampler == nil || row.Refused {
			continue
		}
		generated++
		if row.Draft {
			continue
		}
		sequences++
		if len(q.tokens) == q.prompt {
			cached += q.cached
		}
	}
	if sequences > 0 {
		e.meter.step(sequences)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stats.Prompt += uint64(st.prompt)
	e.stats.Cached += uint64(cached)
	e.stats.Generated += uint64(generated)
	if st.drafted > 0 {
		e.stats.Drafts = maps.Clone(e.sched.spec.counts)
	}
}

// publish makes the scheduler's state visible to Stats, and how many steps have
// ended since it last did.
func (e *Engine) publish(steps uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.sched
	e.stats.Waiting = s.queue.len() + e.inputs.len()
	e.stats.Running = len(s.running)
	e.stats.CellsUsed, e.stats.CellsIdle = s.used()
	e.stats.Preempted = s.preempted
	e.stats.PrefixCache = s.saving.present()
	if s.saving.changed {
		e.stats.Skipped = maps.Clone(s.saving.skipped)
		s.saving.changed = false
	}
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
	e.intake()
	stopped := fmt.Errorf("%w: %w", ErrStopped, err)
	for _, q := range slices.AppendSeq(slices.Clone(e.sched.running), e.sched.queue.all()) {
		e.finish(q, "", stopped)
	}
	for _, in := range slices.Collect(e.inputs.all()) {
		e.settle(in, stopped)
	}
	e.publish(0)
}
