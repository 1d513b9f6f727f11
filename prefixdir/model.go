package prefixdir

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"sync"
	"time"

	"serve/engine"
	"serve/hostmem"
	"serve/thread"
)

// Memory is the host memory that sequences are saved to.
type Memory interface {
	Read(at, n int64, read func([]byte) error) error
	Write(at, n int64, write func([]byte) error) error
}

const (
	// maxPending is how many prefixes may wait to be written. They take no memory but for their tokens.
	maxPending = 64
	// drain is how long Close goes on to write what waits.
	drain = 5 * time.Second
)

// Model is what a folder has of one model, as it is loaded. It implements engine.PrefixFolder.
type Model struct {
	f      *Folder
	key    Key
	memory Memory

	// Under the folder's mutex:
	pending []*job
	current *job
	closed  bool
	stats   engine.FolderStats

	work    chan struct{} // holds one token when there is something to write
	reading chan struct{} // holds one token while a file is read
	stop    chan struct{} // closed when nothing more is to be read or written
	all     sync.WaitGroup
}

// job is a prefix that is to be written.
type job struct {
	engine.KeptPrefix
	replaces bool
	canceled bool
}

var (
	errGone   = errors.New("the memory was needed before the prefix was written")
	errClosed = fmt.Errorf("%w: the model is unloaded", engine.ErrStopped)
)

// Model returns what the folder has for a model. What the same model has left of another setup is removed. The caller
// must Close it before the memory.
func (f *Folder) Model(model, setup [32]byte, memory Memory) *Model {
	m := &Model{
		f:       f,
		key:     Key{Model: model, Build: f.o.Build, Setup: setup},
		memory:  memory,
		work:    make(chan struct{}, 1),
		reading: make(chan struct{}, 1),
		stop:    make(chan struct{}),
	}
	m.stats.Removed = map[string]uint64{}
	m.stats.Skipped = map[string]uint64{}

	f.mu.Lock()
	maps.Copy(m.stats.Removed, f.removed)
	clear(f.removed)
	for _, e := range f.of(model, func(e *entry) bool { return e.key != m.key }) {
		f.remove(e, RemovedSetup, m.stats.Removed)
	}
	f.mu.Unlock()

	m.all.Go(func() { thread.RunLast(m.write) })
	return m
}

// Close writes what waits, for some seconds at most, and waits until nothing uses the memory any more.
func (m *Model) Close() {
	m.f.mu.Lock()
	m.closed = true
	m.f.mu.Unlock()
	m.wake()

	timer := time.AfterFunc(drain, m.cancel)
	m.all.Wait()
	if timer.Stop() {
		m.cancel()
	}
}

// Retire has nothing more written or found: what computes the model is set up otherwise by now.
func (m *Model) Retire() {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	m.closed = true
	m.cancelJobs(func(*job) bool { return true })
	m.wake()
}

// cancel ends what reads and writes.
func (m *Model) cancel() { close(m.stop) }

func (m *Model) stopped() bool {
	select {
	case <-m.stop:
		return true
	default:
		return false
	}
}

func (m *Model) wake() {
	select {
	case m.work <- struct{}{}:
	default:
	}
}

// Put implements engine.PrefixFolder, as do the methods after it.
func (m *Model) Put(p engine.KeptPrefix, replaces bool) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	switch {
	case m.closed:
	case len(p.Tenant) > maxText || len(p.Salt) > maxText || p.Saved.Size > m.f.o.Bytes || len(p.Tokens) > maxHeader/8:
		m.stats.Skipped[SkippedLarge]++
	case len(m.pending) == maxPending:
		m.stats.Skipped[SkippedBusy]++
	case m.has(&p, replaces):
	default:
		m.pending = append(m.pending, &job{KeptPrefix: p, replaces: replaces})
		m.wake()
	}
}

// has reports whether a file has all of a prefix, and notes that it is of use. The caller holds the mutex.
func (m *Model) has(p *engine.KeptPrefix, longer bool) bool {
	for _, e := range m.f.of(m.key.Model, func(e *entry) bool { return m.within(e, p) }) {
		n := engine.Common(e.Tokens, p.Tokens)
		if n == len(p.Tokens) && (longer || n == len(e.Tokens)) {
			e.used = time.Now()
			return true
		}
	}
	return false
}

// within reports whether a file is one of this model, and of a prefix's scope.
func (m *Model) within(e *entry, p *engine.KeptPrefix) bool {
	return e.key == m.key && e.Tenant == p.Tenant && e.Salt == p.Salt && e.Reproducible == p.Reproducible
}

