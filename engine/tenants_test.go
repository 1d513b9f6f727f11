package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"serve/engine"
	"serve/engine/enginetest"
)

// marked returns whose a sequence is: its prompt has a # before the letter of its tenant.
func marked(tokens []engine.Token) string {
	for i, t := range tokens {
		if t == '#' && i+1 < len(tokens) {
			return string(tokens[i+1])
		}
	}
	return ""
}

// of is a request of a tenant, whose prompt is marked.
func of(tenant, prompt string, n int) engine.Request {
	return engine.Request{
		Caller:    engine.Caller{Client: tenant, Tenant: tenant},
		Prompt:    tokens(prompt + "#" + tenant),
		MaxTokens: n,
	}
}

// TestTenantsShareNoCells has tenants ask with the same beginnings, in a crowd and in every layout: no cell is ever
// held by two of them, each answer is what it is alone, and each finds its own beginnings.
func TestTenantsShareNoCells(t *testing.T) {
	for name, limits := range map[string]engine.Limits{
		"buffers of their own": {Sequences: 4, Context: 128, Batch: 24, RollsBack: true},
		"one buffer":           {Sequences: 8, Context: 128, Batch: 24, RollsBack: true, Shared: true, Cells: 300},
		"one tight buffer":     {Sequences: 8, Context: 128, Batch: 16, RollsBack: true, Shared: true, Cells: 128},
		"no rolling back":      {Sequences: 4, Context: 128, Batch: 24},
		"64 sequences":         {Sequences: 64, Context: 128, Batch: 128, RollsBack: true},
		"saved":                {Sequences: 3, Context: 128, Batch: 24, RollsBack: true, Saves: true},
		"saved, one buffer":    {Sequences: 8, Context: 128, Batch: 24, RollsBack: true, Shared: true, Cells: 150, Saves: true},
	} {
		t.Run(name, func(t *testing.T) {
			e, fake := startAsIs(t, enginetest.Options{Limits: limits, Tenant: marked}, engine.Options{})
			rng := rand.New(rand.NewSource(1))
			systems := []string{strings.Repeat("you are kind. ", 3), strings.Repeat("you are a long story ", 4)}
			var wg sync.WaitGroup
			for range 192 {
				r := of([]string{"A", "B", "C"}[rng.Intn(3)], systems[rng.Intn(2)]+fmt.Sprintf("canary %d ", rng.Intn(20)), 0)
				r.MaxTokens = 1 + rng.Intn(15)
				r.Choices = 1 + rng.Intn(3)
				wg.Go(func() {
					s, err := e.Generate(context.Background(), r)
					if err != nil {
						t.Error(err)
						return
					}
					sameAsAlone(t, s, len(r.Prompt), r.Choices, text(fake.Answer(r.Prompt, r.MaxTokens)))
				})
			}
			wg.Wait()
			if limits.RollsBack && e.Stats().Cached == 0 {
				t.Error("nothing was reused: the test is too easy")
			}
			if limits.Saves && e.Stats().Restored.Count == 0 {
				t.Error("nothing was restored: the test is too easy")
			}
		})
	}
}

// TestFakeFindsSharedCells makes sure that the fake would notice: two tenants' prompts are sent as one's.
func TestFakeFindsSharedCells(t *testing.T) {
	for _, shared := range []bool{false, true} {
		o := enginetest.Options{Limits: engine.Limits{Sequences: 4, Shared: shared, RollsBack: true}, Tenant: marked}
		fake := enginetest.New(o)
		e := engine.New(fake, fake, engine.Options{})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()

		for _, tenant := range []string{"A", "B"} {
			r := of(tenant, strings.Repeat("a secret ", 8), 2)
			r.Tenant = "the same"
			if s, err := e.Generate(ctx, r); err == nil {
				_, _ = tryRead(s, 1)
			}
		}
		cancel()
		<-done
		if faults := fake.Faults(); len(faults) == 0 || !strings.Contains(faults[0], `a sequence of "B"`) {
			t.Errorf("shared %v: %v", shared, faults)
		}
	}
}

