package quota

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestGivenLimit keeps a client to a limit of its own, however much of the budget is free, and no other client.
func TestGivenLimit(t *testing.T) {
	b := NewBudget(Limits{Readers: 10, Bytes: 1000})
	alice := Client{Name: "alice", Most: 100}
	refused := func(err error, never bool) {
		t.Helper()
		var e *ExceededError
		if !errors.As(err, &e) || !e.Own || !e.Given || e.Never != never || e.Limit != 100 {
			t.Errorf("%+v", err)
		}
	}
	_, err := b.Begin(alice, 101)
	refused(err, true)
	first, err := b.Begin(alice, 60)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Begin(alice, 41)
	refused(err, false)
	second, err := b.Begin(alice, 0)
	if err != nil {
		t.Fatal(err)
	}
	refused(second.Grow(41), false)
	refused(second.Grow(101), true)
	if _, err := b.Begin(Client{Name: "bob"}, 500); err != nil {
		t.Errorf("another client: %v", err)
	}
	first.Release()
	if err := second.Grow(100); err != nil {
		t.Errorf("what was released: %v", err)
	}
}

func TestBudget(t *testing.T) {
	b := NewBudget(Limits{Readers: 10, Bytes: 1000})
	must := func(client string, size int64) *Reservation {
		t.Helper()
		r, err := b.Begin(Client{Name: client}, size)
		if err != nil {
			t.Fatalf("%s, %d bytes: %v", client, size, err)
		}
		return r
	}
	refused := func(err error, own, never bool) {
		t.Helper()
		var e *ExceededError
		if !errors.As(err, &e) || e.Own != own || e.Never != never {
			t.Errorf("%+v", err)
		}
	}

	_, err := b.Begin(Client{Name: "a"}, 801)
	refused(err, true, true)
	large := must("a", 700)
	_, err = b.Begin(Client{Name: "a"}, 150)
	refused(err, true, false)
	other := must("b", 250)
	_, err = b.Begin(Client{Name: "c"}, 100)
	refused(err, false, false)
	refused(other.Grow(301), false, false)
	if err := other.Grow(300); err != nil {
		t.Error(err)
	}
	large.Release()
	large.Release()
	refused(other.Grow(900), true, true)
	if err := other.Grow(500); err != nil {
		t.Error(err)
	}
	other.Release()
	if err := other.Grow(900); err != nil {
		t.Error("after its release:", err)
	}

	// Reading places: a client alone has eight of ten.
	var all []*Reservation
	for range 8 {
		all = append(all, must("a", 0))
	}
	_, err = b.Begin(Client{Name: "a"}, 0)
	refused(err, true, false)
	all = append(all, must("b", 0), must("c", 0))
	_, err = b.Begin(Client{Name: "d"}, 0)
	refused(err, false, false)
	all[0].Done()
	all = append(all, must("d", 0))
	for _, r := range all {
		r.Done()
		r.Release()
	}
	if requests, readers, bytes := b.Used(); requests+readers+int(bytes) > 0 || len(b.clients) > 0 {
		t.Errorf("%d requests, %d being read, %d bytes are left", requests, readers, bytes)
	}
}

// TestWorkersAreFair has one client wait with much: another's turn comes after one of it.
func TestWorkersAreFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWorkers(1, 0, nil)
		hold, err := w.Begin(t.Context(), "first", false)
		if err != nil {
			t.Fatal(err)
		}

		var order []string
		ask := func(client string) {
			go func() {
				turn, err := w.Begin(t.Context(), client, false)
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, client)
				turn.End()
			}()
			synctest.Wait()
		}
		for range 5 {
			ask("much")
		}
		ask("little")

		// One that gives up leaves the others where they are.
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() {
			_, err := w.Begin(ctx, "gone", false)
			gone <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}

		hold.End()
		synctest.Wait()
		if len(order) != 6 || order[1] != "little" {
			t.Errorf("%v", order)
		}
		if w.free != 1 || len(w.line) > 0 || len(w.shares.clients) > 0 {
			t.Errorf("%d workers are free, %d calls wait, %d clients are known", w.free, len(w.line), len(w.shares.clients))
		}
	})
}

// TestCPUTime ends what computes for too long, and counts what a request has used before.
func TestCPUTime(t *testing.T) {
	const limit = 20 * time.Millisecond
	w := NewWorkers(1, limit, nil)
	a := &Account{Client: "a"}
	err := w.Do(t.Context(), a, func(ctx context.Context) error {
		for ctx.Err() == nil { // computes
		}
		return context.Cause(ctx)
	})
	var e *TimeError
	if !errors.As(err, &e) || e.Limit != limit {
		t.Error(err)
	}
	if a.used < limit/2 {
		t.Errorf("used %v", a.used)
	}

	err = w.Do(t.Context(), a, func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
	if !errors.As(err, &e) || e.Limit != limit {
		t.Error("without any time left:", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	err = w.Do(ctx, new(Account), func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return context.Cause(ctx)
	})
	if !errors.Is(err, context.Canceled) {
		t.Error("a client that has gone:", err)
	}
}
