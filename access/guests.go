package access

import (
	"maps"
	"net/netip"
	"sync"
	"time"
)

// maxGuests bounds how many tokens and how many accounts are remembered.
const maxGuests = 1 << 16

// Guests are principals that are not in a file: an issuer vouches for them with tokens. They are safe for concurrent
// use. What they have used is not kept when the process ends.
type Guests struct {
	limits   Limits
	failures failures

	mu       sync.Mutex
	tokens   map[hash]*Principal
	byID     map[string]*Principal // whose token expires last
	accounts map[string]*Account   // by the principal's id
}

// NewGuests returns guests, each of whom has the limits. After so many wrong tokens from an address in a minute others
// are refused; 0 stands for DefaultFailures.
func NewGuests(l Limits, failed int) *Guests {
	if failed == 0 {
		failed = DefaultFailures
	}
	return &Guests{
		limits:   l,
		failures: failures{most: failed, counts: map[netip.Prefix]*failing{}},
		tokens:   map[hash]*Principal{},
		byID:     map[string]*Principal{},
		accounts: map[string]*Account{},
	}
}

// Failure counts a token that is not accepted, and returns ErrUnknown, or after too many a FailuresError.
func (g *Guests) Failure(address string) error { return g.failures.failure(address) }

// Admit returns the principal of a token that has been verified. Who it is, what it may do and when the token expires
// is given. Its context ends then; the same token always has the same one.
func (g *Guests) Admit(token string, who Principal) *Principal {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	sum := hashOf(token)
	p := g.tokens[sum]
	if p == nil || !p.mayAs(&who) {
		p = g.add(sum, who, now)
	}
	p.account.touch(now)
	return p
}

// add remembers a principal until its token expires. The caller holds the mutex.
func (g *Guests) add(sum hash, who Principal, now time.Time) *Principal {
	g.makeRoom(now)
	p := &who
	p.hash = sum
	p.session = newSession()
	p.account = g.accounts[who.ID]
	if p.account == nil {
		p.account = NewAccount(g.limits)
		g.accounts[who.ID] = p.account
	}
	if old := g.tokens[sum]; old != nil {
		old.session.end(ErrEnded) // it may do other things than before
	}
	g.tokens[sum] = p
	if last := g.byID[who.ID]; last == nil || last.Expires.Before(p.Expires) || !last.mayAs(p) {
		g.byID[who.ID] = p
	}

	time.AfterFunc(p.Expires.Sub(now), func() {
		p.session.end(ErrEnded)
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.tokens[sum] == p {
			delete(g.tokens, sum)
		}
		if g.byID[who.ID] == p {
			delete(g.byID, who.ID)
		}
	})
	return p
}

// makeRoom forgets some tokens and accounts if there are too many: any tokens, which are verified again, and accounts
// that were not used today. The caller holds the mutex.
func (g *Guests) makeRoom(now time.Time) {
	for sum := range g.tokens {
		if len(g.tokens) < maxGuests {
			break
		}
		delete(g.tokens, sum)
	}
	if len(g.accounts) >= maxGuests {
		maps.DeleteFunc(g.accounts, func(_ string, a *Account) bool { return a.isIdle(now) })
	}
}

// isIdle reports whether an account has no request, and has used nothing of the day.
func (a *Account) isIdle(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running == 0 && dayOf(a.used) != dayOf(now)
}

// ByID returns the principal with an id, for work that it has left behind; nil if it has no token any more that is
// accepted.
func (g *Guests) ByID(id string) *Principal {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.byID[id]
	if p == nil || p.isExpired(time.Now()) {
		return nil
	}
	return p
}