// Find looks in the index.
func (m *Model) Find(like engine.KeptPrefix, whole bool) (id uint64, p engine.KeptPrefix, shared int) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	if m.closed {
		return 0, p, 0
	}
	for _, e := range m.f.of(m.key.Model, func(e *entry) bool { return m.within(e, &like) }) {
		n := engine.Common(e.Tokens, like.Tokens)
		if n > shared && (!whole || n == len(e.Tokens)) {
			shared = n
			id = e.id
			p = e.KeptPrefix
		}
	}
	return id, p, shared
}

// Fetch reads one file at a time.
func (m *Model) Fetch(id uint64, to engine.Region, done func(engine.Saved, error)) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	e := m.f.entries[id]
	if e == nil || m.closed {
		go done(engine.Saved{}, errClosed)
		return
	}
	m.all.Go(func() {
		select {
		case m.reading <- struct{}{}:
			defer func() { <-m.reading }()
		case <-m.stop:
			done(engine.Saved{}, errClosed)
			return
		}
		began := time.Now()
		saved, err := m.read(e, to)
		m.haveRead(e, time.Since(began), err)
		done(saved, err)
	})
}

// haveRead counts a file that was read, and removes one that could not be.
func (m *Model) haveRead(e *entry, took time.Duration, err error) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	switch {
	case errors.Is(err, errClosed):
	case err != nil:
		m.stats.Read.Failed++
		m.f.remove(e, RemovedDamaged, m.stats.Removed)
	default:
		e.used = time.Now()
		_ = os.Chtimes(e.name, e.used, e.used) // so that it is known after a restart
		count(&m.stats.Read, &e.KeptPrefix, took)
	}
}

func count(t *engine.Transfers, p *engine.KeptPrefix, took time.Duration) {
	t.Count++
	t.Tokens += uint64(len(p.Tokens))
	t.Bytes += uint64(p.Saved.Size)
	t.Seconds += took.Seconds()
}

// read reads a file into host memory. It is checked piece by piece, and as a whole.
func (m *Model) read(e *entry, to engine.Region) (engine.Saved, error) {
	saved := engine.Saved{Region: engine.Region{At: to.At, Size: e.Saved.Size}}
	file, err := os.Open(e.name)
	if err != nil {
		return saved, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return saved, err
	}
	h, s, err := readHeader(file, info.Size(), m.f.key)
	if err != nil {
		return saved, err
	}
	if h.salt != e.salt || h.key != m.key || to.Size < e.Saved.Size {
		return saved, errDamaged
	}

	var sum hostmem.Sum
	sealed := make([]byte, hostmem.SumPiece+overhead)
	plain := make([]byte, 0, hostmem.SumPiece)
	for at, i := int64(0), 1; at < saved.Size; i++ {
		if m.stopped() {
			return saved, errClosed
		}
		n := min(saved.Size-at, hostmem.SumPiece)
		if _, err := io.ReadFull(file, sealed[:n+overhead]); err != nil {
			return saved, damaged(err)
		}
		piece, err := s.open(plain, sealed[:n+overhead], i)
		if err != nil {
			return saved, err
		}
		sum.Add(piece)
		if err := m.memory.Write(to.At+at, n, func(b []byte) error { copy(b, piece); return nil }); err != nil {
			return saved, err
		}
		at += n
	}
	if sum.Value() != h.Saved.Sum {
		return saved, errDamaged
	}
	saved.Sum = h.Saved.Sum
	return saved, nil
}

// write writes what waits, one after the other, on a thread that leaves the processors to what computes.
func (m *Model) write() {
	for {
		j, closed := m.nextJob()
		if j == nil && closed {
			return
		}
		if j == nil {
			<-m.work
			continue
		}
		if m.stopped() {
			return
		}
		m.writeJob(j)
	}
}

func (m *Model) nextJob() (j *job, closed bool) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	m.current = nil
	if len(m.pending) > 0 {
		m.current = m.pending[0]
		m.pending = m.pending[1:]
	}
	return m.current, m.closed
}

// writeJob writes a file and then gives it its name. It is not synced: what a loss of power leaves of it is found
// damaged, and removed.
func (m *Model) writeJob(j *job) {
	began := time.Now()
	e := &entry{header: header{key: m.key, KeptPrefix: j.KeptPrefix}, name: m.f.newName()}
	temp := e.name + temporary
	size := fileSize(len(e.encode())+overhead, j.Saved.Size)
	if !m.roomFor(j, size) {
		return
	}

	var err error
	e.size, err = m.writeFile(temp, j, &e.header)
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	m.f.used -= size
	if err == nil && !j.canceled {
		err = os.Rename(temp, e.name)
	}
	if err != nil || j.canceled {
		_ = os.Remove(temp)
		m.failed(j, err)
		return
	}

	e.used = began
	if j.replaces {
		m.replace(e)
	}
	m.f.add(e)
	count(&m.stats.Written, &e.KeptPrefix, time.Since(began))
}

