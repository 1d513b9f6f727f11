package remote_test

import (
	"context"
	"errors"
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

// readers start children that only read text, and that do as the text says.
type readers struct {
	started atomic.Int32
	waiting chan struct{} // gets a value when a call waits
	release chan struct{} // lets calls that wait end
	over    atomic.Bool   // ends calls that compute for ever
}

// start returns a Runner whose children read text.
func (rs *readers) start(t *testing.T, o remote.Options) *remote.Runner {
	t.Helper()
	rs.waiting = make(chan struct{}, 100)
	rs.release = make(chan struct{})
	o.Spawn = rs.spawn
	o.Log = slog.New(slog.DiscardHandler)
	r, _, err := remote.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		rs.over.Store(true)
		r.Close()
	})
	return r
}

func (rs *readers) spawn() (*remote.Child, error) {
	number := int(rs.started.Add(1))
	var child *remotetest.Child
	var mu sync.Mutex
	mu.Lock()
	defer mu.Unlock()
	fake := enginetest.New(enginetest.Options{RenderError: func(messages []byte) error {
		switch text := string(messages); {
		case strings.Contains(text, "crash"):
			mu.Lock()
			defer mu.Unlock()
			child.Kill(false)
		case strings.Contains(text, "for ever"):
			for !rs.over.Load() {
			}
		case strings.Contains(text, "wait"):
			rs.waiting <- struct{}{}
			<-rs.release
		}
		return nil
	}})
	open := func([]byte) (*remote.Model, []byte) {
		return &remote.Model{Text: fake, Vocabulary: len(fake.Model().Pieces), Close: func() {}}, nil
	}
	var err error
	child, err = remotetest.SpawnWith(open, remote.ChildExit{How: "aborted", Fault: true})
	if err != nil {
		return nil, err
	}
	child.ID = number
	return &child.Child, nil
}

func chat(text string) engine.Chat {
	return engine.Chat{Messages: []byte(`[{"role":"user","content":"` + text + `"}]`)}
}

// TestWhoeverCrashesIsToBlame has many calls beside one that crashes each child which reads it. That one fails, and no
// other.
func TestWhoeverCrashesIsToBlame(t *testing.T) {
	for _, spare := range []bool{false, true} {
		rs := &readers{}
		r := rs.start(t, remote.Options{Spare: spare})
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, err := r.Render(t.Context(), chat("crash")); !errors.Is(err, engine.ErrTooComplex) {
					t.Errorf("what crashes the reader ends with %v", err)
				}
			})
			for range 8 {
				wg.Go(func() {
					if rendered, err := r.Render(t.Context(), chat("hello")); err != nil || rendered.Prompt != "[user]hello\n" {
						t.Errorf("a call beside it: %v, %v", rendered, err)
					}
				})
			}
		}
		wg.Wait()
	}
}

// TestTooMuchTime stops a call that computes for ever, a short one or a long one. Another one in the same child ends as
// if nothing had been.
func TestTooMuchTime(t *testing.T) {
	t.Run("short", func(t *testing.T) { testTooMuchTime(t, chat("for ever")) })
	t.Run("long", func(t *testing.T) { testTooMuchTime(t, chat("for ever"+strings.Repeat(" and ever", 4<<10))) })
}

func testTooMuchTime(t *testing.T, endless engine.Chat) {
	rs := &readers{}
	r := rs.start(t, remote.Options{CPU: 50 * time.Millisecond})
	beside := make(chan error)
	go func() {
		_, err := r.Render(t.Context(), chat("wait"))
		beside <- err
	}()
	<-rs.waiting
	if _, err := r.Render(t.Context(), endless); !errors.Is(err, engine.ErrTooComplex) {
		t.Errorf("a call without an end: %v", err)
	}
	if _, err := r.Render(t.Context(), chat("hello")); err != nil {
		t.Errorf("the next call: %v", err)
	}
	if n := rs.started.Load(); n != 2 {
		t.Errorf("%d children were started", n)
	}
	close(rs.release)
	if err := <-beside; err != nil {
		t.Errorf("a call that was under way: %v", err)
	}
}

// TestAbortEndsRetired aborts a Runner while a child that was replaced still has a call.
func TestAbortEndsRetired(t *testing.T) {
	rs := &readers{}
	r := rs.start(t, remote.Options{CPU: 50 * time.Millisecond})
	beside := make(chan error)
	go func() {
		_, err := r.Render(t.Context(), chat("wait"))
		beside <- err
	}()
	<-rs.waiting
	if _, err := r.Render(t.Context(), chat("for ever")); !errors.Is(err, engine.ErrTooComplex) {
		t.Errorf("a call without an end: %v", err)
	}
	if _, err := r.Render(t.Context(), chat("hello")); err != nil {
		t.Errorf("the next call: %v", err)
	}
	if ids := r.Processes(); !slices.Equal(ids, []int{2, 1}) {
		t.Errorf("there are the processes %v", ids)
	}

	r.Abort()
	if err := <-beside; !errors.Is(err, engine.ErrAborted) {
		t.Errorf("a call that was under way: %v", err)
	}
	r.Close()
	if ids := r.Processes(); len(ids) > 1 {
		t.Errorf("there are still the processes %v", ids)
	}
	close(rs.release)
}

// TestNobodyWaits has a client go while its call computes: the child is replaced.
func TestNobodyWaits(t *testing.T) {
	rs := &readers{}
	r := rs.start(t, remote.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	ended := make(chan error)
	go func() {
		_, err := r.Render(ctx, chat("wait"))
		ended <- err
	}()
	<-rs.waiting
	cancel(gone)
	if err := <-ended; !errors.Is(err, gone) {
		t.Errorf("a call that nobody waits for: %v", err)
	}
	for r.Restarts() == 0 { // it may end by itself first, which it does not
		if _, err := r.Render(t.Context(), chat("hello")); err != nil {
			t.Fatal(err)
		}
	}
	close(rs.release)
}

// TestReadersAskNoSteps refuses what only a child with weights can do.
func TestReadersAskNoSteps(t *testing.T) {
	r := (&readers{}).start(t, remote.Options{})
	if _, err := r.EncodeImage(&engine.Bitmap{}, 10); err == nil {
		t.Error("an image was encoded without weights")
	}
	tokens, err := r.Tokenize(t.Context(), "abc", engine.Reading{Control: true, Ends: true})
	if err != nil || len(tokens) != 3 {
		t.Errorf("%v, %v", tokens, err)
	}
	if err := r.Check(t.Context(), engine.Sampling{Grammar: engine.Grammar{Text: "bad"}}); err == nil {
		t.Error("a bad grammar is good")
	}
}
