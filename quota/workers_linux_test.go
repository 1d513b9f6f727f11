package quota

import (
	"context"
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
