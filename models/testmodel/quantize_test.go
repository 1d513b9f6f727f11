package testmodel

import (
	"math"
	"math/rand"
	"slices"
	"testing"
)

// TestFormats writes values in each format and reads them again.
func TestFormats(t *testing.T) {
	// The error's mean square, over that of the values.
	most := map[string]float64{
		F32: 0, "F16": 1e-7, "Q8_0": 1e-4, "Q4_0": 1e-2, "Q4_1": 1e-2,
		"Q4_K": 1e-2, "Q5_K": 2e-3, "Q6_K": 1e-3, "IQ4_XS": 1e-2, "MXFP4": 2e-2,
	}
	rng := rand.New(rand.NewSource(1))
	for _, name := range append([]string{F32}, Types...) {
		f := formats[name]
		x := make([]float32, 4096)
		for i := range x {
			// Groups of another size and another middle, so that a scale of a neighbor shows.
			x[i] = float32(rng.NormFloat64()*(1+float64(i/16%7)) + float64(i/32%5))
		}

		data := f.encode(x)
		if want := len(x) / f.elements * f.bytes; len(data) != want {
			t.Errorf("%s: %d bytes, want %d", name, len(data), want)
		}

		var errors, squares float64
		y := f.decode(data)
		for i := range x {
			errors += math.Pow(float64(y[i]-x[i]), 2)
			squares += math.Pow(float64(x[i]), 2)
		}
		if e := errors / squares; !(e <= most[name]) {
			t.Errorf("%s: the error is %.2g of the values, more than %g", name, e, most[name])
		}

		zeros := f.decode(f.encode(make([]float32, 256)))
		if slices.ContainsFunc(zeros, func(v float32) bool { return v != 0 }) {
			t.Errorf("%s: zeros become %v", name, zeros)
		}
	}
}

// TestHalf rounds to and from every float16, and between neighbors.
func TestHalf(t *testing.T) {
	for h := range uint16(0x7c00) {
		v := float64(fromHalf(h))
		next := float64(fromHalf(h + 1))
		if got := half(float32(v)); got != h {
			t.Fatalf("%#x is %g, which becomes %#x", h, v, got)
		}
		if got := half(float32(-v)); got != h|0x8000 && h != 0 {
			t.Fatalf("%#x is %g, which becomes %#x when negative", h, v, got)
		}
		if h == 0x7bff {
			break // the next is infinite
		}

		for at, want := range map[float64]uint16{0.25: h, 0.5: h + h&1, 0.75: h + 1} {
			if got := half(float32(v + at*(next-v))); got != want {
				t.Fatalf("%g of the way from %#x to the next becomes %#x, want %#x", at, h, got, want)
			}
		}
	}

	for v, want := range map[float64]uint16{
		65504: 0x7bff, 65519: 0x7bff, 65520: 0x7c00, 1e10: 0x7c00, math.Inf(-1): 0xfc00, math.NaN(): 0x7e00,
		math.Copysign(0, -1): 0x8000, 1: 0x3c00, -2: 0xc000,
	} {
		if got := half(float32(v)); got != want {
			t.Errorf("%g becomes %#x, want %#x", v, got, want)
		}
	}

	if v := fromHalf(0xfc00); !math.IsInf(float64(v), -1) {
		t.Errorf("0xfc00 is %g", v)
	}
	if v := fromHalf(0x7e00); v == v {
		t.Errorf("0x7e00 is %g", v)
	}
}

// TestDequantized writes the weights' very values.
func TestDequantized(t *testing.T) {
	for _, name := range Types {
		o := Options{Width: 256, Hidden: 256, Type: name}
		quantized := build(o)
		o.Dequantized = true
		plain := build(o)
		for i, q := range quantized.list {
			p := plain.list[i]
			f := formats[name]
			if len(q.dims) == 1 {
				f = formats[F32]
			}
			if q.kind != f.kind || p.kind != formats[F32].kind || q.name != p.name {
				t.Fatalf("%s: %s has type %d, %s %d", name, q.name, q.kind, p.name, p.kind)
			}
			if !slices.Equal(f.decode(q.data), formats[F32].decode(p.data)) {
				t.Errorf("%s: %s has other values", name, q.name)
			}
		}
	}
}
