package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"serve/engine"
	"serve/engine/enginetest"
)

// start runs an engine over a fake until the test ends, and checks then that the
// fake saw no mistake.
func start(t *testing.T, fo enginetest.Options, o engine.Options) (*engine.Engine, *enginetest.Fake) {
	t.Helper()
	fo.Limits.RollsBack = true
	return startAsIs(t, fo, o)
}

func startAsIs(t *testing.T, fo enginetest.Options, o engine.Options) (*engine.Engine, *enginetest.Fake) {
	t.Helper()
	return startConfigured(t, fo, o, func(*engine.Engine) {})
}

func startConfigured(
	t *testing.T, fo enginetest.Options, o engine.Options, configure func(*engine.Engine),
) (*engine.Engine, *enginetest.Fake) {
	t.Helper()
	if fo.Limits.Saves && o.PrefixCache == 0 {
		o.PrefixCache = 1 << 20
		o.SaveAfter = 1
		o.SaveAll = true    // the fake computes faster than it saves
		o.Gap = time.Minute // so that streams wait for it
	}
	fake := enginetest.New(fo)
	runner := wherever(t, fake)
	e := engine.New(runner, runner, o)
	configure(e)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		for _, f := range fake.Faults() {
			t.Error("fault:", f)
		}
	})
	return e, fake
}

func tokens(text string) []engine.Token {
	out := make([]engine.Token, len(text))
	for i := range len(text) {
		out[i] = engine.Token(text[i])
	}
	return out
}

func text(tokens []engine.Token) string {
	b := make([]byte, len(tokens))
	for i, t := range tokens {
		b[i] = byte(t)
	}
	return string(b)
}

// result is all that came of one choice.
type result struct {
	text   string
	tokens []engine.TokenInfo
	finish engine.Finish
	stop   string
}

func read(t *testing.T, s *engine.Stream, choices int) []result {
	t.Helper()
	results, err := tryRead(s, choices)
	if err != nil {
		t.Fatalf("stream: %v", err)
	}
	return results
}

func tryRead(s *engine.Stream, choices int) ([]result, error) {
	results := make([]result, choices)
	for {
		events, err := s.Next(context.Background())
		if events == nil {
			return results, err
		}
		for _, e := range events {
			r := &results[e.Choice]
			r.text += e.Text
			r.tokens = append(r.tokens, e.Tokens...)
			r.finish = e.Finish
			r.stop = e.Stop
		}
	}
}

func generate(t *testing.T, e *engine.Engine, r engine.Request) result {
	t.Helper()
	s, err := e.Generate(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, s, 1)[0]
}

func TestGenerateEnds(t *testing.T) {
	euro := "\u20ac"
	tests := []struct {
		name   string
		says   string
		req    engine.Request
		want   string
		finish engine.Finish
		stop   string
	}{
		{"by the model", "hello", engine.Request{}, "hello", engine.FinishStop, ""},
		{"at max tokens", "hello", engine.Request{MaxTokens: 3}, "hel", engine.FinishLength, ""},
		{"at a stop string", "one two three", engine.Request{Stop: []string{"two"}}, "one ", engine.FinishStop, "two"},
		{
			"at the earliest of several",
			"one two three",
			engine.Request{Stop: []string{"three", "o t"}},
			"one tw",
			engine.FinishStop,
			"o t",
		},
		{
			"at the first of two that begin alike",
			"one two three",
			engine.Request{Stop: []string{"tw", "two t"}},
			"one ",
			engine.FinishStop,
			"tw",
		},
		{
			"with a stop string begun and not finished",
			"one tw",
			engine.Request{Stop: []string{"two"}},
			"one tw",
			engine.FinishStop,
			"",
		},
		{
			"with a stop string begun at max tokens",
			"one two",
			engine.Request{Stop: []string{"two"}, MaxTokens: 6},
			"one tw",
			engine.FinishLength,
			"",
		},
		{"with empty stop strings ignored", "one", engine.Request{Stop: []string{""}}, "one", engine.FinishStop, ""},
		{"with characters of many bytes", euro + euro, engine.Request{}, euro + euro, engine.FinishStop, ""},
		{"in the middle of a character", euro + euro, engine.Request{MaxTokens: 4}, euro + "\xe2", engine.FinishLength, ""},
		{"with bytes that are no character", "a\xffb", engine.Request{}, "a\xffb", engine.FinishStop, ""},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, _ := start(t, enginetest.Options{Next: enginetest.Say(tt.says)}, engine.Options{})
			tt.req.Prompt = tokens("prompt\n")
			for _, logprobs := range []bool{false, true} {
				tt.req.LogProbs = logprobs
				got := generate(t, e, tt.req)
				if got.text != tt.want || got.finish != tt.finish || got.stop != tt.stop {
					t.Errorf("got %q, %s by %q, want %q, %s by %q",
						got.text, got.finish, got.stop, tt.want, tt.finish, tt.stop)
				}

				if logprobs {
					var bytes []byte
					for _, info := range got.tokens {
						bytes = append(bytes, info.Bytes...)
					}
					if string(bytes) != tt.want {
						t.Errorf("the tokens' bytes are %q, want %q", bytes, tt.want)
					}
				}
			}
		})
	}
}