// TestSpelling tries to spell what another tenant has asked, word by word: with 39 requests, each for one candidate, of
// which the one with the most cached tokens is right. Nothing about any request depends on whether the other has asked:
// not what it says was cached, and not what was computed for it. A client of the same tenant spells it all.
func TestSpelling(t *testing.T) {
	const begins = "Patient file, confidential. The patient is "
	words := []string{"Ada", "who", "has", "got", "gout"}
	candidates := [][]string{
		{"Bob", "Eve", "Max", "Joe", "Ada", "Lea", "Tim", "Sue"},
		{"and", "who", "but", "now", "not", "now,", "was", "so"},
		{"had", "was", "is", "may", "can", "has", "saw", "let"},
		{"had", "now", "the", "a", "no", "got", "an", "some"},
		{"flu", "lice", "mumps", "hives", "gout", "acne", "lupus"},
	}

	// attack returns what the attacker has spelt, and what it saw of each request.
	attack := func(t *testing.T, shared bool, victim, attacker string) (spelt string, seen []string) {
		limits := engine.Limits{Sequences: 64, Shared: shared, Context: 256}
		e, _ := start(t, enginetest.Options{Limits: limits}, engine.Options{})
		ask := func(tenant, prompt string) int {
			before := e.Stats().Prompt
			s, err := e.Generate(t.Context(), engine.Request{
				Caller: engine.Caller{Client: tenant, Tenant: tenant}, Prompt: tokens(prompt), MaxTokens: 1,
			})
			if err != nil {
				t.Fatal(err)
			}
			read(t, s, 1)
			seen = append(seen, fmt.Sprintf("%d cached, %d computed", s.Usage().Cached, e.Stats().Prompt-before))
			return s.Usage().Cached
		}

		if victim != "" {
			ask(victim, begins+strings.Join(words, " ")+strings.Repeat(" and is to be told so", 6))
			seen = nil
		}
		for _, list := range candidates {
			most := -1
			best := ""
			for _, word := range list {
				if cached := ask(attacker, begins+spelt+word+" "+"?"); cached > most {
					most = cached
					best = word
				}
			}
			spelt += best + " "
		}
		return strings.TrimSpace(spelt), seen
	}

	for _, shared := range []bool{false, true} {
		_, nobody := attack(t, shared, "", "B")
		spelt, seen := attack(t, shared, "A", "B")
		if fmt.Sprint(seen) != fmt.Sprint(nobody) || len(seen) != 39 {
			t.Errorf("shared %v: after another's secret %q, from\n%v, after nothing\n%v", shared, spelt, seen, nobody)
		}
		if spelt, _ := attack(t, shared, "B", "B"); spelt != strings.Join(words, " ") {
			t.Errorf("shared %v: of its own tenant's it spells %q: the test is too easy", shared, spelt)
		}
	}
}

// TestEvictionIsFair has one tenant ask for more than the KV cache holds: another one's beginning stays, and its next
// request computes as little as before.
func TestEvictionIsFair(t *testing.T) {
	for _, shared := range []bool{false, true} {
		limits := engine.Limits{Sequences: 4, Shared: shared, Context: 256, Cells: 1024}
		if shared {
			limits.Sequences = 16
		}
		e, _ := start(t, enginetest.Options{Limits: limits, Tenant: marked}, engine.Options{})
		story := strings.Repeat("a long story of B. ", 8)
		generate(t, e, of("B", story, 1))
		for i := range 50 {
			generate(t, e, of("A", strings.Repeat(fmt.Sprintf("%c flood %d ", 'A'+i, i), 12), 1))
		}

		s, err := e.Generate(t.Context(), of("B", story+"And?", 1))
		if err != nil {
			t.Fatal(err)
		}
		read(t, s, 1)
		if cached := s.Usage().Cached; cached != len(story) {
			t.Errorf("shared %v: %d tokens of %d are still there", shared, cached, len(story))
		}

		// And no tenant keeps more than its share from one that comes anew.
		for i := range 8 {
			generate(t, e, of("C", strings.Repeat(fmt.Sprintf("%d news ", i), 12), 1))
		}
		s, err = e.Generate(t.Context(), of("C", strings.Repeat("7 news ", 12), 1))
		if err != nil {
			t.Fatal(err)
		}
		read(t, s, 1)
		if s.Usage().Cached == 0 {
			t.Errorf("shared %v: a new tenant keeps nothing", shared)
		}
	}
}

