package loader

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/engine/llama"
	"serve/engine/remote"
	"serve/engine/remote/remotetest"
)

// startWith runs a model without weights whose text a child reads that spawn starts.
func startWith(t *testing.T, said *recorder, spawn func() (*remote.Child, error)) (*Loaded, *remote.Runner) {
	t.Helper()
	runner, _, err := remote.Start(t.Context(), remote.Options{
		Name:  "tokenizer",
		Spawn: spawn,
		Log:   slog.New(slog.DiscardHandler),
		Sleep: func(time.Duration) <-chan time.Time { // nobody waits in a test
			now := make(chan time.Time)
			close(now)
			return now
		},
	})
	if err != nil {
		t.Fatal(err)
	}

	l := &Loader{o: Options{Reporter: said}}
	text := &textProcess{Runner: runner, l: l}
	model := &remote.Model{Runner: enginetest.New(enginetest.Options{}), Text: text}
	in := &Loaded{Memory: &llama.Memory{Devices: []llama.DeviceMemory{{Name: "host"}}}}
	l.start(in, model, text)
	t.Cleanup(func() {
		in.Stop()
		<-in.Done
	})
	return in, runner
}

// spawnText starts a child that only reads text.
func spawnText(o enginetest.Options) (*remotetest.Child, error) {
	fake := enginetest.New(o)
	open := func([]byte) (*remote.Model, []byte) {
		return &remote.Model{Text: fake, Vocabulary: len(fake.Model().Pieces), Close: func() {}}, nil
	}
	return remotetest.SpawnWith(open, remote.ChildExit{How: "killed"})
}

// TestTokenizerFails has a tokenizer end that cannot be started again: the model ends, and says why.
func TestTokenizerFails(t *testing.T) {
	why := errors.New("no more processes")
	var first *remotetest.Child
	said := newRecorder()
	in, text := startWith(t, said, func() (*remote.Child, error) {
		if first != nil {
			return nil, why
		}
		var err error
		if first, err = spawnText(enginetest.Options{}); err != nil {
			return nil, err
		}
		return &first.Child, nil
	})
	if err := in.Failed(); err != nil {
		t.Errorf("it has failed before: %v", err)
	}

	first.Kill(false)
	<-text.Failed().Done()
	if err := in.Failed(); !errors.Is(err, why) || !errors.Is(err, engine.ErrFatal) {
		t.Fatalf("the model failed because of %v", err)
	}
	<-in.Done
	if reported := fmt.Sprintf("error: engine: %v", in.Failed()); !strings.Contains(said.String(), reported) {
		t.Errorf("it reports %q", said)
	}
}

// TestStopEndsCalls stops a model while its tokenizer is busy: nobody waits for that.
func TestStopEndsCalls(t *testing.T) {
	busy := make(chan struct{})
	release := make(chan struct{})
	defer close(release)
	in, _ := startWith(t, newRecorder(), func() (*remote.Child, error) {
		child, err := spawnText(enginetest.Options{RenderError: func([]byte) error {
			close(busy)
			<-release
			return nil
		}})
		if err != nil {
			return nil, err
		}
		return &child.Child, nil
	})

	rendered := make(chan error)
	go func() {
		_, err := in.Engine.Render(t.Context(), engine.Caller{}, engine.Chat{Messages: []byte("[]")})
		rendered <- err
	}()
	<-busy
	in.Stop()
	<-in.Done
	if err := <-rendered; !errors.Is(err, engine.ErrStopped) {
		t.Errorf("the call ended with %v", err)
	}
}
