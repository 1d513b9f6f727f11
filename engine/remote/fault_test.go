package remote_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/engine/remote"
)

var (
	errDevice = fmt.Errorf("%w: made up", engine.ErrDevice)
	faulted   = remote.ChildExit{How: "aborted", Fault: true}
)

// faultOf has every end be a fault of a kind.
func faultOf(kind remote.FaultKind) func(remote.ChildExit) remote.Fault {
	return func(remote.ChildExit) remote.Fault { return remote.Fault{Kind: kind, Err: errDevice} }
}

// diesIf has children that end in steps that it picks.
func (n *nursery) diesIf(l engine.Limits, picks func(number int, b *engine.Batch) bool) {
	n.options = func(number int) enginetest.Options {
		return enginetest.Options{Limits: l, BeforeDecode: func(b *engine.Batch) error {
			if picks(number, b) {
				go n.die()
				<-n.dead()
			}
			return nil
		}}
	}
}

// TestSickDevice has a device on which no step works: the engine is given up for that reason, and nobody's request is
// to blame, neither now nor later.
func TestSickDevice(t *testing.T) {
	for name, kind := range map[string]remote.FaultKind{
		"its contexts fail": remote.FaultOfContext,
		"it is unusable":    remote.FaultOfDevice,
	} {
		t.Run(name, func(t *testing.T) {
			n := &nursery{t: t, exit: faulted}
			n.diesIf(limits, func(int, *engine.Batch) bool { return true })
			e, r := n.start(remote.Options{Fault: faultOf(kind)})

			var wg sync.WaitGroup
			for i := range 12 {
				wg.Go(func() {
					_, _, err := ask(e, engine.Request{Prompt: tokens(fmt.Sprint("request ", i)), MaxTokens: 5})
					if errors.Is(err, engine.ErrCrashed) || !errors.Is(err, engine.ErrDevice) {
						t.Errorf("request %d: %v", i, err)
					}
				})
			}
			wg.Wait()

			<-r.Failed().Done()
			if why := context.Cause(r.Failed()); !errors.Is(why, engine.ErrFatal) || !errors.Is(why, engine.ErrDevice) {
				t.Errorf("it failed because of %v", why)
			}
			if crashes := n.reported(); len(crashes) != 3 {
				t.Errorf("%d crashes", len(crashes))
			}
		})
	}
}

// TestFaultOfOneRequest has a request with which the device fails, and works without: it is to blame once a probe has
// worked that has nothing of it. The others are answered.
func TestFaultOfOneRequest(t *testing.T) {
	n := &nursery{t: t, exit: faulted}
	var probes atomic.Int32
	n.diesIf(limits, func(_ int, b *engine.Batch) bool {
		if !slices.Contains(b.Outputs, 1) { // the prompts are read in one step each
			probes.Add(1)
		}
		return slices.Contains(b.Tokens, '#')
	})
	e, r := n.start(remote.Options{Fault: faultOf(remote.FaultOfContext)})

	poison := engine.Request{Prompt: tokens("poison #"), MaxTokens: 5}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			prompt := fmt.Sprint("request ", i)
			if i == 5 {
				if _, _, err := ask(e, poison); !errors.Is(err, engine.ErrCrashed) {
					t.Errorf("what the device fails with ends with %v", err)
				}
				return
			}
			texts, _, err := ask(e, engine.Request{Prompt: tokens(prompt), MaxTokens: 40})
			if err != nil || texts[0] != answer(prompt, 40) {
				t.Errorf("%q: %q, %v", prompt, texts, err)
			}
		})
	}
	wg.Wait()
	if probes.Load() == 0 {
		t.Error("nothing was probed before it was blamed")
	}
	if got := r.Restarts(); got < 2 || got > 3 {
		t.Errorf("%d restarts for one request", got)
	}
	if _, _, err := ask(e, poison); !errors.Is(err, engine.ErrTooComplex) {
		t.Errorf("the same again: %v", err)
	}
}

// TestUnluckyRequest has a device that fails with a request that is alone, and again with the probe, before it works.
// The request is not to blame.
func TestUnluckyRequest(t *testing.T) {
	n := &nursery{t: t, exit: faulted}
	n.diesIf(limits, func(number int, b *engine.Batch) bool { return number <= 3 && b.Len() > 0 })
	kinds := []remote.FaultKind{remote.NoFault, remote.FaultOfContext, remote.FaultOfContext}
	var ends atomic.Int32
	e, r := n.start(remote.Options{Fault: func(remote.ChildExit) remote.Fault {
		n := int(ends.Add(1))
		if n > len(kinds) { // with the test
			return remote.Fault{}
		}
		return remote.Fault{Kind: kinds[n-1], Err: errDevice}
	}})

	texts, _, err := ask(e, engine.Request{Prompt: tokens("hello "), MaxTokens: 30})
	if err != nil || texts[0] != answer("hello ", 30) || r.Restarts() != 3 {
		t.Errorf("%q, %v, %d restarts", texts, err, r.Restarts())
	}
}

