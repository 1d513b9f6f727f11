package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/mod/sumdb/tlog"
)

// Options configure a Log. Zero values are the defaults.
type Options struct {
	// Continue lets work go on while records cannot be written; otherwise it is refused.
	Continue bool
	// Segment is the size from which on another file is begun, in bytes, 64 MiB. One is also begun with every day.
	Segment int64
	Log     *slog.Logger // slog.Default()
	// Send gets every commit, in order, once it is durable; nil for nobody. It must not block.
	Send func(Commit)

	disk disk        // the folder's
	tick chan func() // for tests: probes are made when it says so
}

// Commit is what became durable together.
type Commit struct {
	Lines      [][]byte // of its records
	Checkpoint string
}

// Log writes records. It is safe for concurrent use.
type Log struct {
	opts Options
	keys *Keys
	disk disk
	lock *flock.Flock

	wake  chan struct{} // holds a token if there may be something to write
	stop  chan struct{}
	ended sync.WaitGroup
	once  sync.Once

	refusals refusals

	// Of the goroutine that writes.
	segment segment
	file    file
	size    int64 // of the file, as far as it is acknowledged
	tree    tree
	torn    string // a file that could not be begun, and may be there; empty for none
	day     int64  // of the file
	last    time.Time
	prunes  map[string]bool // segments that are known to be pruned

	mu      sync.Mutex
	pending []waiting
	state   State
}

// waiting is a record that is to be written.
type waiting struct {
	record *Record
	done   chan error // nil if nobody waits
}

const (
	defaultSegment = 64 << 20
	// maxNotes bounds records that nobody waits for.
	maxNotes = 10_000
	// maxCommit is how many records are written together at most.
	maxCommit = 4096
	// probeEvery is how often a log that fails is tried again, and what is counted is written.
	probeEvery = time.Second
)

// Open opens the log in a folder for writing; its keys must be there. Another process must not write it. It records
// what the last one has left: requests without an end.
func Open(dir string, o Options) (*Log, error) {
	keys, err := ReadKeys(dir)
	if err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(dir, lockFile), flock.SetPermissions(0o600))
	held, err := lock.TryLock()
	switch {
	case err != nil:
		return nil, fmt.Errorf("lock the audit log in %s: %w", dir, err)
	case !held:
		return nil, fmt.Errorf("the audit log in %s is written by another server", dir)
	}
	if o.disk == nil {
		o.disk = osDisk(dir)
	}
	l, err := open(keys, o)
	if err != nil {
		_ = lock.Unlock()
		return nil, err
	}
	l.lock = lock
	return l, nil
}

// open opens the log of a disk.
func open(keys *Keys, o Options) (*Log, error) {
	if o.Segment == 0 {
		o.Segment = defaultSegment
	}

	if o.Log == nil {
		o.Log = slog.Default()
	}
	l := &Log{
		opts:   o,
		keys:   keys,
		disk:   o.disk,
		wake:   make(chan struct{}, 1),
		stop:   make(chan struct{}),
		prunes: map[string]bool{},
	}

	l.state.Continues = o.Continue
	found, err := l.recover()
	if err != nil {
		return nil, err
	}

	if found != nil {
		for _, r := range found.records() {
			l.pending = append(l.pending, waiting{record: r})
		}
	}

	l.notePrunes(false)
	l.noteCaptures()
	l.ended.Go(l.run)
	l.poke()
	return l, nil
}

// Close writes what there is to write, and ends writing.
func (l *Log) Close() error {
	l.once.Do(func() { close(l.stop) })
	l.ended.Wait()
	var err error
	if l.file != nil {
		err = l.file.Close()
	}
	if l.lock != nil {
		err = errors.Join(err, l.lock.Unlock())
	}
	return err
}

// Append implements Recorder, as do the methods after it.
func (l *Log) Append(r *Record) error {
	done := make(chan error, 1)
	l.mu.Lock()
	l.pending = append(l.pending, waiting{r, done})
	l.mu.Unlock()
	l.poke()
	select {
	case err := <-done:
		return err
	case <-l.stop:
	}

	// It may have been written before the log was closed.
	l.ended.Wait()
	select {
	case err := <-done:
		return err
	default:
		return fmt.Errorf("%w: it is closed", ErrFailing)
	}
}

