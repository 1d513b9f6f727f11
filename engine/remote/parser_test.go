package remote_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/engine/remote"
	"serve/engine/remote/remotetest"
)

// stars is a format in which what is between stars is thought, and of which a star at the
// end may be the first of two, which are one of the content.
func stars(text string, partial bool) (m enginetest.Message, err error) {
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] != '*':
			m.Content += text[i : i+1]
		case i+1 == len(text) && partial:
		case i+1 < len(text) && text[i+1] == '*':
			m.Content += "*"
			i++
		default:
			thought, _, _ := strings.Cut(text[i+1:], "*")
			m.Reasoning += thought
			i += len(thought) + 1
		}
	}
	return m, nil
}

// TestParsersGoOn kills children between the pieces of an answer. The sum is that of a
// parser that nobody disturbed.
func TestParsersGoOn(t *testing.T) {
	n := &nursery{t: t, exit: remote.ChildExit{How: "killed"}, options: func(int) enginetest.Options {
		return enginetest.Options{Limits: limits, Parse: stars}
	}}
	_, r := n.start(remote.Options{})
	p, err := r.Parser(t.Context(), "stars")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()

	const text = "one *two* three** four*five* six"
	var content, reasoning string
	for i := range len(text) {
		if i%3 == 0 {
			dead := n.dead()
			n.die()
			<-dead
		}
		d, err := p.Append(text[i:i+1], i == len(text)-1)
		if err != nil {
			t.Fatal(err)
		}
		content += d.Content
		reasoning += d.Reasoning
	}
	if content != "one  three* four six" || reasoning != "twofive" {
		t.Errorf("got %q and %q", content, reasoning)
	}
	if r.Restarts() < 5 {
		t.Errorf("only %d restarts", r.Restarts())
	}
}

// counter counts the parsers that are open.
type counter struct {
	*enginetest.Fake
	open *atomic.Int64
}

func (c *counter) Parser(ctx context.Context, spec string) (engine.Parser, error) {
	c.open.Add(1)
	p, err := c.Fake.Parser(ctx, spec)
	return &counted{p, c.open}, err
}

type counted struct {
	engine.Parser
	open *atomic.Int64
}

func (c *counted) Close() { c.open.Add(-1) }

// TestParsersAreClosed has the child free what is closed when it makes the next.
func TestParsersAreClosed(t *testing.T) {
	var open atomic.Int64
	r := startOver(t, &counter{enginetest.New(enginetest.Options{Parse: stars}), &open})
	for range 100 {
		p, err := r.Parser(t.Context(), "stars")
		if err != nil {
			t.Fatal(err)
		}
		if open.Load() > 1 {
			t.Fatalf("%d parsers are open", open.Load())
		}
		p.Close()
	}
}

// TestUnsentParsersAreClosed has a call end before it is sent that says which parsers are closed.
func TestUnsentParsersAreClosed(t *testing.T) {
	var open atomic.Int64
	r := startOver(t, &counter{enginetest.New(enginetest.Options{Parse: stars}), &open})
	p, err := r.Parser(t.Context(), "stars")
	if err != nil {
		t.Fatal(err)
	}
	p.Close()

	over, cancel := context.WithCancel(t.Context())
	cancel()
	if p, err := r.Parser(over, "stars"); p != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("a call that nobody waits for: %v, %v", p, err)
	}
	if _, err := r.Parser(t.Context(), "stars"); err != nil || open.Load() != 1 {
		t.Errorf("%d parsers are open, %v", open.Load(), err)
	}
}

// slow is a model whose parsers for "slow" wait until they are made.
type slow struct {
	*enginetest.Fake
	begun, release, closed chan struct{}
}

func (s *slow) Parser(ctx context.Context, spec string) (engine.Parser, error) {
	p, err := s.Fake.Parser(ctx, "stars")
	if spec == "slow" {
		close(s.begun)
		<-s.release
		p = &closing{p, s.closed}
	}
	return p, err
}

type closing struct {
	engine.Parser
	closed chan struct{}
}

func (c *closing) Close() { close(c.closed) }

// TestAbandonedParsersAreClosed has the client go while its parser is made.
func TestAbandonedParsersAreClosed(t *testing.T) {
	s := &slow{
		Fake:    enginetest.New(enginetest.Options{Parse: stars}),
		begun:   make(chan struct{}),
		release: make(chan struct{}),
		closed:  make(chan struct{}),
	}
	r := startOver(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-s.begun
		cancel()
	}()
	if p, err := r.Parser(ctx, "slow"); p != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("a parser that nobody waits for: %v, %v", p, err)
	}
	if _, err := r.Parser(t.Context(), "stars"); err != nil {
		t.Error(err)
	}
	close(s.release)
	<-s.closed
}

// startOver returns a Runner whose child serves another.
func startOver(t testing.TB, runner enginetest.Model) *remote.Runner {
	t.Helper()
	r, _, err := remote.Start(
		context.Background(), remote.Options{Spawn: func() (*remote.Child, error) { return remotetest.Spawn(runner) }},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// quick is a Runner whose parsers cost nothing.
type quick struct{ *enginetest.Fake }

func (quick) Parser(context.Context, string) (engine.Parser, error) { return &passing{}, nil }

type passing struct{}

func (*passing) Close() {}
func (*passing) Append(text string, _ bool) (engine.Delta, error) {
	return engine.Delta{ToolCalls: []engine.ToolCallDelta{{Arguments: text}}}, nil
}

// BenchmarkParser measures what the sockets cost a token that has so many before it.
func BenchmarkParser(b *testing.B) {
	for _, tokens := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(tokens), func(b *testing.B) {
			p, err := startOver(b, quick{enginetest.New(enginetest.Options{})}).Parser(b.Context(), "quick")
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			if _, err := p.Append(strings.Repeat("four", tokens), false); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Append("four", false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
