package enginetest

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"serve/engine"
)

// Folder keeps saved prefixes beyond the end of an engine and of its Memory, at once.
type Folder struct {
	mu      sync.Mutex
	memory  *Memory
	kept    map[uint64]keptCells
	next    uint64
	held    []func() // fetches that wait for Release
	holding bool
	broken  bool
	stats   engine.FolderStats
}

type keptCells struct {
	engine.KeptPrefix
	cells savedCells
}

// NewFolder returns an empty folder.
func NewFolder() *Folder { return &Folder{kept: map[uint64]keptCells{}} }

// Use has the folder read and write a memory, that of the next engine.
func (d *Folder) Use(m *Memory) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.memory = m
}

// Break makes every Fetch fail from now on.
func (d *Folder) Break() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = true
}

// Hold has every Fetch wait for Release.
func (d *Folder) Hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holding = true
}

// Held returns how many wait.
func (d *Folder) Held() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.held)
}

// Release ends Hold.
func (d *Folder) Release() {
	d.mu.Lock()
	held := d.held
	d.held = nil
	d.holding = false
	d.mu.Unlock()
	for _, fetch := range held {
		go fetch()
	}
}

// Put implements engine.PrefixFolder, as do the methods after it.
func (d *Folder) Put(p engine.KeptPrefix, _ bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.memory.mu.Lock()
	defer d.memory.mu.Unlock()
	s := d.memory.saved[p.Saved.At]
	if s == nil || s.at != p.Saved {
		d.stats.Written.Failed++
		return
	}
	d.next++
	p.Tokens = slices.Clone(p.Tokens)
	d.kept[d.next] = keptCells{p, *s}
	d.stats.Written.Count++
}

// Find prefers the longest.
func (d *Folder) Find(like engine.KeptPrefix, whole bool) (id uint64, p engine.KeptPrefix, shared int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, k := range d.kept {
		n := 0
		for n < min(len(k.Tokens), len(like.Tokens)) && k.Tokens[n] == like.Tokens[n] {
			n++
		}
		same := k.Tenant == like.Tenant && k.Salt == like.Salt && k.Reproducible == like.Reproducible
		if same && n > shared && (!whole || n == len(k.Tokens)) {
			id = i
			p = k.KeptPrefix
			shared = n
		}
	}
	return id, p, shared
}

// Fetch calls done from another goroutine.
func (d *Folder) Fetch(id uint64, to engine.Region, done func(engine.Saved, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fetch := func() { done(d.fetch(id, to)) }
	if d.holding {
		d.held = append(d.held, fetch)
		return
	}
	go fetch()
}

func (d *Folder) fetch(id uint64, to engine.Region) (engine.Saved, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k, found := d.kept[id]
	if !found || d.broken {
		delete(d.kept, id)
		d.stats.Read.Failed++
		return engine.Saved{}, fmt.Errorf("prefix %d cannot be read", id)
	}
	s := k.cells
	s.at.At = to.At
	s.owners = maps.Clone(s.owners)
	d.memory.mu.Lock()
	defer d.memory.mu.Unlock()
	d.memory.saved[to.At] = &s
	d.stats.Read.Count++
	return s.at, nil
}

// Forget removes a tenant's.
func (d *Folder) Forget(tenant string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.kept, func(_ uint64, k keptCells) bool { return k.Tenant == tenant })
}

// Clear removes all.
func (d *Folder) Clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.kept)
}

// Stats counts what was written and read.
func (d *Folder) Stats() engine.FolderStats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats
	s.Size = 1 << 40
	s.Entries = len(d.kept)
	return s
}
