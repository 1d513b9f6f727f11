package llama

// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"serve/engine"
	"serve/hostmem"
)

// SaveTo has sequences saved to memory from now on, if the model can be restored: it saves, restores and compares,
// unless it did so before, in another process. It returns why not; if it returns nothing, the Runner closes the memory
// when it is closed.
func (r *Runner) SaveTo(m *hostmem.Arena, again bool) (whyNot string) {
	if r.ctx == nil {
		return "the model does not generate"
	}
	r.limits.SavesWhole = r.model.info.SlidingWindow > 0
	if !again {
		if err := r.verifySaving(); err != nil {
			return err.Error()
		}
	}
	r.saved = m
	r.limits.Saves = true
	return ""
}

// verifySaving compares the next token's logits of a sequence that was restored with those of the one that was saved.
func (r *Runner) verifySaving() error {
	defer r.ctx.ClearKV()
	tokens := r.verifyTokens(verifyShortPrompt, min(r.limits.Batch, r.limits.Context))
	last := len(tokens) - 1
	if last == 0 {
		return errors.New("its context has one token")
	}

	r.ctx.ClearKV()
	if _, err := r.verifyRow(0, 0, tokens[:last]); err != nil {
		return err
	}
	state := r.ctx.State(0)
	want, err := r.verifyRow(0, last, tokens[last:])
	if err != nil {
		return err
	}

	// The same sequence: another one's graph may be another one.
	r.ctx.RemoveKV(0, 0)
	if err := r.ctx.SetState(0, state); err != nil {
		return errors.New("its cells cannot be restored")
	}
	got, err := r.verifyRow(0, last, tokens[last:])
	if err != nil {
		return err
	}
	if !alike(want, got) {
		return errors.New("a restored sequence does not go on as the one that was saved")
	}
	return nil
}

// alike reports whether logits differ by no more than a device's order of additions, which may not be the same twice.
func alike(a, b []float32) bool {
	const most = 1e-3
	for i, x := range a {
		if x != b[i] && !(math.Abs(float64(x-b[i])) <= most*(1+math.Abs(float64(x)))) {
			return false
		}
	}
	return true
}

// Save implements engine.Runner, as do the methods after it.
func (r *Runner) Save(seq int, to engine.Region) (engine.Saved, error) {
	saved := engine.Saved{Region: engine.Region{At: to.At}}
	if r.saved == nil || seq < 0 || seq >= r.limits.Sequences {
		return saved, fmt.Errorf("sequence %d cannot be saved", seq)
	}
	saved.Size = int64(C.serve_state_size(r.ctx.c, C.int32_t(seq)))
	if saved.Size <= 0 {
		return saved, fmt.Errorf("sequence %d cannot be saved", seq)
	}
	if saved.Size > to.Size {
		return saved, nil
	}

	err := r.saved.Write(to.At, saved.Size, func(b []byte) error {
		n := C.serve_state_get(r.ctx.c, C.int32_t(seq), (*C.uint8_t)(unsafe.Pointer(&b[0])), C.size_t(len(b)))
		if int64(n) != saved.Size {
			return fmt.Errorf("sequence %d was not saved", seq)
		}
		saved.Sum = hostmem.Checksum(b)
		return nil
	})
	return saved, err
}

// Restore restores nothing of what is not as it was saved.
func (r *Runner) Restore(seq int, from engine.Saved) error {
	if r.saved == nil || seq < 0 || seq >= r.limits.Sequences {
		return fmt.Errorf("sequence %d cannot be restored", seq)
	}
	return r.saved.Read(from.At, from.Size, func(b []byte) error {
		if hostmem.Checksum(b) != from.Sum {
			return errors.New("what was saved has changed")
		}
		return r.ctx.SetState(seq, b)
	})
}

// Discard ignores what cannot be: then the memory stays where it is, and is written over.
func (r *Runner) Discard(region, kept engine.Region) {
	if r.saved != nil {
		Discard(r.saved, region, kept)
	}
}

// Prepare ignores what cannot be: then writing takes longer.
func (r *Runner) Prepare(region engine.Region) {
	if r.saved != nil {
		Prepare(r.saved, region)
	}
}

// Discard is Runner.Discard for memory to which another process saves.
func Discard(m *hostmem.Arena, region, kept engine.Region) {
	for _, part := range region.Without(kept) {
		_ = m.Discard(part.At, part.Size)
	}
}

// Prepare is Runner.Prepare for memory to which another process saves.
func Prepare(m *hostmem.Arena, region engine.Region) {
	go func() { _ = m.Prepare(region.At, region.Size) }()
}
