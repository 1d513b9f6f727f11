package service

import (
	"context"
	"slices"

	"serve/fault"
	"serve/pool"
	"serve/quota"
	"serve/thread"
)

// computing is the key of contexts that Compute has made.
type computing struct{}

// Compute runs f, which computes something from what the context's client has sent, on one of the server's workers.
// The context that f gets ends when the client has gone or the request has used its CPU time; then f has to return
// soon, and Compute returns why. Everything that takes longer the more a client sends has to run in it.
func Compute(ctx context.Context, f func(context.Context) *fault.Error) *fault.Error {
	call := CallOf(ctx)
	if call.Workers == nil || ctx.Value(computing{}) != nil {
		return f(ctx)
	}

	call.account.Client = call.Client
	call.account.Long = call.size > longBody
	var e *fault.Error
	err := call.Workers.Do(ctx, &call.account, func(ctx context.Context) error {
		ctx = context.WithValue(ctx, computing{}, true)
		e = f(ctx)
		return context.Cause(ctx)
	})
	if err != nil {
		return Fault(err, "")
	}
	return e
}

// Pause has what Compute runs make way for other requests, if it has computed for long and they have had less. Loops
// that have no steps.Budget, which does it by itself, call it every millisecond or more often.
func Pause(ctx context.Context) { quota.Pause(ctx) }

// Late calls f, which computes something for a request that has been answered. If the request is a large one, all that
// others want comes first.
func Late(ctx context.Context, f func()) {
	if CallOf(ctx).size <= longBody {
		f()
		return
	}
	thread.RunLast(f)
}

// Bodies from which on a request is known to take longer than others may have to wait for it (quota.Quantum), in bytes:
// to decode, and to render and tokenize. C++ splits 5 MB/s of common text, and a tenth of that of the worst.
const (
	longBody = 64 << 10
	longText = 16 << 10
)

// Ask calls f, which has a model render or tokenize what the context's client has sent, on one of the model's workers.
// It fails as f does, or when ctx is done before there is one.
func (s *Service) Ask(ctx context.Context, m *pool.Lease, f func() error) error {
	return s.ask(ctx, m, func(*quota.Turn) error { return f() })
}

func (s *Service) ask(ctx context.Context, m *pool.Lease, f func(*quota.Turn) error) error {
	call := CallOf(ctx)
	turn, err := s.workersOf(m).Begin(ctx, call.Client, call.size > longText)
	if err != nil {
		return err
	}
	defer turn.End()
	return f(turn)
}

// AskEach has f read one of n texts after the other, until the request ends. Between them it makes way for others.
func (s *Service) AskEach(ctx context.Context, m *pool.Lease, n int, f func(i int) error) error {
	return s.ask(ctx, m, func(turn *quota.Turn) error {
		for i := range n {
			turn.Pause(ctx)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := f(i); err != nil {
				return err
			}
		}
		return nil
	})
}

// workersOf returns the workers that render and tokenize for a model. Each model has its own: one whose engine does
// not answer keeps nobody else's requests waiting.
func (s *Service) workersOf(m *pool.Lease) *quota.Workers {
	w, ok := s.workers.Load(m.ID)
	if !ok {
		w, _ = s.workers.LoadOrStore(m.ID, quota.NewWorkers(s.opts.Workers, 0, s.opts.Shares))
	}
	return w.(*quota.Workers)
}

// Admits refuses a request before it is read any further than to its model's name: if there is no such model, or if
// its queue has no place.
func (s *Service) Admits(ctx context.Context, name string) *fault.Error {
	m, e := s.Find(ctx, name)
	if e != nil {
		return e
	}
	if loaded, ok := s.opts.Pool.Loaded(m); ok {
		if err := loaded.Admits(ctx, CallOf(ctx).caller(0)); err != nil {
			return Fault(err, "")
		}
	}
	return nil
}

// Sees reports whether a model may read pictures: it does, or it has not been loaded yet.
func (s *Service) Sees(ctx context.Context, name string) bool {
	m, e := s.Find(ctx, name)
	return e == nil && s.sees(m)
}

// SeesAny reports whether a model of the server may read pictures.
func (s *Service) SeesAny() bool {
	return s.opts.Library != nil || slices.ContainsFunc(s.All(), s.sees)
}

func (s *Service) sees(m *pool.Model) bool {
	if loaded, ok := s.opts.Pool.Loaded(m); ok {
		s.vision.Store(m, loaded.Model().Vision)
	}
	sees, known := s.vision.Load(m)
	return !known || sees.(bool)
}
