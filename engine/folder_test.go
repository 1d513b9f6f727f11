package engine_test

import (
	"runtime"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
)

// inFolder starts an engine with memory of its own and a folder.
func inFolder(t *testing.T, d *enginetest.Folder, limits engine.Limits) (*engine.Engine, *enginetest.Fake) {
	t.Helper()
	memory := enginetest.NewMemory(64 << 20)
	d.Use(memory)
	return startAsIs(t, enginetest.Options{Limits: limits, Memory: memory}, engine.Options{
		PrefixCache: 64 << 20, SaveAll: true, SaveAfter: 1, Folder: d,
	})
}

// written waits until a folder has so many prefixes.
func written(e *engine.Engine, n int) {
	for e.Stats().Folder.Entries < n {
		runtime.Gosched()
	}
}

// TestFolderOutlivesAnEngine has another engine go on with conversations: it finds nearly all of them in the folder.
func TestFolderOutlivesAnEngine(t *testing.T) {
	for name, limits := range map[string]engine.Limits{
		"buffers of their own": {Sequences: 3, Context: 1024, Batch: 64, RollsBack: true, Saves: true},
		"restored as a whole":  {Sequences: 3, Context: 1024, Batch: 64, RollsBack: true, Saves: true, SavesWhole: true},
		"no rolling back":      {Sequences: 3, Context: 1024, Batch: 64, Saves: true},
	} {
		t.Run(name, func(t *testing.T) {
			d := enginetest.NewFolder()
			first, _ := inFolder(t, d, limits)
			all := conversations(6, 600)
			for _, c := range all {
				c.turn(t, first, engine.Caller{})
			}
			written(first, len(all))

			second, fake := inFolder(t, d, limits)
			for _, c := range all {
				before := c.history
				prompt, cached := c.turn(t, second, engine.Caller{})
				if cached*100 < prompt*95 {
					t.Errorf("%d of %d tokens were cached", cached, prompt)
				}
				if want := text(fake.Answer(tokens(before), 10)); !strings.HasPrefix(c.history, before+want) {
					t.Errorf("another answer: %q", c.history)
				}
			}
			if s := second.Stats(); s.Reuse[engine.ReuseFolder] != 6 || s.Folder.Read.Count != 6 {
				t.Errorf("reuse %v, folder %+v", s.Reuse, s.Folder)
			}
		})
	}
}

// TestFolderOfTenants finds nothing of another tenant's, or of one that was forgotten.
func TestFolderOfTenants(t *testing.T) {
	limits := engine.Limits{Sequences: 2, Context: 1024, RollsBack: true, Saves: true}
	d := enginetest.NewFolder()
	first, _ := inFolder(t, d, limits)
	c := conversations(1, 600)[0]
	c.turn(t, first, engine.Caller{Tenant: "A"})
	written(first, 1)

	second, _ := inFolder(t, d, limits)
	other := *c
	if _, cached := other.turn(t, second, engine.Caller{Tenant: "B"}); cached > 0 {
		t.Errorf("%d tokens of another tenant were found", cached)
	}
	second.Forget("A")
	other = *c
	if _, cached := other.turn(t, second, engine.Caller{Tenant: "A"}); cached > 0 {
		t.Errorf("%d tokens of a tenant that was forgotten", cached)
	}
}

// TestFolderFails computes what cannot be read.
func TestFolderFails(t *testing.T) {
	limits := engine.Limits{Sequences: 2, Context: 1024, RollsBack: true, Saves: true}
	d := enginetest.NewFolder()
	first, _ := inFolder(t, d, limits)
	c := conversations(1, 600)[0]
	c.turn(t, first, engine.Caller{})
	written(first, 1)

	d.Break()
	second, fake := inFolder(t, d, limits)
	before := c.history
	if _, cached := c.turn(t, second, engine.Caller{}); cached > 0 {
		t.Errorf("%d tokens were cached", cached)
	}
	if want := text(fake.Answer(tokens(before), 10)); !strings.HasPrefix(c.history, before+want) {
		t.Errorf("another answer: %q", c.history)
	}
	if s := second.Stats(); s.Reuse[engine.ReuseFailed] != 1 || s.Folder.Read.Failed != 1 {
		t.Errorf("reuse %v, folder %+v", s.Reuse, s.Folder)
	}
}

// TestStreamsDoNotWaitForTheFolder has one conversation wait for a file, while another is answered, and a tenant is
// forgotten meanwhile.
func TestStreamsDoNotWaitForTheFolder(t *testing.T) {
	limits := engine.Limits{Sequences: 2, Context: 1024, RollsBack: true, Saves: true}
	d := enginetest.NewFolder()
	first, _ := inFolder(t, d, limits)
	c := conversations(1, 600)[0]
	c.turn(t, first, engine.Caller{})
	written(first, 1)

	for name, meanwhile := range map[string]func(e *engine.Engine){
		"nothing":   func(*engine.Engine) {},
		"forgotten": func(e *engine.Engine) { e.Forget("") },
	} {
		t.Run(name, func(t *testing.T) {
			d.Hold()
			second, fake := inFolder(t, d, limits)
			going := *c
			waits, err := second.Generate(t.Context(), engine.Request{Prompt: tokens(going.history), MaxTokens: 10})
			if err != nil {
				t.Fatal(err)
			}
			for d.Held() == 0 {
				runtime.Gosched()
			}
			other := conversations(2, 300)[1]
			other.history = name + other.history // which is in no file
			other.turn(t, second, engine.Caller{Tenant: "other"})
			meanwhile(second)
			other.turn(t, second, engine.Caller{Tenant: "other"})
			d.Release()

			answer := read(t, waits, 1)[0].text
			if want := text(fake.Answer(tokens(going.history), 10)); answer != want {
				t.Errorf("%q instead of %q", answer, want)
			}
			found := waits.Usage().Cached > 500
			if forgotten := name == "forgotten"; found == forgotten {
				t.Errorf("%d tokens were cached", waits.Usage().Cached)
			}
		})
	}
}
