package servertest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"serve/fault"
	"serve/pool"
	"serve/service"
)

var _ service.Library = (*Library)(nil)

// Library is a service.Library whose models are facts alone.
type Library struct {
	// Files describes the models, by name.
	Files map[string]*service.Facts
	// Load loads a model that was opened; nil for one that cannot be loaded.
	Load pool.LoadFunc
	// Hub has the models that can be pulled.
	Hub map[string]*service.Facts
	// Known is the catalog.
	Known service.Catalog
	// Steps are what a pull reports.
	Steps []service.PullProgress

	mu     sync.Mutex
	opened []string
}

func absent(name string) error {
	return fault.New(fault.ModelNotFound, "model", "The model '%s' is not on this machine.", name)
}

// Opened returns the names that were opened, in order.
func (l *Library) Opened() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.opened)
}

// Stored implements service.Library, as do the methods after it.
func (l *Library) Stored(context.Context) ([]*service.Facts, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*service.Facts
	for _, name := range slices.Sorted(maps.Keys(l.Files)) {
		list = append(list, l.Files[name])
	}
	return list, nil
}

// Facts implements service.Library.
func (l *Library) Facts(_ context.Context, name string) (*service.Facts, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.Files[name]; f != nil {
		return f, nil
	}
	return nil, absent(name)
}

// Open implements service.Library.
func (l *Library) Open(_ context.Context, name string) (*pool.Model, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name = strings.TrimSuffix(name, ":latest")
	if l.Files[name] == nil {
		return nil, absent(name)
	}
	l.opened = append(l.opened, name)
	return &pool.Model{ID: name, Created: l.Files[name].Modified, Load: l.Load}, nil
}

// Pull implements service.Library.
func (l *Library) Pull(ctx context.Context, name string, report func(service.PullProgress)) error {
	l.mu.Lock()
	facts := l.Hub[name]
	l.mu.Unlock()
	if facts == nil {
		return absent(name)
	}
	for _, step := range l.Steps {
		report(step)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Files[facts.Name] = facts
	return nil
}

// Catalog implements service.Library.
func (l *Library) Catalog() *service.Catalog { return &l.Known }

// Remove implements service.Library.
func (l *Library) Remove(_ context.Context, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Files[name] == nil {
		return absent(name)
	}
	delete(l.Files, name)
	return nil
}
