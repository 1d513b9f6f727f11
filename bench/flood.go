package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"serve/bench/launch"
	"serve/loadgen"
)

var (
	alone  = metric{"first token, alone", "ms", lower}
	beside = metric{"first token, beside the flood", "ms", lower}
)

// flood has one key flood a server with a hundred requests at a time, and measures how long another key's first token
// takes beside that and without it. llama-server knows no keys.
func flood(o *options, _ int) []scenario {
	const clients, prompt = 100, 100
	return []scenario{{
		name: "flood",
		about: fmt.Sprintf("%d clients of one key keep %d slots busy, another key asks; prompts of %d tokens", clients, slots,
			prompt),
		need:    need{slots: slots, context: roomFor(prompt, o.tokens), serveFlags: []string{"--max-waiting", "128"}},
		metrics: []metric{alone, beside},
		measure: func(ctx context.Context, s *launch.Server, round int) (figures, error) {
			return o.flooded(ctx, s, round, clients, prompt)
		},
	}}
}

func (o *options) flooded(ctx context.Context, s *launch.Server, round, clients, prompt int) (figures, error) {
	w, err := o.calibrate(ctx, s, false, round)
	if err != nil {
		return nil, err
	}
	quiet := func(id int) (float64, error) {
		a, err := s.Client.Ask(ctx, loadgen.Call{Model: s.Model, Prompt: w.Text(prompt, id), Tokens: 16, Key: "quiet",
			Fields: greedy()})
		return 1000 * a.First.Seconds(), err
	}
	before, err := quiet(-1)
	if err != nil {
		return nil, err
	}

	flooding, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	began := make(chan struct{}, slots*o.tokens)
	for c := range clients {
		wg.Go(func() {
			for r := 0; flooding.Err() == nil; r++ {
				call := loadgen.Call{Model: s.Model, Prompt: w.Text(prompt, c<<16|r), Tokens: o.tokens, Key: "flood",
					Fields: greedy(), Event: func(time.Time) {
						select {
						case began <- struct{}{}:
						default:
						}
					}}
				_, _ = s.Client.Ask(flooding, call) // it may be refused
			}
		})
	}

	for range slots * o.tokens {
		select {
		case <-began:
		case <-ctx.Done():
		}
	}
	during, err := quiet(-2)
	cancel()
	wg.Wait()
	return figures{alone.Name: before, beside.Name: during}, err
}

var (
	goodput  = metric{"output under load over the best", "x", higher}
	refusal  = metric{"refusal, median", "ms", lower}
	refusals = metric{"refusals, 99th percentile", "ms", lower}
)

// overloadTimes is how many times as many requests are offered as a server can answer.
const overloadTimes = 5

// overload offers more requests than a server can answer, and measures how much of its best it still does, and how
// fast it refuses.
func overload(o *options, _ int) []scenario {
	const waiting = 32
	return []scenario{{
		name: "overload",
		about: fmt.Sprintf("requests at %d times the rate that %d slots can answer; %d may wait, the others are refused",
			overloadTimes, slots, waiting),
		need: need{slots: slots, context: roomFor(o.prompt, o.tokens),
			serveFlags: []string{"--max-waiting", fmt.Sprint(waiting)}},
		metrics:   []metric{goodput, refusal, refusals, firstToken},
		serveOnly: true,
		measure:   o.overloaded,
	}}
}

func (o *options) overloaded(ctx context.Context, s *launch.Server, round int) (figures, error) {
	peak, err := o.closedLoop(ctx, s, loadgen.Workload{
		Clients:  2 * slots,
		Requests: 2 * slots * o.requests,
		Prompt:   loadgen.Lengths{Least: o.prompt, Most: o.prompt},
		Answer:   loadgen.Lengths{Least: o.tokens, Most: o.tokens},
		Seed:     o.roundSeed(round),
	})
	if err != nil {
		return nil, err
	}
	w, err := o.calibrate(ctx, s, false, round)
	if err != nil {
		return nil, err
	}

	best := peak[throughput.Name]
	got := o.offer(ctx, s, w, overloadTimes*best/float64(o.tokens))
	if got.err == nil && len(got.refusals) == 0 {
		got.err = errors.New("nothing was refused: the load was too small to measure")
	}
	if got.err != nil {
		return nil, got.err
	}

	slices.Sort(got.refusals)
	return figures{
		goodput.Name:    got.rate / best,
		refusal.Name:    1000 * median(got.refusals),
		refusals.Name:   1000 * got.refusals[len(got.refusals)*99/100],
		firstToken.Name: 1000 * median(got.firsts),
	}, nil
}

// offered is what came of a load.
type offered struct {
	rate             float64 // tokens/s of answers, from the first request to the last answer
	firsts, refusals []float64
	err              error
}

// offer sends requests at a rate, whatever comes of them, until as many were sent as take the server a while to answer.
func (o *options) offer(ctx context.Context, s *launch.Server, w *loadgen.Writer, rate float64) (f offered) {
	n := max(int(rate*6), 200)
	var mu sync.Mutex
	var wg sync.WaitGroup
	begin := time.Now()
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	for i := range n {
		<-tick.C
		wg.Go(func() {
			sent := time.Now()
			a, err := s.Client.Ask(ctx, loadgen.Call{Model: s.Model, Prompt: w.Text(o.prompt, i), Tokens: o.tokens,
				Fields: greedy()})
			mu.Lock()
			defer mu.Unlock()
			var no *loadgen.StatusError
			switch {
			case err == nil:
				f.firsts = append(f.firsts, a.First.Seconds())
			case errors.As(err, &no) && no.Status == 429:
				f.refusals = append(f.refusals, time.Since(sent).Seconds())
			default:
				f.err = err
			}
		})
	}

	wg.Wait()
	f.rate = float64(len(f.firsts)*o.tokens) / time.Since(begin).Seconds()
	return f
}
