// Package steps bounds the work that a request costs before a model sees it. A step is some 100 nanoseconds of work:
// a loop over what a client sent takes as many as it has rounds. Unlike a time limit, a number of steps has the same
// result on every machine.
package steps

import (
	"context"
	"errors"
)

// PerRequest is the number of steps that one request may take, which is a third to a whole second.
const PerRequest = 3_000_000

// ErrSpent says that a budget has no steps left.
var ErrSpent = errors.New("it takes more work than a request may cost")

// Budget is the steps that are left to a request. A nil Budget has no end. It must not be used concurrently.
type Budget struct {
	ctx       context.Context
	left      int
	unchecked int // steps since the context was looked at
	err       error
	pause     func()
}

// New returns a budget of n steps, which also ends with the context.
func New(ctx context.Context, n int) *Budget { return &Budget{ctx: ctx, left: n} }

// Pause has the budget call pause every few thousand steps, until it is given nil: then the work makes way for that of
// other requests.
func (b *Budget) Pause(pause func()) {
	if b != nil {
		b.pause = pause
	}
}

// checkEvery is how many steps the end of the context may go unnoticed, and how many there are between pauses.
const checkEvery = 4096

// Spend takes n steps. The error is ErrSpent if there are too few, or the context's; then it is the same in all
// later calls.
func (b *Budget) Spend(n int) error {
	if b == nil {
		return nil
	}
	if b.err != nil {
		return b.err
	}

	if n > b.left {
		b.left = 0
		b.err = ErrSpent
		return b.err
	}
	b.left -= n

	return b.Look(n)
}

// Look is called in a loop whose n steps of work are taken elsewhere, or are part of what has been taken. The error is
// as Spend's.
func (b *Budget) Look(n int) error {
	if b == nil {
		return nil
	}
	if b.err != nil {
		return b.err
	}

	if b.unchecked += n; b.unchecked >= checkEvery {
		b.unchecked = 0
		if b.pause != nil {
			b.pause()
		}
		b.err = context.Cause(b.ctx)
	}
	return b.err
}

// Left returns the steps that are left; 0 for a nil Budget.
func (b *Budget) Left() int {
	if b == nil {
		return 0
	}
	return b.left
}
