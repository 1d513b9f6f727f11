package access

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// everything is every scope.
const everything = Inference | Models | Metrics | Admin

// administrator creates a key and returns what it may.
func administrator(t *testing.T, k *Keys, n NewKey) *Principal {
	t.Helper()
	_, secret := create(t, k.opts.File, n)
	_ = k.edited(nil)
	p, err := k.Authenticate(secret, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// opened returns the keys of a file that has one.
func opened(t *testing.T) *Keys {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	create(t, path, NewKey{Name: "first"})
	k, _ := open(t, path)
	t.Cleanup(func() { k.Close() })
	return k
}

// TestAdministrators lets keys make no keys that may do more than they may themselves: each kind of administrator, and
// what it may give. To rotate or revoke a key takes the same.
func TestAdministrators(t *testing.T) {
	k := opened(t)
	by := map[string]*Principal{}
	for _, n := range []NewKey{
		{Name: "root", Scopes: everything},
		{Name: "user"},
		{Name: "bare", Scopes: Admin},
		{Name: "models", Scopes: everything, Models: []string{"a", "b"}},
		{Name: "day", Scopes: everything, Expires: 24 * time.Hour},
		{Name: "limited", Scopes: everything, Limits: Limits{TokensPerDay: 1 << 30}},
		{Name: "team", Tenant: "research", Scopes: everything},
	} {
		by[n.Name] = administrator(t, k, n)
	}

	for i, tt := range []struct {
		by    string
		n     NewKey
		lacks string // a part of what the administrator lacks; "" for nothing
	}{
		{"root", NewKey{}, ""},
		{"root", NewKey{Scopes: everything, Tenant: "anyone"}, ""},
		{"user", NewKey{}, "the scope admin"},
		{"bare", NewKey{Scopes: Admin}, ""},
		{"bare", NewKey{}, "the scope inference,models"},
		{"bare", NewKey{Scopes: Admin | Metrics}, "the scope metrics"},
		{"models", NewKey{Models: []string{"b"}}, ""},
		{"models", NewKey{Models: []string{"b", "c"}}, "the model c"},
		{"models", NewKey{}, "other models than a, b"},
		{"day", NewKey{Expires: time.Hour}, ""},
		{"day", NewKey{Expires: 48 * time.Hour}, "time"},
		{"day", NewKey{}, "time"},
		{"limited", NewKey{Limits: Limits{TokensPerDay: 1}}, "unlimited use"},
		{"team", NewKey{}, ""},
		{"team", NewKey{Tenant: "research", Scopes: everything}, ""},
		{"team", NewKey{Tenant: "marketing"}, "the tenant marketing"},
		{"team", NewKey{Name: "research", Tenant: "research", Scopes: everything}, "administer all tenants"},
	} {
		if tt.n.Name == "" {
			tt.n.Name = "made" + string(rune('a'+i))
		}
		made, secret, err := k.CreateFor(by[tt.by], tt.n)
		var beyond *BeyondError
		switch {
		case tt.lacks == "" && err != nil, tt.lacks != "" && !errors.As(err, &beyond):
			t.Errorf("%s makes %+v: %v", tt.by, tt.n, err)
		case tt.lacks != "" && !strings.Contains(beyond.Right, tt.lacks):
			t.Errorf("%s makes %+v: it lacks %s", tt.by, tt.n, beyond.Right)
		}
		if tt.lacks != "" {
			checkUntouched(t, k, by[tt.by], tt.n)
			continue
		}

		if p, err := k.Authenticate(secret, ""); err != nil || p.ID != made.ID || made.MadeBy != by[tt.by].ID {
			t.Errorf("%s has made %+v, which is not in use: %v", tt.by, made, err)
		}
		if tt.by == "team" && made.Tenant != "research" {
			t.Errorf("an administrator of a tenant makes a key of the tenant %s", made.Tenant)
		}
		if _, err := k.RevokeFor(by[tt.by], made.ID); err != nil {
			t.Errorf("%s revokes what it has made: %v", tt.by, err)
		}
		if _, err := k.Authenticate(secret, ""); !errors.Is(err, ErrUnknown) {
			t.Errorf("a revoked key: %v", err)
		}
	}
}

// checkUntouched checks that an administrator that may not make a key may not have one that a command has made either.
func checkUntouched(t *testing.T, k *Keys, by *Principal, n NewKey) {
	t.Helper()
	if n.Tenant == "" {
		n.Tenant = by.Tenant
	}
	made, _ := create(t, k.opts.File, n)
	_, _, rotated := k.RotateFor(by, made.ID, 0)
	_, revoked := k.RevokeFor(by, made.ID)
	var beyond *BeyondError
	for _, err := range []error{rotated, revoked} {
		if !errors.As(err, &beyond) && !errors.Is(err, ErrNoKey) {
			t.Errorf("%s manages %+v, which it could not make: %v", by.Name, n, err)
		}
	}
	list, err := k.ListFor(by)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if l.ID == made.ID && l.Manageable {
			t.Errorf("%s is told that it manages %+v", by.Name, n)
		}
	}
}

// TestTenantsOfAdministrators shows the administrator of a tenant nothing of other tenants: neither their keys nor what
// they use, and an id of theirs is one that is not there.
func TestTenantsOfAdministrators(t *testing.T) {
	k := opened(t)
	root := administrator(t, k, NewKey{Name: "root", Scopes: everything})
	team := administrator(t, k, NewKey{Name: "team", Tenant: "research", Scopes: everything})
	names := func(p *Principal) (listed, used string) {
		list, err := k.ListFor(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			listed += l.Name + " "
		}
		for _, u := range k.UsageFor(p) {
			used += u.Name + " "
		}
		return listed, used
	}
	if listed, used := names(root); listed != "first root team " || used != listed {
		t.Errorf("all tenants' administrator sees %s, and of their use %s", listed, used)
	}
	if listed, used := names(team); listed != "team " || used != listed {
		t.Errorf("a tenant's administrator sees %s, and of their use %s", listed, used)
	}
	_, theirs := k.RevokeFor(team, root.ID)
	_, nobodys := k.RevokeFor(team, "key_0123456789abcdef")
	if !errors.Is(theirs, ErrNoKey) ||
		strings.ReplaceAll(theirs.Error(), root.ID, "key_0123456789abcdef") != nobodys.Error() {
		t.Errorf("another tenant's key: %v; one that is not there: %v", theirs, nobodys)
	}
}

// TestEndedAdministrators refuses administrators who may no longer what they might when the server let them in, also
// before it has read the file again.
func TestEndedAdministrators(t *testing.T) {
	for name, change := range map[string]func(path, id string) error{
		"revoked": func(path, id string) error { _, err := Revoke(path, id); return err },
		"rotated": func(path, id string) error { _, _, err := Rotate(path, id, 0); return err },
		"moved": func(path, id string) error {
			return edit(path, func(f *keyFile) error { f.find(id).Tenant = "other"; return nil })
		},
		"removed": func(path, id string) error {
			return edit(path, func(f *keyFile) error { f.Keys = f.Keys[:1]; return nil })
		},
	} {
		k := opened(t)
		p := administrator(t, k, NewKey{Name: "root", Scopes: everything})
		k.Close() // it does not read the file any more
		if err := change(k.opts.File, p.ID); err != nil {
			t.Fatal(err)
		}
		if _, _, err := k.CreateFor(p, NewKey{Name: "late"}); !errors.Is(err, ErrEnded) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// Whom others vouch for has no key in the file. It is known until its session ends.
	k := opened(t)
	guest := &Principal{
		ID:      "guest",
		Name:    "g",
		Tenant:  "guest",
		Scopes:  everything,
		session: newSession(),
		account: NewAccount(Limits{}),
	}
	if _, _, err := k.CreateFor(guest, NewKey{Name: "early"}); err != nil {
		t.Error(err)
	}
	named := &Principal{
		ID:      "other",
		Name:    "first",
		Tenant:  "first",
		Scopes:  everything,
		session: newSession(),
		account: NewAccount(Limits{}),
	}
	if all, own := named.Administers(); all || !own {
		t.Error("one whom others call as its tenant administers all tenants")
	}
	guest.session.end(ErrEnded)
	if _, _, err := k.CreateFor(guest, NewKey{Name: "late"}); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}

	// A secret that is accepted for a while after a rotation gives nothing that lasts longer.
	k = opened(t)
	p := administrator(t, k, NewKey{Name: "root", Scopes: everything})
	secretOf := func() string {
		_, secret, err := k.RotateFor(p, p.ID, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	next := secretOf()
	old := k.table.Load().principals[p.hash]
	var beyond *BeyondError
	if _, _, err := k.RotateFor(old, old.ID, 0); !errors.As(err, &beyond) {
		t.Errorf("an earlier secret rotates its key: %v", err)
	}
	now, err := k.Authenticate(next, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.RotateFor(now, now.ID, 0); err != nil {
		t.Errorf("the new one does not: %v", err)
	}
}

// TestNoKeyForLater makes no key by a request to a server that has none.
func TestNoKeyForLater(t *testing.T) {
	k, _ := open(t, filepath.Join(t.TempDir(), "keys.json"))
	defer k.Close()
	p := &Principal{Name: "a", Tenant: "a", Scopes: everything, session: newSession(), account: NewAccount(Limits{})}
	_, _, created := k.CreateFor(p, NewKey{Name: "later", Scopes: everything})
	_, listed := k.ListFor(p)
	_, _, rotated := k.RotateFor(p, "key_1", 0)
	_, revoked := k.RevokeFor(p, "key_1")
	for _, err := range []error{created, listed, rotated, revoked} {
		if !errors.Is(err, ErrOpen) {
			t.Error(err)
		}
	}
	if list, err := List(k.opts.File); len(list) > 0 || err != nil {
		t.Errorf("%d keys, %v", len(list), err)
	}
}