func TestNoEventSplitsACharacterOrShowsAStop(t *testing.T) {
	// The reader says when the next token may come, so that each is an event.
	turn := make(chan struct{}, 1)
	over := make(chan struct{})
	defer close(over)
	e, _ := start(t, enginetest.Options{
		Next: enginetest.Say("\u20ac STO STOP"),
		BeforeDecode: func(*engine.Batch) error {
			select {
			case <-turn:
			case <-over:
			}
			return nil
		},
	}, engine.Options{})

	s, err := e.Generate(context.Background(), engine.Request{Prompt: tokens("\n"), Stop: []string{"STOP"}})
	if err != nil {
		t.Fatal(err)
	}

	var parts []string
	for done := false; !done; {
		select {
		case turn <- struct{}{}:
		default:
		}
		var events []engine.Event
		if events, done, err = s.Poll(); err != nil {
			t.Fatal(err)
		}
		if !done && len(events) == 0 {
			runtime.Gosched()
		}
		for _, ev := range events {
			if ev.Text != "" {
				parts = append(parts, ev.Text)
			}
			if ev.Text != strings.ToValidUTF8(ev.Text, "") {
				t.Errorf("event %q splits a character", ev.Text)
			}
		}
	}

	if got := strings.Join(parts, ""); got != "\u20ac STO " {
		t.Errorf("got %q", got)
	}
}

func TestContextIsFilledAndNoMore(t *testing.T) {
	e, _ := start(t, enginetest.Options{Limits: engine.Limits{Context: 64, Sequences: 2}}, engine.Options{})
	got := generate(t, e, engine.Request{Prompt: tokens(strings.Repeat("x", 60))})
	if len(got.text) != 4 || got.finish != engine.FinishLength {
		t.Errorf("got %q, %s", got.text, got.finish)
	}
	_, err := e.Generate(context.Background(), engine.Request{Prompt: tokens(strings.Repeat("x", 64))})
	var length *engine.LengthError
	if !errors.As(err, &length) || length.Tokens != 64 || length.Limit != 63 {
		t.Errorf("got %v", err)
	}
}

func TestHugeTextIsNotSplit(t *testing.T) {
	e, _ := start(t, enginetest.Options{}, engine.Options{})
	var length *engine.LengthError
	// The longest token of the fake has 7 bytes.
	_, err := e.Tokenize(t.Context(), engine.Caller{}, strings.Repeat("x", 7*101), engine.Reading{}, 100)
	if !errors.As(err, &length) || !length.AtLeast ||
		length.Tokens != 101 {
		t.Errorf("got %v", err)
	}
	got, err := e.Tokenize(t.Context(), engine.Caller{}, strings.Repeat("x", 7*100), engine.Reading{}, 100)
	if err != nil || len(got) != 700 {
		t.Errorf("got %d tokens, %v", len(got), err)
	}
}

