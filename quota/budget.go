// Package quota bounds what requests may use of this process at the same time, in all and by client: memory for
// their bodies, and processors.
package quota

import (
	"fmt"
	"sync"
)

// share is how many times what is left of a budget one client may have of it. A client alone may so fill four
// fifths, and there is always room for one that has nothing. (Dynamic thresholds: Choudhury and Hahne, 1998.)
const share = 4

// Limits are the sizes of a Budget.
type Limits struct {
	Readers int   // requests whose bodies are read at the same time
	Bytes   int64 // of all bodies in memory
}

// Budget bounds the requests that are being read, and the memory that they take.
type Budget struct {
	limits Limits

	mu      sync.Mutex
	used    use
	clients map[string]*use
}

// use is what requests have of a budget.
type use struct {
	requests int // all that have a reservation
	readers  int64
	bytes    int64
}

// NewBudget returns a budget of which nothing is used.
func NewBudget(l Limits) *Budget { return &Budget{limits: l, clients: map[string]*use{}} }

// Client is who asks for a part of a budget.
type Client struct {
	Name string
	Most int64 // bytes that it may have; 0 for no limit of its own
}

// ExceededError says that a request cannot have what it asks for.
type ExceededError struct {
	What  string // "requests being read" or "bytes of request bodies"
	Own   bool   // the client itself has its share of it; otherwise others have the rest
	Given bool   // somebody has given the client a limit of its own, which it has reached
	Never bool   // it would not get so much alone
	Used  int64  // by the client if Own, otherwise by all
	Limit int64  // of all clients together; what one request may have if Never
}

// Error implements error.
func (e *ExceededError) Error() string {
	return fmt.Sprintf("%d of %d %s are used", e.Used, e.Limit, e.What)
}

// Begin takes a reading place and reserves size bytes for a request of a client. The caller must call Done when the
// body has been read, and Release when its memory is free.
func (b *Budget) Begin(client Client, size int64) (*Reservation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	own := b.clients[client.Name]
	if own == nil {
		own = &use{}
	}

	err := exceeds("requests being read", own.readers, b.used.readers, 1, int64(b.limits.Readers))
	if err == nil {
		err = b.exceedsBytes(client, own.bytes, b.used.bytes, size)
	}
	if err != nil {
		return nil, err
	}

	b.clients[client.Name] = own
	for _, u := range []*use{own, &b.used} {
		u.requests++
		u.readers++
		u.bytes += size
	}
	return &Reservation{budget: b, client: client, reading: true, bytes: size}, nil
}

// exceedsBytes returns an ExceededError if a client, which has some bytes, cannot have size more. The caller holds the
// mutex.
func (b *Budget) exceedsBytes(client Client, own, used, size int64) error {
	const what = "bytes of request bodies"
	if client.Most > 0 && own+size > client.Most {
		return &ExceededError{
			What:  what,
			Own:   true,
			Given: true,
			Never: size > client.Most,
			Used:  own,
			Limit: client.Most,
		}
	}
	return exceeds(what, own, used, size, b.limits.Bytes)
}

// exceeds returns an ExceededError if a client cannot have n more of something.
func exceeds(what string, own, used, n, limit int64) error {
	switch {
	case n > share*limit/(share+1):
		return &ExceededError{What: what, Own: true, Never: true, Used: n, Limit: share * limit / (share + 1)}
	case used+n > limit:
		return &ExceededError{What: what, Used: used, Limit: limit}
	case own > 0 && own+n > share*(limit-used-n):
		return &ExceededError{What: what, Own: true, Used: own, Limit: limit}
	}
	return nil
}

// Used returns how many requests have something of the budget, how many of them are being read, and the bytes
// that are reserved.
func (b *Budget) Used() (requests, readers int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used.requests, int(b.used.readers), b.used.bytes
}

// Reservation is a request's part of a Budget. Its methods may be called by any goroutine, also after Release.
type Reservation struct {
	budget *Budget
	client Client

	// Under budget.mu:
	reading  bool
	bytes    int64
	released bool
}

// Grow reserves more, if the request has less than size bytes.
func (r *Reservation) Grow(size int64) error {
	b := r.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	n := size - r.bytes
	if n <= 0 || r.released {
		return nil
	}

	own := b.clients[r.client.Name]
	others := own.bytes - r.bytes
	if err := b.exceedsBytes(r.client, others, b.used.bytes-r.bytes, size); err != nil {
		return err
	}
	own.bytes += n
	b.used.bytes += n
	r.bytes = size
	return nil
}

// Done gives the reading place back.
func (r *Reservation) Done() {
	r.budget.mu.Lock()
	defer r.budget.mu.Unlock()
	r.done()
}

func (r *Reservation) done() {
	if !r.reading {
		return
	}
	r.reading = false
	r.budget.clients[r.client.Name].readers--
	r.budget.used.readers--
}

// Release gives everything back.
func (r *Reservation) Release() {
	b := r.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.released {
		return
	}

	r.done()
	r.released = true
	own := b.clients[r.client.Name]
	for _, u := range []*use{own, &b.used} {
		u.requests--
		u.bytes -= r.bytes
	}
	if own.requests == 0 {
		delete(b.clients, r.client.Name)
	}
}
