package audit

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
)

// memory is a disk that can fail, and whose power can be cut. What was not synced may be lost then, each sector by
// itself, and each name.
type memory struct {
	mu      sync.Mutex
	names   map[string]*memoryFile
	durable map[string]*memoryFile
	random  *rand.Rand
	cut     int     // operations until the power is cut; 0 for never
	failing float64 // share of operations that fail
	off     bool
}

type memoryFile struct {
	d       *memory
	data    []byte
	durable []byte
}

var errPower = errors.New("the power is cut")

func newMemory(seed uint64) *memory {
	return &memory{
		names:   map[string]*memoryFile{},
		durable: map[string]*memoryFile{},
		random:  rand.New(rand.NewPCG(seed, 1)),
	}
}

// op counts an operation that changes something, and returns the error that it gets. The caller holds the mutex.
func (d *memory) op() error {
	if d.cut > 0 {
		if d.cut--; d.cut == 0 {
			d.off = true
		}
	}
	switch {
	case d.off:
		return errPower
	case d.random.Float64() < d.failing:
		return syscall.ENOSPC
	}
	return nil
}

const sector = 64 // bytes; small, so that records have several

// restart returns what is left after the power was cut.
func (d *memory) restart() *memory {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
	next := newMemory(d.random.Uint64())
	names := maps.Clone(d.names)
	maps.Copy(names, d.durable)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		old, was := d.durable[name]
		now, is := d.names[name]
		f := old
		if !was || is && d.random.IntN(2) == 0 {
			f = now
		}
		if f == nil || !was && d.random.IntN(2) == 0 {
			continue
		}
		content := f.left(d.random)
		kept := &memoryFile{d: next, data: content, durable: bytes.Clone(content)}
		next.names[name] = kept
		next.durable[name] = kept
	}
	return next
}

// left returns what is left of a file.
func (f *memoryFile) left(random *rand.Rand) []byte {
	size := len(f.durable)
	if len(f.data) != size && random.IntN(2) == 0 {
		low, high := min(size, len(f.data)), max(size, len(f.data))
		size = low + random.IntN(high-low+1)
	}
	content := make([]byte, size)
	copy(content, f.durable)
	for at := 0; at < size; at += sector {
		end := min(at+sector, size, len(f.data))
		if at < end && random.IntN(2) == 0 {
			copy(content[at:end], f.data[at:end])
		}
	}
	return content
}

func (d *memory) Names() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.names)), nil
}

func (d *memory) Open(name string) (io.ReadCloser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ok := d.names[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(bytes.Clone(f.data))), nil
}

func (d *memory) Create(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return nil, err
	}
	f := &memoryFile{d: d}
	d.names[name] = f
	return f, nil
}

func (d *memory) Append(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return nil, err
	}
	f, ok := d.names[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return f, nil
}

func (d *memory) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return err
	}
	d.names[to] = d.names[from]
	delete(d.names, from)
	return nil
}

func (d *memory) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return err
	}
	if d.names[name] == nil {
		return fs.ErrNotExist
	}
	delete(d.names, name)
	return nil
}

func (d *memory) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op(); err != nil {
		return err
	}
	d.durable = maps.Clone(d.names)
	return nil
}

func (f *memoryFile) WriteAt(p []byte, offset int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	err := f.d.op()
	if err != nil {
		p = p[:f.d.random.IntN(len(p)+1)] // a part of it is written
	}
	if need := int(offset) + len(p); need > len(f.data) {
		f.data = append(f.data, make([]byte, need-len(f.data))...)
	}
	return copy(f.data[offset:], p), err
}

func (f *memoryFile) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.op(); err != nil {
		return err
	}
	f.data = append(f.data[:min(int(size), len(f.data))], make([]byte, max(0, int(size)-len(f.data)))...)
	return nil
}

func (f *memoryFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.op(); err != nil {
		return err
	}
	f.durable = bytes.Clone(f.data)
	return nil
}

func (f *memoryFile) Close() error { return nil }
