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
	Get(ctx context.Context, key Key) (*Record, error)
	// Conversation returns a response and all that it goes on from, the oldest first. The error is
	// ErrNotFound without the response itself, ErrBroken without an earlier one, and ErrTooLong if they have
	// more bytes than most; then nothing of them is read.
	Conversation(ctx context.Context, key Key, most int64) ([]*Record, error)
	// Admits returns ErrFull if a record of so many bytes cannot be stored for an owner, so that work whose
	// result is to be stored is refused before it is done.
	Admits(owner Owner, bytes int64) error
	// Delete deletes a record, or returns ErrNotFound.
	Delete(ctx context.Context, key Key) error
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

	mu      sync.Mutex
	bytes   int64
	tenants map[string]*shelf
	sweeps  bool // a timer runs, which drops what is too old then
}

// shelf is what is kept for a tenant.
type shelf struct {
	bytes int64
	byID  map[string]*list.Element
	used  list.List // of *remembered, the one used last in front
}

type remembered struct {
	Record
	used time.Time
}

// NewMemory returns an empty Memory. It drops what has not been used for as long as keep, and, when
// all records have more than maxBytes, those of the tenant that has the most which were used the longest ago.
func NewMemory(maxBytes int64, keep time.Duration) *Memory {
	return &Memory{
		maxBytes: maxBytes,
		keep:     keep,
		tenants:  map[string]*shelf{},
	}
}

// Put implements Store. A record that is larger than all of the memory is dropped at once.
func (m *Memory) Put(_ context.Context, records ...*Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()

	for _, r := range records {
		s := m.tenants[r.Owner.Tenant]
		if s == nil {
			s = &shelf{byID: map[string]*list.Element{}}
			m.tenants[r.Owner.Tenant] = s
		}
		if e, known := s.byID[r.ID]; known {
			m.remove(s, e)
		}
		kept := &remembered{Record: *r, used: time.Now()}
		s.byID[r.ID] = s.used.PushFront(kept)
		s.bytes += kept.bytes()
		m.bytes += kept.bytes()
	}
	m.drop()
	m.schedule()
	return nil
}

// schedule has the record that will be too old first dropped when it is, also if nobody asks for anything any more. The
// caller holds the mutex.
func (m *Memory) schedule() {
	if m.sweeps {
		return
	}
	var oldest *remembered
	for _, s := range m.tenants {
		if e := s.used.Back(); e != nil && (oldest == nil || e.Value.(*remembered).used.Before(oldest.used)) {
			oldest = e.Value.(*remembered)
		}
	}
	if oldest == nil {
		return
	}

	m.sweeps = true
	time.AfterFunc(m.keep-time.Since(oldest.used)+sweepLate, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.sweeps = false
		m.dropAllOld()
		m.schedule()
	})
}

// sweepLate is how much later than it could be a record is dropped that nobody asks for, so that those that came with
// it are dropped with it.
const sweepLate = time.Second

// dropAllOld removes what all tenants have not used for too long.
func (m *Memory) dropAllOld() {
	for tenant, s := range m.tenants {
		m.dropOld(s)
		if len(s.byID) == 0 {
			delete(m.tenants, tenant)
		}
	}
}

// drop removes what is beyond the bounds.
func (m *Memory) drop() {
	m.dropAllOld()
	for m.bytes > m.maxBytes {
		var most *shelf
		for _, s := range m.tenants {
			if most == nil || s.bytes > most.bytes {
				most = s
			}
		}
		m.remove(most, most.used.Back())
	}
}

// dropOld removes what a tenant has not used for too long.
func (m *Memory) dropOld(s *shelf) {
	for e := s.used.Back(); e != nil && time.Since(e.Value.(*remembered).used) > m.keep; e = s.used.Back() {
		m.remove(s, e)
	}
}

func (m *Memory) remove(s *shelf, e *list.Element) {
	r := s.used.Remove(e).(*remembered)
	delete(s.byID, r.ID)
	s.bytes -= r.bytes()
	m.bytes -= r.bytes()
}

// find returns a record.
func (m *Memory) find(key Key) (*shelf, *list.Element, error) {
	s := m.tenants[key.Tenant]
	if s == nil {
		return nil, nil, ErrNotFound
	}
	m.dropOld(s)
	e, known := s.byID[key.ID]
	if !known {
		return nil, nil, ErrNotFound
	}
	return s, e, nil
}

// use returns a record, which is now the one used last.
func (m *Memory) use(key Key) (*Record, error) {
	s, e, err := m.find(key)
	if err != nil {
		return nil, err
	}
	r := e.Value.(*remembered)
	r.used = time.Now()
	s.used.MoveToFront(e)
	return &r.Record, nil
}

// Get implements Store.
func (m *Memory) Get(_ context.Context, key Key) (*Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.use(key)
}

// Conversation implements Store.
func (m *Memory) Conversation(_ context.Context, key Key, most int64) ([]*Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var turns []*Record
	_, err := follow(key.ID, most, func(id string) (string, int64, error) {
		r, err := m.use(Key{key.Tenant, id})
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
func (m *Memory) Admits(Owner, int64) error { return nil }

// Delete implements Store.
func (m *Memory) Delete(_ context.Context, key Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, e, err := m.find(key)
	if err != nil {
		return err
	}
	m.remove(s, e)
	return nil
}
