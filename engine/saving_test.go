package engine_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"serve/engine"
	"serve/engine/enginetest"
)

// conversation is one that grows with every turn.
type conversation struct {
	history string
	turns   int
}

// turn goes on with a conversation, and returns how many of its prompt's tokens there were and came from a cache.
func (c *conversation) turn(t *testing.T, e *engine.Engine, by engine.Caller) (prompt, cached int) {
	t.Helper()
	s, err := e.Generate(t.Context(), engine.Request{Caller: by, Prompt: tokens(c.history), MaxTokens: 10})
	if err != nil {
		t.Fatal(err)
	}
	answer := read(t, s, 1)[0].text
	prompt = len(c.history)
	c.turns++
	c.history += answer + fmt.Sprintf(" and turn %d? ", c.turns)
	return prompt, s.Usage().Cached
}

func conversations(n, length int) (list []*conversation) {
	for i := range n {
		begin := fmt.Sprintf("conversation %d. ", i)
		list = append(list, &conversation{history: begin + strings.Repeat("x", length-len(begin))})
	}
	return list
}

// TestConversationsTakeTurns has four times as many conversations as slots: each finds nearly all of its history.
func TestConversationsTakeTurns(t *testing.T) {
	for name, limits := range map[string]engine.Limits{
		"buffers of their own": {Sequences: 3, Context: 1024, Batch: 64, RollsBack: true, Saves: true},
		"one buffer": {
			Sequences: 3, Context: 1024, Batch: 64, RollsBack: true, Shared: true, Cells: 2000, Saves: true,
		},
		"restored as a whole": {Sequences: 3, Context: 1024, Batch: 64, RollsBack: true, Saves: true, SavesWhole: true},
		"no rolling back":     {Sequences: 3, Context: 1024, Batch: 64, Saves: true},
	} {
		t.Run(name, func(t *testing.T) {
			e, _ := startAsIs(t, enginetest.Options{Limits: limits}, engine.Options{
				PrefixCache: 128 << 20, SaveAll: true,
			})
			all := conversations(12, 600)
			for turn := range 6 {
				prompt := 0
				cached := 0
				for _, c := range all {
					p, n := c.turn(t, e, engine.Caller{})
					prompt += p
					cached += n
				}
				if turn > 0 && cached*100 < prompt*95 {
					t.Errorf("turn %d: %d of %d tokens were cached", turn, cached, prompt)
				}
			}

			s := e.Stats()
			if s.Restored.Count < 50 || s.Reuse[engine.ReuseRestored] != s.Restored.Count || s.Saved.Failed+s.Restored.Failed > 0 {
				t.Errorf("saved %+v, restored %+v, reuse %v", s.Saved, s.Restored, s.Reuse)
			}
			if p := s.PrefixCache; p.Used == 0 || p.Used > p.Size || p.Entries < 9 || p.Tokens < p.Entries*600 {
				t.Errorf("%+v", p)
			}
		})
	}
}

// TestSavingIsOff keeps nothing beside the slots without memory for it, or if the model cannot.
func TestSavingIsOff(t *testing.T) {
	for name, c := range map[string]struct {
		saves bool
		size  int64
	}{"no memory": {true, 1}, "the model cannot": {false, 64 << 20}} {
		t.Run(name, func(t *testing.T) {
			limits := engine.Limits{Sequences: 1, Context: 512, Saves: c.saves}
			e, fake := start(t, enginetest.Options{Limits: limits}, engine.Options{PrefixCache: c.size, SaveAll: true})
			two := conversations(2, 200)
			for range 3 {
				for _, c := range two {
					if _, cached := c.turn(t, e, engine.Caller{}); cached > 20 {
						t.Errorf("%d tokens were cached", cached)
					}
				}
			}
			if n, _ := fake.Memory().Entries(); n > 0 || e.Stats().Saved.Count > 0 {
				t.Errorf("%d were saved", n)
			}
		})
	}
}

// TestSavedPrefixesOfTenants finds nothing of another tenant's, or with another salt.
func TestSavedPrefixesOfTenants(t *testing.T) {
	limits := engine.Limits{Sequences: 1, Context: 512, Saves: true}
	e, fake := start(t, enginetest.Options{Limits: limits}, engine.Options{PrefixCache: 64 << 20, SaveAll: true})
	prompt := tokens(strings.Repeat("the same for all. ", 10))
	ask := func(tenant, salt string) int {
		t.Helper()
		s, err := e.Generate(t.Context(), engine.Request{
			Caller: engine.Caller{Tenant: tenant}, Prompt: prompt, MaxTokens: 2, CacheSalt: salt,
		})
		if err != nil {
			t.Fatal(err)
		}
		read(t, s, 1)
		return s.Usage().Cached
	}

	for i, c := range []struct {
		tenant, salt string
		hit          bool
	}{
		{"A", "", false}, {"B", "", false}, {"A", "salt", false}, {"A", "", true}, {"B", "", true}, {"B", "salt", false},
		{"A", "salt", true},
	} {
		if cached := ask(c.tenant, c.salt); cached > 0 != c.hit {
			t.Errorf("request %d, of %s with salt %q: %d tokens were cached", i, c.tenant, c.salt, cached)
		}
	}

	e.Forget("A")
	if cached := ask("A", ""); cached > 0 {
		t.Errorf("%d tokens of a tenant that was forgotten", cached)
	}
	if cached := ask("B", ""); cached == 0 {
		t.Error("another tenant was forgotten, too")
	}
	if n, _ := fake.Memory().Entries(); n != e.Stats().PrefixCache.Entries {
		t.Errorf("%d sequences are in memory, and the index has %d", n, e.Stats().PrefixCache.Entries)
	}
}

