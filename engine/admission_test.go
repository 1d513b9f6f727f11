package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"serve/engine"
	"serve/engine/enginetest"
)

// TestShares floods an engine in one client's name, in both layouts of the KV cache, and
// asks in another's while all slots are taken. Those answers come before most of the
// flood's, and all answers are right.
func TestShares(t *testing.T) {
	for _, shared := range []bool{false, true} {
		steps := 0
		waits := make(chan struct{})
		gate := make(chan struct{})
		e, _ := start(t, enginetest.Options{
			Limits: engine.Limits{Sequences: 4, Shared: shared, Cells: 700},
			BeforeDecode: func(*engine.Batch) error {
				if steps++; steps == 1 || steps == 20 { // for the flood, and for the other
					waits <- struct{}{}
					<-gate
				}
				return nil
			},
		}, engine.Options{})

		ask := func(client string, count, n int) (streams []*engine.Stream) {
			for i := range count {
				s, err := e.Generate(context.Background(), engine.Request{
					Caller: engine.Caller{Client: client}, Prompt: tokens(fmt.Sprintf("%s %d", client, i)), MaxTokens: n,
				})
				if err != nil {
					t.Fatal(err)
				}
				streams = append(streams, s)
			}
			return streams
		}

		check := func(client string, streams []*engine.Stream, n int) (ended []time.Time) {
			for i, s := range streams {
				if got, want := read(t, s, 1)[0].text, alone(fmt.Sprintf("%s %d", client, i%60), n); got != want {
					t.Errorf("shared %v: %s %d: %q, want %q", shared, client, i, got, want)
				}
				ended = append(ended, s.Timeline().Ended)
			}
			slices.SortFunc(ended, time.Time.Compare)
			return ended
		}

		first := ask("flood", 1, 100)
		<-waits
		flood := append(ask("flood", 60, 100), first...)
		gate <- struct{}{}
		<-waits
		quiet := ask("quiet", 5, 10)
		gate <- struct{}{}
		last := check("quiet", quiet, 10)[4]
		many := check("flood", flood, 100)
		if before := slices.IndexFunc(many, func(at time.Time) bool { return at.After(last) }); before < 0 || before > 10 {
			t.Errorf("shared %v: %d answers of the flood came before the last of the other's", shared, before)
		}
		if e.Stats().Preempted == 0 {
			t.Errorf("shared %v: nobody made room", shared)
		}
	}
}

// alone is what the fake answers.
func alone(prompt string, n int) string {
	list := tokens(prompt)
	for range n {
		list = append(list, enginetest.Hash(list))
	}
	var b strings.Builder
	for _, tok := range list[len(prompt):] {
		b.WriteByte(byte(tok))
	}
	return b.String()
}

