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
	worstGap  = metric{"largest gap over the median", "x", lower}
	widestGap = metric{"largest gap", "ms", lower}
	longFirst = metric{"first token of the long prompt", "ms", lower}
)

// gaps lets a long prompt arrive while eight streams run.
func gaps(o *options, trained int) []scenario {
	const answer = 500
	size := roomFor(o.longPrompt, answer)
	if trained > 0 && size > trained {
		return leftOut("gaps", "prompts of %d tokens do not fit into the model's context of %d", o.longPrompt, trained)
	}
	return []scenario{{
		name:    "gaps",
		about:   fmt.Sprintf("%d streams, a prompt of %d tokens arrives; the worst of the streams", slots, o.longPrompt),
		need:    need{slots: slots + 1, context: size},
		metrics: []metric{worstGap, widestGap, longFirst},
		measure: o.gapsUnderPrompt,
	}}
}

func (o *options) gapsUnderPrompt(ctx context.Context, s *launch.Server, round int) (figures, error) {
	w, err := o.calibrate(ctx, s, false, round)
	if err != nil {
		return nil, err
	}

	streaming, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	times := make([][]time.Time, slots)
	ended := make([]error, slots)
	started := make(chan struct{}, slots)
	for i := range times {
		wg.Go(func() {
			begun := sync.OnceFunc(func() { started <- struct{}{} })
			defer begun()
			_, ended[i] = s.Client.Ask(streaming, loadgen.Call{Model: s.Model, Prompt: w.Text(16, i), Tokens: 500,
				Fields: greedy(), Event: func(t time.Time) {
					times[i] = append(times[i], t)
					if len(times[i]) == 16 {
						begun()
					}
				}})
		})
	}
	for range times {
		<-started
	}

	a, err := s.Client.Ask(ctx, loadgen.Call{Model: s.Model, Prompt: w.Text(o.longPrompt, slots), Tokens: 8,
		Fields: greedy()})
	cancel()
	wg.Wait()
	if err != nil {
		return nil, err
	}

	worst := 0.0
	widest := 0.0
	for i, stream := range times {
		if len(stream) < 16 {
			return nil, fmt.Errorf("a stream did not run: %w", errors.Join(ended[i], errNoTokens))
		}
		var gaps []float64
		for k := 1; k < len(stream); k++ {
			gaps = append(gaps, stream[k].Sub(stream[k-1]).Seconds())
		}
		worst = max(worst, slices.Max(gaps)/median(gaps))
		widest = max(widest, slices.Max(gaps))
	}
	return figures{
		worstGap.Name:  worst,
		widestGap.Name: 1000 * widest,
		longFirst.Name: 1000 * a.First.Seconds(),
	}, nil
}
