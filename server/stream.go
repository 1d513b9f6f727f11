package server

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"serve/access"
	"serve/engine"
	"serve/fault"
	"serve/server/dialect"
	"serve/service"
)

// stream implements dialect.StreamFunc. It is the only loop that sends streamed answers.
func (s *Server) stream(
	w http.ResponseWriter, r *http.Request, reply *service.Reply, enc dialect.Encoder,
) *fault.Error {
	out := &sender{
		ctx:   r.Context(),
		w:     w,
		ctrl:  http.NewResponseController(w),
		opts:  &s.opts,
		enc:   enc,
		reply: reply,
	}
	return out.send()
}

// sender sends one reply. The status and headers are sent with the first bytes, so that errors
// before that get a status of their own.
type sender struct {
	ctx   context.Context
	w     http.ResponseWriter
	ctrl  *http.ResponseController
	opts  *Options
	enc   dialect.Encoder
	reply *service.Reply

	mu    sync.Mutex // guards what follows: several streams share the response and the encoder
	buf   []byte
	begun bool
	err   error // of the first write that failed; the client is gone
}

// send sends the whole reply.
func (s *sender) send() *fault.Error {
	err := s.write(s.enc.Begin)
	if err == nil {
		err = s.followAll()
	}
	if err == nil {
		return s.end()
	}
	return s.fail(err)
}

// end sends the end of a complete answer, once it is recorded and stored.
func (s *sender) end() *fault.Error {
	last := s.enc.End(nil, s.reply.Usage())
	if e := service.CallOf(s.ctx).Ends(nil, last); e != nil {
		return s.fail(e)
	}
	if k, ok := s.enc.(dialect.Keeper); ok {
		if e := k.Keep(); e != nil {
			return s.fail(e)
		}
	}
	_ = s.write(func([]byte) []byte { return last })
	return nil
}

// followAll follows all streams concurrently and returns when the last one has ended.
func (s *sender) followAll() error {
	errs := make([]error, len(s.reply.Streams))
	var wg sync.WaitGroup
	for i, stream := range s.reply.Streams {
		wg.Go(func() { errs[i] = s.follow(i, stream) })
	}
	wg.Wait()

	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// follow sends the events of a stream until it ends, and a ping whenever there has been none for a
// while, so that proxies do not close the connection. It returns the error that ended the stream.
func (s *sender) follow(index int, stream *engine.Stream) error {
	ping := time.NewTicker(s.opts.Heartbeat)
	defer ping.Stop()
	for {
		events, done, err := stream.Poll()
		if len(events) > 0 {
			if err := s.events(index, events); err != nil {
				return err
			}
			ping.Reset(s.opts.Heartbeat)
			continue
		}
		if done {
			return err
		}

		select {
		case <-stream.Ready():
		case <-ping.C:
			if err := s.write(s.enc.Ping); err != nil {
				return err
			}
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}

// events sends events, up to the first one that fails verification.
func (s *sender) events(index int, events []engine.Event) error {
	var broken error
	err := s.write(func(b []byte) []byte {
		for i := range events {
			if broken = s.reply.Take(index, &events[i]); broken != nil {
				return b
			}
			b = s.enc.Delta(b, index, &events[i])
		}
		return b
	})
	return errors.Join(err, broken)
}

// write sends what the encoder appends and flushes it.
func (s *sender) write(encode func([]byte) []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}

	s.buf = encode(s.buf[:0])
	if len(s.buf) == 0 {
		return nil
	}

	if !s.begun {
		s.begun = true
		h := s.w.Header()
		h.Set("Content-Type", s.enc.ContentType())
		h.Set("X-Accel-Buffering", "no")
		s.w.WriteHeader(http.StatusOK)
	}

	if _, s.err = s.w.Write(s.buf); s.err == nil {
		s.err = s.ctrl.Flush()
	}

	return s.err
}

// fail ends the response with an error, which it returns if no status has been sent yet.
func (s *sender) fail(err error) *fault.Error {
	cause := context.Cause(s.ctx)
	if cause != nil && !errors.Is(cause, context.DeadlineExceeded) && !errors.Is(cause, access.ErrEnded) {
		return nil // the client is gone
	}
	e := service.Fault(err, "")
	if s.err == nil && !s.begun {
		return e
	}
	last := s.enc.Fail(nil, e)
	if unrecorded := service.CallOf(s.ctx).Ends(e, last); unrecorded != nil {
		last = s.enc.Fail(nil, unrecorded)
	}
	if k, ok := s.enc.(dialect.Keeper); ok {
		if e := k.Keep(); e != nil {
			s.opts.Log.Error("a failed answer is not stored", "error", e)
		}
	}
	_ = s.write(func([]byte) []byte { return last })
	return nil
}
