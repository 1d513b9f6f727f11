package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"serve/engine"
	"serve/kernels"
)

// LoadFunc brings a model into memory. Only one runs at a time. Where memory is
// short it returns a NoRoomError, and may be called again when some is free; with
// shrink it makes do with what is free: fewer KV cells than would be best.
type LoadFunc func(ctx context.Context, shrink bool) (*Instance, error)

// Instance is a model in memory.
type Instance struct {
	Engine Engine
	Bytes  uint64          // that it takes once it answers, as it was planned
	Later  uint64          // that it may take besides, when embeddings are first asked for
	Done   <-chan struct{} // closed when the engine has ended and its memory is free
	Stop   func()          // ends the engine; Done tells when it has
	// Kernels are the processor's kernels that it computes with.
	Kernels kernels.Choice
	// Process says what computes the model, if that is a process of its own; else nil.
	Process func() Process
	// Failed says why the engine cannot go on, if it cannot; nil for one that never fails so.
	Failed func() error

	// Devices are those that compute the model.
	Devices []Device
	// WhyProcessor says why the machine's GPUs do not, empty if they do or there are none.
	WhyProcessor string

	// Memory says what it takes of each device; nil if that is not known.
	Memory func() []DeviceMemory
}

// Device is a GPU, or the processor.
type Device struct {
	Name        string `json:"name"` // CUDA0, CPU
	Description string `json:"description"`
}

// DeviceMemory is what a model was planned to take of a device, and takes, in bytes.
type DeviceMemory struct {
	Device  string `json:"device"`
	Planned uint64 `json:"planned_bytes"`
	Later   uint64 `json:"later_bytes"` // may come besides, when embeddings are first asked for
	Taken   uint64 `json:"taken_bytes"` // of the host now, of a card at the load; 0 if unknown
}

// Process is one of the system's.
type Process struct {
	ID       int    // 0 while there is none
	Resident uint64 // bytes of memory that it takes, of mapped files too; 0 if unknown
}

// NoRoomError says that a model needs more memory than there is.
type NoRoomError struct {
	Err   error
	Short uint64 // bytes that are missing
}

// Error implements error.
func (e *NoRoomError) Error() string { return e.Err.Error() }

// Unwrap gives the reason.
func (e *NoRoomError) Unwrap() error { return e.Err }

// DeviceError says that a GPU which is there, or was, cannot be used. A model is then
// computed by nothing else instead. Its text may be read by clients.
type DeviceError struct{ Err error }

// Error implements error.
func (e *DeviceError) Error() string { return e.Err.Error() }

// Unwrap gives the reason.
func (e *DeviceError) Unwrap() error { return e.Err }

// deviceRetry is after how long a model is loaded again whose device was missing: a driver
// that is reloaded takes seconds, and each try takes one.
const deviceRetry = 30 * time.Second

// Why a request gets no model, besides what loading it returns.
var (
	errLoading = errors.New("the model is being loaded")
	errBusy    = errors.New("there is no memory for the model while others answer")
	errLoad    = errors.New("the model cannot be loaded")
)

// pool keeps models in memory while there is room. One that is needed and not
// there is loaded; where that takes room, the least recently used of those that
// nobody uses are unloaded, and never one that answers.
type pool struct {
	keepAlive  time.Duration // after which an unused model is unloaded; 0 for never
	maxWaiting int           // requests for a model that is not in memory
	log        *slog.Logger
	ctx        context.Context // of loads: they outlive the request that asked
	cancel     context.CancelFunc
	turn       chan struct{} // holds a token while nobody loads
	work       sync.WaitGroup

	mu    sync.Mutex
	slots map[*Model]*slot
	freed chan struct{} // closed and replaced when a load may find room, or need not
}

// slot is a model's place in the pool.
type slot struct {
	model    *Model
	instance *Instance // nil while it is not in memory
	users    int
	used     time.Time // when the last user left
	loading  bool
	waiters  []chan granted // in the order in which they came
	expiry   *time.Timer
	ending   []*Instance  // that were taken out and have not ended yet
	past     engine.Stats // of those that have
	loads    int
	loadTime time.Duration // of the last load
	missing  *DeviceError  // why it is not in memory, if that is why
	retry    *time.Timer   // loads it again then
}

// granted is what a waiter gets: an instance that it must release, or an error.
type granted struct {
	instance *Instance
	err      error
}

// lease is a model that is in memory for as long as it is held.
type lease struct {
	*Model
	Engine  Engine
	release func()
}

