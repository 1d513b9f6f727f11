package access

import (
	"maps"
	"net/netip"
	"sync"
	"time"

	"serve/bind"
)

// Bounds of what is remembered about wrong keys.
const (
	// DefaultFailures is how many wrong keys may come from an address in a minute.
	DefaultFailures = 30
	failureTime     = time.Minute
	maxFailing      = 4096 // addresses
)

// FailuresError says that too many wrong keys have come from an address.
type FailuresError struct{ Retry time.Duration }

// Error implements error.
func (e *FailuresError) Error() string { return "too many wrong keys came from this address" }

// failures counts wrong keys by address, each over a minute from the first.
type failures struct {
	most int

	mu     sync.Mutex
	counts map[netip.Prefix]*failing
	swept  time.Time // when those were forgotten whose time is over
}

type failing struct {
	since time.Time
	n     int
}

// failure counts a wrong key, and returns what its client is told.
func (f *failures) failure(address string) error {
	if err := f.add(address); err != nil {
		return err
	}
	return ErrUnknown
}

// network returns what counts as one address; all that are none count together.
func network(address string) netip.Prefix {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	return bind.Network(ip)
}

// add counts a wrong key. The error is a FailuresError if there were too many.
func (f *failures) add(address string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	from := network(address)
	c := f.counts[from]
	if c == nil || now.Sub(c.since) >= failureTime {
		if c == nil {
			f.makeRoom(now)
		}
		c = &failing{since: now}
		f.counts[from] = c
	}
	c.n++
	if c.n > f.most {
		return &FailuresError{Retry: failureTime - now.Sub(c.since)}
	}
	return nil
}

// makeRoom forgets addresses if there are too many: those whose time is over, and else any.
func (f *failures) makeRoom(now time.Time) {
	if len(f.counts) < maxFailing {
		return
	}
	if now.Sub(f.swept) >= time.Second {
		f.swept = now
		maps.DeleteFunc(f.counts, func(_ netip.Prefix, c *failing) bool { return now.Sub(c.since) >= failureTime })
	}
	for from := range f.counts {
		if len(f.counts) < maxFailing {
			return
		}
		delete(f.counts, from)
	}
}
