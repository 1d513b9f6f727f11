package pool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"serve/engine"
)

// memory is a machine whose models are sizes alone. It notices two loads at once,
// too many bytes, and a model stopped while it is used.
type memory struct {
	t     *testing.T
	total uint64

	mu      sync.Mutex
	used    uint64
	busy    bool
	history []string
	fail    error
	gate    chan struct{} // if set, a load waits for it
}

// stub is an engine that only has a name.
type stub struct {
	Engine
	name string
}

func (s *stub) Model() *engine.ModelInfo { return &engine.ModelInfo{} }

// Stats are of an engine that has had work.
func (s *stub) Stats() engine.Stats {
	return engine.Stats{
		Prompt:   3,
		Present:  engine.Present{Running: 1, Cells: 8},
		Measures: engine.Measures{Tokens: 5, Outcomes: map[engine.Outcome]uint64{engine.OutcomeStop: 2}},
	}
}

// model needs bytes, or least of them where memory is short.
func (m *memory) model(name string, bytes, least uint64) *Model {
	return &Model{
		ID: name,
		Load: func(ctx context.Context, shrink bool) (*Instance, error) {
			m.mu.Lock()
			if m.busy {
				m.t.Error("two loads at once")
			}

			m.busy = true
			gate := m.gate
			fail := m.fail
			m.mu.Unlock()
			if gate != nil {
				select {
				case <-gate:
				case <-ctx.Done():
				}
			}

			m.mu.Lock()
			defer m.mu.Unlock()
			m.busy = false
			if fail != nil {
				return nil, fail
			}

			need := bytes
			if free := m.total - m.used; shrink && free < bytes {
				need = max(least, free)
			}
			if free := m.total - m.used; need > free {
				return nil, &NoRoomError{Err: fmt.Errorf("%s needs %d", name, need), Short: need - free}
			}

			m.used += need
			m.history = append(m.history, fmt.Sprintf("+%s %d", name, need))
			done := make(chan struct{})
			return &Instance{Engine: &stub{name: name}, Bytes: need, Done: done, Stop: sync.OnceFunc(func() {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.used -= need
				m.history = append(m.history, "-"+name)
				close(done)
			})}, nil
		},
	}
}

func (m *memory) did(t *testing.T, want ...string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(m.history, want) {
		t.Errorf("it did %v, want %v", m.history, want)
	}
	m.history = nil
}

func newTestPool(keepAlive time.Duration) *Pool {
	return New(keepAlive, 4, slog.New(slog.DiscardHandler))
}

// use acquires and releases.
func (p *Pool) use(t *testing.T, m *Model) {
	t.Helper()
	l, err := p.Acquire(t.Context(), m, "", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Engine.(*stub).name; got != m.ID {
		t.Errorf("asked for %s, got %s", m.ID, got)
	}
	l.Release()
	time.Sleep(time.Second) // of fake time, so that uses have an order
}

func TestPoolUnloadsTheLeastRecentlyUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{t: t, total: 10}
		a := m.model("a", 4, 4)
		b := m.model("b", 4, 4)
		c := m.model("c", 5, 5)
		p := newTestPool(0)
		defer p.Close()
		p.use(t, a)
		p.use(t, b)
		p.use(t, a)
		m.did(t, "+a 4", "+b 4")
		p.use(t, c)
		m.did(t, "-b", "+c 5")
		p.use(t, b)
		m.did(t, "-a", "+b 4")
		p.use(t, a) // 4 of 10 with b 4 and c 5 there
		m.did(t, "-c", "+a 4")
	})
}

func TestPoolNeverUnloadsTheBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{t: t, total: 10}
		a := m.model("a", 6, 6)
		b := m.model("b", 6, 6)
		p := newTestPool(0)
		defer p.Close()
		held, err := p.Acquire(t.Context(), a, "", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Acquire(t.Context(), b, "", time.Minute); !errors.Is(err, ErrLoading) {
			t.Errorf("got %v", err)
		}

		synctest.Wait()
		m.did(t, "+a 6")
		got := make(chan error)
		go func() {
			l, err := p.Acquire(t.Context(), b, "", time.Minute)
			if err == nil {
				l.Release()
			}
			got <- err
		}()

		synctest.Wait()
		if !p.Wanted(a) || p.Wanted(b) {
			t.Errorf("b waits for a's memory: %v, %v", p.Wanted(a), p.Wanted(b))
		}
		held.Release()
		if err := <-got; err != nil {
			t.Error(err)
		}

		m.did(t, "-a", "+b 6")
		synctest.Wait()
		if p.Wanted(a) || p.Wanted(b) {
			t.Error("nothing waits any more")
		}
	})
}

func TestPoolShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{t: t, total: 10}
		a := m.model("a", 6, 2)
		b := m.model("b", 9, 3)
		c := m.model("c", 20, 12)
		p := newTestPool(0)
		defer p.Close()
		held, err := p.Acquire(t.Context(), a, "", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		p.use(t, b) // a is busy: b makes do with what is free
		m.did(t, "+a 6", "+b 4")
		held.Release()
		_, err = p.Acquire(t.Context(), c, "", time.Minute)
		var short *NoRoomError
		if !errors.As(err, &short) || short.Short != 12 {
			t.Errorf("a model that never fits: %v", err)
		}
	})
}

func TestPoolWaitersComeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{t: t, total: 10, gate: make(chan struct{})}
		a := m.model("a", 6, 6)
		p := newTestPool(0)
		defer p.Close()
		var mu sync.Mutex
		var served []string
		ask := func(name string, ctx context.Context, patience time.Duration) {
			l, err := p.Acquire(ctx, a, "", patience)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				name += " " + err.Error()
			} else {
				l.Release()
			}
			served = append(served, name)
		}

		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, start := range []func(){
			func() { ask("gone", ctx, time.Hour) },
			func() { ask("hasty", t.Context(), time.Second) },
			func() { ask("first", t.Context(), time.Hour) },
		} {
			wg.Go(start)
			synctest.Wait()
		}

		cancel()
		synctest.Wait()
		time.Sleep(2 * time.Second)
		close(m.gate)
		wg.Wait()
		if want := []string{"gone context canceled", "hasty the model is being loaded", "first"}; !slices.Equal(
			served,
			want,
		) {
			t.Errorf("served %v, want %v", served, want)
		}

		m.did(t, "+a 6")
	})
}

func TestPoolKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{t: t, total: 10}
		a := m.model("a", 6, 6)
		p := newTestPool(time.Minute)
		defer p.Close()
		p.use(t, a)
		time.Sleep(50 * time.Second)
		p.use(t, a)
		time.Sleep(50 * time.Second)
		m.did(t, "+a 6")
		held, err := p.Acquire(t.Context(), a, "", time.Minute)
		if err != nil {
			t.Fatal(err)
		}

		time.Sleep(time.Hour)
		m.did(t)
		held.Release()
		time.Sleep(61 * time.Second)
		m.did(t, "-a")
		if _, ok := p.Loaded(a); ok {
			t.Error("it is still there")
		}
	})
}

// TestPoolCounts keeps what engines have counted when they are gone.
func TestPoolCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{t: t, total: 10}
		a := m.model("a", 6, 6)
		p := newTestPool(time.Minute)
		defer p.Close()
		for loads := 1; loads <= 3; loads++ {
			p.use(t, a)
			if c := p.Counts(a); !c.Loaded || c.Loads != loads || c.Prompt != uint64(3*loads) ||
				c.Tokens != uint64(5*loads) ||
				c.Running != 1 ||
				c.Bytes != 6 {
				t.Errorf("load %d: %+v", loads, c)
			}

			time.Sleep(61 * time.Second)
			if c := p.Counts(a); c.Loaded || c.Tokens != uint64(5*loads) ||
				c.Outcomes[engine.OutcomeStop] != uint64(2*loads) ||
				c.Running != 0 ||
				c.Cells != 0 ||
				c.Bytes != 0 {
				t.Errorf("after load %d: %+v", loads, c)
			}
		}
	})
}

func TestPoolFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		m := &memory{t: t, total: 10, fail: errors.New("open /home/who/secret.gguf: damaged")}
		a := m.model("a", 6, 6)
		p := New(0, 4, slog.New(slog.NewTextHandler(&log, nil)))
		defer p.Close()
		if _, err := p.Acquire(t.Context(), a, "", time.Minute); !errors.Is(err, ErrLoad) ||
			strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v", err)
		}

		if !strings.Contains(log.String(), "secret.gguf: damaged") {
			t.Errorf("the log does not say why: %s", log.String())
		}

		m.fail = nil
		p.use(t, a)
		// An engine that ends by itself is loaded anew.
		p.mu.Lock()
		in := p.slots[a].instance
		p.mu.Unlock()
		in.Stop()
		synctest.Wait()
		p.use(t, a)
		m.did(t, "+a 6", "-a", "+a 6")
	})
}

func TestPoolPreload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{t: t, total: 10}
		a := m.model("a", 8, 8)
		b := m.model("b", 6, 3)
		p := newTestPool(0)
		if err := p.Preload(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		var short *NoRoomError
		if err := p.Preload(t.Context(), b); !errors.As(err, &short) {
			t.Errorf("got %v", err)
		}
		m.did(t, "+a 8") // nothing was unloaded for it
		p.Close()
		m.did(t, "-a")
		if _, err := p.Acquire(t.Context(), a, "", time.Minute); !errors.Is(err, engine.ErrStopped) {
			t.Errorf("a closed pool: %v", err)
		}
	})
}
