package engine

import (
	"errors"
	"fmt"
	"time"
)

// Why a request is not queued, or no longer: a BusyError has one of them.
var (
	ErrQueueFull = errors.New("the queue is full")
	ErrShare     = errors.New("the client has its share of the queue")
	ErrWait      = errors.New("the wait would be too long")
)

// BusyError says that a request cannot be taken now. It leaves nothing behind.
type BusyError struct {
	Reason   error         // ErrQueueFull, ErrShare or ErrWait
	Waiting  int           // requests in the queue
	Position int           // of those that the request would have had before it
	Expected time.Duration // how long the request would have waited, as far as is known
	Retry    time.Duration // after which there may be room, 0 if unknown
}

// Error implements error.
func (e *BusyError) Error() string {
	return fmt.Sprintf("%v: %d requests wait", e.Reason, e.Waiting)
}

// Unwrap gives the reason.
func (e *BusyError) Unwrap() error { return e.Reason }

// door bounds the queue, and says what a request has before it. The queue itself is the
// loop's; this is what callers must know before they may join it. It has no lock and no
// clock.
type door struct {
	maxRequests int
	maxTokens   int
	maxWait     time.Duration

	requests, tokens int
	clients          map[string]*line
	pace             pace
}

// line is what a client has in the queue.
type line struct {
	requests [3]int // by tier, flex first
	tokens   int
}

func (l *line) total() int { return l.requests[0] + l.requests[1] + l.requests[2] }

// entry is a request's place in the queue.
type entry struct {
	Caller
	tokens   int           // of its prompt, or of its inputs
	position int           // requests that were before it
	expected time.Duration // that it was expected to wait
	waiting  int           // pieces of its work that are in the queue; with none it has no place
}

// share is how many times what is left of the queue one client may have of it. A client
// alone may so fill four fifths; there is always room for one that has nothing there.
// (Dynamic thresholds: Choudhury and Hahne, 1998.)
const share = 4

// enter gives a request a place, or says why it gets none, as check does.
func (d *door) enter(e *entry, patience time.Duration, busy bool) error {
	if err := d.check(e, patience, busy); err != nil {
		return err
	}
	d.count(e, 1)
	return nil
}

// check says why a request would get no place now. Patience is how long it can wait, 0
// for the door's own limit; busy says that all slots are taken.
func (d *door) check(e *entry, patience time.Duration, busy bool) error {
	own := d.clients[e.Client]
	if own == nil {
		own = &line{}
	}
	e.position = d.before(own, e.Tier)
	if turns := e.position; busy || turns > 0 {
		if busy {
			turns++ // a slot must become free first
		}
		e.expected = d.pace.of(turns)
	}
	if patience == 0 || d.maxWait > 0 && d.maxWait < patience {
		patience = d.maxWait
	}
	switch {
	case d.requests >= d.maxRequests, d.requests > 0 && d.tokens+e.tokens > d.maxTokens:
		return d.refuse(ErrQueueFull, e)
	case own.total() > 0 && (own.total() >= share*(d.maxRequests-d.requests) || own.tokens > share*(d.maxTokens-d.tokens-e.tokens)):
		return d.refuse(ErrShare, e)
	case patience > 0 && e.expected > patience:
		return d.refuse(ErrWait, e)
	}
	return nil
}

// join adds work to what a request has in the queue. It takes no place of its own.
func (d *door) join(e *entry, work, tokens int) {
	if e.waiting > 0 {
		d.count(e, -1)
	}
	e.waiting, e.tokens = e.waiting+work, e.tokens+tokens
	d.count(e, 1)
}

// count adds a request to what waits, or takes it out.
func (d *door) count(e *entry, n int) {
	own := d.clients[e.Client]
	if own == nil {
		own = &line{}
		d.clients[e.Client] = own
	}
	own.requests[e.Tier+1] += n
	own.tokens += n * e.tokens
	d.requests += n
	d.tokens += n * e.tokens
	if own.total() == 0 {
		delete(d.clients, e.Client)
	}
}

// refuse says why a request is not taken, or kept. It may come again when half of those
// that wait will have left.
func (d *door) refuse(reason error, e *entry) error {
	return &BusyError{Reason: reason, Waiting: d.requests, Position: e.position, Expected: e.expected, Retry: d.pace.of(max(d.requests/2, 1))}
}

// before estimates how many requests a client's next one has before it: its own, as
// many of each other client that has as many, and all if it is flex.
func (d *door) before(own *line, t Tier) int {
	if t == TierFlex {
		return d.requests
	}
	mine := own.requests[TierPriority+1]
	if t == TierDefault {
		mine += own.requests[TierDefault+1]
	}
	n := mine
	for _, l := range d.clients {
		if l != own {
			n += min(mine, l.total()-l.requests[0])
		}
	}
	return n
}

// leave takes a piece of a request's work out, and with the last one the request. Begun
// says that it has left to be computed.
func (d *door) leave(e *entry, now time.Time, begun bool) {
	if e.waiting--; e.waiting > 0 {
		return
	}
	d.count(e, -1)
	if begun {
		d.pace.left(now)
	}
	if d.requests == 0 {
		d.pace.idle()
	}
}

// pace is how fast requests leave a queue that is never empty.
type pace struct {
	last        time.Time // when one left and others stayed; zero otherwise
	time, count float64   // seconds, and the requests that left in them; older ones count for less
}

// The pace remembers about so many requests, and says nothing before it has seen a few.
const (
	paceMemory = 32
	paceLeast  = 4
)

func (p *pace) left(now time.Time) {
	if !p.last.IsZero() {
		const keep = 1 - 1.0/paceMemory
		p.time, p.count = p.time*keep+now.Sub(p.last).Seconds(), p.count*keep+1
	}
	p.last = now
}

func (p *pace) idle() { p.last = time.Time{} }

// of returns how long n requests take to leave, 0 if that is not known.
func (p *pace) of(n int) time.Duration {
	if p.count < paceLeast {
		return 0
	}
	return time.Duration(p.time / p.count * float64(n) * float64(time.Second))
}
