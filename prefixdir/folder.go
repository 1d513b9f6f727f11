// Package prefixdir keeps saved prefixes in a folder, encrypted, so that they outlive the process: each in a file of
// its own, for one tenant, salt, model, build and setup. A file that is not exactly as it was written is never used,
// and removed.
package prefixdir

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Options say where a Folder is. All but Bytes are required.
type Options struct {
	Dir     string   // made if it does not exist
	KeyFile string   // outside of Dir; made if it does not exist
	Build   [32]byte // of this program: what another one has written is removed
	Bytes   int64    // that the files may take; DefaultBytes if 0
}

// DefaultBytes is how much a folder may take.
const DefaultBytes = 16 << 30

const (
	suffix    = ".prefix"
	temporary = ".tmp"
	// maxEntries bounds the search for a prefix, as maxPrefixes does in engine.
	maxEntries = 1024
	// maxTokens bounds the memory that the tokens of all prefixes take.
	maxTokens = 32 << 20
)

// Why files are removed.
const (
	RemovedDamaged  = "damaged"  // not as it was written, or written with another key
	RemovedBuild    = "build"    // of another build of serve
	RemovedSetup    = "setup"    // of the same model with another layout, KV type or device
	RemovedRoom     = "room"     // others needed the room
	RemovedReplaced = "replaced" // a longer one has all of it
	RemovedRevoked  = "revoked"  // its tenant was forgotten
	RemovedCrash    = "crash"    // the engine crashed, perhaps because of it
)

// Why prefixes are not written.
const (
	SkippedBusy  = "busy"  // too many wait to be written
	SkippedGone  = "gone"  // its memory was needed before its turn came
	SkippedLarge = "large" // it is larger than the folder may be
	SkippedDisk  = "disk"  // writing failed: the disk is full, say
)

// Folder is a folder of prefixes. One process at a time has it.
type Folder struct {
	o    Options
	key  []byte
	lock *os.File

	mu      sync.Mutex
	entries map[uint64]*entry
	next    uint64
	used    int64
	tokens  int
	removed map[string]uint64 // before a model was there to count it

	removing sync.WaitGroup // files, whose names are not used again

	// create makes a file to write; tests have it fail.
	create func(name string) (io.WriteCloser, error)
}

// entry is a file of the folder.
type entry struct {
	id   uint64
	name string
	size int64 // of the file
	used time.Time
	header
}

// Open opens a folder and reads what the files say of themselves. What no process can use any more is removed.
func Open(o Options) (*Folder, error) {
	o.Bytes = cmp.Or(o.Bytes, DefaultBytes)
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("prefix cache folder: %w", err)
	}
	lock, err := lockFolder(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("prefix cache folder: %w", err)
	}
	key, err := readKey(o.KeyFile)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("prefix cache folder: %w", err)
	}

	f := &Folder{
		o:       o,
		key:     key,
		lock:    lock,
		entries: map[uint64]*entry{},
		removed: map[string]uint64{},
		create:  createFile,
	}
	if err := f.scan(); err != nil {
		lock.Close()
		return nil, fmt.Errorf("prefix cache folder: %w", err)
	}
	return f, nil
}

// Close gives the folder up. Its models are closed before.
func (f *Folder) Close() error {
	f.removing.Wait()
	return f.lock.Close()
}

// lockFolder makes a folder this process's, until the file that is returned is closed.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%s is in use by another serve", dir)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func createFile(name string) (io.WriteCloser, error) {
	return os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

// scan reads the headers of all files. Files that are not the folder's own are left alone.
func (f *Folder) scan() error {
	list, err := os.ReadDir(f.o.Dir)
	if err != nil {
		return err
	}
	for _, file := range list {
		name := filepath.Join(f.o.Dir, file.Name())
		switch {
		case !file.Type().IsRegular():
		case strings.HasSuffix(name, temporary):
			_ = os.Remove(name)
		case strings.HasSuffix(name, suffix):
			f.examine(name)
		}
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	for f.overfull(0, 0) {
		if !f.makeRoom("", 0, f.removed) {
			break
		}
	}
	return nil
}

// examine reads the header of a file, and removes the file if it is of no use.
func (f *Folder) examine(name string) {
	h, info, err := f.readHeader(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		f.removed[RemovedDamaged]++
		_ = os.Remove(name)
	case h.key.Build != f.o.Build:
		f.removed[RemovedBuild]++
		_ = os.Remove(name)
	default:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.add(&entry{name: name, size: info.Size(), used: info.ModTime(), header: *h})
	}
}

func (f *Folder) readHeader(name string) (*header, fs.FileInfo, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	h, _, err := readHeader(file, info.Size(), f.key)
	return h, info, err
}

// newName returns a name for a file that says nothing of what is in it.
func (f *Folder) newName() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return filepath.Join(f.o.Dir, hex.EncodeToString(b)+suffix)
}

// The methods after it need the mutex.

// add puts a file into the index.
func (f *Folder) add(e *entry) {
	f.next++
	e.id = f.next
	f.entries[e.id] = e
	f.used += e.size
	f.tokens += len(e.Tokens)
}

// remove removes a file, and counts why.
func (f *Folder) remove(e *entry, why string, counts map[string]uint64) {
	if f.entries[e.id] != e {
		return
	}
	delete(f.entries, e.id)
	f.used -= e.size
	f.tokens -= len(e.Tokens)
	counts[why]++
	f.removing.Go(func() { _ = os.Remove(e.name) }) // nobody waits for the disk under the mutex
}

// overfull reports whether the folder has no room for a file of so many bytes and tokens.
func (f *Folder) overfull(bytes int64, tokens int) bool {
	return f.used+bytes > f.o.Bytes || len(f.entries) >= maxEntries || f.tokens+tokens > maxTokens
}

// makeRoom removes one file for a tenant's of so many bytes: of the tenants that have the most, counting those, the one
// that was of use the longest ago. It reports false if there is none.
func (f *Folder) makeRoom(tenant string, bytes int64, counts map[string]uint64) bool {
	held := map[string]int64{tenant: bytes}
	for _, e := range f.entries {
		held[e.Tenant] += e.size
	}
	var first *entry
	for _, e := range f.entries {
		if first == nil || cmp.Or(
			cmp.Compare(held[first.Tenant], held[e.Tenant]),
			e.used.Compare(first.used),
			cmp.Compare(e.id, first.id),
		) < 0 {
			first = e
		}
	}
	if first == nil {
		return false
	}
	f.remove(first, RemovedRoom, counts)
	return true
}

// of returns the entries of a model for which which reports true.
func (f *Folder) of(model [32]byte, which func(*entry) bool) (list []*entry) {
	for _, e := range f.entries {
		if e.key.Model == model && which(e) {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *entry) int { return cmp.Compare(a.id, b.id) })
	return list
}
