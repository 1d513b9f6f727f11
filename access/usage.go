package access

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"time"
)

// usageFile is what keys have used, beside the file of keys, which the server never changes.
type usageFile struct {
	Version int              `json:"version"`
	Keys    map[string]usage `json:"keys"` // by id
}

// usage is what a key has used.
type usage struct {
	Used   time.Time `json:"last_used,omitzero"`
	Day    int       `json:"day"`    // since 1970, in UTC
	Tokens int       `json:"tokens"` // of that day
}

func usagePath(path string) string { return path + ".usage" }

// readUsage reads what the keys in a file have used.
func readUsage(path string) (*usageFile, error) {
	f := new(usageFile)
	err := readPrivate(usagePath(path), f)
	if errors.Is(err, fs.ErrNotExist) {
		return &usageFile{Version: fileVersion}, nil
	}
	if err == nil && f.Version != fileVersion {
		err = fmt.Errorf("its version is %d", f.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("read the usage in %s: %w", usagePath(path), err)
	}
	return f, nil
}

// How often usage is written: with tokens soon, so that a killed server forgets few, and else when a key was last used
// rarely.
const (
	tokensEvery = 5 * time.Second
	usedEvery   = time.Minute
)

// restore takes over what a file says of earlier processes.
func (a *Account) restore(u usage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.advance(time.Now())
	if u.Day == a.day {
		a.today = max(0, u.Tokens) + a.unsaved
	}
	if u.Used.After(a.used) {
		a.used = u.Used
	}
	a.saved = u.Used
}

// touch notes that the key was used now.
func (a *Account) touch(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used = now
}

// isDirty reports whether the file of usage lacks something; final says that this is the last time.
func (a *Account) isDirty(final bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.unsaved != 0 || a.used.Sub(a.saved) >= usedEvery || final && a.used.After(a.saved)
}

// merge adds what is not in the file to an entry of it, and takes over what other processes have added.
func (a *Account) merge(u usage) (merged usage, saved func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.advance(time.Now())
	if u.Day != a.day {
		u.Day = a.day
		u.Tokens = 0
	}
	written := a.unsaved
	u.Tokens = max(0, u.Tokens+written)
	a.today = u.Tokens
	if a.used.After(u.Used) {
		u.Used = a.used.UTC().Truncate(time.Second)
	}

	day := a.day
	used := a.used
	return u, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.saved = used
		if a.day == day {
			a.unsaved -= written
		}
	}
}

// usageStore keeps what accounts have used in a file, which other servers may use at the same time: what they have
// counted is added.
type usageStore struct {
	path string // beside which the file is, and whose lock is taken
	of   string // whose accounts they are, for messages
	log  *slog.Logger
}

// write adds what accounts have used to the file, and returns what it has then. trim drops entries that are not needed.
func (s *usageStore) write(
	accounts map[string]*Account, trim func(entries map[string]usage),
) (written map[string]usage, err error) {
	unlock, err := lock(s.path)
	if err != nil {
		return nil, err
	}
	defer unlock()
	f, err := readUsage(s.path)
	if err != nil {
		s.log.Error("what "+s.of+" have used until now is lost", "error", err)
		f = &usageFile{Version: fileVersion}
	}
	if f.Keys == nil {
		f.Keys = map[string]usage{}
	}

	var saved []func()
	for id, a := range accounts {
		u, done := a.merge(f.Keys[id])
		saved = append(saved, done)
		f.Keys[id] = u
	}
	trim(f.Keys)

	err = writePrivate(usagePath(s.path), f)
	if err == nil || errors.Is(err, ErrNotSafe) {
		for _, done := range saved {
			done() // it is there, and must not be added again
		}
	}
	if err != nil {
		return nil, fmt.Errorf("write what %s have used: %w", s.of, err)
	}
	return f.Keys, nil
}

// saveUsage writes what keys have used, if the file lacks any of it. Usage of keys that there are no more is dropped.
func (k *Keys) saveUsage(final bool) error {
	accounts := k.table.Load().accounts
	dirty := false
	for _, a := range accounts {
		dirty = dirty || a.isDirty(final)
	}
	if !dirty {
		return nil
	}

	s := usageStore{
		path: k.opts.File,
		of:   "API keys",
		log:  k.opts.Log,
	}
	_, err := s.write(accounts, func(entries map[string]usage) {
		maps.DeleteFunc(entries, func(id string, u usage) bool {
			return accounts[id] == nil || u == usage{Day: u.Day}
		})
	})
	return err
}
