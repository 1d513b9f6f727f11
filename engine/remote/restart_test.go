package remote

import (
	"bytes"
	"context"
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
			_, err := r.generation(t.Context())
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

// TestNobodyWaitsForARestart has a client go while no child is there.
func TestNobodyWaitsForARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Runner{changed: make(chan struct{}), aborted: make(chan struct{})}
		ctx, cancel := context.WithCancelCause(t.Context())
		got := make(chan error, 1)
		go func() {
			_, err := r.ask(ctx, "check", func(*message) {})
			got <- err
		}()
		synctest.Wait()

		gone := errors.New("gone")
		cancel(gone)
		synctest.Wait()
		select {
		case err := <-got:
			if !errors.Is(err, gone) {
				t.Errorf("the call failed with %v", err)
			}
		default:
			t.Error("the call waits")
			close(r.aborted)
		}
	})
}

// written is a socket that keeps what is written.
type written struct{ bytes.Buffer }

func (*written) Close() error { return nil }

// TestNobodyWaitsToWrite has a client go while others write: its call is not sent.
func TestNobodyWaitsToWrite(t *testing.T) {
	calls := new(written)
	g := &generation{
		p:       &Child{Conn: Conn{Calls: calls}},
		pending: map[uint32]*pendingCall{},
		gone:    make(chan struct{}),
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	g.write.Lock()
	got := make(chan error)
	go func() {
		_, err := g.call(ctx, "check", 0, func(*message) { cancel(gone) })
		got <- err
	}()
	<-ctx.Done()
	g.write.Unlock()

	if err := <-got; !errors.Is(err, gone) {
		t.Errorf("the call failed with %v", err)
	}
	if calls.Len() > 0 || len(g.pending) > 0 {
		t.Errorf("%d bytes were written, %d calls are pending", calls.Len(), len(g.pending))
	}
}