// roomFor removes files until there is room for one of so many bytes.
func (m *Model) roomFor(j *job, size int64) bool {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	if size > m.f.o.Bytes {
		m.stats.Skipped[SkippedLarge]++
		return false
	}
	for m.f.overfull(size, len(j.Tokens)) {
		if !m.f.makeRoom(j.Tenant, size, m.stats.Removed) {
			return false
		}
	}
	m.f.used += size // until it is written
	return true
}

// failed counts why a prefix was not written. The caller holds the mutex.
func (m *Model) failed(j *job, err error) {
	switch {
	case j.canceled || errors.Is(err, errClosed):
	case errors.Is(err, errGone):
		m.stats.Skipped[SkippedGone]++
	default:
		m.stats.Skipped[SkippedDisk]++
		m.stats.Written.Failed++
		if m.stats.Written.Failed == 1 {
			slog.Warn("a prefix could not be written to the folder", "error", err)
		}
	}
}

// replace removes files of which a new one has nearly all. The caller holds the mutex.
func (m *Model) replace(e *entry) {
	for _, old := range m.f.of(m.key.Model, func(old *entry) bool { return m.within(old, &e.KeptPrefix) }) {
		if engine.Replaces(e.Tokens, old.Tokens) {
			m.f.remove(old, RemovedReplaced, m.stats.Removed)
		}
	}
}

// writeFile writes what the memory has, piece by piece, and returns the size of the file. If that is not what was
// saved, since others have the memory by now, it is errGone.
func (m *Model) writeFile(name string, j *job, h *header) (size int64, err error) {
	file, err := m.f.create(name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := bufio.NewWriterSize(file, 1<<20)
	s, size, err := begin(w, m.f.key, h)
	if err != nil {
		return 0, err
	}

	var sum hostmem.Sum
	piece := make([]byte, min(hostmem.SumPiece, j.Saved.Size))
	sealed := make([]byte, 0, len(piece)+overhead)
	for at, i := int64(0), 1; at < j.Saved.Size; i++ {
		if m.stopped() {
			return 0, errClosed
		}
		n := min(j.Saved.Size-at, int64(len(piece)))
		// A copy: what is sealed is what was summed, whoever writes to the memory meanwhile.
		if err := m.memory.Read(j.Saved.At+at, n, func(b []byte) error { copy(piece, b); return nil }); err != nil {
			return 0, err
		}
		sum.Add(piece[:n])
		if _, err := w.Write(s.seal(sealed, piece[:n], i)); err != nil {
			return 0, err
		}
		at += n
	}
	if sum.Value() != j.Saved.Sum {
		return 0, errGone
	}
	return size, w.Flush()
}

// Forget removes a tenant's files of all models.
func (m *Model) Forget(tenant string) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	m.cancelJobs(func(j *job) bool { return j.Tenant == tenant })
	for _, e := range m.f.entries {
		if e.Tenant == tenant {
			m.f.remove(e, RemovedRevoked, m.stats.Removed)
		}
	}
}

// Clear removes the model's files.
func (m *Model) Clear() {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	m.cancelJobs(func(*job) bool { return true })
	for _, e := range m.f.of(m.key.Model, func(*entry) bool { return true }) {
		m.f.remove(e, RemovedCrash, m.stats.Removed)
	}
}

// cancelJobs has some of what waits not written, nor what is written just now. The caller holds the mutex.
func (m *Model) cancelJobs(which func(*job) bool) {
	if m.current != nil && which(m.current) {
		m.current.canceled = true
	}
	kept := m.pending[:0]
	for _, j := range m.pending {
		if !which(j) {
			kept = append(kept, j)
		}
	}
	m.pending = kept
}

// Stats returns a copy.
func (m *Model) Stats() engine.FolderStats {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	s := m.stats
	s.Removed = maps.Clone(s.Removed)
	s.Skipped = maps.Clone(s.Skipped)
	s.Size = m.f.o.Bytes
	for _, e := range m.f.of(m.key.Model, func(*entry) bool { return true }) {
		s.Used += e.size
		s.Entries++
	}
	return s
}
