package engine

import "errors"

// probe has an engine that was restarted after a fault of its device compute as many tokens as the step had that the
// fault ended, of which no client sent any. It reports whether that works: then it was not the device, but what was
// computed. The error is one that ends the loop.
func (e *Engine) probe(n int) (works bool, err error) {
	n = max(1, min(n, e.limits.Batch, e.limits.Context))
	var b Batch
	for i, t := range e.harmless(n) {
		b.Add(t, i, 0, false)
	}
	b.Suspect = true // alone
	return e.probed(
		func() error { return e.runner.Step(&b, nil) },
		func() { e.runner.RemoveKV(0, 0) },
	)
}

// probeEmbedding is probe for an input of n tokens.
func (e *Engine) probeEmbedding(n int) (works bool, err error) {
	input := e.harmless(n)
	return e.probed(func() error {
		_, err := e.runner.Embed([][]Token{input}, true)
		return err
	}, func() {})
}

// probed computes once, and then undoes it. An engine that was restarted meanwhile, and has not computed, is asked
// again.
func (e *Engine) probed(compute func() error, undo func()) (works bool, err error) {
	for {
		switch err := compute(); {
		case err == nil:
			undo()
			return true, nil
		case errors.Is(err, ErrCrashed):
			e.crashed()
			return false, nil
		case errors.Is(err, ErrRestarted):
			e.restarted()
		case errors.Is(err, ErrAborted), errors.Is(err, ErrFatal):
			return false, err
		default:
			return true, nil // it computes, and has said no
		}
	}
}

// harmless returns n tokens of plain text.
func (e *Engine) harmless(n int) []Token {
	pieces := e.runner.Model().Pieces
	list := make([]Token, 0, n)
	for t := range pieces {
		if len(list) == n {
			break
		}
		if len(pieces[t]) > 0 {
			list = append(list, Token(t))
		}
	}
	if len(list) == 0 {
		list = append(list, 0)
	}
	for i := 0; len(list) < n; i++ {
		list = append(list, list[i])
	}
	return list
}
