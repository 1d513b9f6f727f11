package llama

import (
	"math"
	"slices"
	"testing"

	"serve/engine"
	"serve/hostmem"
	"serve/models/testmodel"
)

// savingRunner returns a model that saves sequences to memory of 4 MiB.
func savingRunner(t *testing.T, o Options) (*Runner, *hostmem.Arena) {
	t.Helper()
	o.Context = 256
	o.Sequences = 3
	var m testmodel.Options
	if o.KVType != "" {
		m.Width = 256 // heads of 64, in blocks of 32
	}
	r, err := Load(write(t, m), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)

	memory, err := hostmem.New()
	if err == nil {
		err = memory.Limit(4 << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { memory.Close() })
	own, err := hostmem.Handed(int(memory.File().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if whyNot := r.SaveTo(own, false); whyNot != "" {
		t.Fatalf("it cannot be saved: %s", whyNot)
	}
	return r, memory
}

// greedy returns the bits of the logits of every token of a greedy answer, which goes on after so many tokens.
func greedy(t *testing.T, r *Runner, seq, position int, token engine.Token) (bits [][]uint32) {
	t.Helper()
	for range 20 {
		logits, err := r.verifyRow(seq, position, []engine.Token{token})
		if err != nil {
			t.Fatal(err)
		}
		row := make([]uint32, len(logits))
		for i, x := range logits {
			row[i] = math.Float32bits(x)
		}
		bits = append(bits, row)
		token = engine.Token(slices.Index(logits, slices.Max(logits)))
		position++
	}
	return bits
}

// TestSavedSequences compares a greedy answer that goes on in a slot with those that go on in sequences restored from
// memory, bit by bit.
func TestSavedSequences(t *testing.T) {
	for name, o := range map[string]Options{
		"buffers of their own": {},
		"one buffer":           {Cells: 512},
		"q8_0":                 {KVType: "q8_0"},
		"reproducible":         {Reproducible: true, Model: LoadOptions{NoRepack: true, CPUOnly: true}},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := savingRunner(t, o)
			if o.Reproducible {
				r.ctx.onePath(true)
			}
			tokens := r.verifyTokens(100, 100)
			begin := func(seq int) {
				if _, err := r.verifyRow(seq, 0, tokens); err != nil {
					t.Fatal(err)
				}
			}
			begin(0)
			want := greedy(t, r, 0, 100, 7)

			r.RemoveKV(0, 0)
			begin(0)
			saved, err := r.Save(0, engine.Region{At: 64 << 10, Size: 1 << 20})
			if err != nil || saved.At != 64<<10 || saved.Size < 100 || saved.Size > 1<<20 {
				t.Fatalf("%+v, %v", saved, err)
			}
			if !sameRows(greedy(t, r, 0, 100, 7), want) {
				t.Error("a sequence goes on otherwise after it was saved")
			}

			r.RemoveKV(0, 0)
			for _, seq := range []int{0, 0, 2} {
				if err := r.Restore(seq, saved); err != nil {
					t.Fatal(err)
				}
				if last := r.ctx.LastPosition(seq); last != 99 {
					t.Errorf("the last position is %d", last)
				}
				// In one buffer, a sequence lies where cells are free, and sums come in that order.
				if got := greedy(t, r, seq, 100, 7); !sameRows(got, want) && (seq == 0 || r.limits.Shared == false) {
					t.Errorf("a sequence restored as %d goes on otherwise", seq)
				}
				r.RemoveKV(seq, 0)
			}
		})
	}
}

func sameRows(a, b [][]uint32) bool { return slices.EqualFunc(a, b, slices.Equal[[]uint32]) }

// TestRestoredIsWhatWasSaved refuses what has changed, and what is none.
func TestRestoredIsWhatWasSaved(t *testing.T) {
	r, memory := savingRunner(t, Options{})
	if _, err := r.verifyRow(0, 0, r.verifyTokens(50, 50)); err != nil {
		t.Fatal(err)
	}
	small, err := r.Save(0, engine.Region{Size: 100})
	if taken, _ := memory.Taken(); err != nil || small.Size <= 100 || taken > 0 {
		t.Fatalf("in 100 bytes: %+v, %v, and %d bytes were taken", small, err, taken)
	}
	saved, err := r.Save(0, engine.Region{Size: small.Size})
	if err != nil || saved.Size != small.Size {
		t.Fatalf("%+v, %v", saved, err)
	}
	for name, region := range map[string]engine.Region{
		"beyond the memory": {At: 4 << 20, Size: 1 << 20},
		"before it":         {At: -64 << 10, Size: 1 << 20},
		"within a page":     {At: 100, Size: 1 << 20},
	} {
		if _, err := r.Save(0, region); err == nil {
			t.Errorf("saved %s", name)
		}
	}
	for _, seq := range []int{-1, 3, 1} { // the last one has no cells
		if s, err := r.Save(seq, engine.Region{At: 1 << 20, Size: 1 << 20}); err == nil && seq != 1 {
			t.Errorf("sequence %d was saved as %+v", seq, s)
		}
		if seq != 1 && r.Restore(seq, saved) == nil {
			t.Errorf("sequence %d was restored", seq)
		}
	}

	r.RemoveKV(0, 0)
	for _, at := range []int64{0, 10, saved.Size / 2, saved.Size - 1} {
		flip := func() {
			if err := memory.Write(0, saved.Size, func(b []byte) error { b[at] ^= 4; return nil }); err != nil {
				t.Fatal(err)
			}
		}
		flip()
		if err := r.Restore(0, saved); err == nil || r.ctx.LastPosition(0) != -1 {
			t.Errorf("with a changed byte %d, %d cells were restored", at, r.ctx.LastPosition(0)+1)
		}
		flip()
	}
	short := saved
	short.Size--
	if r.Restore(0, short) == nil {
		t.Error("a part was restored")
	}
	if err := r.Restore(0, saved); err != nil || r.ctx.LastPosition(0) != 49 {
		t.Errorf("what was saved: %v", err)
	}

	r.Discard(engine.Region{Size: 1 << 20}, engine.Region{})
	if taken, err := memory.Taken(); err != nil || taken > 1<<20 {
		t.Errorf("%d bytes are taken of what was discarded, %v", taken, err)
	}
	r.RemoveKV(0, 0)
	if r.Restore(0, saved) == nil {
		t.Error("what was discarded was restored")
	}
}

// TestSavedBetweenCopies saves a copy before a step has been computed, and restores into the sequence that was copied:
// copies of cells between buffers are made before either.
func TestSavedBetweenCopies(t *testing.T) {
	r, _ := savingRunner(t, Options{Threads: oneThread})
	tokens := r.verifyTokens(100, 100)
	other := slices.Clone(tokens)
	slices.Reverse(other)
	answer := func(seq int) [][]uint32 { return greedy(t, r, seq, 100, 7) }
	begin := func(seq int, tokens []engine.Token) {
		if _, err := r.verifyRow(seq, 0, tokens); err != nil {
			t.Fatal(err)
		}
	}
	save := func(seq int, at int64) engine.Saved {
		saved, err := r.Save(seq, engine.Region{At: at, Size: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return saved
	}
	restore := func(seq int, saved engine.Saved) {
		r.RemoveKV(seq, 0)
		if err := r.Restore(seq, saved); err != nil {
			t.Fatal(err)
		}
	}

	begin(0, other)
	elsewhere := save(0, 0)
	r.RemoveKV(0, 0)
	begin(0, tokens)
	r.CopyKV(0, 1)
	copied := save(1, 1<<20)
	want := answer(1)

	restore(1, copied)
	if !sameRows(answer(1), want) {
		t.Error("what was saved of a copy is something else")
	}
	r.CopyKV(0, 2)
	restore(0, elsewhere)
	if !sameRows(answer(2), want) {
		t.Error("a copy has what was restored into its source after it was made")
	}
}
