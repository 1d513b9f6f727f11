package access

import (
	"errors"
	"fmt"
	"io/fs"
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

// saveUsage writes what keys have used, if the file lacks any of it. Other servers may use the same file: what they
// have counted is added. Usage of keys that there are no more is dropped.
func (k *Keys) saveUsage(final bool) error {
	accounts := k.table.Load().accounts
	dirty := false
	for _, a := range accounts {
		dirty = dirty || a.isDirty(final)
	}
	if !dirty {
		return nil
	}

	unlock, err := lock(k.opts.File)
	if err != nil {
		return err
	}
	defer unlock()
	old, err := readUsage(k.opts.File)
	if err != nil {
		k.opts.Log.Error("what API keys have used until now is lost", "error", err)
		old = &usageFile{Version: fileVersion}
	}

	f := &usageFile{Version: fileVersion, Keys: map[string]usage{}}
	var saved []func()
	for id, a := range accounts {
		u, done := a.merge(old.Keys[id])
		saved = append(saved, done)
		if u != (usage{Day: u.Day}) {
			f.Keys[id] = u
		}
	}
	err = writePrivate(usagePath(k.opts.File), f)
	if err == nil || errors.Is(err, ErrNotSafe) {
		for _, done := range saved {
			done() // it is there, and must not be added again
		}
	}
	if err != nil {
		return fmt.Errorf("write what API keys have used: %w", err)
	}
	return nil
}
