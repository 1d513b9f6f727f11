package pool

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestPoolMissingDevice tries again, and slowly, to load a model whose device is missing,
// whether it was missing from the start or the engine has lost it.
func TestPoolMissingDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{t: t, total: 10}
		a := m.model("a", 6, 6)
		p := newTestPool(0)
		defer p.Close()
		gone := &UnavailableError{Err: errors.New("CUDA0 is gone")}
		fail := func(err error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.fail = err
		}

		fail(gone)
		var missing *UnavailableError
		if _, err := p.Acquire(t.Context(), a, "", time.Minute); !errors.As(err, &missing) || missing != gone {
			t.Errorf("got %v", err)
		}
		if why, ok := p.MissingDevice(a); !ok || why != gone {
			t.Errorf("missing: %v, %t", why, ok)
		}
		time.Sleep(3 * DeviceRetry)
		m.did(t)

		// With the device it is there again, though nobody asked.
		fail(nil)
		time.Sleep(DeviceRetry)
		synctest.Wait()
		m.did(t, "+a 6")
		if why, ok := p.MissingDevice(a); ok {
			t.Errorf("it is there, and missing: %v", why)
		}

		// An engine that ends because of it is not loaded by something else, either.
		p.mu.Lock()
		in := p.slots[a].instance
		in.Failed = func() error { return gone }
		p.mu.Unlock()
		fail(gone)
		in.Stop()
		synctest.Wait()
		if why, ok := p.MissingDevice(a); !ok || why != gone {
			t.Errorf("missing: %v, %t", why, ok)
		}
		fail(nil)
		p.use(t, a) // a request need not wait for the next try
		time.Sleep(2 * DeviceRetry)
		m.did(t, "-a", "+a 6")
	})
}
