package access

import (
	"cmp"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxGuests bounds how many tokens and how many accounts are remembered, and of how many the usage is kept.
const maxGuests = 1 << 16

// GuestOptions configure Guests.
type GuestOptions struct {
	Limits   Limits // of each guest
	Failures int    // wrong tokens from an address in a minute, DefaultFailures
	// UsageFile is the file, with the ending .usage, that keeps what guests have used today; "" for none.
	UsageFile string
	Log       *slog.Logger // slog.Default()
}

// Guests are principals that are not in a file: an issuer vouches for them with tokens. They are safe for concurrent
// use.
type Guests struct {
	limits   Limits
	failures failures
	store    usageStore

	mu       sync.Mutex
	tokens   map[hash]*Principal
	byID     map[string]*Principal // whose token expires last
	accounts map[string]*Account   // by the principal's id
	earlier  map[string]usage      // what the file had when it was read or written last

	complaint complaint // about the file; of the goroutine that writes it
	stop      chan struct{}
	ended     sync.WaitGroup
	once      sync.Once
}

// OpenGuests returns guests, of whom there are none yet. They are closed by Close.
func OpenGuests(o GuestOptions) *Guests {
	if o.Failures == 0 {
		o.Failures = DefaultFailures
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	g := &Guests{
		limits:   o.Limits,
		failures: failures{most: o.Failures, counts: map[netip.Prefix]*failing{}},
		store: usageStore{
			path: o.UsageFile,
			of:   "the subjects of tokens",
			log:  o.Log,
		},
		tokens:   map[hash]*Principal{},
		byID:     map[string]*Principal{},
		accounts: map[string]*Account{},
		stop:     make(chan struct{}),
	}
	if o.UsageFile == "" {
		return g
	}

	f, err := readUsage(o.UsageFile)
	if err != nil {
		o.Log.Error("what the subjects of tokens have used until now is not known", "error", err)
		f = &usageFile{}
	}
	g.earlier = f.Keys
	g.ended.Go(g.save)
	return g
}

// Close writes what the guests have used.
func (g *Guests) Close() error {
	g.once.Do(func() { close(g.stop) })
	g.ended.Wait()
	return g.saveUsage()
}

// save writes what the guests have used from time to time, until Close.
func (g *Guests) save() {
	ticker := time.NewTicker(tokensEvery)
	defer ticker.Stop()
	for {
		select {
		case <-g.stop:
			return
		case <-ticker.C:
			g.complaint.tell(g.store.log, "a problem with what the subjects of tokens have used", g.saveUsage())
		}
	}
}

// saveUsage writes what the guests have used, if the file lacks any of it. It has entries of today alone, also of
// guests that another server knows.
func (g *Guests) saveUsage() error {
	if g.store.path == "" {
		return nil
	}
	g.mu.Lock()
	accounts := maps.Clone(g.accounts)
	g.mu.Unlock()
	dirty := false
	for _, a := range accounts {
		dirty = dirty || a.hasUnsaved()
	}
	if !dirty {
		return nil
	}

	written, err := g.store.write(accounts, func(entries map[string]usage) { trimGuests(entries, time.Now()) })
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.earlier = written
	return nil
}

// trimGuests drops what guests have used on other days and, if there are too many, the entries of those who have used
// the least.
func trimGuests(entries map[string]usage, now time.Time) {
	today := dayOf(now)
	maps.DeleteFunc(entries, func(_ string, u usage) bool { return u.Day != today || u.Tokens == 0 })
	if len(entries) <= maxGuests {
		return
	}
	ids := slices.SortedFunc(maps.Keys(entries), func(a, b string) int {
		return cmp.Or(cmp.Compare(entries[b].Tokens, entries[a].Tokens), strings.Compare(a, b))
	})
	for _, id := range ids[maxGuests:] {
		delete(entries, id)
	}
}

// hasUnsaved reports whether the account has counted tokens that are in no file.
func (a *Account) hasUnsaved() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.unsaved != 0
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
		p.account.restore(g.earlier[who.ID])
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
