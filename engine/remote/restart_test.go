package remote

import (
	"errors"
	"testing"
	"testing/synctest"
)

// TestAbortedForAReason has a call wait for a child while it turns out that there can be none, which also aborts
// the runner: the call fails with the reason.
func TestAbortedForAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Runner{changed: make(chan struct{}), aborted: make(chan struct{})}
		got := make(chan error, 1)
		go func() {
			_, err := r.generation()
			got <- err
		}()
		synctest.Wait()

		reason := errors.New("the device is gone")
		r.mu.Lock()
		r.failed = reason
		close(r.aborted)
		r.mu.Unlock()
		if err := <-got; !errors.Is(err, reason) {
			t.Errorf("the call failed with %v", err)
		}
	})
}
