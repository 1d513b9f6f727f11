package remote

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"serve/engine"
)

// Crash is what is known of an end that nobody asked for. It holds no text of anyone.
type Crash struct {
	Exit     ChildExit
	Stalled  time.Duration // without an answer, after which it was killed; 0 if it ended by itself
	Wire     error         // what it sent made no sense
	Batch    []Share       // what it computed
	Embeds   []int         // tokens of the inputs that it embedded
	Calls    []string      // what else it was asked
	Lived    time.Duration
	Restarts int // before this one
}

// Share is a sequence's part of a batch.
type Share struct{ Sequence, Tokens, From int }

// How often a child may fail in a row.
const (
	maxFailures = 5                      // to start, before the Runner gives up
	maxQuiet    = 3                      // without a step in between, before what it computes is suspected
	maxFaults   = 3                      // of its device, without a step in between, before that is given up
	firstDelay  = 100 * time.Millisecond // before it is started again, doubled with every failure
	laterDelay  = time.Second            // the same after ErrLater
	lastDelay   = 10 * time.Second
	slowerLoad  = 4 // times as long as the first one, beside Options.Stall, a later load may take
)

// ErrLater is in an error of Options.Refused that time may mend, and haste does not.
var ErrLater = errors.New("try again later")

// generation returns the child there is, and waits for one that is being started, but not longer than until ctx ends.
func (r *Runner) generation(ctx context.Context) (*generation, error) {
	for {
		r.mu.Lock()
		g := r.current
		changed := r.changed
		failed := r.failed
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
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-r.aborted:
			return nil, r.whyAborted()
		}
	}
}

// whyAborted returns why there is no child after Abort, which may have been called because none can be started.
func (r *Runner) whyAborted() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed != nil {
		return r.failed
	}
	return engine.ErrAborted
}

// lost is called by each goroutine that notices that a child has gone. The first starts another;
// the loop comes first, if it has asked for something, to say what. It returns whether
// the child may have died of what it did.
func (r *Runner) lost(g *generation, crash func() Crash) (suspicious bool) {
	g.lose(errLost)
	exit := g.p.Wait()
	fault := r.judge(g, exit)
	defer g.close()
	var c Crash
	if crash != nil {
		c = crash()
	} else {
		g.exchanging.Lock()
		defer g.exchanging.Unlock()
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.retired, g)
	if r.current == g {
		r.current = nil
		r.quiet.Add(1)
		c.Exit = exit
		c.Wire = g.wire
		c.Stalled = time.Duration(g.stalled.Load())
		c.Lived = time.Since(g.began)
		c.Restarts = r.restarts
		g.mu.Lock()
		for _, call := range g.pending {
			c.Calls = append(c.Calls, call.name)
		}
		g.mu.Unlock()
		select {
		case <-r.aborted:
		default:
			r.restarts++
			sick := r.counts(fault)
			r.work.Go(func() {
				if r.o.Report != nil {
					r.o.Report(c)
				}
				if sick != nil {
					r.set(nil, sick)
					return
				}
				r.restart(g.number+1, c.Exit.How)
			})
		}
	}
	if fault.Kind == FaultOfMemory {
		return false // the plan was, for a device that has less than it seemed
	}
	return exit.Fault || g.wire != nil || g.stalled.Load() > 0 && !exit.Paused || r.quiet.Load() >= maxQuiet
}

// replace has another child take the calls to come. The one there is ends when nobody waits for what it does. One that
// makes steps stays: its cells are worth more than the time of a call.
func (r *Runner) replace(g *generation, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != g || !r.textOnly {
		return
	}

	r.current = nil
	r.retired[g] = true
	g.mu.Lock()
	g.retired = true
	g.mu.Unlock()
	g.endIfRetired()
	select {
	case <-r.aborted:
	default:
		r.restarts++
		r.work.Go(func() { r.restart(g.number+1, why) })
	}
}