func newPool(keepAlive time.Duration, maxWaiting int, log *slog.Logger) *pool {
	p := &pool{keepAlive: keepAlive, maxWaiting: maxWaiting, log: log, turn: make(chan struct{}, 1), slots: map[*Model]*slot{}, freed: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.turn <- struct{}{}
	return p
}

// slot returns a model's place. The caller holds the mutex.
func (p *pool) slot(m *Model) *slot {
	s := p.slots[m]
	if s == nil {
		s = &slot{model: m}
		p.slots[m] = s
	}
	return s
}

// acquire returns a model in memory, loading it if need be. Requests for one that
// is being loaded wait in order, but no longer than
// patience, and no more than the pool's bound.
func (p *pool) acquire(ctx context.Context, m *Model, patience time.Duration) (*lease, error) {
	p.mu.Lock()
	s := p.slot(m)
	if s.instance != nil && len(s.waiters) == 0 {
		s.users++
		p.mu.Unlock()
		return p.lease(s, s.instance), nil
	}
	if n := len(s.waiters); n >= p.maxWaiting {
		p.mu.Unlock()
		return nil, &engine.BusyError{Reason: engine.ErrQueueFull, Waiting: n, Position: n}
	}
	wait := make(chan granted, 1)
	s.waiters = append(s.waiters, wait)
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
		err = errLoading
	}
	p.giveUp(s, wait)
	return nil, err
}

// giveUp takes a waiter out of the queue, or gives back what it has just got.
func (p *pool) giveUp(s *slot, wait chan granted) {
	p.mu.Lock()
	i := slices.Index(s.waiters, wait)
	if i >= 0 {
		s.waiters = slices.Delete(s.waiters, i, i+1)
		p.announce() // a load that nobody waits for any more need not wait for room
	}
	p.mu.Unlock()
	if i >= 0 {
		return
	}
	if g := <-wait; g.err == nil {
		p.release(s)
	}
}

func (p *pool) lease(s *slot, in *Instance) *lease {
	return &lease{Model: s.model, Engine: in.Engine, release: sync.OnceFunc(func() { p.release(s) })}
}

// release ends a use.
func (p *pool) release(s *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.users--; s.users == 0 {
		p.idle(s)
	}
}

// idle notes that nobody uses a loaded model from now on. The caller holds the mutex.
func (p *pool) idle(s *slot) {
	s.used = time.Now()
	p.announce()
	if p.keepAlive > 0 && s.instance != nil {
		s.expiry = time.AfterFunc(p.keepAlive, func() { p.expire(s) })
	}
}

// announce wakes a load that waits for room. The caller holds the mutex.
func (p *pool) announce() {
	close(p.freed)
	p.freed = make(chan struct{})
}

// expire unloads a model that nobody has used for long.
func (p *pool) expire(s *slot) {
	p.mu.Lock()
	var in *Instance
	if s.instance != nil && s.users == 0 && time.Since(s.used) >= p.keepAlive {
		in = p.take(s)
	}
	p.mu.Unlock()
	if in != nil {
		p.log.Info("model unloaded", "model", s.model.ID, "unused", p.keepAlive)
		in.Stop()
	}
}

// take makes a slot empty. The caller holds the mutex, and stops the instance
// without it.
func (p *pool) take(s *slot) *Instance {
	in := s.instance
	s.instance = nil
	if in != nil {
		s.ending = append(s.ending, in)
	}
	if s.expiry != nil {
		s.expiry.Stop()
	}
	return in
}

// load waits for its turn, brings a slot's model into memory and hands it to those
// that wait. It does that before the next load may look for victims.
func (p *pool) load(s *slot) {
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

// put fills an empty slot. The caller holds the mutex.
func (p *pool) put(s *slot, in *Instance, took time.Duration) {
	s.instance = in
	s.missing = nil
	s.loads, s.loadTime = s.loads+1, took
	p.work.Go(func() { p.watch(s, in) })
	p.idle(s)
}

// grant answers those that wait, in order. The caller holds the mutex.
func (p *pool) grant(s *slot, g granted) {
	for _, w := range s.waiters {
		if g.err == nil {
			s.users++
		}
		w <- g
	}
	s.loading, s.waiters = false, nil
}

// bring loads a slot's model. The error is one that a client may read.
func (p *pool) bring(s *slot) (*Instance, error) {
	in, err := p.makeRoomAndLoad(s)
	var short *NoRoomError
	switch {
	case p.ctx.Err() != nil:
		if err == nil {
			p.stop([]*Instance{in})
		}
		return nil, engine.ErrStopped
	case err == nil || errors.Is(err, errBusy):
		return in, err
	}
	p.log.Error("a model cannot be loaded", "model", s.model.ID, "error", err)
	var missing *DeviceError
	if errors.As(err, &missing) {
		p.mu.Lock()
		p.miss(s, missing)
		p.mu.Unlock()
		return nil, missing
	}
	if errors.As(err, &short) {
		return nil, err
	}
	return nil, errLoad // the reason may name what is only for the log
}

// makeRoomAndLoad loads a model:
//
//  1. as it would be best, beside the others;
//  2. the same after unloading unused models, the longest unused first, if they
//     free enough;
//  3. with less memory than would be best;
//  4. the same after unloading unused models;
//  5. as 1, when a model that answers now has become unused.
func (p *pool) makeRoomAndLoad(s *slot) (*Instance, error) {
	for {
		if p.ctx.Err() != nil {
			return nil, p.ctx.Err()
		}
		var short *NoRoomError
		for _, shrink := range []bool{false, true} {
			for {
				freed := p.freedSignal()
				in, err := s.model.Load(p.ctx, shrink)
				if !errors.As(err, &short) {
					return in, err
				}
				if victims := p.evict(short.Short); len(victims) > 0 {
					p.stop(victims)
					continue
				}
				if shrink {
					if err := p.awaitFreed(s, freed, short); err != nil {
						return nil, err
					}
				}
				break
			}
		}
	}
}

// freedSignal is closed when a model becomes unused from now on.
func (p *pool) freedSignal() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.freed
}

