package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/engine/remote"
	"serve/engine/remote/remotetest"
)

// nursery starts children, each with a model of its own, and lets them die.
type nursery struct {
	t        testing.TB
	options  func(number int) enginetest.Options
	exit     remote.ChildExit // of those that die
	refuse   func(number int) bool
	removed  func(from int) // is told when cells are removed
	transfer func()         // is told when a sequence is saved or restored
	embedded func([][]engine.Token)

	mu      sync.Mutex
	number  int
	child   *remotetest.Child
	ends    chan struct{} // closed when the child there is dies
	crashes []remote.Crash
	sleeps  []time.Duration
}

var limits = engine.Limits{Sequences: 4, Context: 256, Batch: 32, RollsBack: true}

func (n *nursery) spawn() (*remote.Child, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.number++
	number := n.number
	ends := make(chan struct{})
	n.ends = ends
	p, err := remotetest.SpawnWith(func([]byte) (*remote.Model, []byte) {
		if n.refuse != nil && n.refuse(number) {
			return nil, []byte("no")
		}
		o := enginetest.Options{Limits: limits}
		if n.options != nil {
			o = n.options(number)
		}
		fake := enginetest.New(o)
		n.t.Cleanup(func() {
			for _, fault := range fake.Faults() {
				if !strings.Contains(fault, "never closed") { // it died with them
					n.t.Error("fault:", fault)
				}
			}
		})
		return remotetest.Whole(&mortal{fake, n}), []byte("yes")
	}, n.exit)
	if err != nil {
		return nil, err
	}

	hangUp := p.Kill
	once := sync.Once{}
	p.Kill = func(dump bool) {
		hangUp(dump)
		once.Do(func() { close(ends) })
	}

	n.child = p
	return &p.Child, nil
}

// mortal is a model that may die when cells are removed, or sequences saved or restored.
type mortal struct {
	*enginetest.Fake
	n *nursery
}

func (m *mortal) RemoveKV(seq, from int) bool {
	if m.n.removed != nil {
		m.n.removed(from)
	}
	return m.Fake.RemoveKV(seq, from)
}

func (m *mortal) Embed(inputs [][]engine.Token, suspect bool) ([][]float32, error) {
	if m.n.embedded != nil {
		m.n.embedded(inputs)
	}
	return m.Fake.Embed(inputs, suspect)
}

func (m *mortal) Save(seq int, to engine.Region) (engine.Saved, error) {
	if m.n.transfer != nil && to.Size > 0 {
		m.n.transfer()
	}
	return m.Fake.Save(seq, to)
}

func (m *mortal) Restore(seq int, from engine.Saved) error {
	if m.n.transfer != nil {
		m.n.transfer()
	}
	return m.Fake.Restore(seq, from)
}

// die ends the child there is.
func (n *nursery) die() {
	n.mu.Lock()
	kill := n.child.Kill
	n.mu.Unlock()
	kill(false)
}

// dead is closed when the child there is now ends.
func (n *nursery) dead() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ends
}

func (n *nursery) report(c remote.Crash) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.crashes = append(n.crashes, c)
}

// reported returns the crashes so far.
func (n *nursery) reported() []remote.Crash {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.crashes)
}

// slept returns how long it would have waited.
func (n *nursery) slept() []time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.sleeps)
}

// start runs an engine over the nursery's children until the test ends.
func (n *nursery) start(o remote.Options) (*engine.Engine, *remote.Runner) {
	n.t.Helper()
	return n.startWith(o, engine.Options{})
}

func (n *nursery) startWith(o remote.Options, eo engine.Options) (*engine.Engine, *remote.Runner) {
	n.t.Helper()
	o.Spawn = n.spawn
	o.Report = n.report
	o.Log = slog.New(slog.DiscardHandler)
	o.Sleep = func(d time.Duration) <-chan time.Time { // nobody waits in a test
		n.mu.Lock()
		n.sleeps = append(n.sleeps, d)
		n.mu.Unlock()
		now := make(chan time.Time, 1)
		now <- time.Time{}
		return now
	}

	r, _, err := remote.Start(n.t.Context(), o)
	if err != nil {
		n.t.Fatal(err)
	}

	e := engine.New(r, r, eo)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	n.t.Cleanup(func() {
		cancel()
		<-done
	})
	return e, r
}

