package engine_test

import (
	"context"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
)

// startDrafting runs an engine that takes every guess.
func startDrafting(t *testing.T, fo enginetest.Options) (*engine.Engine, *enginetest.Fake) {
	t.Helper()
	return startConfigured(t, fo, engine.Options{Speculation: engine.SpeculationAuto}, engine.UseAllDrafts)
}

// phrases is a Next that answers a prompt, which ends with a line, with a few phrases in an order that depends on it.
func phrases(tokens []engine.Token) engine.Token {
	words := []string{"the quick brown fox ", "jumps over ", "the lazy dog ", "and again ", "the quick grey fox "}
	prompt := slices.Index(tokens, '\n') + 1
	said := len(tokens) - prompt
	seed := int(enginetest.Hash(tokens[:prompt]))
	for i := 0; ; i++ {
		word := words[(seed+i*i*7+i/3)%len(words)]
		if said < len(word) {
			return engine.Token(word[said])
		}
		said -= len(word)
	}
}

// TestDraftsChangeNothing runs random requests together, with guesses that are often right and often wrong, over every
// layout of the KV cache, and compares each answer with the one it gets alone and without.
func TestDraftsChangeNothing(t *testing.T) {
	for name, limits := range map[string]engine.Limits{
		"buffers of their own": {Sequences: 4, Rows: 16, Context: 192, Batch: 24, RollsBack: true},
		"one buffer":           {Sequences: 6, Rows: 24, Context: 192, Batch: 24, RollsBack: true, Shared: true, Cells: 300},
		"one tight buffer":     {Sequences: 8, Rows: 16, Context: 192, Batch: 16, RollsBack: true, Shared: true, Cells: 192},
		"one sequence":         {Sequences: 1, Rows: 16, Context: 192, Batch: 16, RollsBack: true},
		"few rows":             {Sequences: 4, Rows: 6, Context: 192, Batch: 24, RollsBack: true},
		"saved as a whole": {
			Sequences: 3, Rows: 12, Context: 192, Batch: 24, RollsBack: true, Saves: true, SavesWhole: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var dying atomic.Pointer[enginetest.Fake]
			var steps atomic.Int64
			die := func(*engine.Batch) error {
				if steps.Add(1)%41 > 0 || remotely {
					return nil
				}
				dying.Load().LoseKV()
				return engine.ErrRestarted
			}
			e, fake := startDrafting(t, enginetest.Options{Limits: limits, Next: phrases, BeforeDecode: die})
			dying.Store(fake)
			rng := rand.New(rand.NewSource(1))
			var wg sync.WaitGroup
			for i := range 60 {
				prompt := fmt.Sprintf("%scanary %d\n", strings.Repeat("the lazy dog ", rng.Intn(4)), rng.Intn(20))
				r := engine.Request{
					Prompt:    tokens(prompt),
					MaxTokens: 1 + rng.Intn(90),
					Choices:   1 + rng.Intn(2),
					LogProbs:  rng.Intn(3) == 0,
				}
				alone := text(fake.Answer(r.Prompt, r.MaxTokens))
				if rng.Intn(2) == 0 {
					r.Prediction = tokens(strings.ReplaceAll(alone, "lazy", "cat"))
				}
				if i%3 == 0 {
					r.Stop = []string{"again the"}
				}
				wg.Go(func() {
					s, err := e.Generate(context.Background(), r)
					if err != nil {
						t.Error(err)
						return
					}
					asWithout(t, s, r, alone)
				})
			}
			wg.Wait()

			s := e.Stats()
			if s.Restarts == 0 && !remotely {
				t.Error("nothing was restarted: the test is too easy")
			}
			for kind, c := range s.Drafts {
				if c.Accepted == 0 || c.Accepted == c.Drafted {
					t.Errorf("%s: %+v: the test is too easy", kind, c)
				}
			}
			if limits.Cells == 192 && limits.Shared && s.Preempted == 0 {
				t.Error("nothing was preempted: the test is too easy")
			}
		})
	}
}

// asWithout reads a stream to its end, whose answers are what comes without guesses.
func asWithout(t *testing.T, s *engine.Stream, r engine.Request, alone string) {
	t.Helper()
	want, _, stopped := strings.Cut(alone, "again the")
	if stopped = stopped && len(r.Stop) > 0; !stopped {
		want = alone
	}
	results, err := tryRead(s, r.Choices)
	if err != nil {
		t.Error(err)
		return
	}
	for _, got := range results {
		if got.text != want || (got.finish == engine.FinishStop) != stopped {
			t.Errorf("got %q, %s, without drafts it is %q", got.text, got.finish, want)
		}
		if r.LogProbs && len(got.tokens) != len(want) {
			t.Errorf("%d log-probabilities of %d tokens", len(got.tokens), len(want))
		}
	}
	u := s.Usage()
	if u.Agreed+u.Disagreed != len(r.Prediction)*r.Choices || r.Prediction != nil && u.Agreed == 0 && len(alone) > 3 {
		t.Errorf("usage %+v of a prediction of %d", u, len(r.Prediction))
	}
}
