package quota

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"serve/thread"
)

// Quantum is how long a call computes before it is a long one, and before it makes way for clients that have had less.
const Quantum = 5 * time.Millisecond

// leastCharge is what a call counts for at least.
const leastCharge = 100 * time.Microsecond

// Workers bounds how many goroutines compute for requests at the same time, and how long for each. Which of those that
// wait is next is decided by Shares. Long calls have one worker less than there are, if there are several: so one that
// is not long waits for others like it only, whatever they do.
type Workers struct {
	budget time.Duration // CPU time of a request, 0 for any
	shares *Shares       // whose mutex guards what follows
	free   int
	slots  int // free for long calls
	line   []*Turn
}

// NewWorkers returns n workers, whose time is divided by shares; nil for shares of their own. A request may use the
// budget of CPU time, 0 for any.
func NewWorkers(n int, budget time.Duration, shares *Shares) *Workers {
	if shares == nil {
		shares = &Shares{}
	}
	n = max(n, 1)
	return &Workers{budget: budget, shares: shares, free: n, slots: max(n-1, 1)}
}

// Turn is a call's use of a worker.
type Turn struct {
	workers *Workers
	usage   *usage

	// Under the mutex of the shares:
	long  bool
	holds bool // a worker
	ended bool

	began time.Time     // to compute, this time
	ready chan struct{} // closed when it has got a worker

	thread *thread.Thread // that computes nothing else; nil if the call has none
}

// Begin takes a worker for a call of a client, and waits for one. Long says that the call is known to take longer than
// the Quantum. The caller must call End when it has computed. The error is the cause of ctx's end.
func (w *Workers) Begin(ctx context.Context, client string, long bool) (*Turn, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}

	w.shares.mu.Lock()
	t := &Turn{
		workers: w,
		usage:   w.shares.enter(client),
		long:    long,
	}
	w.wait(t)
	w.shares.mu.Unlock()

	if err := t.await(ctx); err != nil {
		t.End()
		return nil, err
	}
	return t, nil
}

// wait puts a turn in line. The caller holds the mutex, as do those of the other methods that are not exported.
func (w *Workers) wait(t *Turn) {
	t.ready = make(chan struct{})
	w.line = append(w.line, t)
	w.serve()
}

