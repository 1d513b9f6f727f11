package llama

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"serve/engine"
)

// ErrWrong says that a model computes nonsense here, by these kernels or on this device.
var ErrWrong = errors.New("the model produces wrong results")

// ErrNotReproducible says that what a model computes for a sequence depends on what it computes with it.
var ErrNotReproducible = errors.New("what the model computes depends on what is computed with it")

// How a model is tried when it has been loaded.
const (
	// A prompt of more tokens than the kernels that read prompts take at a time, and of fewer where one token takes
	// longer than slowToken.
	verifyPrompt      = 72
	verifyShortPrompt = 16
	verifyAgainPrompt = 4
	slowToken         = 100 * time.Millisecond
	verifyRows        = 8

	// maxDisagreement bounds the normalised mean squared error between the logits of one token computed in a prompt
	// and the same computed by itself. Right kernels differ by how they round activations and order sums, and each
	// layer adds to it: SmolLM2 in Q4_1 is at 0.0015, but 32 layers of random weights made 0.076 of it on a card,
	// which has other kernels for prompts than for single tokens. Wrong kernels are near 1 or above. What is wrong by
	// less shows when each kernel is compared with f32 (CheckKernels).
	maxDisagreement = 0.5
)

// Verify has a model that Load returned compute a prompt, a single token and rows of several sequences, and compares
// them; and draw tokens in both ways, where there are two. Whatever can end the process does it here, before anybody
// waits for an answer, and so do page faults. Again is for a model that was verified before, in another process: a few
// tokens will do.
func Verify(r *Runner, again bool) error {
	prompt := verifyPrompt
	if again {
		prompt = verifyAgainPrompt
	}
	if r.ctx == nil {
		return r.verifyEmbedding(prompt)
	}
	if err := r.verifyDraws(); err != nil {
		return err
	}
	if !r.opts.Reproducible {
		if err := r.verifyLogits(prompt, agree); err != nil {
			return err
		}
		prompt = min(prompt, verifyShortPrompt)
	}
	return r.verifyReproducible(prompt)
}

// verifyReproducible compares bit by bit where the model may be asked to be reproducible, and finds out whether it may.
func (r *Runner) verifyReproducible(prompt int) error {
	if r.limits.Reproducible {
		r.ctx.onePath(true)
		err := r.verifyLogits(prompt, same)
		r.ctx.onePath(false)
		if err != nil && !errors.Is(err, ErrNotReproducible) {
			return err
		}
		r.limits.Reproducible = err == nil
	}
	if r.opts.Reproducible && !r.limits.Reproducible {
		return ErrNotReproducible
	}
	return nil
}

// verifyLogits has compare compare the logits of a token that was computed in several ways.
func (r *Runner) verifyLogits(prompt int, compare func(what string, want, got []float32) error) error {
	defer r.ctx.ClearKV()

	tokens := r.verifyTokens(prompt, min(r.limits.Batch, r.limits.Context))
	began := time.Now()
	if _, err := r.verifyRow(0, 0, tokens[:1]); err != nil {
		return err
	}
	if time.Since(began) > slowToken {
		tokens = tokens[:min(len(tokens), verifyShortPrompt)]
	}
	r.ctx.ClearKV()

	last := len(tokens) - 1
	whole, err := r.verifyRow(0, 0, tokens)
	if err != nil {
		return fmt.Errorf("a prompt of %d tokens: %w", len(tokens), err)
	}
	if last == 0 {
		return nil
	}
	return r.verifyDecode(tokens, whole, compare)
}

// verifyDecode computes the last token of a prompt by itself, alone and in several sequences together; whole are its
// logits from within the prompt.
func (r *Runner) verifyDecode(
	tokens []engine.Token, whole []float32, compare func(what string, want, got []float32) error,
) error {
	last := len(tokens) - 1
	if !r.ctx.RemoveKV(0, last) {
		// A state that cannot go back is made anew.
		r.ctx.ClearKV()
		if _, err := r.verifyRow(0, 0, tokens[:last]); err != nil {
			return err
		}
	}
	rows := min(verifyRows, r.limits.Sequences)
	for seq := 1; seq < rows; seq++ {
		r.ctx.CopyKV(0, seq)
	}

	alone, err := r.verifyRow(0, last, tokens[last:])
	if err != nil {
		return err
	}
	if err := compare("a single token", whole, alone); err != nil || rows == 1 {
		return err
	}

	var b engine.Batch
	for seq := 1; seq < rows; seq++ {
		b.Add(tokens[last], last, seq, true)
	}
	if err := r.ctx.Decode(&b); err != nil {
		return err
	}
	for i := range b.Len() {
		row, err := r.finiteLogits(i)
		if err != nil {
			return err
		}
		if err := compare(fmt.Sprintf("row %d of %d sequences", i, b.Len()), whole, row); err != nil {
			return err
		}
	}
	return nil
}

