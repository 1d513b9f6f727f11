package testmodel

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
)

// Shape is the size of a Llama.
type Shape struct {
	Layers     int
	Width      int // of an embedding
	Hidden     int // width of the feed-forward
	Heads      int
	HeadsKV    int
	Vocabulary int  // tokens
	Tied       bool // the output layer is the table of embeddings
}

// Shapes are those of real models, by what they are called, and a tiny one for rehearsals.
var Shapes = map[string]Shape{
	"tiny": {Layers: 2, Width: 256, Hidden: 512, Heads: 4, HeadsKV: 2, Vocabulary: 4096},
	"160m": {Layers: 12, Width: 768, Hidden: 3072, Heads: 12, HeadsKV: 12, Vocabulary: 32000},
	"1b":   {Layers: 16, Width: 2048, Hidden: 8192, Heads: 32, HeadsKV: 8, Vocabulary: 128256, Tied: true},
	"8b":   {Layers: 32, Width: 4096, Hidden: 14336, Heads: 32, HeadsKV: 8, Vocabulary: 128256},
}

const (
	shapeContext   = 32768  // tokens that such a model is "trained" for
	shapeRope      = 500000 // the base of its rotations
	shapeDeviation = 0.02   // of its weights
)

// WriteShape writes a model in Q4_K_M that computes as much as a real one of its shape, and says nothing: for
// measurements. Its tensors are pieces of one series of random blocks, so that it is written as fast as the disk
// writes. The same shape gives the same bytes.
func WriteShape(path string, s Shape) (err error) {
	w := shaped(s)
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()

	out := bufio.NewWriterSize(file, 1<<20)
	if _, err := head(w.keys, w.list).WriteTo(out); err != nil {
		return err
	}
	noise := newNoise()
	for i, t := range w.list {
		if err := noise.write(out, i, t); err != nil {
			return err
		}
	}
	return out.Flush()
}

// shaped is a model whose tensors have sizes and no bytes.
func shaped(s Shape) *writer {
	const (
		norm   = F32
		most   = "Q4_K" // what Q4_K_M mostly is
		better = "Q6_K"
	)
	v := vocabulary()
	for i := len(v); i < s.Vocabulary; i++ {
		v = append(v, token{fmt.Sprintf("<unused%d>", i), -float32(i), normal})
	}

	w := &writer{}
	w.sizes("llama", formats[most].file, shapeContext, s)
	w.float("llama.rope.freq_base", shapeRope)
	w.vocabulary(v, "")
	w.str("tokenizer.chat_template", ChatML)

	embeddings := most
	if s.Tied {
		embeddings = better
	}
	kv := s.Width / s.Heads * s.HeadsKV
	w.sized("token_embd.weight", embeddings, s.Width, len(v))
	for i := range s.Layers {
		kind := most
		if moreBits(i, s.Layers) {
			kind = better
		}
		p := fmt.Sprintf("blk.%d.", i)
		w.sized(p+"attn_norm.weight", norm, s.Width)
		w.sized(p+"attn_q.weight", most, s.Width, s.Width)
		w.sized(p+"attn_k.weight", most, s.Width, kv)
		w.sized(p+"attn_v.weight", kind, s.Width, kv)
		w.sized(p+"attn_output.weight", most, s.Width, s.Width)
		w.sized(p+"ffn_norm.weight", norm, s.Width)
		w.sized(p+"ffn_gate.weight", most, s.Width, s.Hidden)
		w.sized(p+"ffn_up.weight", most, s.Width, s.Hidden)
		w.sized(p+"ffn_down.weight", kind, s.Hidden, s.Width)
	}
	w.sized("output_norm.weight", norm, s.Width)
	if !s.Tied {
		w.sized("output.weight", better, s.Width, len(v))
	}
	return w
}

// moreBits reports whether Q4_K_M has Q6_K for some tensors of a layer: the first and last eighths, and every third.
func moreBits(layer, layers int) bool {
	first := layers / 8
	return layer < first || layer >= 7*layers/8 || (layer-first)%3 == 2
}

// sized adds a tensor without its bytes.
func (w *writer) sized(name, kind string, dims ...int) {
	n := 1
	for _, d := range dims {
		n *= d
	}
	f := formats[kind]
	w.list = append(w.list, tensor{name: name, dims: dims, kind: f.kind, size: n / f.elements * f.bytes})
}

// noise has random blocks in the formats of Q4_K_M, and ones as F32.
type noise struct {
	series map[uint32]series
	zeros  [32]byte
}

// series are blocks of so many bytes each.
type series struct {
	block int
	data  []byte
}

func newNoise() *noise {
	const blocks = 8191  // a prime, so that each stride visits all of them
	const elements = 256 // of a block, but of F32's
	values := make([]float32, blocks*elements)
	ones := make([]float32, blocks)
	rng := rand.New(rand.NewSource(7))
	for i := range values {
		values[i] = float32(rng.NormFloat64()) * shapeDeviation
	}
	for i := range ones {
		ones[i] = 1
	}

	n := &noise{series: map[uint32]series{}}
	for _, name := range []string{"Q4_K", "Q6_K"} {
		n.series[formats[name].kind] = series{formats[name].bytes, formats[name].encode(values)}
	}
	n.series[formats[F32].kind] = series{formats[F32].bytes, formats[F32].encode(ones)}
	return n
}

// write writes the bytes of a model's tensor. Each begins elsewhere in the series, so that no two are alike, and passes
// over it with another stride each time, so that no two of its rows are alike: the logits of two tokens would be, too,
// and neither would be the more probable one.
func (n *noise) write(out io.Writer, index int, t tensor) error {
	const apart = 1009 // blocks
	s := n.series[t.kind]
	blocks := len(s.data) / s.block
	at := index * apart % blocks
	for i := range t.size / s.block {
		if _, err := out.Write(s.data[at*s.block:][:s.block]); err != nil {
			return err
		}
		stride := 1 + i/blocks%(blocks-1)
		at = (at + stride) % blocks
	}
	_, err := out.Write(n.zeros[:padding(t.size)])
	return err
}