// Note adds a record without waiting for it.
func (l *Log) Note(r *Record) {
	l.mu.Lock()
	if len(l.pending) >= maxNotes {
		l.state.Lost++
		l.mu.Unlock()
		return
	}
	l.pending = append(l.pending, waiting{record: r})
	l.mu.Unlock()
	l.poke()
}

// Refused notes a refused request, or counts it.
func (l *Log) Refused(r *Record) {
	if l.refusals.counts(r, time.Now()) {
		return
	}
	l.Note(r)
}

// Digest returns the digest of a subject without content.
func (l *Log) Digest(of Subject) *Digest { return l.keys.NewDigest(of) }

// State returns how the log is.
func (l *Log) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

func (l *Log) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run writes until the log is closed. While it writes, others come, and are written together next.
func (l *Log) run() {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-l.wake:
			l.writeAll()
		case <-ticker.C:
			l.tick()
		case f := <-l.opts.tick:
			l.tick()
			f()
		case <-l.stop:
			l.countAll()
			l.writeAll()
			l.failAll()
			return
		}
	}
}

// tick writes what was counted, tries a log again that fails, and looks whether it was pruned.
func (l *Log) tick() {
	for _, r := range l.refusals.over(time.Now()) {
		l.Note(r)
	}
	l.notePrunes(true)
	l.noteCaptures()
	if state := l.State(); state.Failing != nil {
		l.commit(nil)
	}
	l.writeAll()
}

func (l *Log) countAll() {
	for _, r := range l.refusals.over(time.Time{}) {
		l.Note(r)
	}
}

// failAll fails what came after the end.
func (l *Log) failAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.pending {
		if w.done != nil {
			w.done <- fmt.Errorf("%w: it is closed", ErrFailing)
		}
	}
	l.pending = nil
}

// writeAll writes what waits.
func (l *Log) writeAll() {
	for {
		l.mu.Lock()
		n := min(len(l.pending), maxCommit)
		batch := l.pending[:n:n]
		l.pending = l.pending[n:]
		if len(l.pending) == 0 {
			l.pending = nil
		}
		l.mu.Unlock()
		if n == 0 {
			return
		}
		l.commit(batch)
	}
}

// commit writes records and tells who waits. If it fails nothing of them counts as written.
func (l *Log) commit(batch []waiting) {
	lost := l.State().Lost
	failed := l.State().Failing
	all := batch
	if failed != nil {
		all = append([]waiting{{record: l.resumed(failed, lost)}}, batch...)
	}
	err := l.write(all)

	l.mu.Lock()
	l.state.Records = l.tree.size
	if err != nil {
		l.state.Failing = err
		l.state.Lost += int64(len(batch))
	} else {
		l.state.Failing = nil
	}
	l.mu.Unlock()

	switch {
	case err != nil && failed == nil:
		l.opts.Log.Error("the audit log cannot be written", "error", err, "work goes on", l.opts.Continue)
	case err == nil && failed != nil:
		l.opts.Log.Warn("the audit log can be written again", "lost", lost)
	}
	if err != nil && l.opts.Continue {
		err = nil
	}
	for _, w := range batch {
		if w.done != nil {
			w.done <- err
		}
	}
}

// resumed returns the record that says that records could not be written.
func (l *Log) resumed(why error, lost int64) *Record {
	return &Record{Kind: LogResumed, Count: lost, Error: why.Error()}
}

// encoded is a commit as it is written.
type encoded struct {
	text   bytes.Buffer
	lines  [][]byte
	leaves []tlog.Hash
	tags   [][]byte
	tree   tree
	last   time.Time
	note   string
}

// encode encodes records as those that follow the log's tree.
func (l *Log) encode(batch []waiting) (*encoded, error) {
	e := &encoded{tree: l.tree.clone(), last: l.last}
	for _, w := range batch {
		// Times go on like the records do, unless the clock was set back by more than its drift.
		t := now()
		if t.Before(e.last) && e.last.Sub(t) < time.Minute {
			t = e.last
		}
		e.last = t
		w.record.Time = t
		w.record.Seq = uint64(e.tree.size)

		text, err := w.record.encode()
		if err != nil {
			return nil, err
		}
		leaf := leafOf(text)
		e.lines = append(e.lines, text)
		e.leaves = append(e.leaves, leaf)
		e.tags = append(e.tags, l.keys.tag(e.tree.size, leaf))
		e.tree.add(leaf, nil)
		e.text.Write(text)
		e.text.WriteByte('\n')
	}
	var err error
	if e.note, err = sign(l.keys.signer, &e.tree); err != nil {
		return nil, err
	}
	return e, appendSeal(&e.text, &seal{Checkpoint: e.note, Leaves: e.leaves, Tags: e.tags})
}

