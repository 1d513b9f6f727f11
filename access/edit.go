package access

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"
)

// Errors about keys.
var (
	// ErrNoKey means that no key has the name or the id.
	ErrNoKey = errors.New("no such key")
	// ErrNotSafe means that a change was made, and that the loss of power may undo it.
	ErrNotSafe = errors.New("the change was made, but it is not certain that it outlives a loss of power")
)

// InvalidError says that a key cannot be what was asked for. Whoever asked can ask for something else.
type InvalidError struct{ err error }

// Error implements error.
func (e *InvalidError) Error() string { return e.err.Error() }

// Unwrap gives the reason.
func (e *InvalidError) Unwrap() error { return e.err }

func invalid(format string, args ...any) error { return &InvalidError{fmt.Errorf(format, args...)} }

// DefaultFile returns where the keys are if nothing is said, in the folder of serve's own data.
func DefaultFile(home string) string { return filepath.Join(home, "keys.json") }

// NewKey describes a key to be made. Zero values are the defaults.
type NewKey struct {
	Name    string
	Tenant  string // by default the key's name
	Scopes  Scope  // by default DefaultScope
	Models  []string
	Limits  Limits
	Expires time.Duration // from now, 0 for never
	// Certificate is the name of a client certificate, as certs.Identity has it, which takes the place of a secret.
	Certificate string
}

// Create makes a key and returns its secret, which is not kept; "" for one with a certificate. The names of revoked
// keys are not free again: what was stored under them would be the new key's. Nor is the name of another key's tenant,
// unless the new key's Tenant says it. With an ErrNotSafe there is a key, too, and its secret.
func Create(path string, n NewKey) (k Key, secret string, err error) { return createBy(path, nil, n) }

func createBy(path string, by *author, n NewKey) (k Key, secret string, err error) {
	now := time.Now().UTC().Truncate(time.Second)
	k = Key{
		ID:      newID(),
		Name:    n.Name,
		Tenant:  n.Tenant,
		Scopes:  n.Scopes,
		Models:  n.Models,
		Limits:  n.Limits,
		Created: now,

		Certificate: n.Certificate,
	}
	if n.Certificate == "" {
		secret = newSecret()
		k.Secrets = []Secret{{SHA256: hashOf(secret)}}
	}
	if k.Tenant == "" {
		k.Tenant = k.Name
	}
	if k.Scopes == 0 {
		k.Scopes = DefaultScope
	}
	if n.Expires > 0 {
		k.Expires = now.Add(n.Expires)
	}
	if by != nil {
		k.MadeBy = by.ID
	}
	if err := k.check(); err != nil {
		return Key{}, "", &InvalidError{err}
	}

	err = edit(path, func(f *keyFile) error {
		if err := f.allow(by, &k); err != nil {
			return err
		}
		if old := f.find(n.Name); old != nil {
			return invalid("there is already a key named %s, which is %s", n.Name, old.State(now))
		}
		shares := slices.ContainsFunc(f.Keys, func(other Key) bool { return other.Tenant == n.Name })
		if n.Tenant == "" && shares {
			return invalid("the tenant %s exists already; give --tenant %s to share what it stores", n.Name, n.Name)
		}
		f.Keys = append(f.Keys, k)
		return nil
	})
	if err != nil && !errors.Is(err, ErrNotSafe) {
		return Key{}, "", err
	}
	return k, secret, err
}

func newID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return "key_" + hex.EncodeToString(b[:])
}

// find returns the key with a name or an id, or nil.
func (f *keyFile) find(name string) *Key {
	i := slices.IndexFunc(f.Keys, func(k Key) bool { return k.Name == name || k.ID == name })
	if i < 0 {
		return nil
	}
	return &f.Keys[i]
}

// active returns the key with a name or an id, which must not be revoked.
func (f *keyFile) active(name string) (*Key, error) {
	k := f.find(name)
	if k == nil {
		return nil, fmt.Errorf("%w: %q", ErrNoKey, name)
	}
	if !k.Revoked.IsZero() {
		return nil, invalid("the key %s was revoked at %s", k.Name, k.Revoked.Format(time.RFC3339))
	}
	return k, nil
}

// Revoke ends a key, by its name or id. A server notices within a second, and ends what runs for it.
func Revoke(path, name string) (k Key, err error) { return revokeBy(path, nil, name) }

func revokeBy(path string, by *author, name string) (k Key, err error) {
	err = edit(path, func(f *keyFile) error {
		found, err := f.activeFor(by, name)
		if err != nil {
			return err
		}
		found.Revoked = time.Now().UTC().Truncate(time.Second)
		found.Secrets = nil
		k = *found
		return nil
	})
	return k, err
}

// Rotate gives a key another secret. The earlier ones are accepted for the grace period. With an ErrNotSafe it has the
// new one, too.
func Rotate(path, name string, grace time.Duration) (k Key, secret string, err error) {
	return rotateBy(path, nil, name, grace)
}

func rotateBy(path string, by *author, name string, grace time.Duration) (k Key, secret string, err error) {
	secret = newSecret()
	err = edit(path, func(f *keyFile) error {
		found, err := f.activeFor(by, name)
		if err != nil {
			return err
		}
		if found.Certificate != "" {
			return invalid("the key %s has no secret: it is for the certificate %q", found.Name, found.Certificate)
		}

		now := time.Now().UTC()
		until := now.Add(grace)
		kept := []Secret{{SHA256: hashOf(secret)}}
		for _, s := range found.Secrets {
			if s.Expires.IsZero() || s.Expires.After(until) {
				s.Expires = until
			}
			if s.Expires.After(now) && len(kept) < maxSecrets {
				kept = append(kept, s)
			}
		}
		found.Secrets = kept
		k = *found
		return nil
	})
	if err != nil && !errors.Is(err, ErrNotSafe) {
		return Key{}, "", err
	}
	return k, secret, err
}

// Listed is a key in a list, with what it has used.
type Listed struct {
	Key
	Used   time.Time // when it was used last; zero for never, or since then
	Tokens int       // that it has used today, in UTC
}

// List returns all keys, in the order in which they were made. There are none without a file.
func List(path string) ([]Listed, error) {
	f, err := readKeys(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	used, err := readUsage(path)
	if err != nil {
		return nil, err
	}

	today := dayOf(time.Now())
	list := make([]Listed, len(f.Keys))
	for i, k := range f.Keys {
		list[i].Key = k
		u := used.Keys[k.ID]
		list[i].Used = u.Used
		if u.Day == today {
			list[i].Tokens = u.Tokens
		}
	}
	return list, nil
}
