package quota

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"serve/thread"
)

// TestLongCallsComeLast has calls of which it is known that they take long, and some that turn out to, compute at a low
// priority, and those after them at that of the process.
func TestLongCallsComeLast(t *testing.T) {
	usual, err := thread.Niceness()
	if err != nil {
		t.Fatal(err)
	}
	w := NewWorkers(2, time.Minute, nil)
	run := func(long bool, computes time.Duration) (nice int) {
		t.Helper()
		err := w.Do(t.Context(), &Account{Long: long}, func(ctx context.Context) error {
			for began := time.Now(); time.Since(began) < computes; {
				Pause(ctx)
			}
			Pause(ctx)
			nice, err = thread.Niceness()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return nice
	}

	for range 20 {
		if nice := run(false, 0); nice != usual {
			t.Errorf("a short call has niceness %d, the process has %d", nice, usual)
		}
		if nice := run(true, 0); nice <= usual {
			t.Errorf("a call that is known to be long has niceness %d, the process has %d", nice, usual)
		}
		if nice := run(false, 2*Quantum); nice <= usual {
			t.Errorf("a call that has become long has niceness %d, the process has %d", nice, usual)
		}
	}
}

// TestPanicInDo is one in Do, too, which says where it was, and leaves the worker to others.
func TestPanicInDo(t *testing.T) {
	w := NewWorkers(1, time.Minute, nil)
	broken := errors.New("broken")
	for _, value := range []any{broken, "broken"} {
		func() {
			defer func() {
				err, _ := recover().(error)
				if err == nil || !strings.Contains(err.Error(), "TestPanicInDo") || value == any(broken) && !errors.Is(err, broken) {
					t.Errorf("%v panics with %v", value, err)
				}
			}()
			_ = w.Do(t.Context(), &Account{}, func(context.Context) error { panic(value) })
		}()
	}

	did := false
	if err := w.Do(t.Context(), &Account{}, func(context.Context) error { did = true; return nil }); err != nil || !did {
		t.Error(err, did)
	}
}
