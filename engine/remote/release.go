package remote

import "sync"

// Bytes of calls after which a child gives memory back: when no call runs, and in any case.
const (
	releaseIdle = 1 << 20
	releaseBusy = 64 << 20
)

// releaser gives memory that large calls have freed back to the system. C's allocator keeps what lies between pieces
// that are in use, for each thread, and seldom finds a place for the next large call there: without this, a process
// whose calls come several at a time grows for hours.
type releaser struct {
	release func() // nil: nothing is given back

	mu      sync.Mutex
	running int // calls
	bytes   int // of calls since the last time
}

// begin counts a call of so many bytes.
func (r *releaser) begin(bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running++
	r.bytes += bytes
}

// end counts that a call has ended, with an answer of so many bytes, and releases memory when it is time.
func (r *releaser) end(bytes int) {
	r.mu.Lock()
	r.running--
	r.bytes += bytes
	due := r.bytes >= releaseBusy || r.running == 0 && r.bytes >= releaseIdle
	if due {
		r.bytes = 0
	}
	r.mu.Unlock()

	if due && r.release != nil {
		r.release()
	}
}
