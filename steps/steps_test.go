package steps

import (
	"context"
	"errors"
	"testing"
)

func TestBudget(t *testing.T) {
	b := New(t.Context(), 10)
	for range 2 {
		if err := b.Spend(5); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := b.Spend(1); !errors.Is(err, ErrSpent) {
			t.Errorf("an empty budget: %v", err)
		}
	}

	var endless *Budget
	if err := endless.Spend(1 << 40); err != nil || endless.Left() != 0 {
		t.Errorf("no budget: %v", err)
	}
}

// TestPause is called all the time, until nobody wants it.
func TestPause(t *testing.T) {
	const rounds = 3
	b := New(t.Context(), 10*rounds*checkEvery)
	paused := 0
	b.Pause(func() { paused++ })
	spend := func() {
		for range rounds * checkEvery {
			if err := b.Spend(1); err != nil {
				t.Fatal(err)
			}
		}
	}
	spend()
	left := b.Left()
	for range rounds * checkEvery {
		if err := b.Look(1); err != nil {
			t.Fatal(err)
		}
	}
	if b.Left() != left {
		t.Error("a look takes steps")
	}
	b.Pause(nil)
	spend()
	if paused != 2*rounds {
		t.Errorf("%d pauses", paused)
	}
	var endless *Budget
	endless.Pause(nil)
	if err := endless.Look(1 << 40); err != nil {
		t.Error(err)
	}
}

// TestContext ends with the context, at the latest after checkEvery steps.
func TestContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := New(ctx, 10*checkEvery)
	cancel()
	var err error
	for n := 0; err == nil; n++ {
		if n > checkEvery {
			t.Fatal("the end of the context goes unnoticed")
		}
		err = b.Spend(1)
	}
	if !errors.Is(err, context.Canceled) || !errors.Is(b.Spend(0), context.Canceled) {
		t.Errorf("got %v", err)
	}
	if b.Left() >= 10*checkEvery {
		t.Error("nothing was taken")
	}
}
