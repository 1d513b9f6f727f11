package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"serve/engine"
)

// load waits for its turn, loads a slot's model and grants it to the waiters. It does the latter
// before the next load starts, so that the model is not evicted at once.
func (p *Pool) load(s *slot) {
	select {
	case <-p.turn:
		defer func() { p.turn <- struct{}{} }()
	case <-p.ctx.Done():
	}
	p.mu.Lock()
	in := s.instance
	if in == nil {
		p.mu.Unlock()
		var err error
		begin := time.Now()
		in, err = p.bring(s)
		p.mu.Lock()
		if err != nil {
			defer p.mu.Unlock()
			p.grant(s, granted{err: err})
			return
		}
		p.put(s, in, time.Since(begin))
	}
	defer p.mu.Unlock()
	p.grant(s, granted{instance: in})
}

// put puts an instance into an empty slot. The caller holds the mutex.
func (p *Pool) put(s *slot, in *Instance, took time.Duration) {
	s.instance = in
	s.asleep = false
	s.missing = nil
	s.loads++
	p.tell(Change{Model: s.model, Kind: Loaded})
	s.loadTime = took
	p.work.Go(func() { p.watch(s, in) })
	p.idle(s)
}

// grant answers the waiters, in order. The caller holds the mutex.
func (p *Pool) grant(s *slot, g granted) {
	for _, w := range s.waiters {
		if g.err == nil {
			s.users++
		}
		w.ready <- g
	}
	s.loading = false
	s.waiters = nil
}

// bring loads a slot's model. The error may be shown to clients.
func (p *Pool) bring(s *slot) (*Instance, error) {
	in, err := p.makeRoomAndLoad(s)
	var short *NoRoomError
	switch {
	case p.ctx.Err() != nil:
		if err == nil {
			p.stop([]*Instance{in})
		}
		return nil, engine.ErrStopped
	case err == nil || errors.Is(err, ErrNoMemory):
		return in, err
	}

	p.log.Error("a model cannot be loaded", "model", s.model.ID, "error", err)
	p.tell(Change{Model: s.model, Kind: Loaded, Err: err})
	var missing *UnavailableError
	if errors.As(err, &missing) {
		p.mu.Lock()
		p.miss(s, missing)
		p.mu.Unlock()
		return nil, missing
	}

	if errors.As(err, &short) {
		return nil, err
	}

	return nil, ErrLoad // the reason may contain private details; it is only logged
}

// makeRoomAndLoad loads a model:
//
//  1. with all the memory it wants, beside the others;
//  2. the same after unloading unused models, least recently used first, if that
//     frees enough;
//  3. with less memory;
//  4. the same after unloading unused models;
//  5. again from 1, when another model has become unused.
func (p *Pool) makeRoomAndLoad(s *slot) (*Instance, error) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.short = nil
	}()
	for p.ctx.Err() == nil {
		if in, short, err := p.evictAndLoad(s, false); short == nil {
			return in, err
		}
		freed := p.freedSignal()
		in, short, err := p.evictAndLoad(s, true)
		if short == nil {
			return in, err
		}
		if err := p.awaitFreed(s, freed, short); err != nil {
			return nil, err
		}
	}
	return nil, p.ctx.Err()
}

// evictAndLoad loads a model, and unloads unused models if that frees enough memory. If not, it
// returns the NoRoomError as its second value.
func (p *Pool) evictAndLoad(s *slot, shrink bool) (*Instance, *NoRoomError, error) {
	for {
		in, err := s.model.Load(p.ctx, shrink)
		var short *NoRoomError
		if !errors.As(err, &short) {
			return in, nil, err
		}
		victims := p.evict(short.Short)
		if len(victims) == 0 {
			return nil, short, nil
		}
		p.stop(victims)
	}
}

// freedSignal returns a channel that is closed when the next model becomes unused.
func (p *Pool) freedSignal() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.freed
}

