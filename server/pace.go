package server

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"serve/fault"
)

const (
	// leastRate is how many bytes of a body a client must send in a second, beyond Options.ReadStall.
	leastRate = 1 << 10
	// writePart is how many bytes of an answer a client must accept within Options.WriteStall.
	writePart = 64 << 10
)

// pacedBody is a request's body that fails if its client does not send it. A client may send nothing for as
// long as the allowance, which is used up by waiting and grows with what arrives: time that the server itself
// takes does not count.
type pacedBody struct {
	io.ReadCloser
	ctrl      *http.ResponseController
	most      time.Duration // of the allowance
	allowance time.Duration

	mu    sync.Mutex
	ended error // what reading fails with; nil until end is called
	read  bool  // to its end
}

// pace limits how long the client of a request may take to send its body, and to accept its answer. The
// caller calls the function that it returns when the request has been answered.
func (s *Server) pace(w http.ResponseWriter, r *http.Request) (end func()) {
	// Not every ResponseWriter supports deadlines; httptest.ResponseRecorder does not.
	ctrl := http.NewResponseController(w)
	extend := func() { _ = ctrl.SetWriteDeadline(time.Now().Add(s.opts.WriteStall)) }
	extend()

	if r.Body != nil && r.Body != http.NoBody {
		// This is also how long net/http waits for a body that nobody reads, to reuse the connection.
		_ = ctrl.SetReadDeadline(time.Now().Add(s.opts.ReadStall))
		r.Body = &pacedBody{
			ReadCloser: r.Body,
			ctrl:       ctrl,
			most:       s.opts.ReadStall,
			allowance:  s.opts.ReadStall,
		}
	}
	return extend
}

// end has reading fail from now on, also where it waits for the client.
func (b *pacedBody) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read || b.ended != nil {
		return // the connection may be in another's hands
	}
	b.ended = err
	_ = b.ctrl.SetReadDeadline(time.Unix(1, 0))
}

// begin sets the deadline of a read, unless reading has ended.
func (b *pacedBody) begin(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended == nil {
		_ = b.ctrl.SetReadDeadline(now.Add(b.allowance))
	}
	return b.ended
}

// finish notes how a read has ended, and returns what end has made it fail with, if it has.
func (b *pacedBody) finish(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read = b.read || errors.Is(err, io.EOF)
	if err == nil || b.read {
		return nil
	}
	return b.ended
}

// Read implements io.Reader.
func (b *pacedBody) Read(p []byte) (int, error) {
	begun := time.Now()
	if err := b.begin(begun); err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	if ended := b.finish(err); ended != nil {
		return n, ended
	}

	waited := time.Since(begun)
	earned := time.Duration(n) * (time.Second / leastRate)
	b.allowance = min(b.allowance-waited+earned, b.most)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, fault.New(fault.BodyTooSlow, "",
			"The request body arrives too slowly: a client may pause for %v, and must send %d bytes a second.",
			b.most, leastRate)
	case err != nil:
		// The server now waits for the end of the connection, which has no deadline.
		_ = b.ctrl.SetReadDeadline(time.Time{})
	}
	return n, err
}
