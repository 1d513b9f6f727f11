package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
)

// TestReproducibleApart runs requests that are to be reproducible among others with the same prompts. The fake finds
// fault with a cell of one kind in a sequence of the other: they share neither cells nor steps, and all are answered.
func TestReproducibleApart(t *testing.T) {
	for _, limits := range []engine.Limits{
		{Sequences: 4, Context: 128, Batch: 24, RollsBack: true, Reproducible: true},
		{Sequences: 3, Context: 128, Batch: 24, RollsBack: true, Reproducible: true, Saves: true},
		{Sequences: 6, Context: 128, Batch: 24, RollsBack: true, Reproducible: true, Shared: true, Cells: 256},
	} {
		var mu sync.Mutex
		steps := map[bool]int{}
		count := func(b *engine.Batch) error {
			mu.Lock()
			defer mu.Unlock()
			steps[b.Reproducible]++
			return nil
		}
		e, fake := startAsIs(t, enginetest.Options{Limits: limits, BeforeDecode: count}, engine.Options{})

		var wg sync.WaitGroup
		for i := range 48 {
			prompt := fmt.Sprintf("%scanary %d ", strings.Repeat("the same beginning ", 2), i%5)
			r := engine.Request{Prompt: tokens(prompt), MaxTokens: 1 + i%30, Choices: 1 + i%2}
			r.Reproducible = i%3 == 0
			wg.Go(func() {
				s, err := e.Generate(context.Background(), r)
				if err != nil {
					t.Error(err)
					return
				}
				if s.Reproducible() != r.Reproducible {
					t.Errorf("request %d is reproducible: %t", i, s.Reproducible())
				}
				sameAsAlone(t, s, len(prompt), r.Choices, text(fake.Answer(r.Prompt, r.MaxTokens)))
			})
		}
		wg.Wait()
		if steps[true] == 0 || steps[false] == 0 {
			t.Errorf("steps by kind: %v", steps)
		}
	}
}

// TestReproducibleCells reuses cells only for requests of their own kind.
func TestReproducibleCells(t *testing.T) {
	limits := engine.Limits{Sequences: 4, Context: 128, Batch: 24, RollsBack: true, Reproducible: true}
	e, _ := startAsIs(t, enginetest.Options{Limits: limits}, engine.Options{})
	prompt := tokens(strings.Repeat("a prompt worth keeping ", 4))

	cached := func(reproducible bool) int {
		t.Helper()
		r := engine.Request{Prompt: prompt, MaxTokens: 2}
		r.Reproducible = reproducible
		s, err := e.Generate(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		read(t, s, 1)
		return s.Usage().Cached
	}

	for i, want := range []struct{ reproducible, hit bool }{{false, false}, {true, false}, {true, true}, {false, true}} {
		if n := cached(want.reproducible); n > 0 != want.hit {
			t.Errorf("request %d, reproducible %t: %d tokens were cached", i, want.reproducible, n)
		}
	}
}

// TestNotReproducible refuses what the runner cannot do.
func TestNotReproducible(t *testing.T) {
	e, _ := start(t, enginetest.Options{}, engine.Options{})
	by := engine.Caller{Reproducible: true}
	if _, err := e.Generate(context.Background(), engine.Request{Caller: by, Prompt: tokens("x")}); !errors.Is(
		err, engine.ErrNotReproducible) {
		t.Errorf("an answer: %v", err)
	}
	if _, err := e.Embed(context.Background(), by, [][]engine.Token{tokens("x")}); !errors.Is(
		err, engine.ErrNotReproducible) {
		t.Errorf("an embedding: %v", err)
	}
}

// TestAllReproducible makes every request so.
func TestAllReproducible(t *testing.T) {
	e, _ := start(t, enginetest.Options{Limits: engine.Limits{Reproducible: true}}, engine.Options{Reproducible: true})
	s, err := e.Generate(context.Background(), engine.Request{
		Prompt: tokens("x"), MaxTokens: 3, Sampling: engine.Sampling{Seed: 7},
	})
	if err != nil {
		t.Fatal(err)
	}
	read(t, s, 1)
	if !s.Reproducible() || s.Seed() != 7 {
		t.Errorf("reproducible: %t, seed %d", s.Reproducible(), s.Seed())
	}
}
