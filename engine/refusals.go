package engine

import (
	"fmt"
	"hash/maphash"
	"sync"
	"time"
)

// How long, and how many, requests are remembered that ended a process when they were alone in it.
const (
	refusedFor  = 10 * time.Minute
	maxRefusals = 1024
)

// digest stands for what a tenant's client sent. It is salted by the process: it tells nothing to anybody, and nobody
// can make two texts that have the same one.
type digest [2]uint64

// refusals remembers the digests of what ended a process, or would have, when it was alone in it. The same again costs
// everybody a restart, or its time, once more; so it is refused for a while.
type refusals struct {
	seeds [2]maphash.Seed

	mu    sync.Mutex
	until map[digest]time.Time
}

func newRefusals() *refusals {
	return &refusals{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, until: map[digest]time.Time{}}
}

// digest returns the digest of a tenant's texts that are written one after another.
func (r *refusals) digest(tenant string, write func(*maphash.Hash)) (d digest) {
	for i, seed := range r.seeds {
		var h maphash.Hash
		h.SetSeed(seed)
		hashOf(tenant)(&h)
		write(&h)
		d[i] = h.Sum64()
	}
	return d
}

// add remembers what is written, for a tenant. When there are too many, the one that would be forgotten next is.
func (r *refusals) add(tenant string, write func(*maphash.Hash), now time.Time) {
	d := r.digest(tenant, write)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(now)
	if len(r.until) >= maxRefusals {
		first := d
		for other, until := range r.until {
			if first == d || until.Before(r.until[first]) {
				first = other
			}
		}
		delete(r.until, first)
	}
	r.until[d] = now.Add(refusedFor)
}

// check refuses what is remembered for a tenant: nobody learns from it what another one has sent. It costs nothing as
// long as nothing is remembered.
func (r *refusals) check(tenant string, write func(*maphash.Hash), now time.Time) error {
	r.mu.Lock()
	r.forget(now)
	none := len(r.until) == 0
	r.mu.Unlock()
	if none {
		return nil
	}

	d := r.digest(tenant, write)
	r.mu.Lock()
	defer r.mu.Unlock()
	until, found := r.until[d]
	if !found {
		return nil
	}
	minutes := int(until.Sub(now)/time.Minute) + 1
	return fmt.Errorf("%w: the same ended a process a while ago, and is refused for %d more minutes",
		ErrTooComplex, minutes)
}

// forget drops what is over. The caller holds the mutex.
func (r *refusals) forget(now time.Time) {
	for d, until := range r.until {
		if now.After(until) {
			delete(r.until, d)
		}
	}
}

// hashTokens writes tokens.
func hashTokens(h *maphash.Hash, tokens []Token) {
	var b [4]byte
	for _, t := range tokens {
		b[0] = byte(t)
		b[1] = byte(t >> 8)
		b[2] = byte(t >> 16)
		b[3] = byte(t >> 24)
		_, _ = h.Write(b[:])
	}
}