// TestCorruptPrefix computes what cannot be restored, and does not try again.
func TestCorruptPrefix(t *testing.T) {
	limits := engine.Limits{Sequences: 1, Context: 512, Saves: true}
	e, fake := start(t, enginetest.Options{Limits: limits}, engine.Options{PrefixCache: 64 << 20, SaveAll: true})
	two := conversations(2, 200)
	want := conversations(2, 200)
	for i, c := range two {
		c.turn(t, e, engine.Caller{})
		want[i].history += text(fake.Answer(tokens(want[i].history), 10)) + " and turn 1? "
	}
	if fake.Memory().Corrupt() == 0 {
		t.Fatal("nothing was saved")
	}

	if _, cached := two[0].turn(t, e, engine.Caller{}); cached > 0 {
		t.Errorf("%d tokens were cached", cached)
	}
	if answer := text(fake.Answer(tokens(want[0].history), 10)); !strings.HasPrefix(two[0].history, want[0].history+answer) {
		t.Errorf("another answer: %q", two[0].history)
	}
	s := e.Stats()
	if s.Restored.Failed != 1 || s.Reuse[engine.ReuseFailed] != 1 {
		t.Errorf("restored %+v, reuse %v", s.Restored, s.Reuse)
	}

	fake.Memory().Break()
	two[1].turn(t, e, engine.Caller{})
	two[0].turn(t, e, engine.Caller{})
	if s := e.Stats(); s.Saved.Failed == 0 || s.Skipped[engine.SkipFailed] != s.Saved.Failed {
		t.Errorf("saved %+v, skipped %v", s.Saved, s.Skipped)
	}
}

// TestSavesWhileIdle saves what slots keep when nothing happens, without losing it there.
func TestSavesWhileIdle(t *testing.T) {
	limits := engine.Limits{Sequences: 3, Context: 512, Saves: true}
	e, fake := start(t, enginetest.Options{Limits: limits}, engine.Options{
		PrefixCache: 64 << 20, SaveAll: true, SaveAfter: time.Nanosecond,
	})
	three := conversations(3, 200)
	for _, c := range three {
		c.turn(t, e, engine.Caller{})
	}
	for e.Stats().PrefixCache.Entries < 3 {
		runtime.Gosched()
	}
	for _, c := range three {
		if _, cached := c.turn(t, e, engine.Caller{}); cached < 200 {
			t.Errorf("%d tokens were cached", cached)
		}
	}
	if s := e.Stats(); s.Restored.Count > 0 {
		t.Errorf("%+v were restored from memory", s.Restored)
	}
	if n, bytes := fake.Memory().Entries(); n < 3 || bytes < 3*200*1000 {
		t.Errorf("%d sequences of %d bytes", n, bytes)
	}
}

// slowMemory is a device that computes a token in 0.1 ms, and saves and restores one in a tenth of that, but to memory
// that was not made ready in ten times as long.
type slowMemory struct {
	*enginetest.Fake
	ready engine.Region
}

const (
	readyToken   = 10 * time.Microsecond
	computeToken = 10 * readyToken
	freshToken   = 10 * computeToken
	cellBytes    = 2000 // that the fake saves for each
)

func (m *slowMemory) Prepare(r engine.Region) {
	m.ready = r
	m.Fake.Prepare(r)
}

func (m *slowMemory) Save(seq int, to engine.Region) (engine.Saved, error) {
	saved, err := m.Fake.Save(seq, to)
	cells := time.Duration(saved.Size / cellBytes)
	if len(saved.Without(m.ready)) > 0 {
		time.Sleep(cells * freshToken)
		return saved, err
	}
	time.Sleep(cells * readyToken)
	return saved, err
}

func (m *slowMemory) Restore(seq int, from engine.Saved) error {
	time.Sleep(time.Duration(from.Size/cellBytes) * readyToken)
	return m.Fake.Restore(seq, from)
}

// TestFirstSaveIsNoMeasure has the first prefix saved to memory that is not ready, which takes longer than to compute
// it: those after it are saved all the same.
func TestFirstSaveIsNoMeasure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := engine.Limits{Sequences: 3, Context: 4096, Batch: 512, RollsBack: true, Saves: true}
		device := &slowMemory{Fake: enginetest.New(enginetest.Options{
			Limits: limits,
			BeforeDecode: func(b *engine.Batch) error {
				time.Sleep(time.Millisecond + time.Duration(b.Len())*computeToken)
				return nil
			},
		})}
		e := engine.New(device, device, engine.Options{PrefixCache: 128 << 20, Gap: 50 * time.Millisecond})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()

		all := conversations(12, 1500)
		for turn := range 5 {
			prompt := 0
			cached := 0
			for _, c := range all {
				p, n := c.turn(t, e, engine.Caller{})
				prompt += p
				cached += n
			}
			if turn > 1 && cached*100 < prompt*95 {
				t.Errorf("turn %d: %d of %d tokens were cached", turn, cached, prompt)
			}
		}
		if s := e.Stats(); s.Restored.Count < 30 {
			t.Errorf("saved %+v, restored %+v, skipped %v", s.Saved, s.Restored, s.Skipped)
		}
		cancel()
		<-done
	})
}