// awaitFreed waits until a model that answers has become unused. There is no use
// in it when none answers, or when nobody waits any more.
func (p *pool) awaitFreed(s *slot, freed <-chan struct{}, short *NoRoomError) error {
	p.mu.Lock()
	busy, waiting := 0, len(s.waiters)
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
		return errBusy
	}
	select {
	case <-freed:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

// evict takes unused models out of their slots, the longest unused first, until
// they make up so many bytes; none at all if they cannot.
func (p *pool) evict(bytes uint64) []*Instance {
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

// stop ends instances and waits until their memory is free.
func (p *pool) stop(list []*Instance) {
	for _, in := range list {
		in.Stop()
	}
	for _, in := range list {
		<-in.Done
	}
}

// miss notes that a model's device is missing, and tries again later. The caller holds the
// mutex.
func (p *pool) miss(s *slot, err *DeviceError) {
	s.missing = err
	if s.retry != nil {
		s.retry.Stop()
	}

	s.retry = time.AfterFunc(deviceRetry, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.ctx.Err() == nil && s.instance == nil && s.missing != nil && !s.loading {
			s.loading = true
			p.work.Go(func() { p.load(s) })
		}
	})
}

// missingDevice returns why a model is not in memory, if that is a missing device.
func (p *pool) missingDevice(m *Model) (*DeviceError, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slots[m]
	if s == nil || s.instance != nil || s.missing == nil {
		return nil, false
	}
	return s.missing, true
}

// watch empties a slot whose engine has failed: the next request loads it anew.
func (p *pool) watch(s *slot, in *Instance) {
	<-in.Done
	p.mu.Lock()
	failed := s.instance == in
	if failed {
		p.take(s)
	}
	var missing *DeviceError
	if failed && in.Failed != nil && errors.As(in.Failed(), &missing) {
		p.miss(s, missing)
	}
	s.ending = slices.DeleteFunc(s.ending, func(o *Instance) bool { return o == in })
	s.past.Add(in.Engine.Stats())
	p.mu.Unlock()
	if failed && p.ctx.Err() == nil {
		p.log.Error("an engine has failed; the next request loads the model anew", "model", s.model.ID)
	}
}

// preload loads a model into what memory is free, without unloading another.
func (p *pool) preload(ctx context.Context, m *Model) error {
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

// counts are what a model's engines have counted in all, and how it is loaded.
type counts struct {
	engine.Stats
	loaded   bool
	bytes    uint64
	loads    int
	loadTime time.Duration
	process  Process
	kernels  kernels.Choice
	memory   []DeviceMemory
	devices  []Device
	// Why it is computed by the processor though the machine has a GPU.
	whyProcessor string
}

func (p *pool) counts(m *Model) counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slot(m)
	c := counts{loaded: s.instance != nil, loads: s.loads, loadTime: s.loadTime}
	c.Add(s.past)
	for _, in := range s.ending {
		c.Add(in.Engine.Stats())
	}
	if c.loaded {
		now := s.instance.Engine.Stats()
		c.Add(now)
		c.Present = now.Present
		c.bytes = s.instance.Bytes
		c.kernels = s.instance.Kernels
		c.devices, c.whyProcessor = s.instance.Devices, s.instance.WhyProcessor
		if s.instance.Process != nil {
			c.process = s.instance.Process()
		}
		if s.instance.Memory != nil {
			c.memory = s.instance.Memory()
		}
	}
	return c
}

// loaded returns a model's engine if it is in memory.
func (p *pool) loaded(m *Model) (Engine, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.slots[m]; s != nil && s.instance != nil {
		return s.instance.Engine, true
	}
	return nil, false
}

// close unloads everything and returns when all memory is free.
func (p *pool) close() {
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
