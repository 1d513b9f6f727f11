package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"serve/loadgen"
)

// slots is how many requests a server computes at a time in what follows.
const slots = 8

// flood has one key flood a server with a hundred requests at a time, and reports how
// long another key's first token takes beside that and without it. llama-server knows no
// keys.
func (o *options) flood(model string) error {
	const clients, prompt = 100, 100
	fmt.Printf(
		"%d clients of one key keep %d slots busy: time to a first token of another key, prompts of %d tokens, in turns\n",
		clients,
		slots,
		prompt,
	)
	for _, start := range []func(string, int) *process{o.startCrowded, o.startTunedPeer} {
		p := start(model, slots)
		if p.err != nil {
			return p.err
		}

		alone, err := o.quiet(p, prompt, "alone")
		if err != nil {
			p.stop()
			return err
		}

		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		began := make(chan struct{}, clients*1000)
		count := func(time.Time) {
			select {
			case began <- struct{}{}:
			default:
			}
		}
		for c := range clients {
			wg.Go(func() {
				q := query{tokens: o.tokens, key: "flood", event: count}
				for r := 0; ctx.Err() == nil; r++ {
					q.prompt = words(fmt.Sprintf("Flood %d %d", c, r), prompt)
					complete(ctx, p, q)
				}
			})
		}

		for range slots * o.tokens {
			<-began
		}

		beside, err := o.quiet(p, prompt, "beside")
		cancel()
		wg.Wait()
		p.stop()
		if err != nil {
			return err
		}

		fmt.Printf("  %-18s alone %5.0f ms, beside the flood %6.0f ms: %.2f x (worst of %d: %.0f ms)\n",
			p.name, 1000*median(alone), 1000*median(beside), median(beside)/median(alone), len(beside), 1000*slices.Max(beside))
	}

	return nil
}

// quiet asks one thing after the other and returns the times to the first tokens.
func (o *options) quiet(p *process, prompt int, name string) (firsts []float64, err error) {
	for r := range 2*o.runs + 1 {
		at, err := complete(
			context.Background(),
			p,
			query{prompt: words(fmt.Sprintf("Quiet %s %d", name, r), prompt), tokens: 16, key: "quiet"},
		)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		if r > 0 { // the first warms up
			firsts = append(firsts, at.Seconds())
		}
	}
	return firsts, nil
}

// words is a prompt of about so many tokens that begins like no other.
func words(begin string, tokens int) string {
	return begin + strings.Repeat(" a", max(0, tokens-10))
}

// startCrowded starts serve with a queue that is full soon.
func (o *options) startCrowded(model string, parallel int) *process {
	return o.startServe(model, parallel, "--max-waiting", "128")
}

// overload offers five times as many requests as a server can answer and reports how
// much of its best it still does, and how fast it refuses.
func (o *options) overload(model string) error {
	const times, waiting = 5, 32
	p := o.startServe(model, slots, "--max-waiting", fmt.Sprint(waiting))
	if p.err != nil {
		return p.err
	}
	defer p.stop()
	fmt.Printf("requests offered at %d times what %d slots can answer, %d may wait\n", times, slots, waiting)
	var peaks, goods, refusals, firsts []float64
	refused := 0
	answered := 0
	for run := range o.runs + 1 {
		peak, _, err := closedLoops(p, 2*slots, o.requests, o.tokens)
		if err != nil {
			return err
		}
		offered := o.offer(p, times*peak/float64(o.tokens), run)
		if run == 0 {
			continue // the first run warms up
		}
		if offered.err != nil {
			return offered.err
		}
		peaks = append(peaks, peak)
		goods = append(goods, offered.rate)
		refusals = append(refusals, offered.refusals...)
		firsts = append(firsts, offered.firsts...)
		refused = refused + len(offered.refusals)
		answered = answered + len(offered.firsts)
	}

	if len(refusals) == 0 {
		return errors.New("nothing was refused: the load was too small to measure")
	}

	slices.Sort(refusals)
	fmt.Printf(
		"  serve              peak %.0f tokens/s, then %.0f: %.2f x; %d answered, first token after %.2f s; %d "+
			"refused after %.1f ms (99th percentile %.1f)\n",
		median(
			peaks,
		),
		median(goods),
		median(goods)/median(peaks),
		answered,
		median(firsts),
		refused,
		1000*median(refusals),
		1000*refusals[len(refusals)*99/100],
	)
	return nil
}

// offered is what came of a load.
type offered struct {
	rate             float64 // tokens/s of answers, from the first request to the last answer
	firsts, refusals []float64
	err              error
}

// offer sends requests at a rate, whatever comes of them, until as many were sent as
// take the server a while to answer.
func (o *options) offer(p *process, rate float64, run int) (f offered) {
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
			first, err := complete(
				context.Background(), p, query{prompt: fmt.Sprintf("Offer %d of %d went out and", i, run), tokens: o.tokens},
			)
			mu.Lock()
			defer mu.Unlock()
			var no *loadgen.StatusError
			switch {
			case err == nil:
				f.firsts = append(f.firsts, first.Seconds())
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
