package quota

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// computeFor has a call compute for a time, with a pause every millisecond.
func computeFor(ctx context.Context, turn *Turn, d time.Duration) {
	for ; d > 0 && ctx.Err() == nil; d -= time.Millisecond {
		time.Sleep(min(d, time.Millisecond))
		turn.Pause(ctx)
	}
}

// greedy are calls of one client that compute for a second each, without end: calls at a time.
type greedy struct {
	client string
	calls  int
	long   bool // they are known to be
	whole  bool // they make no pause
}

// start begins the calls, and returns when they have all come.
func (g greedy) start(ctx context.Context, w *Workers, wait *sync.WaitGroup) {
	for range g.calls {
		wait.Go(func() {
			for ctx.Err() == nil {
				turn, err := w.Begin(ctx, g.client, g.long)
				if err != nil {
					return
				}
				if g.whole {
					time.Sleep(time.Second)
				} else {
					computeFor(ctx, turn, time.Second)
				}
				turn.End()
			}
		})
	}
	synctest.Wait()
}

// TestLightClientWaitsForAQuantum has clients compute as much as they can, beside one that asks for a millisecond now
// and then. However many there are, it waits for a quantum at most, and a pause may come a millisecond late.
func TestLightClientWaitsForAQuantum(t *testing.T) {
	tests := []struct {
		name    string
		workers int
		greedy  []greedy
		most    time.Duration
	}{
		{"one worker", 1, []greedy{{client: "a", calls: 64}}, Quantum},
		{"one worker, many clients", 1, []greedy{{client: "a", calls: 5}, {client: "b", calls: 5}, {client: "c", calls: 5}}, Quantum},
		{"two workers", 2, []greedy{{client: "a", calls: 64}}, Quantum},
		{"two workers, two clients", 2, []greedy{{client: "a", calls: 9}, {client: "b", calls: 9}}, Quantum},
		{"two workers, long calls", 2, []greedy{{client: "a", calls: 9, long: true}, {client: "b", calls: 9, long: true}}, 0},
		{"two workers, long calls without pauses", 2, []greedy{
			{client: "a", calls: 9, long: true, whole: true},
			{client: "b", calls: 9, long: true, whole: true},
		}, 0},
		{"four workers", 4, []greedy{
			{client: "a", calls: 9, long: true, whole: true},
			{client: "b", calls: 9},
		}, Quantum},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := NewWorkers(test.workers, 0, nil)
				ctx, cancel := context.WithCancel(t.Context())
				var others sync.WaitGroup
				for _, g := range test.greedy {
					g.start(ctx, w, &others)
				}
				time.Sleep(10 * Quantum)

				for i := range 100 {
					time.Sleep(time.Duration(i) * time.Millisecond * 7 / 10)
					asked := time.Now()
					turn, err := w.Begin(ctx, "light", false)
					if err != nil {
						t.Fatal(err)
					}
					if waited := time.Since(asked); waited > test.most {
						t.Errorf("call %d waited for %v", i, waited)
					}
					time.Sleep(time.Millisecond)
					turn.End()
				}

				cancel()
				others.Wait()
				if w.free != test.workers || w.slots != max(test.workers-1, 1) || len(w.line)+len(w.shares.clients) > 0 {
					t.Errorf("%d workers are free, %d for long calls", w.free, w.slots)
				}
			})
		})
	}
}

// TestSharesAreEqual has one client send ten times as many calls as another, and twice as long ones. Each has half of
// the time. One that comes later has as much as they from then on, and no more.
func TestSharesAreEqual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWorkers(1, 0, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		var mu sync.Mutex
		had := map[string]time.Duration{}
		ask := func(client string, calls int, d time.Duration) {
			for range calls {
				wait.Go(func() {
					for ctx.Err() == nil {
						turn, err := w.Begin(ctx, client, false)
						if err != nil {
							return
						}
						began := time.Now()
						time.Sleep(d)
						mu.Lock()
						had[client] += time.Since(began)
						mu.Unlock()
						turn.End()
					}
				})
			}
			synctest.Wait()
		}
		ask("much", 10, 4*time.Millisecond)
		ask("less", 2, 2*time.Millisecond)
		time.Sleep(10 * time.Second)
		mu.Lock()
		first := had["much"] - had["less"]
		clear(had)
		mu.Unlock()
		ask("late", 2, 3*time.Millisecond)
		time.Sleep(9 * time.Second)

		cancel()
		wait.Wait()
		for client, d := range had {
			if d < 2900*time.Millisecond || d > 3100*time.Millisecond {
				t.Errorf("%s had %v of 9 s", client, d)
			}
		}
		if len(had) != 3 {
			t.Errorf("%v", had)
		}
		if first.Abs() > 2*Quantum {
			t.Errorf("one of two clients had %v more than the other", first)
		}
	})
}

// TestSharesOfSeveralWorkers counts what a client has of one pool in the other one.
func TestSharesOfSeveralWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shares := new(Shares)
		decode := NewWorkers(1, 0, shares)
		text := NewWorkers(1, 0, shares)
		hold := func(w *Workers, client string) *Turn {
			turn, err := w.Begin(t.Context(), client, false)
			if err != nil {
				t.Fatal(err)
			}
			return turn
		}
		first := hold(text, "first")
		much := hold(decode, "much")
		time.Sleep(time.Second)
		much.End()

		var order []string
		for _, client := range []string{"much", "little"} {
			go func() {
				turn := hold(text, client)
				order = append(order, client)
				turn.End()
			}()
			synctest.Wait()
		}
		first.End()
		synctest.Wait()
		if fmt.Sprint(order) != "[little much]" {
			t.Errorf("%v", order)
		}
	})
}

// TestSharesForget keeps no count of clients that have gone, other than of those that have had more than others.
func TestSharesForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWorkers(2, 0, nil)
		hold, err := w.Begin(t.Context(), "stays", false)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			turn, err := w.Begin(t.Context(), fmt.Sprint("client ", i), false)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Microsecond)
			turn.End()
		}
		if n := len(w.shares.clients); n > 1100 {
			t.Errorf("%d clients are known", n)
		}
		hold.End()
		if n := len(w.shares.clients); n > 0 {
			t.Errorf("%d clients are known when nobody computes", n)
		}
	})
}