// TestWaits holds requests to the longest wait, and to their own deadlines before they
// are queued.
func TestWaits(t *testing.T) {
	if remotely {
		t.Skip("its clock is not that of sockets")
	}

	synctest.Test(t, func(t *testing.T) {
		e, _ := start(t, enginetest.Options{
			Limits:       engine.Limits{Sequences: 1},
			BeforeDecode: func(*engine.Batch) error { time.Sleep(time.Second); return nil },
		}, engine.Options{MaxWait: 15 * time.Second})
		ask := func(ctx context.Context) (*engine.Stream, error) {
			return e.Generate(ctx, engine.Request{Prompt: tokens("p"), MaxTokens: 2})
		}

		var served, late atomic.Int32
		var wait sync.WaitGroup
		for i := range 10 { // each takes two seconds; nothing is known of that yet
			s, err := ask(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Timeline(); i > 0 && got.Position != i-1 && got.Position != i {
				t.Errorf("request %d: %d are before it", i, got.Position)
			}

			wait.Go(func() {
				_, err := tryRead(s, 1)
				switch {
				case err == nil:
					served.Add(1)
				case errors.Is(err, engine.ErrWait):
					late.Add(1)
				default:
					t.Error(err)
				}
			})

			synctest.Wait()
		}

		wait.Wait()
		if served, late := served.Load(), late.Load(); served < 7 || late < 1 || served+late != 10 {
			t.Errorf("%d served and %d late, where eight fit into 15 seconds", served, late)
		}
		// Now it is known.
		if s := e.Stats(); s.Queued != 0 || s.Room != 512 {
			t.Fatalf("%d are in the queue, %d have room", s.Queued, s.Room)
		}

		var streams []*engine.Stream
		for len(streams) < 20 {
			s, err := ask(t.Context())
			if err != nil {
				var busy *engine.BusyError
				if !errors.As(err, &busy) || !errors.Is(err, engine.ErrWait) || busy.Expected <= 15*time.Second {
					t.Fatalf("request %d: %v", len(streams), err)
				}
				break
			}
			streams = append(streams, s)
			synctest.Wait()
		}

		if n := len(streams); n < 6 || n > 9 {
			t.Errorf("%d are let in, where eight fit", n)
		}

		began := time.Now()
		soon, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := ask(soon); !errors.Is(err, engine.ErrWait) || time.Since(began) > 0 {
			t.Errorf("a deadline that cannot be kept: %v after %s", err, time.Since(began))
		}
		if got := e.Stats().Refused; got[engine.RefusedWait] != 2 {
			t.Errorf("refused: %v", got)
		}

		for _, s := range streams {
			s.Close()
		}

		synctest.Wait()
		time.Sleep(2 * time.Second)
		if s := e.Stats(); s.Queued != 0 || s.Waiting != 0 {
			t.Errorf("%d requests are in the queue after all were cancelled", s.Queued)
		}
	})
}

// TestPromptsOfOneRequest are one request to the queue.
func TestPromptsOfOneRequest(t *testing.T) {
	gate := make(chan struct{})
	e, _ := start(t, enginetest.Options{
		Limits: engine.Limits{Sequences: 1}, BeforeDecode: func(*engine.Batch) error { <-gate; return nil },
	}, engine.Options{MaxWaiting: 2})
	var first *engine.Stream
	var streams []*engine.Stream
	for range 50 {
		s, err := e.Generate(t.Context(), engine.Request{Prompt: tokens("p"), MaxTokens: 2, Beside: first})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = s
		}
		streams = append(streams, s)
	}

	if s := e.Stats(); s.Queued > 1 {
		t.Errorf("%d requests in the queue", s.Queued)
	}

	close(gate)
	for _, s := range streams {
		read(t, s, 1)
	}

	if _, err := e.Embed(t.Context(), engine.Caller{}, slices.Repeat([][]engine.Token{tokens("x")}, 600)); err != nil {
		t.Errorf("600 texts of one request: %v", err)
	}
	if s := e.Stats(); s.Queued != 0 || s.WaitingTokens != 0 {
		t.Errorf("%d requests of %d tokens are left in the queue", s.Queued, s.WaitingTokens)
	}
}

// TestTextsWhenTheEngineStops are not left waiting, though they were about to be computed.
func TestTextsWhenTheEngineStops(t *testing.T) {
	if remotely {
		t.Skip("another child takes over")
	}

	entered := make(chan struct{}, 2)
	fail := make(chan error)
	e, _ := start(t, enginetest.Options{BeforeDecode: func(*engine.Batch) error {
		entered <- struct{}{}
		return <-fail
	}}, engine.Options{})
	if _, err := e.Generate(t.Context(), engine.Request{Prompt: tokens("p"), MaxTokens: 9}); err != nil {
		t.Fatal(err)
	}

	<-entered
	got := make(chan error)
	go func() {
		_, err := e.Embed(context.Background(), engine.Caller{}, [][]engine.Token{tokens("x")})
		got <- err
	}()
	for e.Stats().Queued == 0 { // until it is in the queue
	}
	fail <- nil
	<-entered // the next step, with the text waiting beside it
	fail <- engine.ErrFatal
	select {
	case err := <-got:
		if !errors.Is(err, engine.ErrStopped) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody tells it")
	}
}
