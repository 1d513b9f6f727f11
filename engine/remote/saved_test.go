package remote_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/engine/remote"
)

// TestSavedSequencesOutliveTheChild has four times as many conversations as slots, whose histories are still there when
// the child has been killed, and are dropped when it has crashed.
func TestSavedSequencesOutliveTheChild(t *testing.T) {
	for name, c := range map[string]struct {
		exit remote.ChildExit
		hit  bool
	}{
		"killed from outside": {remote.ChildExit{How: "killed"}, true},
		"by a fault":          {remote.ChildExit{How: "segmentation fault", Fault: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			memory := enginetest.NewMemory(64 << 20)
			die := false
			n := &nursery{t: t, exit: c.exit}
			n.options = func(int) enginetest.Options {
				return enginetest.Options{
					Limits: engine.Limits{Sequences: 3, Context: 1024, Batch: 64, RollsBack: true, Saves: true},
					Memory: memory,
					BeforeDecode: func(*engine.Batch) error {
						if die {
							die = false
							go n.die()
							<-n.dead()
						}
						return nil
					},
				}
			}
			discard := enginetest.New(enginetest.Options{Memory: memory}).Discard
			e, r := n.startWith(remote.Options{Discard: discard}, engine.Options{
				PrefixCache: 64 << 20, SaveAll: true, SaveAfter: time.Nanosecond,
			})

			history := make([]string, 12)
			for i := range history {
				history[i] = fmt.Sprintf("conversation %d. ", i) + strings.Repeat("x", 600)
			}
			for turn := range 4 {
				if die = turn == 2; die {
					// What slots keep is saved while nothing happens.
					for e.Stats().PrefixCache.Tokens < 12*600 {
						runtime.Gosched()
					}
				}
				prompt := 0
				cached := 0
				for i, h := range history {
					texts, usage, err := ask(e, engine.Request{Prompt: tokens(h), MaxTokens: 10})
					if err != nil || texts[0] != answer(h, 10) {
						t.Fatalf("turn %d: %q, %v, undisturbed it is %q", turn, texts, err, answer(h, 10))
					}
					history[i] += texts[0] + " and? "
					prompt += usage.Prompt
					cached += usage.Cached
				}
				if hit := cached*100 >= prompt*95; turn > 0 && hit != (turn != 2 || c.hit) {
					t.Errorf("turn %d: %d of %d tokens were cached", turn, cached, prompt)
				}
			}

			// It dies while nothing happens, too: what the slots had is restored.
			for c.hit && e.Stats().PrefixCache.Tokens < 12*600 {
				runtime.Gosched()
			}
			n.die()
			before := e.Stats()
			if _, _, err := ask(e, engine.Request{Prompt: tokens(history[11]), MaxTokens: 10}); err != nil {
				t.Fatal(err)
			}
			after := e.Stats()
			if computed := after.Prompt - before.Prompt; c.hit && (computed > 30 || after.Restored.Count == before.Restored.Count) {
				t.Errorf("%d prompt tokens were computed, restored %+v", computed, after.Restored)
			}
			if r.Restarts() != 2 || e.Stats().Restored.Failed > 0 {
				t.Errorf("%d restarts, restored %+v", r.Restarts(), e.Stats().Restored)
			}
		})
	}
}

// TestDiesWhileItSaves kills children in the middle of saving and restoring. What is torn is never used.
func TestDiesWhileItSaves(t *testing.T) {
	memory := enginetest.NewMemory(64 << 20)
	n := &nursery{t: t, exit: remote.ChildExit{How: "killed"}}
	n.options = func(int) enginetest.Options {
		return enginetest.Options{
			Limits: engine.Limits{Sequences: 1, Context: 1024, Batch: 64, RollsBack: true, Saves: true}, Memory: memory,
		}
	}
	saves := 0
	n.transfer = func() {
		if saves++; saves%3 == 0 {
			go n.die()
			<-n.dead()
		}
	}
	discard := enginetest.New(enginetest.Options{Memory: memory}).Discard
	e, r := n.startWith(remote.Options{Discard: discard}, engine.Options{
		PrefixCache: 64 << 20, SaveAll: true, SaveAfter: time.Hour,
	})
	for i := range 20 {
		h := fmt.Sprintf("conversation %d. ", i%3) + strings.Repeat("x", 200)
		texts, _, err := ask(e, engine.Request{Prompt: tokens(h), MaxTokens: 10})
		if err != nil || texts[0] != answer(h, 10) {
			t.Fatalf("%d: %q, %v, undisturbed it is %q", i, texts, err, answer(h, 10))
		}
	}
	if s := e.Stats(); r.Restarts() < 3 || s.Saved.Failed+s.Restored.Failed == 0 || s.Restored.Count == 0 {
		t.Errorf("%d restarts, saved %+v, restored %+v: the test is too easy", r.Restarts(), s.Saved, s.Restored)
	}
}