// TestOutOfMemory has a device that has no memory left for all sequences: the next engine has fewer cells, which they
// share. Every answer goes on.
func TestOutOfMemory(t *testing.T) {
	all := limits
	all.Cells = all.Sequences * all.Context
	less := limits
	less.Cells = 320
	less.Shared = true

	n := &nursery{t: t, exit: faulted}
	n.options = func(number int) enginetest.Options {
		l := less
		if number == 1 {
			l = all
		}
		return enginetest.Options{Limits: l, BeforeDecode: func(b *engine.Batch) error {
			if number == 1 && slices.Max(b.Sequences) > 1 && slices.Max(b.Positions) > 40 {
				go n.die()
				<-n.dead()
			}
			return nil
		}}
	}
	e, r := n.start(remote.Options{Fault: faultOf(remote.FaultOfMemory)})
	if got := e.Stats().Cells; got != all.Cells {
		t.Errorf("it starts with %d cells", got)
	}

	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			prompt := fmt.Sprint("request ", i)
			texts, _, err := ask(e, engine.Request{Prompt: tokens(prompt), MaxTokens: 200})
			if err != nil || texts[0] != answer(prompt, 200) {
				t.Errorf("%q: %q, %v", prompt, texts, err)
			}
		})
	}
	wg.Wait()
	if r.Restarts() != 1 {
		t.Errorf("%d restarts", r.Restarts())
	}
	if got := e.Stats(); got.Cells != less.Cells || got.Preempted == 0 {
		t.Errorf("it has %d cells now, and preempted %d: the test is too easy", got.Cells, got.Preempted)
	}
}

// TestOutOfMemoryAgain has a device that has no memory left again and again while one request is computed, which is not
// to blame.
func TestOutOfMemoryAgain(t *testing.T) {
	n := &nursery{t: t, exit: faulted}
	n.diesIf(limits, func(number int, b *engine.Batch) bool { return number < 7 && b.Positions[0] > 8 })
	e, r := n.start(remote.Options{Fault: faultOf(remote.FaultOfMemory)})
	texts, _, err := ask(e, engine.Request{Prompt: tokens("hello "), MaxTokens: 30})
	if err != nil || texts[0] != answer("hello ", 30) || r.Restarts() != 6 {
		t.Errorf("%q, %v, %d restarts", texts, err, r.Restarts())
	}
}

// TestOtherLimits has an engine that comes back with what the loop cannot do with.
func TestOtherLimits(t *testing.T) {
	shared := limits
	shared.Cells = 4 * limits.Context
	shared.Shared = true
	for name, change := range map[string]func(*engine.Limits){
		"too few cells for one": func(l *engine.Limits) { l.Cells = l.Context - 1 },
		"more cells":            func(l *engine.Limits) { l.Cells++ },
		"a shorter context":     func(l *engine.Limits) { l.Context-- },
	} {
		t.Run(name, func(t *testing.T) {
			n := &nursery{t: t, exit: faulted}
			n.options = func(number int) enginetest.Options {
				l := shared
				if number > 1 {
					change(&l)
				}
				return enginetest.Options{Limits: l}
			}
			_, r := n.start(remote.Options{Fault: faultOf(remote.FaultOfMemory)})
			n.die()
			<-r.Failed().Done()
		})
	}
}

// TestFaultOfOneInput is TestFaultOfOneRequest and TestSickDevice for inputs to embed.
func TestFaultOfOneInput(t *testing.T) {
	l := limits
	l.EmbedTokens = 64
	l.EmbedInputs = 8
	embeds := func(picks func(in []engine.Token) bool) (*nursery, *engine.Engine) {
		n := &nursery{t: t, exit: faulted}
		n.options = func(int) enginetest.Options { return enginetest.Options{Limits: l, Embeds: true} }
		n.embedded = func(inputs [][]engine.Token) {
			if slices.ContainsFunc(inputs, picks) {
				go n.die()
				<-n.dead()
			}
		}
		e, _ := n.start(remote.Options{Fault: faultOf(remote.FaultOfContext)})
		return n, e
	}

	_, e := embeds(func(in []engine.Token) bool { return slices.Contains(in, '#') })
	poison := [][]engine.Token{tokens("poison #")}
	if _, err := e.Embed(t.Context(), engine.Caller{}, poison); !errors.Is(err, engine.ErrCrashed) {
		t.Errorf("what the device fails with: %v", err)
	}
	if _, err := e.Embed(t.Context(), engine.Caller{}, poison); !errors.Is(err, engine.ErrTooComplex) {
		t.Errorf("the same again: %v", err)
	}
	if v, err := e.Embed(t.Context(), engine.Caller{}, [][]engine.Token{tokens("hello")}); err != nil || len(v) != 1 {
		t.Errorf("another: %v, %v", v, err)
	}

	_, e = embeds(func([]engine.Token) bool { return true })
	_, err := e.Embed(t.Context(), engine.Caller{}, [][]engine.Token{tokens("hello")})
	if errors.Is(err, engine.ErrCrashed) || !errors.Is(err, engine.ErrDevice) {
		t.Errorf("on a sick device: %v", err)
	}
}
