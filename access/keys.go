package access

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options configure Keys.
type Options struct {
	File string
	// Required says that the file has to exist, and that clients need a key although it may have none.
	Required bool
	Failures int          // wrong keys from an address in a minute, DefaultFailures
	Log      *slog.Logger // slog.Default()
}

// checkEvery is how often the file is looked at.
const checkEvery = 250 * time.Millisecond

// Keys are the keys in a file, which is read again when it changes. They are safe for concurrent use.
type Keys struct {
	opts     Options
	failures failures
	table    atomic.Pointer[table]
	required atomic.Bool
	leave    atomic.Pointer[func(tenant string)]
	change   atomic.Pointer[func(Change)]

	// Of the goroutine that looks at the file.
	changed bool            // a principal has come or ended since tenants was made
	tenants map[string]bool // those that have a principal
	leaving map[string]bool // those whose last one has just ended
	listed  map[string]Key  // the file's keys, by their ids
	seen    stamp
	present bool                      // the file was there when it was looked at last
	broken  atomic.Pointer[time.Time] // when what was seen last could not be used; nil if it can be

	complaint complaint // about the file
	unsaved   complaint // about the file of usage; of the goroutine that writes it

	asked chan chan struct{} // to look at the file now, and to close the channel afterwards
	stop  chan struct{}
	ended sync.WaitGroup
	once  sync.Once
}

// table is the content of the file as it is looked up.
type table struct {
	principals map[hash]*Principal
	byID       map[string]*Principal // of the key itself, whichever secrets it has
	accounts   map[string]*Account   // by the key's id
	// byCertificate has the principals in byID that have no secret, by the name of their certificate.
	byCertificate map[string]*Principal
}

