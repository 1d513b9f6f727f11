package remote_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/engine/remote"
	"serve/engine/remote/remotetest"
)

// priorities is a Text that notes the niceness of the threads that split texts.
type priorities struct {
	*enginetest.Fake

	mu   sync.Mutex
	nice []int
}

func (p *priorities) Tokenize(ctx context.Context, text string, how engine.Reading) ([]engine.Token, error) {
	const none = 20 // what the system call returns for a niceness of 0
	n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	p.mu.Lock()
	p.nice = append(p.nice, none-n)
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return p.Fake.Tokenize(ctx, text[:1], how)
}

// TestLongCallsComeLast has a text process split long texts at a lower priority than short ones, which do not keep it.
func TestLongCallsComeLast(t *testing.T) {
	text := &priorities{Fake: enginetest.New(enginetest.Options{})}
	open := func([]byte) (*remote.Model, []byte) {
		return &remote.Model{Text: text, Vocabulary: len(text.Model().Pieces), Close: func() {}}, nil
	}
	r, _, err := remote.Start(t.Context(), remote.Options{Spawn: func() (*remote.Child, error) {
		child, err := remotetest.SpawnWith(open, remote.ChildExit{})
		if err != nil {
			return nil, err
		}
		return &child.Child, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	long := strings.Repeat("a", 20<<10)
	late := engine.Late(t.Context())
	for i := range 10 {
		for _, call := range []struct {
			ctx  context.Context
			text string
		}{
			{t.Context(), "short"},
			{t.Context(), long},
			{t.Context(), "short"},
			{late, "short, one of many"},
		} {
			if _, err := r.Tokenize(call.ctx, call.text, engine.Reading{}); err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
		}
	}
	if len(text.nice) != 40 {
		t.Fatalf("%d texts were split", len(text.nice))
	}
	for i, nice := range text.nice {
		switch low := nice > text.nice[0]; {
		case i%2 == 0 && nice != text.nice[0]:
			t.Errorf("call %d, a short one, has niceness %d, the first had %d", i, nice, text.nice[0])
		case i%2 == 1 && !low:
			t.Errorf("call %d, a long one, has niceness %d", i, nice)
		}
	}
}