func TestInvalidRequests(t *testing.T) {
	e, _ := start(t, enginetest.Options{}, engine.Options{MaxChoices: 4})
	bad := engine.DefaultSampling()
	bad.Grammar.Text = "bad"
	for name, r := range map[string]engine.Request{
		"no prompt":        {},
		"unknown token":    {Prompt: []engine.Token{9999}},
		"negative token":   {Prompt: []engine.Token{-1}},
		"too many choices": {Prompt: tokens("a"), Choices: 5},
		"negative choices": {Prompt: tokens("a"), Choices: -1},
		"grammar":          {Prompt: tokens("a"), Choices: 2, Sampling: bad},
	} {
		if _, err := e.Generate(context.Background(), r); !errors.Is(err, engine.ErrRequest) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestCrowd runs random requests together, over every layout of the KV cache,
// and compares each answer with the one it gets alone.
func TestCrowd(t *testing.T) {
	layouts := map[string]engine.Limits{
		"buffers of their own": {Sequences: 4, Context: 128, Batch: 24, RollsBack: true},
		"one buffer":           {Sequences: 6, Context: 128, Batch: 24, RollsBack: true, Shared: true, Cells: 200},
		"one tight buffer":     {Sequences: 8, Context: 128, Batch: 16, RollsBack: true, Shared: true, Cells: 128},
		"no rolling back":      {Sequences: 4, Context: 128, Batch: 24},
		"one sequence":         {Sequences: 1, Context: 128, Batch: 8, RollsBack: true},

		"saved":                  {Sequences: 3, Context: 128, Batch: 24, RollsBack: true, Saves: true},
		"saved, one buffer":      {Sequences: 6, Context: 128, Batch: 24, RollsBack: true, Shared: true, Cells: 150, Saves: true},
		"saved as a whole":       {Sequences: 3, Context: 128, Batch: 24, RollsBack: true, Saves: true, SavesWhole: true},
		"saved, no rolling back": {Sequences: 3, Context: 128, Batch: 24, Saves: true},
	}

	for name, limits := range layouts {
		t.Run(name, func(t *testing.T) {
			e, fake := startAsIs(t, enginetest.Options{Limits: limits}, engine.Options{})
			rng := rand.New(rand.NewSource(1))
			systems := []string{"", strings.Repeat("you are kind. ", 3), strings.Repeat("you are a long story ", 4)}
			var wg sync.WaitGroup
			for i := range 120 {
				prompt := systems[rng.Intn(len(systems))] + fmt.Sprintf("canary %d ", rng.Intn(40))
				n := 1 + rng.Intn(30)
				choices := 1 + rng.Intn(3)
				vanish := rng.Intn(5) == 0
				wg.Go(func() {
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					s, err := e.Generate(ctx, engine.Request{Prompt: tokens(prompt), MaxTokens: n, Choices: choices})
					if err != nil {
						t.Error(err)
						return
					}

					if vanish {
						for range i % 4 {
							runtime.Gosched()
						}
						cancel()
						return
					}

					sameAsAlone(t, s, len(prompt), choices, text(fake.Answer(tokens(prompt), n)))
				})
			}

			wg.Wait()
			if s := e.Stats(); limits.Cells == 128 && s.Preempted == 0 {
				t.Error("nothing was preempted: the test is too easy")
			} else if whole := limits.SavesWhole || !limits.RollsBack; limits.Saves && (s.Saved.Count == 0 || !whole && s.Restored.Count == 0) {
				t.Errorf("%+v were saved and %+v restored: the test is too easy", s.Saved, s.Restored)
			}
		})
	}
}

// sameAsAlone reads a stream to its end: every choice is what the prompt's answer is
// without a crowd, and all of it is counted.
func sameAsAlone(t *testing.T, s *engine.Stream, prompt, choices int, want string) {
	t.Helper()
	results, err := tryRead(s, choices)
	if err != nil {
		t.Error(err)
		return
	}
	for _, r := range results {
		if r.text != want || r.finish != engine.FinishLength {
			t.Errorf("got %q, %s, alone it is %q", r.text, r.finish, want)
		}
	}
	if u := s.Usage(); u.Prompt != prompt || u.Completion != len(want)*choices || u.Cached >= u.Prompt {
		t.Errorf("usage %+v of a prompt of %d and %d answers of %d", u, prompt, choices, len(want))
	}
}

func TestPrefixIsReusedAndCounted(t *testing.T) {
	for _, shared := range []bool{false, true} {
		limits := engine.Limits{Sequences: 3, Context: 256, Shared: shared, RollsBack: true}
		if shared {
			limits.Cells = 400
		}

		e, _ := startAsIs(t, enginetest.Options{Limits: limits}, engine.Options{})
		cached := func(prompt string) int {
			s, err := e.Generate(context.Background(), engine.Request{Prompt: tokens(prompt), MaxTokens: 4})
			if err != nil {
				t.Fatal(err)
			}
			read(t, s, 1)
			return s.Usage().Cached
		}

		story := strings.Repeat("s", 100)
		if got := cached(story + "first"); got != 0 {
			t.Errorf("shared %v: a first prompt has %d cached tokens", shared, got)
		}
		if got := cached(story + "first"); got != 104 {
			t.Errorf("shared %v: the same prompt again has %d cached tokens, want all but the last", shared, got)
		}
		if got := cached(story + "second"); got != 100 {
			t.Errorf("shared %v: a prompt with the same beginning has %d cached tokens", shared, got)
		}
	}
}

func TestAnswerIsPartOfTheNextPrefix(t *testing.T) {
	e, fake := start(t, enginetest.Options{}, engine.Options{})
	prompt := strings.Repeat("turn one ", 5)
	generate(t, e, engine.Request{Prompt: tokens(prompt), MaxTokens: 10})
	next := prompt + text(fake.Answer(tokens(prompt), 10)) + "turn two"
	s, err := e.Generate(context.Background(), engine.Request{Prompt: tokens(next), MaxTokens: 1})
	if err != nil {
		t.Fatal(err)
	}
	read(t, s, 1)
	// The last token of the answer was drawn and never computed.
	if got, want := s.Usage().Cached, len(prompt)+9; got != want {
		t.Errorf("%d cached tokens, want %d", got, want)
	}
}

func TestChoicesShareOnePrefill(t *testing.T) {
	e, _ := start(t, enginetest.Options{Limits: engine.Limits{Sequences: 4, Context: 256}}, engine.Options{})
	s, err := e.Generate(
		context.Background(), engine.Request{Prompt: tokens(strings.Repeat("p", 200)), MaxTokens: 5, Choices: 4},
	)
	if err != nil {
		t.Fatal(err)
	}
	read(t, s, 4)
	// The leader computes 200 tokens, each of the others its last one.
	if got := e.Stats().Prompt; got != 203 {
		t.Errorf("%d prompt tokens were computed, want 203", got)
	}
}

func TestCancelAtEveryState(t *testing.T) {
	gate := make(chan struct{})
	var once sync.Once
	open := func() { once.Do(func() { close(gate) }) }
	entered := make(chan struct{}, 1024)
	e, _ := start(t, enginetest.Options{
		Limits:       engine.Limits{Sequences: 1, Context: 128, Batch: 8},
		BeforeDecode: func(*engine.Batch) error { entered <- struct{}{}; <-gate; return nil },
	}, engine.Options{})
	t.Cleanup(open)
	ctx, cancel := context.WithCancel(context.Background())
	request := func(ctx context.Context, prompt string) *engine.Stream {
		s, err := e.Generate(ctx, engine.Request{Prompt: tokens(prompt), MaxTokens: 20})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}

	running := request(ctx, strings.Repeat("long ", 10)) // in the middle of its prefill
	<-entered
	queued := request(ctx, "queued")
	kept := request(context.Background(), "kept")
	cancel()
	open()
	for name, s := range map[string]*engine.Stream{"running": running, "queued": queued} {
		if _, err := tryRead(s, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", name, err)
		}
	}

	if got := read(t, kept, 1)[0]; len(got.text) != 20 {
		t.Errorf("the one that stayed got %q", got.text)
	}

	// One that is cancelled between its tokens.
	s := request(context.Background(), "decoding")
	if _, err := s.Next(context.Background()); err != nil {
		t.Fatal(err)
	}

	s.Close()
	s.Close()
	if _, err := tryRead(s, 1); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("decoding: got %v", err)
	}

	// A cancelled context before the request is even queued.
	done, cancelDone := context.WithCancel(context.Background())
	cancelDone()
	if _, err := tryRead(request(done, "late"), 1); !errors.Is(err, context.Canceled) {
		t.Errorf("late: got %v", err)
	}
}

func TestDeadline(t *testing.T) {
	if remotely {
		t.Skip("its clock is not that of sockets")
	}

	synctest.Test(t, func(t *testing.T) {
		e, _ := start(t, enginetest.Options{
			Limits:       engine.Limits{Sequences: 1},
			BeforeDecode: func(*engine.Batch) error { time.Sleep(time.Second); return nil },
		}, engine.Options{})
		began := time.Now()
		var streams []*engine.Stream
		ctx, cancel := context.WithDeadline(t.Context(), began.Add(10*time.Second))
		defer cancel()
		for range 2 { // one runs, one waits for it
			s, err := e.Generate(ctx, engine.Request{Prompt: tokens("slow")})
			if err != nil {
				t.Fatal(err)
			}
			streams = append(streams, s)
		}

		for i, s := range streams {
			if _, err := tryRead(s, 1); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("stream %d: got %v", i, err)
			}
		}

		if took := time.Since(began); took > 12*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	gate := make(chan struct{})
	entered := make(chan struct{}, 64)
	e, _ := start(t, enginetest.Options{
		Limits:       engine.Limits{Sequences: 1},
		BeforeDecode: func(*engine.Batch) error { entered <- struct{}{}; <-gate; return nil },
	}, engine.Options{MaxWaiting: 3})
	request := engine.Request{Prompt: tokens("p"), MaxTokens: 2}
	var streams []*engine.Stream
	add := func(r engine.Request) error {
		s, err := e.Generate(context.Background(), r)
		if err == nil {
			streams = append(streams, s)
		}
		return err
	}

	if err := add(request); err != nil {
		t.Fatal(err)
	}

	<-entered // it runs: three may wait
	two := request
	two.Choices = 2
	if err := add(two); err != nil {
		t.Fatal(err)
	}

	for range 2 {
		if err := add(request); err != nil {
			t.Errorf("a place that was free: %v", err)
		}
	}

	if err := add(request); !errors.Is(err, engine.ErrQueueFull) {
		t.Errorf("one more than fits: got %v", err)
	}
	_, err := e.Embed(context.Background(), engine.Caller{}, [][]engine.Token{tokens("x")})
	if !errors.Is(err, engine.ErrQueueFull) {
		t.Errorf("embed: got %v", err)
	}

	close(gate)
	for i, s := range streams {
		choices := 1
		if i == 1 {
			choices = 2
		}
		read(t, s, choices)
	}

	if err := add(two); err != nil {
		t.Errorf("after the queue has emptied: %v", err)
	}
}

func TestFaults(t *testing.T) {
	var mu sync.Mutex
	var next error
	e, _ := start(t, enginetest.Options{
		Limits: engine.Limits{Sequences: 2},
		BeforeDecode: func(*engine.Batch) error {
			mu.Lock()
			defer mu.Unlock()
			err := next
			next = nil
			return err
		},
	}, engine.Options{})

	inject := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		next = err
	}

	askFor := func(prompt string) error {
		s, err := e.Generate(context.Background(), engine.Request{Prompt: tokens(prompt), MaxTokens: 3})
		if err != nil {
			return err
		}
		_, err = tryRead(s, 1)
		return err
	}

	ask := func() error { return askFor("p") }
	inject(fmt.Errorf("defect: %w", engine.ErrInvalidBatch))
	if err := ask(); !errors.Is(err, engine.ErrInvalidBatch) {
		t.Errorf("invalid batch: got %v", err)
	}
	if err := ask(); err != nil {
		t.Errorf("after an invalid batch: %v", err)
	}
	if err := askFor(strings.Repeat("kept for others ", 10)); err != nil {
		t.Error(err)
	}

	inject(engine.ErrNoSlot)
	if err := ask(); err != nil {
		t.Errorf("no slot while cells are kept for others: %v", err)
	}
	if remotely {
		return // another child takes over: TestFatalErrors of remote
	}

	inject(engine.ErrFatal)
	if err := ask(); !errors.Is(err, engine.ErrStopped) || !errors.Is(err, engine.ErrFatal) {
		t.Errorf("fatal: got %v", err)
	}
	if err := ask(); !errors.Is(err, engine.ErrStopped) {
		t.Errorf("after the end: got %v", err)
	}
	if _, err := e.Tokenize(t.Context(), engine.Caller{}, "x", engine.Reading{}, 10); !errors.Is(err, engine.ErrStopped) {
		t.Errorf("tokenize after the end: got %v", err)
	}
	if s := e.Stats(); s.Stopped == nil {
		t.Error("the statistics do not say that it stopped")
	}
}

func TestOneRowFailsAlone(t *testing.T) {
	e, fake := start(t, enginetest.Options{Next: func(tokens []engine.Token) engine.Token {
		if tokens[0] == '!' && len(tokens) > 8 {
			return -1
		}
		return enginetest.Hash(tokens)
	}}, engine.Options{})

	var wg sync.WaitGroup
	for _, prompt := range []string{"!bad", "good", "fine"} {
		wg.Go(func() {
			s, err := e.Generate(context.Background(), engine.Request{Prompt: tokens(prompt), MaxTokens: 20})
			if err != nil {
				t.Error(err)
				return
			}

			results, err := tryRead(s, 1)
			if bad := prompt == "!bad"; bad != (err != nil) {
				t.Errorf("%s: %v", prompt, err)
			} else if !bad && results[0].text != text(fake.Answer(tokens(prompt), 20)) {
				t.Errorf("%s: got %q", prompt, results[0].text)
			}
		})
	}

	wg.Wait()
}

func TestStopEndsEverything(t *testing.T) {
	fake := enginetest.New(enginetest.Options{Limits: engine.Limits{Sequences: 1, RollsBack: true}})
	e := engine.New(fake, fake, engine.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	var streams []*engine.Stream
	for range 3 {
		s, err := e.Generate(context.Background(), engine.Request{Prompt: tokens("endless")})
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}

	if _, err := streams[0].Next(context.Background()); err != nil {
		t.Fatal(err)
	}

	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}

	for i, s := range streams {
		if _, err := tryRead(s, 1); err != nil && !errors.Is(err, engine.ErrStopped) {
			t.Errorf("stream %d: %v", i, err)
		}
	}

	if faults := fake.Faults(); len(faults) > 0 {
		t.Error(faults)
	}
}

func TestEmbed(t *testing.T) {
	e, _ := start(t, enginetest.Options{}, engine.Options{})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			inputs := [][]engine.Token{tokens("a"), tokens(strings.Repeat("b", 1+i)), tokens("abc")}
			vectors, err := e.Embed(context.Background(), engine.Caller{}, inputs)
			if err != nil {
				t.Error(err)
				return
			}
			for k, v := range vectors {
				var sum float64
				for _, x := range v {
					sum += float64(x) * float64(x)
				}
				if sum < 0.999 || sum > 1.001 {
					t.Errorf("vector %d has the squared length %f", k, sum)
				}
			}
			if ratio := vectors[1][0] / vectors[1][1]; ratio < float32(1+i)/'b'*0.99 || ratio > float32(1+i)/'b'*1.01 {
				t.Errorf("input %d got another one's vector", i)
			}
		})
	}

	wg.Wait()
	var length *engine.LengthError
	_, err := e.Embed(context.Background(), engine.Caller{}, [][]engine.Token{tokens(strings.Repeat("x", 65))})
	if !errors.As(err, &length) {
		t.Errorf("too long: got %v", err)
	}
	if _, err := e.Embed(context.Background(), engine.Caller{}, [][]engine.Token{{}}); !errors.Is(err, engine.ErrRequest) {
		t.Errorf("empty: got %v", err)
	}
}