// restart puts another child in the place of one that has ended because of why: the spare one, or it starts one,
// again and again until one is there.
func (r *Runner) restart(number int, why string) {
	began := time.Now()
	if g := r.takeSpare(); g != nil {
		g.number = number
		r.announce(why, began)
		r.set(g, nil)
		return
	}

	delay := time.Duration(0)
	if quiet := r.quiet.Load(); quiet > 1 {
		delay = min(firstDelay<<min(quiet-2, 10), lastDelay)
	}

	ctx, cancel := r.untilAborted()
	defer cancel()
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
		g, err := r.spawnAgain(ctx, number)
		if err == nil {
			r.announce(why, began)
			r.set(g, nil)
			return
		}
		if ctx.Err() != nil {
			return
		}
		r.o.Log.Error("the "+r.o.Name+" could not be restarted", "error", err, "attempt", failures+1)
		if failures+1 == maxFailures {
			r.set(nil, fmt.Errorf("%w: it could not be restarted: %w", engine.ErrFatal, err))
			return
		}
		least := firstDelay
		if errors.Is(err, ErrLater) {
			least = laterDelay
		}
		delay = min(max(2*delay, least), lastDelay)
	}
}

// untilAborted returns a context that ends with Abort. The caller calls cancel.
func (r *Runner) untilAborted() (ctx context.Context, cancel context.CancelFunc) {
	ctx, cancel = context.WithCancel(context.Background())
	go func() {
		select {
		case <-r.aborted:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// announce logs that a child has taken another's place.
func (r *Runner) announce(why string, began time.Time) {
	took := time.Since(began).Round(time.Millisecond)
	r.o.Log.Warn("the "+r.o.Name+" was restarted", "because", why, "after", took, "restarts", r.Restarts())
}

// takeSpare returns the child that is kept for this, if it still lives.
func (r *Runner) takeSpare() *generation {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.spare
	r.spare = nil
	if g != nil && g.isGone() {
		r.work.Go(func() { g.p.Wait(); g.close() })
		return nil
	}
	return g
}

// makeSpare starts a child to take the place of the next one that ends. If it fails, that one's successor is started
// when it is needed.
func (r *Runner) makeSpare() {
	ctx, cancel := r.untilAborted()
	defer cancel()

	g, err := r.spawnAgain(ctx, 2)
	if err != nil {
		if ctx.Err() == nil {
			r.o.Log.Warn("a spare "+r.o.Name+" could not be started", "error", err)
		}
		return
	}
	r.mu.Lock()
	old := r.spare
	r.spare = g
	r.mu.Unlock()
	if old != nil {
		old.discard()
	}
	select {
	case <-r.aborted:
		r.dropSpare()
	default:
	}
}

// dropSpare ends the child that is kept.
func (r *Runner) dropSpare() {
	r.mu.Lock()
	g := r.spare
	r.spare = nil
	r.mu.Unlock()
	if g != nil {
		g.discard()
	}
}

// like reports whether a child has the model that the first one had. It may have fewer cells than that.
func (r *Runner) like(f *facts) bool {
	if r.textOnly {
		return f.Vocabulary == r.vocabulary
	}
	expected := r.first
	if f.Limits.Cells < expected.Cells && f.Limits.Cells >= expected.Context && f.Limits.Shared {
		expected.Cells = f.Limits.Cells
		expected.Shared = true
	}
	return f.Vocabulary == 0 && f.Limits == expected && f.Model.Size == r.model.Size &&
		len(f.Model.Pieces) == len(r.model.Pieces)
}

// resize notes the limits of another child.
func (r *Runner) resize(l engine.Limits) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.limits != l {
		r.limits = l
		r.resized.Store(true)
	}
}

// spawnAgain starts a child that must be like the one before.
func (r *Runner) spawnAgain(ctx context.Context, number int) (*generation, error) {
	g, answer, known, err := r.spawn(ctx, number)
	if err == nil && g == nil {
		err = r.o.Refused(answer)
	}
	if err == nil && !r.like(known) {
		err = errors.New("the model has changed")
	}
	if err == nil {
		if !r.textOnly {
			r.resize(known.Limits)
		}
		r.o.Restarted(answer)
	}
	if err != nil && g != nil {
		g.discard()
	}
	return g, err
}

func (r *Runner) set(g *generation, failed error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = g
	r.failed = failed
	if failed != nil {
		r.end(failed)
	}
	close(r.changed)
	r.changed = make(chan struct{})

	if g != nil {
		// Also when nobody asks it for anything.
		r.work.Go(func() { <-g.gone; r.lost(g, nil) })
		if r.o.Spare {
			r.work.Go(r.makeSpare)
		}
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
// is an engine.ErrCrashed, or an engine.ErrTooComplex if no cells are lost with it.
func (r *Runner) ask(ctx context.Context, name string, write func(*message)) (*reader, error) {
	for suspect := false; ; {
		reply, g, err := r.tryCall(ctx, name, suspect, write)
		switch {
		case err == nil:
			in := &reader{b: reply}
			err = in.failure()
			if errors.Is(err, engine.ErrTooComplex) {
				g.replace("a call that takes too long") // it still computes
			} else if r.textOnly {
				r.works()
			}
			return in, err
		case g == nil || !errors.Is(err, errLost):
			return nil, err
		case r.lost(g, nil) && !errors.Is(err, errNotSent):
			if suspect && r.textOnly {
				return nil, fmt.Errorf("%w: the process that reads it crashed (%s)", engine.ErrTooComplex, name)
			}
			if suspect && g.fault.Kind != NoFault {
				// Nobody is to blame before the next child is there, which has computed before it says so.
				if _, err := r.generation(ctx); err != nil {
					return nil, err
				}
				r.faults.Store(0)
			}
			if suspect {
				return nil, fmt.Errorf("%w: %s", engine.ErrCrashed, name)
			}
			suspect = true
		}
	}
}

// tryCall makes a call once. A suspect is alone with its child, which has answered since it was.
func (r *Runner) tryCall(
	ctx context.Context, name string, suspect bool, write func(*message),
) ([]byte, *generation, error) {
	unlock := r.take(suspect)
	defer unlock()
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	g, err := r.generation(ctx)
	if err != nil {
		return nil, nil, err
	}

	watch := time.AfterFunc(r.o.Stall, func() { g.stall(r.o.Stall) })
	defer watch.Stop()
	if suspect && !g.answers() {
		return nil, g, errNotSent
	}
	reply, err := g.call(ctx, name, r.o.CPU, write)
	return reply, g, err
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

// partsOf says what a batch holds, without what it says.
func partsOf(b *engine.Batch) (parts []Share) {
	for i, seq := range b.Sequences {
		if n := len(parts); n > 0 && parts[n-1].Sequence == int(seq) {
			parts[n-1].Tokens++
			continue
		}
		parts = append(parts, Share{int(seq), 1, int(b.Positions[i])})
	}
	return parts
}

// Abort ends the children. It returns when the first call of it has done so.
func (r *Runner) Abort() {
	r.abort.Do(func() {
		close(r.aborted)
		r.mu.Lock()
		ended := slices.Collect(maps.Keys(r.retired))
		if r.current != nil {
			ended = append(ended, r.current)
		}
		r.mu.Unlock()
		for _, g := range ended {
			g.lose(errLost)
		}
		r.dropSpare()
	})
}

// Close ends the child and returns when its memory is free.
func (r *Runner) Close() {
	r.Abort()
	r.work.Wait()
	r.end(engine.ErrAborted)
	r.mu.Lock()
	g := r.current
	r.mu.Unlock()
	if g != nil {
		g.p.Wait()
		g.close()
	}
}
