package archive

import (
	"container/list"
	"context"
	"slices"
	"sync"
	"time"
)

// Store keeps records. An Archive keeps them in a file, a Memory as long as the process lives.
// Many goroutines may use one.
type Store interface {
	// Put stores records, all or none, in place of those with their IDs.
	Put(ctx context.Context, records ...*Record) error
	// Get returns a record, or ErrNotFound. The caller must not change it.
	Get(ctx context.Context, id string) (*Record, error)
	// Conversation returns a response and all that it goes on from, the oldest first. The error is
	// ErrNotFound without the response itself, ErrBroken without an earlier one, and ErrTooLong if they have
	// more bytes than most; then nothing of them is read.
	Conversation(ctx context.Context, id string, most int64) ([]*Record, error)
	// Admits returns ErrFull if a record of so many bytes cannot be stored for a client, so that work whose
	// result is to be stored is refused before it is done.
	Admits(owner string, bytes int64) error
	// Delete deletes a record, or returns ErrNotFound.
	Delete(ctx context.Context, id string) error
}

var (
	_ Store = (*Archive)(nil)
	_ Store = (*Memory)(nil)
)

// Memory keeps the records that were used last, within bounds of bytes and of time. Nothing of it
// is ever written to a disk by us.
type Memory struct {
	maxBytes int64
	keep     time.Duration

	mu    sync.Mutex
	bytes int64
	byID  map[string]*list.Element
	used  list.List // of *remembered, the one used last in front
}

type remembered struct {
	Record
	used time.Time
}

// NewMemory returns an empty Memory. It drops what has not been used for as long as keep, and, when
// all records have more than maxBytes, those that were used the longest ago.
func NewMemory(maxBytes int64, keep time.Duration) *Memory {
	return &Memory{
		maxBytes: maxBytes,
		keep:     keep,
		byID:     map[string]*list.Element{},
	}
}

// Put implements Store. A record that is larger than all of the memory is dropped at once.
func (m *Memory) Put(_ context.Context, records ...*Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()

	for _, r := range records {
		if e, known := m.byID[r.ID]; known {
			m.remove(e)
		}
		kept := &remembered{Record: *r, used: time.Now()}
		m.byID[r.ID] = m.used.PushFront(kept)
		m.bytes += kept.bytes()
	}
	m.drop()
	return nil
}

// drop removes what is beyond the bounds.
func (m *Memory) drop() {
	for e := m.used.Back(); e != nil; e = m.used.Back() {
		old := time.Since(e.Value.(*remembered).used) > m.keep
		if !old && m.bytes <= m.maxBytes {
			return
		}
		m.remove(e)
	}
}

func (m *Memory) remove(e *list.Element) {
	r := m.used.Remove(e).(*remembered)
	delete(m.byID, r.ID)
	m.bytes -= r.bytes()
}

// use returns a record, which is now the one used last.
func (m *Memory) use(id string) (*Record, error) {
	m.drop()
	e, known := m.byID[id]
	if !known {
		return nil, ErrNotFound
	}
	r := e.Value.(*remembered)
	r.used = time.Now()
	m.used.MoveToFront(e)
	return &r.Record, nil
}

// Get implements Store.
func (m *Memory) Get(_ context.Context, id string) (*Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.use(id)
}

// Conversation implements Store.
func (m *Memory) Conversation(_ context.Context, id string, most int64) ([]*Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var turns []*Record
	_, err := follow(id, most, func(id string) (string, int64, error) {
		r, err := m.use(id)
		if err != nil {
			return "", 0, err
		}
		turns = append(turns, r)
		return r.Previous, r.bytes(), nil
	})
	if err != nil {
		return nil, err
	}
	slices.Reverse(turns)
	return turns, nil
}

// Admits implements Store: what was used the longest ago makes room.
func (m *Memory) Admits(string, int64) error { return nil }

// Delete implements Store.
func (m *Memory) Delete(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop()
	e, known := m.byID[id]
	if !known {
		return ErrNotFound
	}
	m.remove(e)
	return nil
}
