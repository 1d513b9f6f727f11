package pool

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"serve/engine"
)

// Pool keeps models in memory as long as there is room. Models are loaded on demand. To make room,
// the least recently used models are unloaded, but never one that is in use.
type Pool struct {
	keepAlive  time.Duration // after which an unused model is unloaded, unless Keep says otherwise; 0 for never
	maxWaiting int           // requests for a model that is not in memory
	log        *slog.Logger
	ctx        context.Context // of loads, which may outlive the requests that wait for them
	cancel     context.CancelFunc
	turn       chan struct{} // contains a token while no load is running
	work       sync.WaitGroup

	observe atomic.Pointer[func(Change)]

	mu    sync.Mutex
	slots map[*Model]*slot
	freed chan struct{} // closed and replaced when a waiting load should look again
	short *slot         // whose load waits for memory of models in use, or nil
}

// slot is a model's place in the pool.
type slot struct {
	model    *Model
	instance *Instance // nil while it is not in memory
	users    int
	used     time.Time      // when the last user left
	keep     *time.Duration // after which it is unloaded when it is unused; nil for the pool's keepAlive
	loading  bool
	waiters  []waiter // in order of arrival
	expiry   *time.Timer
	ending   []*Instance  // removed from the slot, still stopping
	past     engine.Stats // of instances that have stopped
	loads    int
	loadTime time.Duration     // of the last load
	asleep   bool              // it was unloaded because nobody used it
	missing  *UnavailableError // why it is not in memory, or nil
	retry    *time.Timer       // loads it when the device may be back
}

// waiter is a request that waits for a model.
type waiter struct {
	tenant string
	ready  chan granted
}

// granted is what a waiter gets: an instance that it must release, or an error.
type granted struct {
	instance *Instance
	err      error
}

// Lease keeps a model in memory until it is released.
type Lease struct {
	*Model
	Engine  Engine
	Release func()
}

// New returns an empty pool. Models that have not been used for keepAlive are unloaded, unless it is
// 0. At most maxWaiting requests wait for each model. The caller must close the pool.
func New(keepAlive time.Duration, maxWaiting int, log *slog.Logger) *Pool {
	p := &Pool{
		keepAlive:  keepAlive,
		maxWaiting: maxWaiting,
		log:        log,
		turn:       make(chan struct{}, 1),
		slots:      map[*Model]*slot{},
		freed:      make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.turn <- struct{}{}
	return p
}

// slot returns a model's place. The caller holds the mutex.
func (p *Pool) slot(m *Model) *slot {
	s := p.slots[m]
	if s == nil {
		s = &slot{model: m}
		p.slots[m] = s
	}
	return s
}

// Acquire leases a model for a tenant's request, and loads the model if needed. Requests for a model that is being
// loaded wait in order of arrival, for at most patience. If too many are waiting it returns an engine.BusyError.
func (p *Pool) Acquire(ctx context.Context, m *Model, tenant string, patience time.Duration) (*Lease, error) {
	p.mu.Lock()
	s := p.slot(m)
	if s.instance != nil && len(s.waiters) == 0 {
		s.users++
		p.mu.Unlock()
		return p.lease(s, s.instance), nil
	}

	if len(s.waiters) >= p.maxWaiting {
		own := s.waiting(tenant)
		p.mu.Unlock()
		return nil, &engine.BusyError{Reason: engine.ErrQueueFull, Waiting: own, Position: own}
	}

	wait := make(chan granted, 1)
	s.waiters = append(s.waiters, waiter{tenant, wait})
	if !s.loading {
		s.loading = true
		p.work.Go(func() { p.load(s) })
	}
	p.mu.Unlock()

	timer := time.NewTimer(patience)
	defer timer.Stop()
	var err error
	select {
	case g := <-wait:
		if g.err != nil {
			return nil, g.err
		}
		return p.lease(s, g.instance), nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-timer.C:
		err = ErrLoading
	}

	p.giveUp(s, wait)
	return nil, err
}

// waiting counts the requests of a tenant that wait for the slot's model. The caller holds the mutex.
func (s *slot) waiting(tenant string) int {
	n := 0
	for _, w := range s.waiters {
		if w.tenant == tenant {
			n++
		}
	}
	return n
}

// giveUp removes a waiter from the queue, or releases the instance that it has just been granted.
func (p *Pool) giveUp(s *slot, wait chan granted) {
	p.mu.Lock()
	i := slices.IndexFunc(s.waiters, func(w waiter) bool { return w.ready == wait })
	if i >= 0 {
		s.waiters = slices.Delete(s.waiters, i, i+1)
		p.announce() // a load without waiters stops waiting for room
	}
	p.mu.Unlock()
	if i >= 0 {
		return
	}
	if g := <-wait; g.err == nil {
		p.release(s)
	}
}

func (p *Pool) lease(s *slot, in *Instance) *Lease {
	return &Lease{
		Model:   s.model,
		Engine:  in.Engine,
		Release: sync.OnceFunc(func() { p.release(s) }),
	}
}

// release ends one use of a slot's instance.
func (p *Pool) release(s *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.users--; s.users == 0 {
		p.idle(s)
	}
}

// idle marks a loaded model as unused. The caller holds the mutex.
func (p *Pool) idle(s *slot) {
	s.used = time.Now()
	p.announce()
	p.schedule(s)
}

// announce wakes up a load that is waiting for room. The caller holds the mutex.
func (p *Pool) announce() {
	close(p.freed)
	p.freed = make(chan struct{})
}

// take removes the instance from a slot. The caller holds the mutex, and stops the instance after
// releasing it.
func (p *Pool) take(s *slot) *Instance {
	in := s.instance
	s.instance = nil
	s.keep = nil
	if in != nil {
		s.ending = append(s.ending, in)
		p.tell(Change{Model: s.model, Kind: Unloaded})
	}
	if s.expiry != nil {
		s.expiry.Stop()
	}
	return in
}

// Loaded returns the engine of a model that is in memory.
func (p *Pool) Loaded(m *Model) (Engine, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.slots[m]; s != nil && s.instance != nil {
		return s.instance.Engine, true
	}
	return nil, false
}

// Forget has the models in memory drop what a tenant's requests have left in them.
func (p *Pool) Forget(tenant string) {
	for _, e := range p.engines() {
		e.Forget(tenant)
	}
}

// engines returns those of all models that are in memory.
func (p *Pool) engines() (list []Engine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.slots {
		if s.instance != nil {
			list = append(list, s.instance.Engine)
		}
	}
	return list
}

// Close unloads all models and returns when their memory is free.
func (p *Pool) Close() {
	p.cancel()
	p.mu.Lock()
	var list []*Instance
	for _, s := range p.slots {
		if in := p.take(s); in != nil {
			list = append(list, in)
		}
		if s.retry != nil {
			s.retry.Stop()
		}
	}
	p.mu.Unlock()
	p.stop(list)
	p.work.Wait()
}