func tokens(text string) []engine.Token {
	var out []engine.Token
	for _, c := range []byte(text) {
		out = append(out, engine.Token(c))
	}
	return out
}

// ask returns the text of every choice of a request, and the error that it ended with.
func ask(e *engine.Engine, r engine.Request) ([]string, engine.Usage, error) {
	s, err := e.Generate(context.Background(), r)
	if err != nil {
		return nil, engine.Usage{}, err
	}
	texts := make([]string, max(r.Choices, 1))
	for {
		events, err := s.Next(context.Background())
		if events == nil {
			return texts, s.Usage(), err
		}
		for _, ev := range events {
			texts[ev.Choice] += ev.Text
			for _, info := range ev.Tokens {
				if !r.LogProbs || len(info.Alternatives) != r.Top {
					return texts, s.Usage(), fmt.Errorf("a token comes with %d alternatives", len(info.Alternatives))
				}
			}
		}
	}
}

func answer(prompt string, n int) string {
	var text []byte
	for _, t := range enginetest.New(enginetest.Options{}).Answer(tokens(prompt), n) {
		text = append(text, byte(t))
	}
	return string(text)
}

// TestAnswersGoOn kills children again and again under a crowd. Every answer is the one
// that nobody disturbed.
func TestAnswersGoOn(t *testing.T) {
	for name, exit := range map[string]remote.ChildExit{
		"killed from outside": {How: "killed"},
		"by a fault":          {How: "segmentation fault", Fault: true},
	} {
		t.Run(name, func(t *testing.T) {
			n := &nursery{t: t, exit: exit}
			var steps atomic.Int64
			n.options = func(int) enginetest.Options {
				return enginetest.Options{Limits: limits, BeforeDecode: func(b *engine.Batch) error {
					// Not a sequence alone: that would be its fault.
					if alone := b.Sequences[0] == b.Sequences[b.Len()-1]; steps.Add(1)%23 == 0 && !alone {
						go n.die()
						<-n.dead()
					}
					return nil
				}}
			}

			e, r := n.start(remote.Options{})
			var wg sync.WaitGroup
			for i := range 60 {
				wg.Go(func() {
					prompt := fmt.Sprintf("you are kind. canary %d ", i)
					texts, usage, err := ask(
						e, engine.Request{Prompt: tokens(prompt), MaxTokens: 30 + i%20, Choices: 1 + i%3, LogProbs: true, Top: 2},
					)
					if err != nil {
						t.Error(err)
						return
					}

					want := answer(prompt, 30+i%20)
					for _, text := range texts {
						if text != want {
							t.Errorf("got %q, undisturbed it is %q", text, want)
						}
					}

					if usage.Completion != len(want)*len(texts) || usage.Prompt != len(prompt) {
						t.Errorf("usage %+v of %d choices of %d", usage, len(texts), len(want))
					}
				})
			}

			wg.Wait()
			if r.Restarts() < 5 || e.Stats().Restarts == 0 {
				t.Errorf("%d restarts: the test is too easy", r.Restarts())
			}
			if got := e.Stats().Generated; got != e.Stats().Tokens {
				t.Errorf("%d tokens were drawn, %d counted", got, e.Stats().Tokens)
			}

			computed := 0
			crashes := n.reported()
			for _, c := range crashes {
				computed += len(c.Batch)
				if strings.Contains(fmt.Sprint(c), "canary") {
					t.Errorf("a crash tells %+v", c)
				}
			}

			if computed < len(crashes) {
				t.Errorf("%d crashes tell of %d sequences in all", len(crashes), computed)
			}
		})
	}
}

