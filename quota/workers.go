package quota

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Workers bounds how many goroutines compute for requests at the same time, and how long for each. Clients that wait
// have turns one after the other, however many requests each has.
type Workers struct {
	budget time.Duration // CPU time of a request, 0 for any

	mu    sync.Mutex
	free  int
	lines []*line // of clients with requests that wait; the first is next
}

// line is the requests of a client that wait, in order of arrival.
type line struct {
	client string
	turns  []chan struct{} // closed when it is the request's turn
}

// NewWorkers returns n workers. A request may use the budget of CPU time, 0 for any.
func NewWorkers(n int, budget time.Duration) *Workers {
	return &Workers{budget: budget, free: max(n, 1)}
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
	used   time.Duration
}

// Wait takes a worker, and waits for a free one. The caller must call release when it has computed. The error is
// the cause of ctx's end.
func (w *Workers) Wait(ctx context.Context, client string) (release func(), err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	w.mu.Lock()
	if w.free > 0 {
		w.free--
		w.mu.Unlock()
		return sync.OnceFunc(w.next), nil
	}
	turn := w.join(client)
	w.mu.Unlock()

	select {
	case <-turn:
		return sync.OnceFunc(w.next), nil
	case <-ctx.Done():
		w.leave(client, turn)
		return nil, context.Cause(ctx)
	}
}

// join appends a request to the line of its client. The caller holds the mutex.
func (w *Workers) join(client string) chan struct{} {
	i := slices.IndexFunc(w.lines, func(l *line) bool { return l.client == client })
	if i < 0 {
		i = len(w.lines)
		w.lines = append(w.lines, &line{client: client})
	}
	turn := make(chan struct{})
	w.lines[i].turns = append(w.lines[i].turns, turn)
	return turn
}

// leave removes a request that waits no longer. If it just had its turn, another has it.
func (w *Workers) leave(client string, turn chan struct{}) {
	w.mu.Lock()
	for i, l := range w.lines {
		at := slices.Index(l.turns, turn)
		if l.client != client || at < 0 {
			continue
		}
		l.turns = slices.Delete(l.turns, at, at+1)
		if len(l.turns) == 0 {
			w.lines = slices.Delete(w.lines, i, i+1)
		}
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	w.next()
}

// next gives a worker to the first request of the client whose turn it is; the client then comes last.
func (w *Workers) next() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lines) == 0 {
		w.free++
		return
	}

	l := w.lines[0]
	close(l.turns[0])
	l.turns = l.turns[1:]
	w.lines = slices.Delete(w.lines, 0, 1)
	if len(l.turns) > 0 {
		w.lines = append(w.lines, l)
	}
}

// Do computes f on a worker. The context that f gets ends with ctx, or when the account has used its CPU time: f has
// to return soon then, with the context's cause, or with a result if it has one. Only f's own goroutine is measured.
func (w *Workers) Do(ctx context.Context, a *Account, f func(context.Context) error) error {
	release, err := w.Wait(ctx, a.Client)
	if err != nil {
		return err
	}
	defer release()
	if w.budget == 0 {
		return f(ctx)
	}

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	m := &meter{clock: threadClock(), limit: w.budget, used: a.used, end: cancel}
	m.start()
	defer func() { a.used = m.stop() }()
	return f(ctx)
}

// meter ends a context when a thread has used its CPU time.
type meter struct {
	clock func() time.Duration
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
	m.began = m.clock()
	m.timer = time.AfterFunc(max(m.limit-m.used, 0), m.check)
}

// check runs when the time might be used: a timer counts real time, in which a thread has as much CPU time at most.
func (m *meter) check() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		return
	}
	if left := m.limit - m.used - (m.clock() - m.began); left > 0 {
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
	return m.used + m.clock() - m.began
}
