package main

import (
	"context"
	"fmt"

	"serve/bench/launch"
	"serve/loadgen"
)

// depthMetrics are the figures at a depth.
func depthMetrics(depth int) (prefill, decode metric) {
	return metric{fmt.Sprintf("prefill, %d", depth), "tokens/s", higher},
		metric{fmt.Sprintf("decode, %d", depth), "tokens/s", higher}
}

func depth(o *options, trained int) []scenario {
	answer := max(o.tokens/4, 2)
	sc := scenario{
		name:  "depth",
		about: fmt.Sprintf("one client; prompts that fill so many tokens of context together with an answer of %d", answer),
	}
	var depths []int
	most := 0
	for _, d := range o.depths {
		switch {
		case trained > 0 && d > trained:
			sc.notes = append(sc.notes, fmt.Sprintf("%d is left out: the model's context has %d tokens", d, trained))
		case depthPrompt(d, answer) < 16:
			sc.notes = append(sc.notes, fmt.Sprintf("%d is left out: there is no room for an answer of %d tokens", d, answer))
		default:
			depths = append(depths, d)
			most = max(most, d)
			prefill, decode := depthMetrics(d)
			sc.metrics = append(sc.metrics, prefill, decode)
		}
	}
	if len(depths) == 0 {
		return []scenario{sc}
	}

	sc.need = need{slots: 1, context: roundUp(most)}
	sc.measure = func(ctx context.Context, s *launch.Server, round int) (figures, error) {
		if round == 0 {
			return o.atDepths(ctx, s, depths[:1], answer, round)
		}
		return o.atDepths(ctx, s, depths, answer, round)
	}
	sc.engine = func(ctx context.Context, e *engine) (figures, error) {
		f := figures{}
		for _, d := range depths {
			row, err := e.run(ctx, 1, depthPrompt(d, answer), answer)
			if err != nil {
				return nil, err
			}
			prefill, decode := depthMetrics(d)
			f[prefill.Name] = row.Prefill
			f[decode.Name] = row.Decode
		}
		return f, nil
	}
	return []scenario{sc}
}

// depthPrompt is the length of a prompt that fills a context together with its answer, though it is a little longer
// than planned.
func depthPrompt(depth, answer int) int { return depth - depth/16 - answer - 16 }

// atDepths measures a request at each depth.
func (o *options) atDepths(ctx context.Context, s *launch.Server, depths []int, answer, round int) (figures, error) {
	w, err := o.calibrate(ctx, s, false, round)
	if err != nil {
		return nil, err
	}

	f := figures{}
	for i, d := range depths {
		a, err := s.Client.Ask(ctx, loadgen.Call{
			Model:  s.Model,
			Prompt: w.Text(depthPrompt(d, answer), i),
			Tokens: answer,
			Fields: greedy(),
		})
		if err != nil {
			return nil, fmt.Errorf("at %d: %w", d, err)
		}
		rate, err := decodeRate(&a)
		if err != nil {
			return nil, fmt.Errorf("at %d: %w", d, err)
		}
		prefill, decode := depthMetrics(d)
		f[prefill.Name] = float64(a.Prompt-a.Cached) / a.First.Seconds()
		f[decode.Name] = rate
	}
	return f, nil
}
