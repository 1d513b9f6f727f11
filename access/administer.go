package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrOpen means that a server that requires no keys has none managed by requests: whoever reaches it could make one
// for the time when it does.
var ErrOpen = errors.New("the server requires no keys")

// BeyondError says that a key may not manage another one, because that one has a right that it has not.
type BeyondError struct{ Right string }

// Error implements error.
func (e *BeyondError) Error() string {
	return "a key manages only keys that may do no more than it may itself: it lacks " + e.Right
}

// isWhole reports whether a key with the scope admin administers all tenants: it has one of its own, as every key that
// was not made for another tenant.
func (k *Key) isWhole() bool { return k.Name == k.Tenant }

// Administers says whose keys the principal administers: those of all tenants, of its own, or none. One whose key is in
// no file administers all if nobody has said which tenant is its own.
func (p *Principal) Administers() (all, own bool) {
	own = p.May(Admin)
	return own && (p.whole || p.Tenant == p.ID), own
}

// sees reports whether a key is one of those whose keys the principal administers.
func (p *Principal) sees(k *Key) bool {
	all, own := p.Administers()
	return all || own && k.Tenant == p.Tenant
}

// lacks returns what a principal lacks to make, rotate or revoke a key, "" for nothing. To rotate a key is to get it,
// so all three need the same: nothing that the key may do may be more than the principal may. Limits have no part of
// them that could be given away, since several keys would together have more.
func (p *Principal) lacks(k *Key) string {
	all, own := p.Administers()
	switch {
	case !own:
		return "the scope admin"
	case !all && k.Tenant != p.Tenant:
		return "the tenant " + k.Tenant
	case !all && k.Scopes&Admin != 0 && k.isWhole():
		return "the right to administer all tenants"
	case k.Scopes&^p.Scopes != 0:
		return "the scope " + (k.Scopes &^ p.Scopes).String()
	case p.account.Limits() != Limits{}:
		return "unlimited use"
	case len(p.Models) > 0 && len(k.Models) == 0:
		return "other models than " + strings.Join(p.Models, ", ")
	case !p.Expires.IsZero() && (k.Expires.IsZero() || k.Expires.After(p.Expires)):
		return "time: it ends at " + p.Expires.UTC().Format(time.RFC3339)
	}

	for _, m := range k.Models {
		if len(p.Models) > 0 && !slices.Contains(p.Models, m) {
			return "the model " + m
		}
	}

	return ""
}

// author is the principal on whose behalf the file is changed.
type author struct {
	*Principal
	filed bool // its own key is in the file; others vouch for principals whose keys are in none
}

// author returns a principal as one who changes the file.
func (k *Keys) author(p *Principal) *author { return &author{p, k.table.Load().byID[p.ID] != nil} }

// allow returns an error unless an author may manage a key. Without an author it is a command, which may.
func (f *keyFile) allow(by *author, k *Key) error {
	if by == nil {
		return nil
	}
	if !f.knows(by, time.Now()) {
		return ErrEnded
	}
	if right := by.lacks(k); right != "" {
		return &BeyondError{Right: right}
	}
	return nil
}

// knows reports whether an author still may what it may, by the file as it is now: the server that has let it in may
// not have read that so far.
func (f *keyFile) knows(p *author, now time.Time) bool {
	if p.Context().Err() != nil || p.isExpired(now) {
		return false
	}
	i := slices.IndexFunc(f.Keys, func(k Key) bool { return k.ID == p.ID })
	if i < 0 {
		return !p.filed
	}
	k := &f.Keys[i]
	same := p.mayAs(&Principal{ID: k.ID, Tenant: k.Tenant, Scopes: k.Scopes, Models: k.Models})
	isSecret := func(s Secret) bool { return s.SHA256 == p.hash && !isOver(k.end(s), now) }
	return same && k.Revoked.IsZero() && (p.hash == hash{} || slices.ContainsFunc(k.Secrets, isSecret))
}

// activeFor is active for an author, or for a command if there is none. What an author does not see is not there.
func (f *keyFile) activeFor(by *author, name string) (*Key, error) {
	if by != nil {
		i := slices.IndexFunc(f.Keys, func(k Key) bool { return k.ID == name })
		if i < 0 || !by.sees(&f.Keys[i]) {
			return nil, fmt.Errorf("%w: %q", ErrNoKey, name)
		}
	}
	k, err := f.active(name)
	if err != nil {
		return nil, err
	}
	return k, f.allow(by, k)
}

