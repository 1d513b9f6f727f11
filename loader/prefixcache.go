package loader

import (
	"errors"
	"fmt"

	"serve/engine"
	"serve/engine/llama"
	"serve/hostmem"
)

// CacheSize is the size of the host memory for prefixes that lose their slots; the zero value lets the plan choose.
type CacheSize struct {
	Given bool
	Bytes uint64
}

// How large the plan makes the prefix cache unless its size is given.
const (
	cachePart  = 4       // the part of the memory that the plan leaves
	cacheTimes = 4       // times the KV cache
	cacheMost  = 8 << 30 // bytes
	cacheLeast = 8 << 20 // bytes, below which it is not worth having
)

// cacheRequest tells an engine where sequences are saved.
type cacheRequest struct {
	Descriptor int    // of the memory, in its process; 0 for none
	Bytes      uint64 // as the predecessor planned it
}

// planCache plans the prefix cache of a model that is laid out. If its size was given and does not fit, the error is a
// MemoryError.
func (p *planner) planCache(lo llama.Options, m *llama.Memory) error {
	if !m.Generates || p.o.PrefixCache.Given && p.o.PrefixCache.Bytes == 0 {
		return nil
	}
	if p.o.PrefixCache.Given {
		m.Host().Saved = p.o.PrefixCache.Bytes
		return noRoom(shortOf(p.o.budgetsOf(m)), lo)
	}

	budgets := p.o.budgetsOf(m)
	if len(budgets) == 0 || !budgets[len(budgets)-1].host {
		return nil // nobody knows what is free
	}
	host := &budgets[len(budgets)-1]
	left := host.room() - min(host.room(), host.plan.Most())
	var kv uint64
	for _, d := range m.Devices {
		kv += d.KV
	}
	if size := min(left/cachePart, kv*cacheTimes, cacheMost); size >= cacheLeast {
		m.Host().Saved = size
	}
	return nil
}

// mostCache is the largest prefix cache that an engine's process may have planned.
func (o *ModelOptions) mostCache() uint64 {
	if o.PrefixCache.Given {
		return o.PrefixCache.Bytes
	}
	return cacheMost
}

// useCache has a model save sequences to the memory that it was handed, as planned.
func (a *answer) useCache(q *request, runner *llama.Runner) error {
	size := &a.Memory.Host().Saved
	if *size == 0 || q.Cache.Descriptor == 0 {
		*size = 0
		return nil
	}

	memory, err := hostmem.Handed(q.Cache.Descriptor)
	if err != nil {
		return err
	}
	if a.NotSaved = runner.SaveTo(memory, q.Plan != nil); a.NotSaved != "" {
		*size = 0
		_ = memory.Close()
	}
	return nil
}

// newCache makes the memory for an engine's sequences, of no size yet. It is nil if there is to be none, or if this
// system has none.
func (o *opening) newCache() error {
	if o.q.Options.mostCache() == 0 {
		return nil
	}
	memory, err := hostmem.New()
	if err != nil {
		return o.q.Options.withoutCache(err)
	}
	o.cache = memory
	return nil
}

// withoutCache returns an error if there is to be a prefix cache and this system has no memory for one. Unless its size
// was given, there is none then.
func (o *ModelOptions) withoutCache(err error) error {
	if !errors.Is(err, hostmem.ErrUnsupported) {
		return err
	}
	if o.PrefixCache.Given {
		return fmt.Errorf("prefix cache: %w; its size can only be 0", err)
	}
	return nil
}

// limitCache gives the memory the size that was planned.
func (o *opening) limitCache(a *answer) error {
	size := a.Memory.Host().Saved
	switch {
	case o.cache == nil:
		return nil
	case size > o.q.Options.mostCache():
		return errors.New("the engine's process planned a larger prefix cache than it may have")
	}
	return o.cache.Limit(int64(size))
}

// closeCache gives the memory up.
func (o *opening) closeCache() {
	if o.cache != nil {
		_ = o.cache.Close()
	}
}

// closeCache gives the memory up. There may be none, and no answer.
func (a *answer) closeCache() {
	if a != nil && a.cache != nil {
		_ = a.cache.Close()
	}
}

// discard gives the memory of a region back, but for what lies in kept.
func (o *opening) discard(r, kept engine.Region) {
	if o.cache != nil {
		llama.Discard(o.cache, r, kept)
	}
}

// prepare has a region ready to be written. What fails makes writing take longer.
func (o *opening) prepare(r engine.Region) {
	if o.cache != nil {
		llama.Prepare(o.cache, r)
	}
}