// TestForget drops what a tenant has left, while the engine rests and while it works, and nothing of others.
func TestForget(t *testing.T) {
	if remotely {
		t.Skip("sockets have no virtual time")
	}
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{}, 100)
		e, fake := start(t, enginetest.Options{
			Tenant: marked,
			Vision: true,
			BeforeDecode: func(*engine.Batch) error {
				<-hold
				return nil
			},
		}, engine.Options{})
		let := func(steps int) {
			for range steps {
				hold <- struct{}{}
			}
		}
		let(20)
		generate(t, e, of("A", "what A has asked, at some length ", 1))
		generate(t, e, of("B", "what B has asked, at some length ", 1))
		see := func(tenant string) {
			parts := []engine.Part{{Image: source(picture("abc", 1, false))}}
			if _, _, err := e.Prompt(t.Context(), engine.Caller{Tenant: tenant}, parts, 100); err != nil {
				t.Fatal(err)
			}
		}
		see("A")
		see("B")

		e.Forget("A")
		synctest.Wait()
		if held := fake.Held(); len(held) != 1 || !strings.HasPrefix(text(held[0]), "what B") {
			t.Errorf("at rest: %d sequences are left", len(held))
		}
		see("B")
		if n := fake.EncodedImages(); n != 2 {
			t.Errorf("%d images were encoded, of which both tenants had one", n)
		}
		see("A")
		if n := fake.EncodedImages(); n != 3 {
			t.Errorf("%d images were encoded after one tenant was forgotten", n)
		}

		// One that runs is answered, and leaves nothing.
		for len(hold) > 0 {
			<-hold
		}
		running, err := e.Generate(t.Context(), of("A", "what A asks meanwhile, at some length ", 5))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		e.Forget("A")
		let(20)
		if got := read(t, running, 1)[0]; len(got.text) != 5 {
			t.Errorf("a request that ran: %q", got.text)
		}
		synctest.Wait()
		if held := fake.Held(); len(held) != 1 || !strings.HasPrefix(text(held[0]), "what B") {
			t.Errorf("after one that ran: %d sequences are left", len(held))
		}
	})
}

// TestImagesOfTenants encodes an image for each tenant that sends it, and once for each.
func TestImagesOfTenants(t *testing.T) {
	e, fake := start(t, enginetest.Options{Vision: true}, engine.Options{})
	img := []engine.Part{{Image: source(picture("abc", 1, false))}}
	ids := map[engine.Token]bool{}
	for _, tenant := range []string{"A", "B", "", "A", "B", ""} {
		_, media, err := e.Prompt(t.Context(), engine.Caller{Tenant: tenant}, img, 100)
		if err != nil {
			t.Fatal(err)
		}
		ids[media[0].ID] = true
	}
	if n := fake.EncodedImages(); n != 3 || len(ids) != 3 {
		t.Errorf("%d images were encoded, and have %d IDs", n, len(ids))
	}
}

// TestQueueOfTenants tells a client of a tenant about that tenant's requests alone, whether it is taken or not.
func TestQueueOfTenants(t *testing.T) {
	if remotely {
		t.Skip("sockets have no virtual time")
	}
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		e, _ := start(t, enginetest.Options{
			Limits:       engine.Limits{Sequences: 1},
			BeforeDecode: func(*engine.Batch) error { <-gate; return nil },
		}, engine.Options{MaxWaiting: 10})
		defer synctest.Wait()
		defer close(gate)

		send := func(tenant string, tier engine.Tier) (*engine.Stream, *engine.BusyError) {
			r := of(tenant, "please ", 1)
			r.Tier = tier
			s, err := e.Generate(t.Context(), r)
			var busy *engine.BusyError
			if err != nil && !errors.As(err, &busy) {
				t.Fatal(err)
			}
			return s, busy
		}
		position := func(tenant string, tier engine.Tier, want int) {
			t.Helper()
			s, busy := send(tenant, tier)
			if busy != nil {
				t.Fatal(busy)
			}
			if got := s.Timeline(); got.Position != want || got.Expected != 0 {
				t.Errorf("position %d, want %d; %v", got.Position, want, got.Expected)
			}
		}

		position("A", engine.TierDefault, 0)
		synctest.Wait() // it runs
		for i := range 6 {
			position("A", engine.TierDefault, i)
		}
		position("B", engine.TierDefault, 0)
		position("B", engine.TierFlex, 1)
		position("B", engine.TierDefault, 1)
		position("C", engine.TierFlex, 0)
		if _, busy := send("B", engine.TierDefault); busy == nil || busy.Waiting != 3 || busy.Position != 2 {
			t.Errorf("refused: %+v", busy)
		}
		if _, busy := send("D", engine.TierFlex); busy == nil || *busy != (engine.BusyError{Reason: engine.ErrQueueFull}) {
			t.Errorf("one that has nothing there: %+v", busy)
		}
	})
}