// CreateFor makes a key on behalf of a principal, which may give no more than it has: a BeyondError. The key is in use
// when it returns. Without a tenant it belongs to the principal's, if that administers only one.
func (k *Keys) CreateFor(by *Principal, n NewKey) (key Key, secret string, err error) {
	if !k.Required() {
		return Key{}, "", ErrOpen
	}
	if all, _ := by.Administers(); !all && n.Tenant == "" {
		n.Tenant = by.Tenant
	}
	key, secret, err = createBy(k.opts.File, k.author(by), n)
	return key, secret, k.edited(err)
}

// RotateFor gives a key another secret on behalf of a principal, as Rotate does. It takes the key's id.
func (k *Keys) RotateFor(by *Principal, id string, grace time.Duration) (key Key, secret string, err error) {
	if !k.Required() {
		return Key{}, "", ErrOpen
	}
	key, secret, err = rotateBy(k.opts.File, k.author(by), id, grace)
	return key, secret, k.edited(err)
}

// RevokeFor ends a key on behalf of a principal. It takes the key's id. The key is not accepted any more when it
// returns.
func (k *Keys) RevokeFor(by *Principal, id string) (key Key, err error) {
	if !k.Required() {
		return Key{}, ErrOpen
	}
	key, err = revokeBy(k.opts.File, k.author(by), id)
	return key, k.edited(err)
}

// edited has the file read at once if it has changed. Whoever asks for a change over a network cannot do anything about
// an ErrNotSafe, which is logged, and needs the secret.
func (k *Keys) edited(err error) error {
	if errors.Is(err, ErrNotSafe) {
		k.opts.Log.Warn("a change of the API keys", "error", err)
		err = nil
	}
	if err != nil {
		return err
	}

	looked := make(chan struct{})
	select {
	case k.asked <- looked:
		<-looked
	case <-k.stop:
	}
	return nil
}

// Managed is a key as those who administer it see it.
type Managed struct {
	View
	Manageable bool `json:"manageable"` // the key may be rotated and revoked by whoever asks
}

// ListFor lists the keys whose tenant a principal administers, with what they have used so far.
func (k *Keys) ListFor(by *Principal) ([]Managed, error) {
	if !k.Required() {
		return nil, ErrOpen
	}

	list, err := List(k.opts.File)
	if err != nil {
		return nil, err
	}

	t := k.table.Load()
	seen := []Managed{}
	for i := range list {
		l := &list[i]
		if !by.sees(&l.Key) {
			continue
		}
		if a := t.accounts[l.ID]; a != nil {
			l.Used, l.Tokens, _ = a.usage()
		}
		seen = append(seen, Managed{
			View:       l.View(),
			Manageable: l.Revoked.IsZero() && by.lacks(&l.Key) == "",
		})
	}

	return seen, nil
}

// Usage is what a key uses and has used.
type Usage struct {
	ID     string    `json:"id"`
	Name   string    `json:"name"`
	Tenant string    `json:"tenant"`
	Used   time.Time `json:"last_used,omitzero"`
	Tokens int       `json:"tokens_today"`
	Open   int       `json:"requests_open"` // that have begun and not ended
}

// UsageFor returns what the keys use that a principal administers, by name. Revoked ones have ended.
func (k *Keys) UsageFor(by *Principal) []Usage {
	t := k.table.Load()
	list := []Usage{}
	for _, p := range t.byID {
		if !by.sees(&Key{Tenant: p.Tenant}) {
			continue
		}
		u := Usage{ID: p.ID, Name: p.Name, Tenant: p.Tenant}
		u.Used, u.Tokens, u.Open = p.account.usage()
		list = append(list, u)
	}
	slices.SortFunc(list, func(a, b Usage) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// View describes what a principal may do.
func (p *Principal) View() View {
	used, tokens, _ := p.account.usage()
	return View{
		ID:      p.ID,
		Name:    p.Name,
		Tenant:  p.Tenant,
		Scopes:  p.Scopes,
		Models:  append([]string{}, p.Models...),
		Limits:  p.account.Limits(),
		State:   "active",
		Expires: p.Expires,
		Used:    used,
		Tokens:  tokens,
	}
}

// usage returns when the account was used last, the tokens of today, and how many of its requests have not ended.
func (a *Account) usage() (used time.Time, tokens, open int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.advance(time.Now())
	return a.used.UTC().Truncate(time.Second), a.today, a.begun
}

// Limits returns what may be used.
func (a *Account) Limits() Limits {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.limits
}