// TestDraftsGoOn kills the child while answers repeat their prompts, so that steps have guesses: the samplers of the next
// one go on after what was drawn, and not after what was refused.
func TestDraftsGoOn(t *testing.T) {
	const period = 20
	next := func(tokens []engine.Token) engine.Token {
		if h := enginetest.Hash(tokens); len(tokens) < period || h%9 == 0 {
			return h
		}
		return tokens[len(tokens)-period]
	}
	var steps atomic.Int64
	n := &nursery{t: t, exit: remote.ChildExit{How: "killed"}}
	wide := limits
	wide.Rows = 16
	n.options = func(int) enginetest.Options {
		return enginetest.Options{Limits: wide, Next: next, BeforeDecode: func(*engine.Batch) error {
			if steps.Add(1)%19 == 0 {
				go n.die()
				<-n.dead()
			}
			return nil
		}}
	}

	e, r := n.startWith(remote.Options{}, engine.Options{Speculation: engine.SpeculationAuto})
	prompt := "repeat what comes now "
	sampling := engine.DefaultSampling()
	sampling.MinTokens = 150
	for range 50 {
		texts, usage, err := ask(e, engine.Request{Prompt: tokens(prompt), MaxTokens: 150, Choices: 2, Sampling: sampling})
		if err != nil {
			t.Fatal(err)
		}
		alone := tokens(prompt)
		for range 150 {
			alone = append(alone, next(alone))
		}
		for _, text := range texts {
			if !slices.Equal(tokens(text), alone[len(prompt):]) {
				t.Fatalf("got %q", text)
			}
		}
		if usage.Completion != 300 {
			t.Errorf("usage %+v", usage)
		}
		if d := e.Stats().Drafts[engine.DraftNgram]; d.Accepted > 50 && d.Accepted < d.Drafted && r.Restarts() > 5 {
			return
		}
	}
	t.Errorf("%d restarts and %+v: the test is too easy", r.Restarts(), e.Stats().Drafts)
}

// TestDiesBetweenSteps has children that die when cells are removed, of which the loop
// hears with its next step.
func TestDiesBetweenSteps(t *testing.T) {
	n := &nursery{t: t, exit: remote.ChildExit{How: "killed"}}
	removals := 0
	n.removed = func(from int) {
		if removals++; from > 0 && removals%3 == 0 {
			go n.die()
			<-n.dead()
		}
	}
	e, r := n.start(remote.Options{})
	for i := range 20 {
		prompt := strings.Repeat("the same beginning ", 1+i%2) + fmt.Sprint(i)
		texts, _, err := ask(e, engine.Request{Prompt: tokens(prompt), MaxTokens: 10})
		if err != nil || texts[0] != answer(prompt, 10) {
			t.Errorf("%q: %q, %v", prompt, texts, err)
		}
	}
	if r.Restarts() == 0 {
		t.Error("no restart: the test is too easy")
	}
}

// TestFatalErrors has children that say themselves that they are of no use any more.
func TestFatalErrors(t *testing.T) {
	n := &nursery{t: t, exit: remote.ChildExit{How: "exit status 1", Fault: true}}
	fail := func(now bool) error {
		if now {
			return fmt.Errorf("%w: out of memory", engine.ErrFatal)
		}
		return nil
	}

	n.options = func(number int) enginetest.Options {
		return enginetest.Options{
			Limits:       limits,
			BeforeDecode: func(b *engine.Batch) error { return fail(number == 1 && b.Positions[0] > 8) },
			RenderError:  func([]byte) error { return fail(number == 2) },
		}
	}

	e, r := n.start(remote.Options{})
	texts, _, err := ask(e, engine.Request{Prompt: tokens("hello "), MaxTokens: 30})
	if err != nil ||
		texts[0] != answer("hello ", 30) {
		t.Errorf("%q, %v", texts, err)
	}
	rendered, err := e.Render(t.Context(), engine.Caller{}, engine.Chat{Messages: []byte("[]")})
	if err != nil || rendered.Prompt != "\n" {
		t.Errorf("%+v, %v", rendered, err)
	}
	if r.Restarts() != 2 {
		t.Errorf("%d restarts", r.Restarts())
	}
}

