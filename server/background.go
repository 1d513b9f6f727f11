package server

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/prompt"
)

// background holds the responses that run without a client.
type background struct {
	mu      sync.Mutex
	running map[string]*task
	stopped bool
	wg      sync.WaitGroup
}

// task is one of them.
type task struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// Why a background response may end early.
var (
	errCancelled = errors.New("cancelled by a request")
	errStopping  = errors.New("the server is stopping")
)

// begin makes the context of a response, which outlives that of the request which
// asked for it but has its deadline; false when the server stops.
func (b *background) begin(id string, asked context.Context) (context.Context, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return nil, false
	}
	if b.running == nil {
		b.running = map[string]*task{}
	}
	parent, expire := context.WithoutCancel(asked), context.CancelFunc(func() {})
	if deadline, ok := asked.Deadline(); ok {
		parent, expire = context.WithDeadline(parent, deadline)
	}
	ctx, cancel := context.WithCancelCause(parent)
	b.running[id] = &task{func(cause error) { cancel(cause); expire() }, make(chan struct{})}
	b.wg.Add(1)
	return ctx, true
}

func (b *background) end(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running[id].cancel(nil)
	close(b.running[id].done)
	delete(b.running, id)
	b.wg.Done()
}

// find returns a response that runs, or nil.
func (b *background) find(id string) *task {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.running[id]
}

// cancel ends a response, if it runs, and waits until it has.
func (b *background) cancel(ctx context.Context, id string) {
	if t := b.find(id); t != nil {
		t.cancel(errCancelled)
		select {
		case <-t.done:
		case <-ctx.Done():
		}
	}
}

// wait returns when none runs, or ctx is done.
func (b *background) wait(ctx context.Context) {
	done := make(chan struct{})
	go func() { b.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// stop cancels all and begins no more.
func (b *background) stop() {
	b.mu.Lock()
	b.stopped = true
	for _, t := range b.running {
		t.cancel(errStopping)
	}
	b.mu.Unlock()
	b.wg.Wait()
}

// headersOnly is where the headers of an answer go that nobody reads yet.
type headersOnly struct{ header http.Header }

func (h headersOnly) Header() http.Header         { return h.header }
func (h headersOnly) Write(b []byte) (int, error) { return len(b), nil }
func (h headersOnly) WriteHeader(int)             {}

// inBackground answers at once with a response that is still to come, after all that
// could be wrong with the request was checked.
func (s *Server) inBackground(w http.ResponseWriter, r *http.Request, req *responsesRequest) *fault.Error {
	id := "resp_" + randomID()
	ctx, ok := s.background.begin(id, r.Context())
	if !ok {
		return toFault(engine.ErrStopped, "")
	}
	exchangeOf(ctx).detached = true
	// A client that goes before the request is accepted wants no answer.
	stop := context.AfterFunc(r.Context(), func() { s.background.cancel(r.Context(), id) })
	accepted := make(chan *fault.Error, 2) // a panic may come after
	var queued response
	go func() {
		defer s.background.end(id)
		defer func() {
			if p := recover(); p != nil { // the request's own goroutine has gone
				s.opts.Log.Error("panic", "path", "/responses", "panic", p, "stack", stack())
				accepted <- toFault(errors.New("internal error"), "")
			}
		}()
		defer exchangeOf(ctx).traceWork(ctx)
		work := r.Clone(ctx)
		e := s.converse(headersOnly{w.Header()}, work, &req.conversationRequest, "input", func(model *pool.Lease, c *prompt.Conversation, stream *engine.Stream) *fault.Error {
			a := s.newAnswer("resp_", model, &req.params)
			a.id = id
			rw := newResponseWriter(a, req)
			if e := s.keep(ctx, req, rw.response); e != nil {
				return e
			}
			queued = *rw.response
			accepted <- nil
			s.finishInBackground(work, req, rw, c.Verifier(1), stream)
			return nil
		})
		if e != nil {
			accepted <- e
		}
	}()
	e := <-accepted
	stop()
	if e != nil {
		return e
	}
	return writeJSON(w, queued)
}

// finishInBackground keeps how a response ended. Nobody else can be told.
func (s *Server) finishInBackground(work *http.Request, req *responsesRequest, rw *responseWriter, verify func(*engine.Event) error, stream *engine.Stream) {
	err := readAll(work, stream, verify, rw.event)
	switch {
	case err == nil:
		rw.settle(stream.Usage())
	case errors.Is(context.Cause(work.Context()), errCancelled):
		rw.response.Status = "cancelled"
	case errors.Is(context.Cause(work.Context()), errStopping):
		rw.fail(toFault(engine.ErrStopped, ""))
	default:
		rw.fail(toFault(err, "input"))
	}
	if e := s.keep(work.Context(), req, rw.response); e != nil {
		s.opts.Log.Error("a response in the background is lost", "id", rw.response.ID, "error", e)
	}
}