// awaitFreed waits until a model in use has become unused. It returns an error if none is in use, or
// if the slot has no waiters anymore.
func (p *Pool) awaitFreed(s *slot, freed <-chan struct{}, short *NoRoomError) error {
	p.mu.Lock()
	p.short = s
	busy := 0
	waiting := len(s.waiters)
	for _, o := range p.slots {
		if o.instance != nil && o.users > 0 {
			busy++
		}
	}
	p.mu.Unlock()
	if busy == 0 {
		return short
	}
	if waiting == 0 {
		return ErrNoMemory
	}
	select {
	case <-freed:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

// Wanted reports whether another model cannot be loaded before one in use has become unused. Work that
// can wait should not use the model then.
func (p *Pool) Wanted(m *Model) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.short != nil && p.short.model != m
}

// evict removes unused models from their slots, least recently used first, until they add up to the
// given number of bytes. It removes none if they are not enough.
func (p *Pool) evict(bytes uint64) []*Instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	var idle []*slot
	for _, s := range p.slots {
		if s.instance != nil && s.users == 0 {
			idle = append(idle, s)
		}
	}

	slices.SortFunc(idle, func(a, b *slot) int {
		return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.model.ID, b.model.ID))
	})

	var sum uint64
	n := 0
	for n < len(idle) && sum < bytes {
		sum += idle[n].instance.Bytes + idle[n].instance.Later
		n++
	}

	if sum < bytes {
		return nil
	}

	victims := make([]*Instance, n)
	for i, s := range idle[:n] {
		p.log.Info("model unloaded", "model", s.model.ID, "bytes", s.instance.Bytes, "to free", bytes)
		victims[i] = p.take(s)
	}

	return victims
}

// stop stops instances and waits until their memory is free.
func (p *Pool) stop(list []*Instance) {
	for _, in := range list {
		in.Stop()
	}
	for _, in := range list {
		<-in.Done
	}
}

// Preload loads a model into free memory, without unloading another model.
func (p *Pool) Preload(ctx context.Context, m *Model) error {
	select {
	case <-p.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { p.turn <- struct{}{} }()
	begin := time.Now()
	in, err := m.Load(ctx, true)
	if err != nil {
		return fmt.Errorf("load %s: %w", m.ID, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.put(p.slot(m), in, time.Since(begin))
	return nil
}

// miss records that a model's device is missing, and schedules another attempt. The caller holds the
// mutex.
func (p *Pool) miss(s *slot, err *UnavailableError) {
	s.missing = err
	s.asleep = false
	if s.retry != nil {
		s.retry.Stop()
	}

	s.retry = time.AfterFunc(DeviceRetry, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.ctx.Err() == nil && s.instance == nil && s.missing != nil && !s.loading {
			s.loading = true
			p.work.Go(func() { p.load(s) })
		}
	})
}

// MissingDevice returns the error of a model that is not in memory because its device is missing.
func (p *Pool) MissingDevice(m *Model) (*UnavailableError, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slots[m]
	if s == nil || s.instance != nil || s.missing == nil {
		return nil, false
	}
	return s.missing, true
}

// watch waits for the end of an instance. If it has failed, the next request reloads the model.
func (p *Pool) watch(s *slot, in *Instance) {
	<-in.Done
	p.mu.Lock()
	failed := s.instance == in
	if failed {
		p.tell(Change{Model: s.model, Kind: Failed})
		p.take(s)
	}
	var missing *UnavailableError
	if failed && in.Failed != nil && errors.As(in.Failed(), &missing) {
		p.miss(s, missing)
	}
	s.ending = slices.DeleteFunc(s.ending, func(o *Instance) bool { return o == in })
	s.past.Add(in.Engine.Stats())
	p.mu.Unlock()
	if failed && p.ctx.Err() == nil {
		p.log.Error("an engine has failed; the next request loads the model again", "model", s.model.ID)
	}
}