// TestPoison has one request that kills whatever computes it. It ends with an error,
// and the others are answered.
func TestPoison(t *testing.T) {
	n := &nursery{t: t, exit: remote.ChildExit{How: "aborted", Fault: true}}
	n.options = func(int) enginetest.Options {
		return enginetest.Options{Limits: limits, BeforeDecode: func(b *engine.Batch) error {
			if slices.Contains(b.Tokens, '#') {
				go n.die()
				<-n.dead()
			}
			return nil
		}}
	}

	e, r := n.start(remote.Options{})
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			prompt := fmt.Sprintf("canary %d ", i)
			if i == 5 {
				_, _, err := ask(e, engine.Request{Prompt: tokens("poison #"), MaxTokens: 5})
				if !errors.Is(err, engine.ErrCrashed) {
					t.Errorf("what crashes the engine ends with %v", err)
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
	if got := r.Restarts(); got < 2 || got > 3 {
		t.Errorf("%d restarts for one request that crashes the engine", got)
	}
}

// TestStalls has a child that hangs in a step, and one whose end was only a pause.
func TestStalls(t *testing.T) {
	n := &nursery{t: t, exit: remote.ChildExit{How: "killed"}}
	n.options = func(number int) enginetest.Options {
		return enginetest.Options{Limits: limits, BeforeDecode: func(b *engine.Batch) error {
			if number == 1 && b.Positions[0] > 8 {
				<-n.dead()
			}
			return nil
		}}
	}
	e, r := n.start(remote.Options{Stall: 300 * time.Millisecond})
	texts, _, err := ask(e, engine.Request{Prompt: tokens("hello "), MaxTokens: 30})
	if err != nil || texts[0] != answer("hello ", 30) || r.Restarts() != 1 {
		t.Errorf("%q, %v, %d restarts", texts, err, r.Restarts())
	}
	if crashes := n.reported(); len(crashes) != 1 || crashes[0].Stalled == 0 {
		t.Errorf("the crash: %+v", crashes)
	}
}

// TestCallsThatHang has a template that never ends.
func TestCallsThatHang(t *testing.T) {
	n := &nursery{t: t, exit: remote.ChildExit{How: "killed"}}
	n.options = func(int) enginetest.Options {
		return enginetest.Options{Limits: limits, RenderError: func(messages []byte) error {
			if len(messages) > 2 {
				<-n.dead()
			}
			return nil
		}}
	}
	e, r := n.start(remote.Options{Stall: 200 * time.Millisecond})
	_, err := e.Render(t.Context(), engine.Caller{}, engine.Chat{Messages: []byte(`[{"role":"user"}]`)})
	if !errors.Is(err, engine.ErrCrashed) {
		t.Errorf("a template that never ends: %v", err)
	}
	_, err = e.Render(t.Context(), engine.Caller{}, engine.Chat{Messages: []byte("[]")})
	if err != nil || r.Restarts() != 2 {
		t.Errorf("another one: %v, after %d restarts", err, r.Restarts())
	}
}

// TestGarbage has children that answer nonsense.
func TestGarbage(t *testing.T) {
	for name, garbage := range map[string][]byte{
		"a length without bounds": {255, 255, 255, 255},
		"no message":              {0, 0, 0, 0},
		"zeros":                   append([]byte{200, 0, 0, 0}, make([]byte, 200)...),
		"a token that is none":    append([]byte{14, 0, 0, 0, 0, 0}, 255, 255, 255, 127, 0, 0, 0, 0, 0, 0, 0, 0),
	} {
		for _, socket := range []string{"steps", "calls"} {
			n := &nursery{t: t, exit: remote.ChildExit{How: "killed"}}
			var once sync.Once
			n.options = func(int) enginetest.Options {
				return enginetest.Options{Limits: limits, BeforeDecode: func(b *engine.Batch) error {
					if b.Positions[0] > 8 {
						once.Do(func() {
							n.mu.Lock()
							end := n.child.End
							n.mu.Unlock()
							if socket == "steps" {
								_, _ = end.Steps.Write(garbage)
							} else {
								_, _ = end.Calls.Write(garbage)
							}
							<-n.dead()
						})
					}

					return nil
				}}
			}

			e, r := n.start(remote.Options{})
			texts, _, err := ask(e, engine.Request{Prompt: tokens("hello "), MaxTokens: 30})
			if err != nil || texts[0] != answer("hello ", 30) || r.Restarts() != 1 {
				t.Errorf("%s on %s: %q, %v, %d restarts", name, socket, texts, err, r.Restarts())
			}
			if crashes := n.reported(); len(crashes) != 1 || crashes[0].Wire == nil {
				t.Errorf("%s on %s: the crash: %+v", name, socket, crashes)
			}
		}
	}
}

// TestGivesUp has a model that cannot be loaded any more.
func TestGivesUp(t *testing.T) {
	n := &nursery{t: t, exit: remote.ChildExit{How: "killed"}, refuse: func(number int) bool { return number > 1 }}
	why := errors.New("its device is gone")
	e, r := n.start(remote.Options{Refused: func(answer []byte) error {
		if string(answer) != "no" {
			t.Errorf("refused with %q", answer)
		}
		return why
	}})

	if err := r.Failed().Err(); err != nil {
		t.Errorf("it has failed before: %v", err)
	}

	n.die()
	<-r.Failed().Done() // though nobody asks it for anything
	if err := context.Cause(r.Failed()); !errors.Is(err, why) || !errors.Is(err, engine.ErrFatal) {
		t.Errorf("it failed because of %v", err)
	}
	_, _, err := ask(e, engine.Request{Prompt: tokens("hello "), MaxTokens: 30})
	if !errors.Is(err, engine.ErrStopped) &&
		!errors.Is(err, engine.ErrFatal) {
		t.Errorf("an engine that cannot be started again: %v", err)
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	if n.number != 6 {
		t.Errorf("%d children were started", n.number)
	}
}

// TestRestarted reads what children say that take another's place, and waits longer after one
// that says that later may be better.
func TestRestarted(t *testing.T) {
	n := &nursery{
		t:      t,
		exit:   remote.ChildExit{How: "killed"},
		refuse: func(number int) bool { return number == 2 || number == 3 },
	}
	refusals := []error{fmt.Errorf("%w: no memory", remote.ErrLater), errors.New("no model")}
	var said []string
	e, r := n.start(remote.Options{
		Refused: func(answer []byte) error {
			said = append(said, string(answer))
			return refusals[len(said)-1]
		},
		Restarted: func(answer []byte) { said = append(said, string(answer)) },
	})

	n.die()
	texts, _, err := ask(e, engine.Request{Prompt: tokens("hello "), MaxTokens: 30})
	if err != nil || texts[0] != answer("hello ", 30) || r.Restarts() != 1 {
		t.Errorf("%q, %v, %d restarts", texts, err, r.Restarts())
	}
	if !slices.Equal(said, []string{"no", "no", "yes"}) {
		t.Errorf("it read %q", said)
	}
	if slept := n.slept(); !slices.Equal(slept, []time.Duration{time.Second, 2 * time.Second}) {
		t.Errorf("it waited %v", slept)
	}
}

// TestRefusal says why a model was not loaded at all.
func TestRefusal(t *testing.T) {
	n := &nursery{t: t, refuse: func(int) bool { return true }}
	r, said, err := remote.Start(t.Context(), remote.Options{Spawn: n.spawn})
	if r != nil || err != nil || !bytes.Equal(said, []byte("no")) {
		t.Errorf("%v, %q, %v", r, said, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("nobody waits")
	cancel(gone)
	if _, _, err := remote.Start(ctx, remote.Options{Spawn: n.spawn}); !errors.Is(err, gone) {
		t.Errorf("a load that nobody waits for: %v", err)
	}
}
