package pool

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestObserve tells when models come into memory and leave it, and why they could not come.
func TestObserve(t *testing.T) {
	p := New(0, 10, slog.New(slog.DiscardHandler))
	defer p.Close()
	var mu sync.Mutex
	var got []ChangeKind
	var failed error
	p.Observe(func(c Change) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, c.Kind)
		if c.Err != nil {
			failed = c.Err
		}
	})
	broken := errors.New("broken")
	m := &Model{ID: "m", Load: func(context.Context, bool) (*Instance, error) { return nil, broken }}
	if _, err := p.Acquire(t.Context(), m, "", time.Minute); !errors.Is(err, ErrLoad) {
		t.Fatal(err)
	}

	done := make(chan struct{})
	stop := sync.OnceFunc(func() { close(done) })
	m.Load = func(context.Context, bool) (*Instance, error) {
		return &Instance{Engine: &stub{}, Done: done, Stop: stop}, nil
	}
	lease, err := p.Acquire(t.Context(), m, "", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	lease.Release()
	p.Unload(m)
	<-done
	mu.Lock()
	defer mu.Unlock()
	if want := []ChangeKind{Loaded, Loaded, Unloaded}; !slices.Equal(got, want) || !errors.Is(failed, broken) {
		t.Errorf("got %v, want %v; %v", got, want, failed)
	}
}
