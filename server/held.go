package server

import "net/http"

// What an audited exchange has not sent yet. An answer that is sent whole is held until it is recorded; of a larger one,
// its last byte. A handler that flushes says itself when its answer ends (service.Call.Ends).

// maxHeld is how much of an answer is held as a whole, in bytes. Then it can still become an error.
const maxHeld = 64 << 10

// keep holds what was written, and sends what is too much.
func (x *exchange) keep(b []byte) (int, error) {
	x.held = append(x.held, b...)
	if len(x.held) <= maxHeld {
		return len(b), nil
	}
	last := len(x.held) - 1
	if _, err := x.send(x.held[:last]); err != nil {
		return 0, err
	}
	x.held[0] = x.held[last]
	x.held = x.held[:1]
	return len(b), nil
}

// release sends what is held, and holds nothing more.
func (x *exchange) release() {
	x.hold = false
	if len(x.held) > 0 {
		_, _ = x.send(x.held)
		x.held = nil
	}
}

// discard drops an answer of which nothing was sent, so that there can be another. It reports whether that is possible.
func (x *exchange) discard() bool {
	if x.Written() {
		return false
	}
	x.held = nil
	x.failed = nil
	for _, name := range []string{"Content-Length", "Content-Type", "Content-Encoding", "Location"} {
		x.Header().Del(name)
	}
	return true
}

// bytes returns the size of the body so far.
func (x *exchange) bytes() int64 { return int64(max(x.Size(), 0) + len(x.held)) }

// Flush sends what was written until now. It implements http.Flusher.
func (x *exchange) Flush() {
	if len(x.held) > 0 {
		_, _ = x.send(x.held)
		x.held = x.held[:0]
	}
	x.ResponseWriter.Flush()
}

var _ http.Flusher = (*exchange)(nil)