// verifyTokens are n tokens of the vocabulary, or as many as there is room for.
func (r *Runner) verifyTokens(n, room int) []engine.Token {
	tokens := make([]engine.Token, min(n, room))
	for i := range tokens {
		tokens[i] = engine.Token((7919*i + 13) % r.model.info.Vocabulary)
	}
	return tokens
}

// verifyRow computes tokens of a sequence and returns the logits of the last one.
func (r *Runner) verifyRow(seq, position int, tokens []engine.Token) ([]float32, error) {
	var b engine.Batch
	for i, t := range tokens {
		b.Add(t, position+i, seq, i == len(tokens)-1)
	}
	if err := r.ctx.Decode(&b); err != nil {
		return nil, err
	}
	return r.finiteLogits(len(tokens) - 1)
}

// finiteLogits returns a row of logits that are numbers. A model may rule tokens out, but not all of them.
func (r *Runner) finiteLogits(index int) ([]float32, error) {
	logits, err := r.ctx.Logits(index)
	if err != nil {
		return nil, err
	}
	finite := 0
	for _, x := range logits {
		if x := float64(x); math.IsNaN(x) || math.IsInf(x, 1) {
			return nil, fmt.Errorf("%w: a logit is %g", ErrWrong, x)
		} else if !math.IsInf(x, -1) {
			finite++
		}
	}
	if finite == 0 {
		return nil, fmt.Errorf("%w: no logit is finite", ErrWrong)
	}
	return logits, nil
}

// verifyEmbedding embeds two texts together and one of them alone.
func (r *Runner) verifyEmbedding(prompt int) error {
	tokens := r.verifyTokens(prompt, r.limits.EmbedTokens)
	short := tokens[:(len(tokens)+1)/2]
	together, err := r.Embed([][]engine.Token{tokens, short}, false)
	if err != nil {
		return err
	}
	alone, err := r.Embed([][]engine.Token{short}, false)
	if err != nil {
		return err
	}
	for _, vector := range together {
		for _, x := range vector {
			if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
				return fmt.Errorf("%w: an embedding contains %g", ErrWrong, x)
			}
		}
	}
	return agree("an embedding", together[1], alone[0])
}

// same compares two computations of the same bit by bit.
func same(what string, want, got []float32) error {
	for i, x := range want {
		if math.Float32bits(x) != math.Float32bits(got[i]) {
			return fmt.Errorf("%w: logit %d is %g for %s and %g in a prompt", ErrNotReproducible, i, got[i], what, x)
		}
	}
	return nil
}

// agree compares two computations of the same by their normalised mean squared error: 0 for equal ones, 1 for one
// that is as far off as if it had nothing in common with the other but its mean.
func agree(what string, want, got []float32) error {
	var mean, n float64
	for _, x := range want {
		if !math.IsInf(float64(x), 0) {
			mean += float64(x)
			n++
		}
	}
	mean /= n

	var off, spread float64
	for i, x := range want {
		if math.IsInf(float64(x), 0) || math.IsInf(float64(got[i]), 0) {
			continue
		}
		off += math.Pow(float64(x)-float64(got[i]), 2)
		spread += math.Pow(float64(x)-mean, 2)
	}
	slog.Debug("verified", "what", what, "disagreement", off/spread)

	// A model whose logits are all alike, as one made for a test may be, has no spread to measure by.
	if off > maxDisagreement*spread && off/n > 1e-4 {
		return fmt.Errorf("%w: %s and a prompt disagree by %.3g (limit %g)",
			ErrWrong, what, off/spread, maxDisagreement)
	}
	return nil
}