// await returns when the turn has a worker, or with the cause of ctx's end; then it may have one or not. The caller
// does not hold the mutex.
func (t *Turn) await(ctx context.Context) error {
	select {
	case <-t.ready:
		return nil
	default:
	}
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// serve gives free workers to the turns that come next.
func (w *Workers) serve() {
	for {
		t := w.next()
		if t == nil {
			return
		}
		w.line = slices.DeleteFunc(w.line, func(other *Turn) bool { return other == t })
		w.free--
		if t.long {
			w.slots--
		}

		w.shares.served = max(w.shares.served, t.usage.used)
		t.usage.working++
		t.began = time.Now()
		t.holds = true
		close(t.ready)
	}
}

// next returns the turn that is served next; nil if none can be.
func (w *Workers) next() (first *Turn) {
	if w.free <= 0 {
		return nil
	}
	for _, t := range w.line {
		if t.long && w.slots <= 0 {
			continue
		}
		if first == nil || t.usage.count() < first.usage.count() {
			first = t
		}
	}
	return first
}

// leaves takes the worker of a turn, and charges the time that it had it.
func (w *Workers) leaves(t *Turn) {
	t.usage.used += max(time.Since(t.began), leastCharge)
	t.usage.working--
	t.holds = false
	w.free++
	if t.long {
		w.slots++
	}
}

// Pause is called now and then by a call while it computes. When it has computed for the Quantum it makes way for
// clients that have had less, and, as it is a long call then, for other long ones if there are too many. If ctx ends
// meanwhile, Pause returns without a worker; the call has to end then.
func (t *Turn) Pause(ctx context.Context) {
	if time.Since(t.began) < Quantum {
		return
	}
	t.lower()
	if t.yield() {
		_ = t.await(ctx) // the call looks at ctx by itself
	}
}

// yield gives back the worker and waits in line, unless the turn may go on.
func (t *Turn) yield() bool {
	w := t.workers
	w.shares.mu.Lock()
	defer w.shares.mu.Unlock()
	if !t.holds {
		return false
	}

	w.leaves(t)
	t.long = true
	w.wait(t)
	return !t.holds
}

// End gives back the worker. It may be called again.
func (t *Turn) End() {
	w := t.workers
	w.shares.mu.Lock()
	defer w.shares.mu.Unlock()
	if t.ended {
		return
	}
	t.ended = true

	if t.holds {
		w.leaves(t)
	}
	w.line = slices.DeleteFunc(w.line, func(other *Turn) bool { return other == t })
	w.shares.leave(t.usage)
	w.serve()
}

type turnKey struct{}

// Pause has a call that runs in Workers.Do make way for others; see Turn.Pause. Loops over what a client has sent call
// it with the context that they got, every millisecond or more often.
func Pause(ctx context.Context) {
	if t, ok := ctx.Value(turnKey{}).(*Turn); ok {
		t.Pause(ctx)
	}
}

// TimeError is the cause of the end of a context whose request has used its CPU time.
type TimeError struct{ Limit time.Duration }

// Error implements error.
func (e *TimeError) Error() string {
	return fmt.Sprintf("the request has used its CPU time: %v", e.Limit)
}

// Account is what a request has used of its CPU time. The zero value is that of a new request. It is used by one
// goroutine at a time.
type Account struct {
	Client string
	Long   bool // it is known to take longer than the Quantum
	used   time.Duration
}

// Do computes f on a worker. The context that f gets ends with ctx, or when the account has used its CPU time: f has
// to return soon then, with the context's cause, or with a result if it has one. Only f's own goroutine is measured.
// If f computes for long, whatever else the machine has to do comes first: other requests, and above all the engines.
// If f panics, so does Do, with an error that has f's stack.
func (w *Workers) Do(ctx context.Context, a *Account, f func(context.Context) error) error {
	turn, err := w.Begin(ctx, a.Client, a.Long)
	if err != nil {
		return err
	}
	defer turn.End()

	thread.Run(func(own *thread.Thread) {
		turn.thread = own
		err = turn.compute(ctx, a, f)
	})
	return err
}

// compute calls f on the turn's thread.
func (t *Turn) compute(ctx context.Context, a *Account, f func(context.Context) error) error {
	if a.Long {
		t.lower()
	}
	ctx = context.WithValue(ctx, turnKey{}, t)
	if t.workers.budget == 0 {
		return f(ctx)
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m := &meter{clock: thread.CPUTime(), limit: t.workers.budget, used: a.used, end: cancel}
	m.start()
	defer func() { a.used = m.stop() }()
	return f(ctx)
}

// lower has the thread of a long call give way to all others, if it is the turn's own.
func (t *Turn) lower() {
	if t.thread != nil {
		t.thread.LowerPriority()
	}
}

// meter ends a context when a thread has used its CPU time.
type meter struct {
	clock thread.Clock
	limit time.Duration
	end   context.CancelCauseFunc

	mu    sync.Mutex
	used  time.Duration // before it began
	began time.Duration
	timer *time.Timer
	over  bool // the thread may compute something else
}

func (m *meter) start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.began = m.clock.Read()
	m.timer = time.AfterFunc(max(m.limit-m.used, 0), m.check)
}

// check runs when the time might be used: a timer counts real time, in which a thread has as much CPU time at most.
func (m *meter) check() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		return
	}
	if left := m.limit - m.used - (m.clock.Read() - m.began); left > 0 {
		m.timer.Reset(max(left, time.Millisecond))
		return
	}
	m.end(&TimeError{m.limit})
}

// stop returns what has been used.
func (m *meter) stop() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.over = true
	m.timer.Stop()
	return m.used + m.clock.Read() - m.began
}
