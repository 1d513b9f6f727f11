package enginetest

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"serve/engine"
)

// Sizes of what a sequence takes that is saved, in bytes.
const (
	savedHead = 1000
	savedCell = 2000
)

// Memory is host memory for saved sequences, which outlives the fakes that use it, as a child's parent's does.
type Memory struct {
	size int64

	mu     sync.Mutex
	saved  map[int64]*savedCells // by where they begin
	broken bool
}

// savedCells are what a region has.
type savedCells struct {
	at      engine.Saved
	cells   []cell
	owners  map[int]string // of the cells, by their numbers
	corrupt bool
}

// NewMemory returns memory of so many bytes.
func NewMemory(size int64) *Memory { return &Memory{size: size, saved: map[int64]*savedCells{}} }

// Corrupt changes what was saved so far. It returns how many sequences that were.
func (m *Memory) Corrupt() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.saved {
		s.corrupt = true
	}
	return len(m.saved)
}

// Break makes every Save fail from now on.
func (m *Memory) Break() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = true
}

// Entries returns how many sequences it has, and the bytes of their regions.
func (m *Memory) Entries() (n int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.saved {
		bytes += s.at.Size
	}
	return len(m.saved), bytes
}

// Save implements engine.Runner: what it writes over must have been discarded.
func (f *Fake) Save(seq int, to engine.Region) (engine.Saved, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.saved
	m.mu.Lock()
	defer m.mu.Unlock()

	held := f.kv[seq]
	if len(held) == 0 {
		return engine.Saved{}, f.fault("sequence %d is saved, which has no cells", seq)
	}
	if to.At < 0 || to.Size < 0 || to.At+to.Size > m.size {
		return engine.Saved{}, f.fault("%d bytes at %d of %d", to.Size, to.At, m.size)
	}
	saved := engine.Saved{Region: engine.Region{At: to.At, Size: savedHead + savedCell*int64(len(held))}}
	for _, c := range held {
		saved.Sum = saved.Sum*31 + uint32(c.number)
	}
	if saved.Size > to.Size {
		return saved, nil
	}
	if m.broken {
		return engine.Saved{}, fmt.Errorf("sequence %d cannot be saved", seq)
	}
	for _, other := range m.saved {
		if other.at.At < to.At+saved.Size && to.At < other.at.At+other.at.Size {
			return engine.Saved{}, f.fault("%+v is written over %+v", saved, other.at)
		}
	}

	owners := map[int]string{}
	for _, c := range held {
		if tenant, known := f.tenants[c.number]; known {
			owners[c.number] = tenant
		}
	}
	m.saved[to.At] = &savedCells{at: saved, cells: slices.Clone(held), owners: owners}
	return saved, nil
}

// Restore implements engine.Runner: the cells must still be there, and the sequence have none.
func (f *Fake) Restore(seq int, from engine.Saved) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.saved
	m.mu.Lock()
	defer m.mu.Unlock()

	s := m.saved[from.At]
	switch {
	case len(f.kv[seq]) > 0:
		return f.fault("sequence %d is restored, which has %d cells", seq, len(f.kv[seq]))
	case s == nil || s.at != from:
		return f.fault("%+v is restored, which is not there", from)
	case s.corrupt:
		return fmt.Errorf("%+v is corrupt", from)
	}

	// Cells of another fake have numbers of their own, as they have here.
	numbers := map[int]int{}
	f.kv[seq] = slices.Clone(s.cells)
	for i := range f.kv[seq] {
		old := f.kv[seq][i].number
		numbers[old] = f.computed
		f.kv[seq][i].number = f.computed
		f.computed++
	}
	for old, tenant := range maps.All(s.owners) {
		f.tenants[numbers[old]] = tenant
	}
	if f.opts.Limits.SavesWhole {
		f.floors[seq] = len(s.cells)
	}
	if l := f.opts.Limits; l.Shared && f.cells() > l.Cells {
		return f.fault("%d cells of %d after sequence %d was restored", f.cells(), l.Cells, seq)
	}
	return nil
}

// Discard implements engine.Runner: no part of what is there may stay.
func (f *Fake) Discard(region, _ engine.Region) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.saved.discard(f, region)
}

// Prepare implements engine.Runner: nothing may be there.
func (f *Fake) Prepare(r engine.Region) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.saved
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.At < 0 || r.Size <= 0 || r.At+r.Size > m.size {
		_ = f.fault("%+v is prepared of %d bytes", r, m.size)
	}
	for _, s := range m.saved {
		if s.at.At < r.At+r.Size && r.At < s.at.At+s.at.Size {
			_ = f.fault("%+v is prepared, where %+v is", r, s.at)
		}
	}
}

func (m *Memory) discard(f *Fake, r engine.Region) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for at, s := range m.saved {
		end := s.at.At + s.at.Size
		switch {
		case end <= r.At || r.At+r.Size <= at:
		case r.At <= at && end <= r.At+r.Size:
			delete(m.saved, at)
		default:
			_ = f.fault("a part of %+v is discarded: %+v", s.at, r)
		}
	}
}

// Memory returns what the fake saves sequences to.
func (f *Fake) Memory() *Memory { return f.saved }
