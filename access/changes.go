package access

import (
	"maps"
	"slices"
)

// Change is something that has happened to a key, whoever did it.
type Change struct {
	Kind   ChangeKind
	ID     string
	Name   string
	Tenant string
}

// ChangeKind says what has happened.
type ChangeKind string

// The kinds of changes.
const (
	Created ChangeKind = "created"
	Revoked ChangeKind = "revoked"
	Rotated ChangeKind = "rotated" // it has other secrets
	Changed ChangeKind = "changed" // it may do something else
	Removed ChangeKind = "removed" // it is not in the file any more
	Expired ChangeKind = "expired"
)

// OnChange has a function called with every change from now on. It must not block.
func (k *Keys) OnChange(f func(Change)) { k.change.Store(&f) }

func (k *Keys) tell(c Change) {
	if f := k.change.Load(); f != nil {
		(*f)(c)
	}
}

// compare tells what is different in the file since it was read last.
func (k *Keys) compare(list []Key) {
	now := make(map[string]Key, len(list))
	for _, key := range list {
		now[key.ID] = key
		old, known := k.listed[key.ID]
		if kind := changeOf(&old, &key, known); kind != "" {
			k.tell(Change{Kind: kind, ID: key.ID, Name: key.Name, Tenant: key.Tenant})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(k.listed)) {
		if key := k.listed[id]; now[id].ID == "" {
			k.tell(Change{Kind: Removed, ID: id, Name: key.Name, Tenant: key.Tenant})
		}
	}
	k.listed = now
}

// changeOf returns what has happened to a key; empty for nothing.
func changeOf(old, now *Key, known bool) ChangeKind {
	switch {
	case !known:
		return Created
	case old.Revoked.IsZero() && !now.Revoked.IsZero():
		return Revoked
	case !sameSecrets(old.Secrets, now.Secrets):
		return Rotated
	case old.Name != now.Name || old.Tenant != now.Tenant || old.Scopes != now.Scopes ||
		!slices.Equal(old.Models, now.Models) || old.Limits != now.Limits || !old.Expires.Equal(now.Expires) ||
		!old.Revoked.Equal(now.Revoked):
		return Changed
	}
	return ""
}

func sameSecrets(a, b []Secret) bool {
	return slices.EqualFunc(a, b, func(x, y Secret) bool { return x.SHA256 == y.SHA256 && x.Expires.Equal(y.Expires) })
}