func appendSeal(b *bytes.Buffer, s *seal) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	b.Write(text)
	b.WriteByte('\n')
	return nil
}

// write writes records and their checkpoint, and returns when they are durable.
func (l *Log) write(batch []waiting) error {
	if len(batch) == 0 {
		return nil
	}
	e, err := l.encode(batch)
	if err != nil {
		return err
	}
	if err := l.prepare(int64(e.text.Len())); err != nil {
		return fmt.Errorf("begin a file of the audit log: %w", err)
	}

	_, err = l.file.WriteAt(e.text.Bytes(), l.size)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		l.abandon()
		return fmt.Errorf("write the audit log: %w", err)
	}
	l.size += int64(e.text.Len())
	l.tree = e.tree
	l.last = e.last
	if l.opts.Send != nil {
		l.opts.Send(Commit{Lines: e.lines, Checkpoint: e.note})
	}
	return nil
}

// abandon removes what may be of a commit that failed. The file is opened again for the next one: what the system says
// of a file that it could not write is not to be relied upon.
func (l *Log) abandon() {
	_ = l.file.Truncate(l.size)
	_ = l.file.Close()
	l.file = nil
}

// dayOf returns the number of a day in UTC.
func dayOf(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }

// prepare sees to it that there is a file that has room.
func (l *Log) prepare(more int64) error {
	if l.file == nil && l.segment.name != "" {
		if err := l.reopen(); err != nil {
			return err
		}
	}
	if err := l.dropFailed(); err != nil {
		return err
	}
	today := dayOf(now())
	isFull := l.size+more > l.opts.Segment || today != l.day
	if l.segment.name == "" || isFull && l.tree.size > l.segment.first {
		return l.begin(today)
	}
	return nil
}

// reopen opens the last segment. What is behind its last commit was not acknowledged, and must not come back.
func (l *Log) reopen() error {
	f, err := l.disk.Append(l.segment.name)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(l.size), f.Sync()); err != nil {
		f.Close()
		return err
	}
	l.file = f
	return nil
}

// begin begins another segment.
func (l *Log) begin(today int64) error {
	var text bytes.Buffer
	note, err := sign(l.keys.signer, &l.tree)
	if err != nil {
		return err
	}
	if err := appendSeal(&text, &seal{
		Segment:    &head{First: l.tree.size, Nodes: l.tree.peaks},
		Checkpoint: note,
	}); err != nil {
		return err
	}

	if err := l.dropFailed(); err != nil {
		return err
	}
	name := segmentName(l.tree.size)
	l.torn = name
	f, err := l.disk.Create(name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text.Bytes(), 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = l.disk.Sync()
	}
	if err != nil {
		f.Close()
		return errors.Join(err, l.dropFailed())
	}
	l.torn = ""
	if l.file != nil {
		_ = l.file.Close()
	}
	l.file = f
	l.segment = segment{name: name, first: l.tree.size}
	l.size = int64(text.Len())
	l.day = today
	return nil
}

// dropFailed removes a file that could not be begun, so that it does not come back behind records that are written now.
func (l *Log) dropFailed() error {
	if l.torn == "" {
		return nil
	}
	if err := l.disk.Remove(l.torn); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := l.disk.Sync(); err != nil {
		return err
	}
	l.torn = ""
	return nil
}

// notePrunes looks for segments that were pruned by another process, and records them.
func (l *Log) notePrunes(record bool) {
	list, err := segments(l.disk)
	if err != nil {
		return
	}
	for _, s := range list {
		if !s.pruned || l.prunes[s.name] {
			continue
		}
		l.prunes[s.name] = true
		if record {
			l.Note(&Record{Kind: LogPruned, Object: s.name})
		}
	}
}
