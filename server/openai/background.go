package openai

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"runtime/debug"
	"sync"

	"serve/engine"
	"serve/fault"
	"serve/server/wire"
	"serve/service"
)

// background keeps track of responses that are generated in the background.
type background struct {
	mu      sync.Mutex
	running map[string]*task
	stopped bool
	wg      sync.WaitGroup
}

// task is a background response.
type task struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// Causes of cancellation.
var (
	errCancelled = errors.New("canceled by a request")
	errStopping  = errors.New("the server is stopping")
)

// begin creates the context of a response. It has the deadline of the request's context and ends with its key, but is
// not canceled with it. begin returns false if the server is stopping.
func (b *background) begin(id string, asked context.Context) (context.Context, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return nil, false
	}
	if b.running == nil {
		b.running = map[string]*task{}
	}
	parent := context.WithoutCancel(asked)
	expire := context.CancelFunc(func() {})
	if deadline, ok := asked.Deadline(); ok {
		parent, expire = context.WithDeadline(parent, deadline)
	}
	ctx, cancel := context.WithCancelCause(parent)
	forget := func() bool { return true }
	if p := service.CallOf(asked).Principal; p != nil {
		forget = context.AfterFunc(p.Context(), func() { cancel(context.Cause(p.Context())) })
	}
	b.running[id] = &task{func(cause error) { cancel(cause); expire(); forget() }, make(chan struct{})}
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

// find returns a running response, or nil.
func (b *background) find(id string) *task {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.running[id]
}

// cancel cancels a response, if it is running, and waits for its end.
func (b *background) cancel(ctx context.Context, id string) {
	if t := b.find(id); t != nil {
		t.cancel(errCancelled)
		select {
		case <-t.done:
		case <-ctx.Done():
		}
	}
}

// wait returns when no response is running, or when ctx is done.
func (b *background) wait(ctx context.Context) { await(ctx, &b.wg) }

// await returns when nothing of a group runs any more, or when ctx is done.
func await(ctx context.Context, group *sync.WaitGroup) {
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// stop cancels all responses, and prevents new ones.
func (b *background) stop() {
	b.mu.Lock()
	b.stopped = true
	for _, t := range b.running {
		t.cancel(errStopping)
	}
	b.mu.Unlock()
	b.wg.Wait()
}

// inBackground starts a response in the background. It answers as soon as the request has been
// accepted. It releases the request's conversation.
func (api *API) inBackground(w http.ResponseWriter, r *http.Request, req *responsesRequest) *fault.Error {
	id := responsePrefix + wire.RandomID()
	ctx, ok := api.background.begin(id, r.Context())
	if !ok {
		api.conversations.release(req)
		return service.Fault(engine.ErrStopped, "")
	}

	done := service.CallOf(ctx).Detach()

	// Cancel if the client disconnects before the request has been accepted.
	stop := context.AfterFunc(r.Context(), func() { api.background.cancel(r.Context(), id) })
	accepted := make(chan *fault.Error, 2) // there may be a panic afterwards
	var queued response
	go func() {
		defer api.background.end(id)
		defer api.conversations.release(req)
		defer func() {
			if p := recover(); p != nil { // the middleware only recovers the request's own goroutine
				api.opts.Log.Error("panic", "path", "/responses", "panic", p, "stack", string(debug.Stack()))
				accepted <- service.Fault(errors.New("internal error"), "")
			}
		}()
		defer done(ctx)

		e := api.respondInBackground(ctx, w.Header(), req, id, func(r response) {
			queued = r
			accepted <- nil
		})
		if e != nil {
			_ = service.CallOf(ctx).Ends(e, nil)
			accepted <- e
		}
	}()

	e := <-accepted
	stop()
	if e != nil {
		return e
	}

	return wire.WriteJSON(w, queued)
}

// respondInBackground generates a response, and calls accepted when nothing but the generation itself
// can fail.
func (api *API) respondInBackground(
	ctx context.Context, h http.Header, req *responsesRequest, id string, accepted func(response),
) *fault.Error {
	reply, e := api.start(ctx, h, req)
	if e != nil {
		return e
	}
	defer reply.Close()

	a := newAnswer("", reply.Model, &req.params)
	a.id = id
	rw := newResponseWriter(a, req)
	if e := api.keep(ctx, req, rw.response); e != nil {
		return e
	}
	accepted(*rw.response)
	api.finishInBackground(ctx, req, rw, reply)
	return nil
}

// finishInBackground generates the rest of a response and stores it.
func (api *API) finishInBackground(
	ctx context.Context, req *responsesRequest, rw *responseWriter, reply *service.Reply,
) {
	rw.start()
	stream := reply.Streams[0]
	err := reply.Read(ctx, stream, rw.event)
	var failed *fault.Error
	switch cause := context.Cause(ctx); {
	case err == nil:
		rw.settle(stream.Usage())
	case errors.Is(cause, errCancelled):
		rw.response.Status = statusCancelled
	case errors.Is(cause, errStopping):
		failed = service.Fault(engine.ErrStopped, "")
	default:
		failed = service.Fault(err, "input")
	}
	if failed != nil {
		rw.fail(failed)
	}
	if e := endInBackground(ctx, rw.response, failed); e != nil {
		rw.fail(e)
	}

	if e := api.keep(ctx, req, rw.response); e != nil {
		api.opts.Log.Error("a background response is lost", "id", rw.response.ID, "error", e)
	}
}

// endInBackground records the end of a response before it is stored.
func endInBackground(ctx context.Context, r *response, failed *fault.Error) *fault.Error {
	call := service.CallOf(ctx)
	if call.Audit == nil {
		return nil
	}
	answer, err := json.Marshal(r)
	if err != nil {
		return service.Fault(err, "")
	}
	return call.Ends(failed, answer)
}