func TestEncoderDoesNotGenerate(t *testing.T) {
	e, _ := start(t, enginetest.Options{Embeds: true}, engine.Options{})
	if _, err := e.Generate(context.Background(), engine.Request{Prompt: tokens("p")}); !errors.Is(err, engine.ErrCannot) {
		t.Errorf("got %v", err)
	}
}

func TestParser(t *testing.T) {
	parse := func(raw string, partial bool) (enginetest.Message, error) {
		thought, content, found := strings.Cut(strings.TrimPrefix(raw, "<think>"), "|")
		if !found && partial {
			return enginetest.Message{Reasoning: thought}, nil
		}
		if !found {
			return enginetest.Message{}, errors.New("no answer")
		}
		return enginetest.Message{
			Reasoning: thought,
			Content:   content,
			ToolCalls: []enginetest.ToolCall{{ID: "1", Name: "f", Arguments: content}},
		}, nil
	}

	e, _ := start(t, enginetest.Options{Next: func(tokens []engine.Token) engine.Token {
		if tokens[len(tokens)-1] == '\n' {
			return enginetest.Think
		}
		return enginetest.Say("-why|because")(tokens)
	}, Parse: parse}, engine.Options{})

	s, err := e.Generate(
		context.Background(), engine.Request{Prompt: tokens("\n"), Parser: "fake", Preserved: []string{"<think>"}},
	)
	if err != nil {
		t.Fatal(err)
	}

	var all enginetest.Message
	var calls []engine.ToolCallDelta
	for {
		events, err := s.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if events == nil {
			break
		}
		for _, ev := range events {
			all.Content += ev.Text
			all.Reasoning += ev.Reasoning
			calls = append(calls, ev.ToolCalls...)
		}
	}

	if all.Reasoning != "why" || all.Content != "because" {
		t.Errorf("got %+v", all)
	}

	arguments := ""
	for i, c := range calls {
		arguments += c.Arguments
		if (c.Name != "") != (i == 0) {
			t.Errorf("call delta %d has the name %q", i, c.Name)
		}
	}

	if arguments != "because" {
		t.Errorf("arguments %q", arguments)
	}
}

