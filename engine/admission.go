package engine

import (
	"errors"
	"fmt"
	"maps"
	"time"
)

// Why a request is not queued, or no longer: a BusyError has one of them.
var (
	ErrQueueFull = errors.New("the queue is full")
	ErrShare     = errors.New("the client has its share of the queue")
	ErrWait      = errors.New("the wait would be too long")
)

// BusyError says that a request cannot be taken now. It leaves nothing behind. It speaks of the requests of the
// caller's tenant alone.
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

// admission bounds the queue, and estimates what a request has before it. The queue itself
// is the loop's; this is what is decided before a request may join it. It has no lock and no
// clock.
type admission struct {
	maxRequests int
	maxTokens   int
	maxWait     time.Duration

	requests, tokens int
	clients          map[clientKey]*clientUsage
	tenants          map[string]*tenantUsage
}

// clientKey identifies a client of a tenant.
type clientKey struct{ tenant, client string }

func (c *Caller) key() clientKey { return clientKey{c.Tenant, c.Client} }

// tenantUsage is what a tenant has in the queue, and how fast its requests have left it: all that is said about the
// queue to its clients, so that they learn nothing of those of others.
type tenantUsage struct {
	requests int
	pace     pace
}

// maxPaces is how many tenants' paces are remembered, besides those of tenants that have something in the queue.
const maxPaces = 1024

// tenant returns what a tenant has in the queue.
func (a *admission) tenant(name string) *tenantUsage {
	own := a.tenants[name]
	if own != nil {
		return own
	}
	if len(a.tenants) >= maxPaces {
		maps.DeleteFunc(a.tenants, func(_ string, t *tenantUsage) bool { return t.requests == 0 })
	}
	if a.tenants == nil {
		a.tenants = map[string]*tenantUsage{}
	}
	own = &tenantUsage{}
	a.tenants[name] = own
	return own
}

// clientUsage is what a client has in the queue.
type clientUsage struct {
	requests [3]int // by tier, flex first
	tokens   int
}

func (l *clientUsage) total() int { return l.requests[0] + l.requests[1] + l.requests[2] }

// queueEntry is a request's place in the queue.
type queueEntry struct {
	Caller
	tokens   int           // of all its prompts, or of its inputs
	position int           // requests of its tenant that were before it
	expected time.Duration // that it was expected to wait
	waiting  int           // pieces of its work that are in the queue; with none it has no place
}

// share is how many times what is left of the queue one client may have of it. A client
// alone may so fill four fifths; there is always room for one that has nothing there.
// (Dynamic thresholds: Choudhury and Hahne, 1998.)
const share = 4

// admit gives a request a place in the queue, or says why it gets none, as check does.
func (a *admission) admit(e *queueEntry, patience time.Duration, busy bool) error {
	if err := a.check(e, patience, busy); err != nil {
		return err
	}
	a.count(e, 1)
	return nil
}

// check says why a request would get no place now. Patience is how long it can wait, 0
// for the limit of the queue; busy says that all slots are taken.
func (a *admission) check(e *queueEntry, patience time.Duration, busy bool) error {
	own := a.clients[e.key()]
	if own == nil {
		own = &clientUsage{}
	}

	e.position = a.before(own, e)
	if turns := e.position; busy || turns > 0 {
		if busy {
			turns++ // a slot must become free first
		}
		e.expected = a.tenant(e.Tenant).pace.of(turns)
	}

	for _, limit := range []time.Duration{a.maxWait, e.Patience} {
		if patience == 0 || limit > 0 && limit < patience {
			patience = limit
		}
	}

	tokens := a.charge(e)
	switch {
	case a.requests >= a.maxRequests, a.tokens+tokens > a.maxTokens:
		return a.refuse(ErrQueueFull, e)
	case own.total() >= max(share*(a.maxRequests-a.requests), 1),
		own.total() > 0 && own.tokens > share*(a.maxTokens-a.tokens-tokens):
		return a.refuse(ErrShare, e)
	case patience > 0 && e.expected > patience:
		return a.refuse(ErrWait, e)
	}

	return nil
}

// charge is how many tokens of a request count. One that is longer than what a client may have leaves the rest of the
// queue to others, too.
func (a *admission) charge(e *queueEntry) int { return min(e.tokens, a.maxTokens*share/(share+1)) }

// extend adds work to a request that was admitted with the tokens of all its work. It takes no place of its own.
func (a *admission) extend(e *queueEntry, work int) {
	if e.waiting == 0 {
		a.count(e, 1) // what there was of it has begun
	}
	e.waiting += work
}

// count adds a request to what waits, or takes it out.
func (a *admission) count(e *queueEntry, n int) {
	own := a.clients[e.key()]
	if own == nil {
		if a.clients == nil {
			a.clients = map[clientKey]*clientUsage{}
		}
		own = &clientUsage{}
		a.clients[e.key()] = own
	}
	tokens := a.charge(e)
	own.requests[e.Tier+1] += n
	own.tokens += n * tokens
	a.tenant(e.Tenant).requests += n
	a.requests += n
	a.tokens += n * tokens
	if own.total() == 0 {
		delete(a.clients, e.key())
	}
}

// refuse says why a request is not taken, or kept. It may come again when half of those
// that wait will have left.
func (a *admission) refuse(reason error, e *queueEntry) error {
	tenant := a.tenant(e.Tenant)
	return &BusyError{
		Reason:   reason,
		Waiting:  tenant.requests,
		Position: e.position,
		Expected: e.expected,
		Retry:    tenant.pace.of(max(tenant.requests/2, 1)),
	}
}

// before estimates how many requests of its tenant a client's next one has before it: its own, as many of each other
// client that has as many, and all if it is flex. Those of other tenants are in the pace at which its tenant's leave.
func (a *admission) before(own *clientUsage, e *queueEntry) int {
	if e.Tier == TierFlex {
		return a.tenant(e.Tenant).requests
	}
	mine := own.requests[TierPriority+1]
	if e.Tier == TierDefault {
		mine += own.requests[TierDefault+1]
	}
	n := mine
	for key, l := range a.clients {
		if l != own && key.tenant == e.Tenant {
			n += min(mine, l.total()-l.requests[0])
		}
	}
	return n
}

// leave takes a piece of a request's work out, and with the last one the request. Begun
// says that it has left to be computed.
func (a *admission) leave(e *queueEntry, now time.Time, begun bool) {
	if e.waiting--; e.waiting > 0 {
		return
	}
	a.count(e, -1)
	tenant := a.tenant(e.Tenant)
	if begun {
		tenant.pace.left(now)
	}
	if tenant.requests == 0 {
		tenant.pace.idle()
	}
}

// pace is how fast a tenant's requests leave the queue while it has others there.
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
		p.time = p.time*keep + now.Sub(p.last).Seconds()
		p.count = p.count*keep + 1
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
