package pool

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPoolKeep gives models lifetimes of their own, which end when they are unloaded.
func TestPoolKeep(t *testing.T) {
	for name, tt := range map[string]struct {
		pool, keep time.Duration
		lives      time.Duration // without use; negative for ever
	}{
		"longer than the pool's":   {time.Minute, time.Hour, time.Hour},
		"shorter":                  {time.Minute, time.Second, time.Second},
		"for ever":                 {time.Minute, Forever, -1},
		"any negative time":        {time.Minute, -time.Hour, -1},
		"at once":                  {time.Minute, 0, 0},
		"where the pool's is none": {0, time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &memory{t: t, total: 10}
				a := m.model("a", 6, 6)
				p := newTestPool(tt.pool)
				defer p.Close()

				l, err := p.Acquire(t.Context(), a, "", time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				p.Keep(a, tt.keep)
				at, loaded := p.Expires(a)
				if !loaded || at.IsZero() != (tt.lives < 0) || tt.lives >= 0 && time.Until(at) != tt.lives {
					t.Errorf("in use it expires at %v, %v", at, loaded)
				}
				time.Sleep(2 * time.Hour)
				m.did(t, "+a 6")
				l.Release()

				if tt.lives < 0 {
					time.Sleep(1000 * time.Hour)
					m.did(t)
					return
				}
				if tt.lives > 0 {
					time.Sleep(tt.lives - time.Nanosecond)
					m.did(t)
					time.Sleep(time.Nanosecond)
				}
				synctest.Wait()
				m.did(t, "-a")
				if p.Asleep(a) != (tt.lives > 0) || p.Counts(a).Asleep != p.Asleep(a) {
					t.Errorf("it sleeps: %t", p.Asleep(a))
				}

				// The next load has the pool's lifetime again.
				p.use(t, a)
				if p.Asleep(a) {
					t.Error("it sleeps, and was loaded again")
				}
				at, loaded = p.Expires(a)
				if !loaded || at.IsZero() != (tt.pool == 0) {
					t.Errorf("loaded again it expires at %v, %v", at, loaded)
				}
			})
		})
	}
}

// TestPoolUnload unloads a model that nobody uses at once, and one in use when it is free.
func TestPoolUnload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{t: t, total: 10}
		a := m.model("a", 6, 6)
		p := newTestPool(0)
		defer p.Close()
		if p.Unload(a) {
			t.Error("it was in memory before it was loaded")
		}
		if _, loaded := p.Expires(a); loaded {
			t.Error("it expires and is not loaded")
		}

		p.use(t, a)
		if !p.Unload(a) {
			t.Error("it was not in memory")
		}
		synctest.Wait()
		m.did(t, "+a 6", "-a")

		l, err := p.Acquire(t.Context(), a, "", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		p.Unload(a)
		time.Sleep(time.Minute)
		m.did(t, "+a 6")
		l.Release()
		synctest.Wait()
		m.did(t, "-a")
	})
}

// TestPoolKeepAgain has the last word count, and time that has passed.
func TestPoolKeepAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{t: t, total: 10}
		a := m.model("a", 6, 6)
		p := newTestPool(0)
		defer p.Close()
		p.use(t, a)
		p.Keep(a, time.Minute)
		p.Keep(a, Forever)
		time.Sleep(time.Hour)
		m.did(t, "+a 6")

		p.Keep(a, time.Minute) // an hour without use is more than that
		synctest.Wait()
		m.did(t, "-a")
	})
}