func TestLogProbs(t *testing.T) {
	e, _ := start(t, enginetest.Options{Next: enginetest.Say("abc")}, engine.Options{})
	got := generate(t, e, engine.Request{Prompt: tokens("\n"), LogProbs: true, Top: 2})
	if len(got.tokens) != 3 {
		t.Fatalf("%d tokens", len(got.tokens))
	}
	want := []engine.TokenLogProb{{Token: 'b', LogProb: -0.5}, {Token: 'c', LogProb: -1.5}}
	if info := got.tokens[1]; info.Token != 'b' || !reflect.DeepEqual(info.Alternatives, want) {
		t.Errorf("got %+v", info)
	}
}

// TestDecodingAllocatesLittle bounds what a token costs the garbage collector.
func TestDecodingAllocatesLittle(t *testing.T) {
	if remotely {
		t.Skip("the other end, which is in this process too, allocates")
	}

	e, _ := start(t, enginetest.Options{Limits: engine.Limits{Sequences: 8, Context: 4096, Batch: 64},
		Next: func(tokens []engine.Token) engine.Token { return 'x' }}, engine.Options{})
	run := func(n int) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				s, err := e.Generate(context.Background(), engine.Request{Prompt: tokens("p"), MaxTokens: n})
				if err != nil {
					t.Error(err)
					return
				}
				tryRead(s, 1)
			})
		}
		wg.Wait()
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs
	}

	run(100)
	perToken := float64(run(3000)-run(1000)) / (8 * 2000)
	// The fake allocates a map and two slices a step, an eighth of each a token.
	if perToken > 6 {
		t.Errorf("%.1f allocations a token", perToken)
	}

	t.Logf("%.2f allocations a token", perToken)
}

