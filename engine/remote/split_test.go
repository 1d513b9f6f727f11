package remote_test

import (
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/engine/remote"
	"serve/engine/remote/remotetest"
)

// countedCalls counts the messages that a parent writes.
type countedCalls struct {
	io.ReadWriteCloser
	messages *atomic.Int32
}

func (c countedCalls) Write(b []byte) (int, error) {
	c.messages.Add(1)
	return c.ReadWriteCloser.Write(b)
}

// startCounted returns a Runner that only reads text, and the number of messages that it has sent.
func startCounted(t testing.TB) (*remote.Runner, *atomic.Int32) {
	t.Helper()
	fake := enginetest.New(enginetest.Options{})
	open := func([]byte) (*remote.Model, []byte) {
		return &remote.Model{Text: fake, Vocabulary: len(fake.Model().Pieces), Close: func() {}}, nil
	}
	var messages atomic.Int32
	r, _, err := remote.Start(t.Context(), remote.Options{Spawn: func() (*remote.Child, error) {
		child, err := remotetest.SpawnWith(open, remote.ChildExit{})
		if err != nil {
			return nil, err
		}
		child.Calls = countedCalls{child.Calls, &messages}
		return &child.Child, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	messages.Store(0)
	return r, &messages
}

// TestPromptInOneCall has a text process render a short prompt and split it in one call, with the tokens that it splits
// the same prompt into alone. A long prompt's are asked for alone.
func TestPromptInOneCall(t *testing.T) {
	r, messages := startCounted(t)
	short := chat("hello")
	long := chat(strings.Repeat("hello ", 4<<10))
	for _, test := range []struct {
		name  string
		chat  engine.Chat
		split bool // is asked for
		has   bool
	}{
		{"short", short, true, true},
		{"not asked for", short, false, false},
		{"long", long, true, false},
	} {
		test.chat.Split = test.split
		before := messages.Load()
		rendered, err := r.Render(t.Context(), test.chat)
		if err != nil {
			t.Fatal(err)
		}
		if n := messages.Load() - before; n != 1 {
			t.Errorf("%s: %d messages", test.name, n)
		}
		if (rendered.Split != nil) != test.has {
			t.Errorf("%s: tokens: %v", test.name, rendered.Split)
			continue
		}
		if !test.has {
			continue
		}

		want, err := r.Tokenize(t.Context(), rendered.Prompt, engine.ReadPrompt(rendered.Quoted))
		if err != nil {
			t.Fatal(err)
		}
		if split := rendered.Split; split.Text != rendered.Prompt || !slices.Equal(split.Tokens, want) || len(want) == 0 {
			t.Errorf("%s: %+v, want %v", test.name, split, want)
		}
	}
}

// BenchmarkPrompt renders and splits a short prompt, in two calls and in one, by several goroutines at once.
func BenchmarkPrompt(b *testing.B) {
	for _, split := range []bool{false, true} {
		name := "two calls"
		if split {
			name = "one call"
		}
		b.Run(name, func(b *testing.B) {
			r, _ := startCounted(b)
			c := chat("hello")
			c.Split = split
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					rendered, err := r.Render(b.Context(), c)
					if err == nil && rendered.Split == nil {
						_, err = r.Tokenize(b.Context(), rendered.Prompt, engine.ReadPrompt(rendered.Quoted))
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
