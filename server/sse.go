package server

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"serve/engine"
	"serve/server/wire"
)

// sse writes a response as server-sent events. Its headers go out with the first
// event, when nothing that a status could tell can fail any more.
type sse struct {
	ctx   context.Context
	w     http.ResponseWriter
	ctrl  *http.ResponseController
	opts  *Options
	mu    sync.Mutex // several prompts' answers share one response
	begun bool
	err   error // of the first write that failed; the client has gone
}

func (s *Server) newSSE(w http.ResponseWriter, r *http.Request) *sse {
	return &sse{ctx: r.Context(), w: w, ctrl: http.NewResponseController(w), opts: &s.opts}
}

func (e *sse) begin() {
	if e.begun {
		return
	}
	e.begun = true
	h := e.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no")
	e.w.WriteHeader(http.StatusOK)
}

// write sends events and waits until the kernel has them. A client that takes
// nothing for as long as Options.WriteStall is taken for gone.
func (e *sse) write(events []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return e.err
	}
	e.begin()
	// Not every writer knows deadlines; a test's recorder does not.
	_ = e.ctrl.SetWriteDeadline(time.Now().Add(e.opts.WriteStall))
	if _, e.err = e.w.Write(events); e.err == nil {
		e.err = e.ctrl.Flush()
	}
	return e.err
}

// close leaves the connection as it was: the next answer on it has its own time.
func (e *sse) close() { _ = e.ctrl.SetWriteDeadline(time.Time{}) }

const sseDone = "data: [DONE]\n\n"

// follow calls event with what a stream brings, until it ends, and sends a
// comment when it brings nothing for long, so that nothing between us and the
// client takes the connection for dead. It returns what ended the stream.
func (e *sse) follow(stream *engine.Stream, event func([]engine.Event) error) error {
	ping := time.NewTicker(e.opts.Heartbeat)
	defer ping.Stop()
	for {
		events, done, err := stream.Poll()
		if len(events) > 0 {
			if err := event(events); err != nil {
				return err
			}
			ping.Reset(e.opts.Heartbeat)
			continue
		}
		if done {
			return err
		}
		select {
		case <-stream.Ready():
		case <-ping.C:
			if err := e.write([]byte(wire.Ping)); err != nil {
				return err
			}
		case <-e.ctx.Done():
			return context.Cause(e.ctx)
		}
	}
}

// fail tells the client of an error after the status: as an event of its own.
func (e *sse) fail(err error) {
	gone := e.ctx.Err() != nil && !errors.Is(context.Cause(e.ctx), context.DeadlineExceeded)
	if gone || e.err != nil {
		return // nobody is there
	}
	failure := toFault(err, "")
	if !e.begun {
		writeError(e.w, failure)
		return
	}
	_ = e.write(wire.AppendEvent(nil, "", envelope(failure)))
}