// TestPrefillLeavesRoomForStreams: while streams run, no batch is all one long
// prompt's, and every other step at least is theirs.
func TestPrefillLeavesRoomForStreams(t *testing.T) {
	for _, shared := range []bool{false, true} {
		limits := engine.Limits{Sequences: 3, Context: 2048, Batch: 256, Shared: shared, RollsBack: true}
		if shared {
			limits.Cells = 4096
		}

		// Nothing is computed before both streams are there. After a few steps together
		// they pause until the long prompt has arrived.
		both := make(chan struct{})
		arrived := make(chan struct{})
		together := 0
		e, fake := startAsIs(t, enginetest.Options{Limits: limits, BeforeDecode: func(b *engine.Batch) error {
			<-both
			if slices.Contains(b.Sequences, 0) && slices.Contains(b.Sequences, 1) {
				if together++; together == 3 {
					<-arrived
				}
			}
			return nil
		}}, engine.Options{})

		var streams []*engine.Stream
		for i := range 2 {
			s, err := e.Generate(context.Background(), engine.Request{Prompt: tokens(fmt.Sprint("stream", i)), MaxTokens: 1500})
			if err != nil {
				t.Fatal(err)
			}
			streams = append(streams, s)
		}

		close(both)
		for _, s := range streams {
			if _, err := s.Next(context.Background()); err != nil {
				t.Fatal(err)
			}
		}

		before := len(fake.Batches())
		long, err := e.Generate(context.Background(), engine.Request{Prompt: tokens(strings.Repeat("l", 1000)), MaxTokens: 1})
		if err != nil {
			t.Fatal(err)
		}

		close(arrived)
		read(t, long, 1)
		gap := 0
		for _, b := range fake.Batches()[before:] {
			if slices.Contains(b, 0) && slices.Contains(b, 1) {
				gap = 0
			} else if gap++; gap > 1 {
				t.Errorf("shared %v: the streams wait for more than a step", shared)
				break
			}
		}

		for _, s := range streams {
			s.Close()
		}
	}
}

// TestDefect has the loop panic: its engine stops with an error, and the program goes on.
func TestDefect(t *testing.T) {
	fake := enginetest.New(enginetest.Options{
		Limits:       engine.Limits{Sequences: 1, Context: 64, Batch: 8, RollsBack: true},
		BeforeDecode: func(*engine.Batch) error { panic("a defect") },
	})
	e := engine.New(fake, fake, engine.Options{})
	done := make(chan error, 1)
	go func() { done <- e.Run(t.Context()) }()

	stream, err := e.Generate(t.Context(), engine.Request{Prompt: tokens("a"), MaxTokens: 2})
	if err != nil {
		t.Fatal(err)
	}
	for {
		_, err = stream.Next(t.Context())
		if err != nil {
			break
		}
	}
	if !errors.Is(err, engine.ErrStopped) {
		t.Errorf("the request ends with %v", err)
	}
	if err := <-done; !errors.Is(err, engine.ErrFatal) || !strings.Contains(err.Error(), "a defect") {
		t.Errorf("the engine ends with %v", err)
	}
	if _, err := e.Generate(t.Context(), engine.Request{Prompt: tokens("a"), MaxTokens: 2}); err == nil {
		t.Error("it goes on")
	}
}
