package llama

import (
	"errors"
	"fmt"
	"log/slog"

	"serve/engine"
)

// drawsAlike is the part of the tokens that must be drawn alike on the device that computes the logits and on the host:
// rounding may decide otherwise where two tokens are nearly as probable, or a number lies between two.
const drawsAlike = 0.75

// drawsOfEach is how many tokens are drawn in each way of drawing: fewer would be judged by chance.
const drawsOfEach = 32

// How many alternatives are asked for: the host draws what is wanted with its probability.
const (
	onDevice = -1
	onHost   = 1
)

// verifyDraws compares tokens that are drawn where the logits are with those that the host draws of the same rows.
// Where they are others, the host draws from then on, unless it was asked for that it does not.
func (r *Runner) verifyDraws() error {
	if !r.ctx.samples() {
		if r.opts.BackendSampling == "on" {
			return errors.New("the device that computes the logits cannot draw tokens (--backend-sampling on)")
		}
		return nil
	}
	alike, all, err := r.compareDraws()
	if err != nil && r.opts.BackendSampling == "on" {
		return err
	}
	if err != nil {
		// If it is not the sampling that fails, what is verified next does.
		slog.Warn("tokens cannot be drawn on the device", "error", err)
	}
	return r.judgeDraws(alike, all)
}

// judgeDraws does what follows from how many of the tokens are drawn alike.
func (r *Runner) judgeDraws(alike, all int) error {
	if float64(alike) >= drawsAlike*float64(all) {
		return nil
	}

	wrong := fmt.Errorf("%w: %d of %d tokens that the device draws are those that the host draws", ErrWrong, alike, all)
	if r.opts.BackendSampling == "on" {
		return wrong
	}
	slog.Warn("tokens are drawn on the host, which is slower", "error", wrong)
	r.opts.BackendSampling = "off"
	r.ctx.Close()
	return r.newContext()
}

// compareDraws returns how many tokens are drawn alike, and how many there are.
func (r *Runner) compareDraws() (alike, all int, err error) {
	defer r.ctx.ClearKV()
	for _, change := range []func(*engine.Sampling){
		func(p *engine.Sampling) { p.Temperature = 0 },
		func(*engine.Sampling) {},
		func(p *engine.Sampling) { p.TopK, p.TopP, p.MinP = 40, 0.95, 0.02 },
	} {
		p := engine.DefaultSampling()
		p.MinP = 0
		change(&p)
		var drawn [2][]engine.Token
		for way, alternatives := range []int{onDevice, onHost} {
			if drawn[way], err = r.drawSome(p, alternatives); err != nil {
				return 0, 1, err
			}
		}
		for i, token := range drawn[0] {
			all++
			if token == drawn[1][i] {
				alike++
			}
		}
	}
	return alike, all, nil
}

// drawSome draws tokens after the first one of each of several sequences, by samplers of seeds from 0 on, with so many
// alternatives.
func (r *Runner) drawSome(p engine.Sampling, alternatives int) (tokens []engine.Token, err error) {
	r.ctx.ClearKV()
	var b engine.Batch
	sequences := min(verifyRows, r.limits.Sequences)
	for i, token := range r.verifyTokens(sequences, r.limits.Batch)[:sequences] {
		b.Add(token, 0, i, true)
	}

	rows := make([]engine.Row, drawsOfEach)
	defer func() {
		for i := range rows {
			if rows[i].Sampler != nil {
				rows[i].Sampler.Close()
			}
		}
	}()
	for i := range rows {
		p.Seed = uint32(i)
		if rows[i].Sampler, err = r.NewSampler(p); err != nil {
			return nil, err
		}
		rows[i].Index = i % sequences
		rows[i].Top = alternatives
	}

	if err := r.ctx.step(&b, rows, &r.buf); err != nil {
		return nil, err
	}
	for i := range rows {
		if rows[i].Err != nil {
			return nil, rows[i].Err
		}
		tokens = append(tokens, rows[i].Token)
	}
	return tokens, nil
}