// Open reads the keys and follows the file's changes until Close.
func Open(o Options) (*Keys, error) {
	if o.Failures == 0 {
		o.Failures = DefaultFailures
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	k := &Keys{
		opts:     o,
		failures: failures{most: o.Failures, counts: map[netip.Prefix]*failing{}},
		asked:    make(chan chan struct{}),
		stop:     make(chan struct{}),
	}
	k.table.Store(&table{})
	k.required.Store(o.Required)

	// The stamp is taken first: a file that changes meanwhile is read again.
	seen, err := stampOf(o.File)
	if err == nil {
		err = k.load()
	}
	if err != nil && (o.Required || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	k.present = err == nil
	k.seen = seen
	k.part()
	k.ended.Go(k.watch)
	k.ended.Go(k.save)
	return k, nil
}

// Required reports whether clients need a key. Once they do they always will: it does not end with the last key.
func (k *Keys) Required() bool { return k.required.Load() }

// OnLeave has a function called with each tenant whose last key is revoked or expires. What it leaves is nobody's.
func (k *Keys) OnLeave(f func(tenant string)) { k.leave.Store(&f) }

// part tells of the tenants that have no key any more, and had none when it was called last: what their keys' end has
// ended is over by then, and leaves nothing behind any more.
func (k *Keys) part() {
	if !k.changed && len(k.leaving) == 0 {
		return
	}
	k.changed = false

	now := time.Now()
	tenants := map[string]bool{}
	for _, p := range k.table.Load().byID {
		if !p.isExpired(now) {
			tenants[p.Tenant] = true
		}
	}
	leaving := map[string]bool{}
	for tenant := range k.tenants {
		if !tenants[tenant] {
			leaving[tenant] = true
		}
	}

	left := k.leaving
	k.tenants = tenants
	k.leaving = leaving
	for tenant := range left {
		if f := k.leave.Load(); f != nil && !tenants[tenant] {
			(*f)(tenant)
		}
	}
}

// Close ends following the file, and writes what the keys have used.
func (k *Keys) Close() error {
	k.once.Do(func() { close(k.stop) })
	k.ended.Wait()
	return k.saveUsage(true)
}

// watch looks at the file and at what has expired, until Close.
func (k *Keys) watch() {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		var looked chan struct{} // nil for nobody who waits
		select {
		case <-k.stop:
			return
		case looked = <-k.asked:
		case <-ticker.C:
		}

		k.look()
		if looked != nil {
			close(looked)
		}
		k.expire()
		k.part()
	}
}

// save writes what the keys have used from time to time, until Close. It may wait for other processes that write it.
func (k *Keys) save() {
	ticker := time.NewTicker(tokensEvery)
	defer ticker.Stop()
	for {
		select {
		case <-k.stop:
			return
		case <-ticker.C:
			k.unsaved.tell(k.opts.Log, keysProblem, k.saveUsage(false))
		}
	}
}

// retryEvery is after what time a file that could not be used is read again although it has not changed: what has
// failed may have been the disk.
const retryEvery = time.Minute

// look reads the file again if it has changed. If it cannot be used, the keys stay what they were.
func (k *Keys) look() {
	now, err := stampOf(k.opts.File)
	if errors.Is(err, fs.ErrNotExist) && !k.present {
		return
	}
	isSame := err == nil && now == k.seen
	broken := k.broken.Load()
	if isSame && (broken == nil || time.Since(*broken) < retryEvery) {
		return
	}

	k.broken.Store(nil)
	if err == nil {
		k.present = true
		k.seen = now
		if err = k.load(); err != nil {
			failed := time.Now()
			k.broken.Store(&failed)
		}
	} else {
		k.seen = stamp{} // whatever comes is read
	}
	if err != nil {
		k.complaint.tell(k.opts.Log, keysProblem, fmt.Errorf("the API keys stay what they were: %w", err))
		return
	}
	k.complaint.tell(k.opts.Log, keysProblem, nil)
	k.opts.Log.Info("the API keys were read again", "keys", len(k.table.Load().accounts))
}

// complaint is the error about something that was logged last; "" for none.
type complaint string

const keysProblem = "a problem with the API keys"

// tell logs an error unless it is the same as before; nil is the end of it.
func (c *complaint) tell(log *slog.Logger, message string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != string(*c) {
		log.Error(message, "error", err)
	}
	*c = complaint(text)
}

// load reads the file and puts its keys in the place of those that there are. What is gone, or may do other things than
// before, ends.
func (k *Keys) load() error {
	f, err := readKeys(k.opts.File)
	if err != nil {
		return err
	}
	used, err := readUsage(k.opts.File)
	if err != nil {
		k.opts.Log.Error("what API keys have used until now is not known", "error", err)
		used = &usageFile{}
	}

	old := k.table.Load()
	next := &table{
		principals: map[hash]*Principal{},
		byID:       map[string]*Principal{},
		accounts:   map[string]*Account{},

		byCertificate: map[string]*Principal{},
	}
	for i := range f.Keys {
		next.add(old, &f.Keys[i], used.Keys[f.Keys[i].ID])
	}
	k.table.Store(next)
	k.changed = true
	k.compare(f.Keys)
	if len(f.Keys) > 0 {
		k.required.Store(true)
	}

	kept := map[*session]bool{}
	for p := range next.all() {
		kept[p.session] = true
	}
	for p := range old.all() {
		if !kept[p.session] {
			p.session.end(ErrEnded)
		}
	}
	return nil
}

// add adds a key, with what is known of it.
func (t *table) add(old *table, k *Key, u usage) {
	account := old.accounts[k.ID]
	if account == nil {
		account = NewAccount(k.Limits)
		account.restore(u)
	} else {
		account.setLimits(k.Limits)
	}
	t.accounts[k.ID] = account
	if !k.Revoked.IsZero() {
		return
	}

	own := &Principal{
		ID:      k.ID,
		Name:    k.Name,
		Tenant:  k.Tenant,
		Scopes:  k.Scopes,
		Models:  k.Models,
		Expires: k.Expires,
		account: account,
		whole:   k.isWhole(),

		Subject:     k.Certificate,
		certificate: k.Certificate,
	}
	own.session = old.byID[k.ID].sessionFor(own)
	t.byID[k.ID] = own
	if k.Certificate != "" {
		t.byCertificate[k.Certificate] = own
	}
	for _, s := range k.Secrets {
		p := *own
		p.hash = s.SHA256
		p.Expires = k.end(s)
		p.session = old.principals[s.SHA256].sessionFor(&p)
		t.principals[s.SHA256] = &p
	}
}

// all returns all principals, those of keys and those of secrets.
func (t *table) all() iter.Seq[*Principal] {
	return func(yield func(*Principal) bool) {
		for _, p := range t.byID {
			if !yield(p) {
				return
			}
		}
		for _, p := range t.principals {
			if !yield(p) {
				return
			}
		}
	}
}

// sessionFor returns the session of the principal that takes this one's place: the same if both may do the same.
// There may be none before.
func (p *Principal) sessionFor(next *Principal) *session {
	if p != nil && p.mayAs(next) && p.session.ctx.Err() == nil {
		return p.session
	}
	return newSession()
}

// mayAs reports whether two principals may do the same.
func (p *Principal) mayAs(q *Principal) bool {
	return p.ID == q.ID && p.Tenant == q.Tenant && p.Scopes == q.Scopes && slices.Equal(p.Models, q.Models) &&
		p.certificate == q.certificate
}

// expire ends what has expired.
func (k *Keys) expire() {
	now := time.Now()
	for p := range k.table.Load().all() {
		if p.isExpired(now) && p.Context().Err() == nil {
			if p.hash == (hash{}) {
				k.tell(Change{Kind: Expired, ID: p.ID, Name: p.Name, Tenant: p.Tenant})
			}
			p.session.end(ErrEnded)
			k.changed = true
		}
	}
}

// Authenticate returns the principal of a secret that has come from an address. The error is ErrUnknown, or after too
// many of these a FailuresError. It takes the same time for every secret of a length.
func (k *Keys) Authenticate(secret, address string) (*Principal, error) {
	if len(secret) > MaxSecret {
		secret = secret[:MaxSecret]
	}
	now := time.Now()
	sum := hashOf(secret)
	p := k.table.Load().principals[sum]
	if p == nil {
		p = nobody
	}
	same := subtle.ConstantTimeCompare(sum[:], p.hash[:]) == 1
	if !same || p == nobody || p.isExpired(now) {
		return nil, k.failures.failure(address)
	}
	p.account.touch(now)
	return p, nil
}

// ByCertificate returns the principal of a client whose certificate, which has been verified, has a name; nil if there
// is none.
func (k *Keys) ByCertificate(name string) *Principal {
	p := k.table.Load().byCertificate[name]
	now := time.Now()
	if p == nil || p.isExpired(now) {
		return nil
	}
	p.account.touch(now)
	return p
}

// nobody is compared with where there is no principal.
var nobody = &Principal{}

// ByID returns the principal of a key, for work that it has left behind; nil if there is none any more. It outlives the
// key's secrets: a rotation does not end it.
func (k *Keys) ByID(id string) *Principal {
	p := k.table.Load().byID[id]
	if p == nil || p.isExpired(time.Now()) {
		return nil
	}
	return p
}
