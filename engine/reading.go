package engine

import (
	"context"
	"fmt"
)

// Range is a part of a text, in bytes: what lies from From on and before To.
type Range struct{ From, To int }

// Reading says how a text becomes tokens.
type Reading struct {
	// Control reads the text of control tokens as such tokens, but for what is quoted. Other tokens that are never split
	// (llama.cpp's user-defined ones) are always read, unless what is quoted has one of the form <|...|>.
	Control bool
	// Ends adds what the model wants at the ends of a prompt (BOS, EOS).
	Ends bool
	// Quoted is text that only mentions control tokens, such as a client's: none that has a byte in it is read. The
	// ranges are in order, and do not overlap. Nothing else depends on them: text is not divided where one begins or
	// ends.
	Quoted []Range
}

// ReadPrompt is how a rendered prompt becomes tokens.
func ReadPrompt(quoted []Range) Reading { return Reading{Control: true, Ends: true, Quoted: quoted} }

// Check returns an error if the ranges are not those of a text of so many bytes.
func (r Reading) Check(bytes int) error {
	last := 0
	for _, q := range r.Quoted {
		if q.From < last || q.To < q.From || q.To > bytes {
			return fmt.Errorf("%w: the range %d to %d of a text of %d bytes", ErrRequest, q.From, q.To, bytes)
		}
		last = q.To
	}
	return nil
}

type lateKey struct{}

// Late returns a context whose calls of a Text are the parts of a request that takes long: those of others come first.
func Late(ctx context.Context) context.Context { return context.WithValue(ctx, lateKey{}, true) }

// IsLate reports whether the context is one that Late has made, or comes from one.
func IsLate(ctx context.Context) bool { return ctx.Value(lateKey{}) != nil }
