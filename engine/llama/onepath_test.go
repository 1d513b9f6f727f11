package llama

import (
	"errors"
	"math"
	"slices"
	"testing"

	"serve/engine"
)

// onePathRows are the tokens whose logits TestOnePath compares: beyond the 512 cells from which on ggml divides
// attention among threads, and the 64 rows from which on it computes it in tiles.
const onePathRows = 520

// logitsIn computes a sequence in pieces of so many tokens, beside others, and returns the logits at some positions.
func logitsIn(t *testing.T, m *Model, piece, crowd int, on bool) (logits [][]float32) {
	t.Helper()
	o := ContextOptions{Cells: 768 * crowd, Sequences: crowd, Batch: 128, Threads: oneThread}
	c := newContext(t, m, o)
	if !c.onePath(on) {
		t.Fatal("a device other than the processor computes")
	}

	wanted := func(i int) bool { return i%130 == 129 || i == onePathRows-1 }
	for at := 0; at < onePathRows; at += piece {
		var b engine.Batch
		last := min(at+piece, onePathRows)
		for seq := range crowd {
			for i := at; i < last; i++ {
				b.Add(engine.Token(270+(i*7+seq*31)%200), i, seq, seq == 0 && wanted(i))
			}
		}
		if err := c.Decode(&b); err != nil {
			t.Fatal(err)
		}
		for i := at; i < last; i++ {
			if !wanted(i) {
				continue
			}
			l, err := c.Logits(i - at)
			if err != nil {
				t.Fatal(err)
			}
			logits = append(logits, l)
		}
	}
	return logits
}

func sameBits(a, b [][]float32) bool {
	return slices.EqualFunc(a, b, func(a, b []float32) bool {
		return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
	})
}

// TestOnePath computes a sequence token by token, in pieces, and beside others: on one path its logits have the same
// bits, with the kernels of every processor that this one can take the part of.
func TestOnePath(t *testing.T) {
	others := 0
	for _, weights := range []string{"F16", "Q8_0", "Q4_K"} {
		path := write(t, quantized(weights))
		t.Run(weights, func(t *testing.T) {
			useAll(t, func(t *testing.T) {
				m, err := LoadModel(path, LoadOptions{NoRepack: true, CPUOnly: true})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(m.Close)
				if !m.plain() {
					t.Error("the weights are not as in the file")
				}
				want := logitsIn(t, m, 1, 1, true)
				if !sameBits(logitsIn(t, m, 128, 1, true), want) {
					t.Error("logits in pieces of 128 tokens are others")
				}
				if !sameBits(logitsIn(t, m, 13, 2, true), want) {
					t.Error("logits in pieces of 13 tokens, beside another sequence, are others")
				}
				if !sameBits(logitsIn(t, m, 128, 1, false), want) {
					others++
				}
			})
		})
	}
	if others == 0 {
		t.Error("without one path the logits are the same: the test is too easy")
	}
}

// TestVerifyReproducible finds out what can be reproducible: not what shares a buffer, nor what is packed.
func TestVerifyReproducible(t *testing.T) {
	path := write(t, quantized("Q4_K"))
	options := func(packed bool, cells int, wanted bool) Options {
		return Options{
			Model:   LoadOptions{NoRepack: !packed, CPUOnly: true},
			Context: 256, Sequences: 4, Threads: oneThread, Cells: cells, Reproducible: wanted,
		}
	}
	for name, tt := range map[string]struct {
		packed bool
		cells  int
		can    bool
	}{
		"as in the file": {can: true},
		"packed":         {packed: true},
		"one buffer":     {cells: 512},
	} {
		for _, wanted := range []bool{false, true} {
			r, err := Load(path, options(tt.packed, tt.cells, wanted))
			if err != nil {
				t.Fatal(err)
			}
			if plain := r.model.plain(); tt.packed && plain {
				t.Skip("these kernels pack no weights")
			}
			err = Verify(r, false)
			if refused := errors.Is(err, ErrNotReproducible); refused != (wanted && !tt.can) || err != nil && !refused {
				t.Errorf("%s, wanted %t: %v", name, wanted, err)
			}
			if can := r.Limits().Reproducible; can != tt.can {
				t.Errorf("%s: reproducible %t", name, can)
			}
			r.Close()
		}
	}
}
