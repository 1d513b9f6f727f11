package engine

import (
	"errors"
	"fmt"
	"hash/maphash"
	"testing"
	"time"
)

func write(text string) func(*maphash.Hash) {
	return func(h *maphash.Hash) { _, _ = h.WriteString(text) }
}

func TestRefusals(t *testing.T) {
	r := newRefusals()
	now := time.Unix(1000, 0)
	if err := r.check("", write("poison"), now); err != nil {
		t.Errorf("nothing is remembered: %v", err)
	}

	r.add("", write("poison"), now)
	if err := r.check("", write("poison"), now.Add(9*time.Minute)); !errors.Is(err, ErrTooComplex) {
		t.Errorf("the same again: %v", err)
	}
	if err := r.check("A", write("poison"), now); err != nil {
		t.Errorf("another tenant's: %v", err)
	}
	if err := r.check("", write("poiso"), now); err != nil {
		t.Errorf("something else: %v", err)
	}
	if err := r.check("", write("poison"), now.Add(11*time.Minute)); err != nil {
		t.Errorf("the same, later: %v", err)
	}

	for i := range 2 * maxRefusals {
		r.add("", write(fmt.Sprint(i)), now.Add(time.Duration(i)*time.Millisecond))
	}
	if len(r.until) != maxRefusals {
		t.Errorf("%d are remembered", len(r.until))
	}
	last := write(fmt.Sprint(2*maxRefusals - 1))
	if err := r.check("", last, now.Add(time.Minute)); !errors.Is(err, ErrTooComplex) {
		t.Errorf("the last of many: %v", err)
	}
	if err := r.check("", write("0"), now.Add(time.Minute)); err != nil {
		t.Errorf("the first of many: %v", err)
	}
}
