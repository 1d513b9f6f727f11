package remote

import (
	"context"
	"errors"
	"fmt"
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
	firstDelay  = 100 * time.Millisecond // before it is started again, doubled with every failure
	laterDelay  = time.Second            // the same after ErrLater
	lastDelay   = 10 * time.Second
	slowerLoad  = 4 // times as long as the first one, beside Options.Stall, a later load may take
)

// ErrLater is in an error of Options.Refused that time may mend, and haste does not.
var ErrLater = errors.New("try again later")

// generation returns the child there is, and waits for one that is being started.
func (r *Runner) generation() (*generation, error) {
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
		g.p.close()
		select {
		case <-r.aborted:
		default:
			r.restarts++
			r.work.Go(func() { r.restart(g.number+1, c) })
		}
	}
	return exit.Fault || g.wire != nil || g.stalled.Load() > 0 && !exit.Paused || r.quiet.Load() >= maxQuiet
}

// restart starts another child, again and again until one is there.
func (r *Runner) restart(number int, c Crash) {
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
		g, err := r.spawnAgain(ctx, number)
		if err == nil {
			took := time.Since(began).Round(time.Millisecond)
			r.o.Log.Warn("the engine was restarted", "because", c.Exit.How, "after", took, "restarts", c.Restarts+1)
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
		least := firstDelay
		if errors.Is(err, ErrLater) {
			least = laterDelay
		}
		delay = min(max(2*delay, least), lastDelay)
	}
}

// spawnAgain starts a child that must be like the one before.
func (r *Runner) spawnAgain(ctx context.Context, number int) (*generation, error) {
	g, answer, known, err := r.spawn(ctx, number)
	if err == nil && g == nil {
		err = r.o.Refused(answer)
	}
	if err == nil && (known.Limits != r.limits || known.Model.Size != r.model.Size ||
		len(known.Model.Pieces) != len(r.model.Pieces)) {
		err = errors.New("the model has changed")
	}
	if err == nil {
		r.o.Restarted(answer)
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
		reply, g, err := r.tryCall(name, suspect, write)
		switch {
		case err == nil:
			in := &reader{b: reply}
			return in, in.failure()
		case g == nil || !errors.Is(err, errLost):
			return nil, err
		case r.lost(g, nil) && !errors.Is(err, errNotSent):
			if suspect {
				return nil, fmt.Errorf("%w: %s", engine.ErrCrashed, name)
			}
			suspect = true
		}
	}
}

// tryCall makes a call once. A suspect is alone with its child, which has answered since it was.
func (r *Runner) tryCall(name string, suspect bool, write func(*message)) ([]byte, *generation, error) {
	unlock := r.take(suspect)
	defer unlock()
	g, err := r.generation()
	if err != nil {
		return nil, nil, err
	}

	watch := time.AfterFunc(r.o.Stall, func() { g.stall(r.o.Stall) })
	defer watch.Stop()
	if suspect && !g.answers() {
		return nil, g, errNotSent
	}
	reply, err := g.call(name, write)
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
