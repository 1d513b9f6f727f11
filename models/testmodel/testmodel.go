// Package testmodel writes small GGUF models of its own making, for tests: the
// weights come from a fixed seed, the vocabulary is a real SentencePiece one.
package testmodel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand"
	"os"
	"strings"
)

// Options shape a model; the zero value is a Llama of three layers.
type Options struct {
	Architecture string // llama; qwen3, which can be a reranker; or qwen2vl, which has M-RoPE; any other cannot be loaded
	Context      uint32 // tokens it is "trained" for, 1024
	ChatTemplate string // none
	Pooling      int    // llama.cpp's pooling type, written when positive
	Classes      int    // outputs of a reranker's head, written when positive
	// Sharpness scales the logits. The default makes the best token stand out far
	// beyond what the order of additions in a batch can change.
	Sharpness float32
	// Calm makes what was said before count for little. In another order of additions a
	// deep random model says something else soon; this one hardly ever.
	Calm bool
	// Attention is the deviation of what makes queries and keys, 0.4: nearly all of the
	// attention then goes to one token, and to another one after little change. With 0.1 it
	// goes to many, so that what changes little stays little.
	Attention float32
	// Hidden is the feed-forward's width, 128. 16384 makes a token take as long as a real
	// model's, 2 to 3 ms on two cores, and the file 40 MB.
	Hidden int
	// Width is the length of an embedding, 64. Some types need 256, for Hidden too.
	Width int
	// Type is how matrices are written: F32, or one of Types.
	Type string
	// Pre makes the vocabulary one of byte pairs, whose text is divided as llama.cpp divides it for this name. The
	// default is a vocabulary of SentencePiece.
	Pre string
	// Control are the texts of more control tokens, at the end of the vocabulary.
	Control []string
	// Dequantized writes the very values that Type has for the weights, as F32: a model
	// that says the same but for what kernels round.
	Dequantized bool
}

// Sizes of the model.
const (
	layers = 3
	width  = 64 // of an embedding, and of what a projector makes
	heads  = 4
	kv     = 2
)

// GGUF type numbers.
const (
	typeUint16 = 2
	typeUint32 = 4
	typeInt32  = 5
	typeFloat  = 6
	typeBool   = 7
	typeString = 8
	typeArray  = 9
)

// Token types of llama.cpp.
const (
	normal      = 1
	unknown     = 2
	control     = 3
	userDefined = 4
	byteToken   = 6
)

// ChatML is a chat template in the form of many.
const ChatML = `{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`

// Words are the vocabulary's own, each with a space before it and without.
var Words = strings.Fields(`
the a and of to in is it you that he was for on are with as his they be at one have this from or had by hot
but some what there we can out other were all your when up use word how said an each she which do their time
if will way about many then them would write like so these her long make thing see him two has look more day
could go come did my sound no most number who over know water than call first people may down side been now
find any new work part take get place made live where after back little only round man year came show every
good me give our under name very through just form great think say help low line before turn cause same mean
differ move right boy old too does tell sentence set three want air well also play small end put home read
hand port large spell add even land here must big high such follow act why ask men change went light kind off
need house picture try us again animal point mother world near build self earth father canary`)

// token is an entry of the vocabulary.
type token struct {
	text  string
	score float32
	kind  int32
}

func vocabulary() []token {
	v := []token{{"<unk>", 0, unknown}, {"<s>", 0, control}, {"</s>", 0, control}}
	for i := range 256 {
		v = append(v, token{fmt.Sprintf("<0x%02X>", i), 0, byteToken})
	}

	v = append(v, token{"<|im_start|>", 0, control}, token{"<|im_end|>", 0, control})
	seen := map[string]bool{}
	add := func(text string) {
		if !seen[text] {
			seen[text] = true
			v = append(v, token{text, -float32(len(v)), normal})
		}
	}

	// SentencePiece joins neighbors as long as the joined piece is in the
	// vocabulary, so every beginning of a word is one too.
	for _, w := range Words {
		for _, piece := range []string{"\u2581" + w, w} {
			runes := []rune(piece)
			for n := 2; n <= len(runes); n++ {
				add(string(runes[:n]))
			}
		}
	}

	add("\u2581")
	for c := '!'; c <= '~'; c++ {
		add(string(c))
	}

	return v
}

// merges are the byte pairs of a model with Options.Pre, as GPT-2 spells bytes.
var merges = []string{"a a", "aa aa", "t h", "th e", "Ġ a", "1 1", "Ġ Ġ", "! !", "Ã ©"}

// bytePairs puts the tokens of byte pairs in the place of those of SentencePiece. Control tokens stay.
func bytePairs(v []token) {
	other := rune(256) // spells the next byte that is not printable
	for b := range 256 {
		text := string(rune(b))
		if b <= ' ' || b >= 127 && b <= 160 || b == 173 {
			text = string(other)
			other++
		}
		v[3+b] = token{text, 0, normal}
	}

	next := 3 + 256
	for i := next; i < len(v); i++ {
		if v[i].kind == control {
			continue
		}
		v[i] = token{fmt.Sprintf("<unused%d>", i), 0, normal}
		if k := i - next - 2; k < len(merges) {
			v[i].text = strings.ReplaceAll(merges[k], " ", "")
		}
	}
}

// Write writes a model. The same options give the same bytes.
func Write(path string, o Options) error {
	return os.WriteFile(path, Bytes(o), 0o644)
}

// Bytes returns a model's file.
func Bytes(o Options) []byte {
	w := build(o)
	return gguf(w.keys, w.list)
}

// Split returns the same model in n files, as llama.cpp's gguf-split makes them:
// the first describes the model, each holds a share of the tensors.
func Split(o Options, n int) [][]byte {
	w := build(o)
	files := make([][]byte, n)
	for i := range files {
		var keys keys
		if i == 0 {
			keys = w.keys
		}
		keys.key("split.no", typeUint16)
		put(&keys.b, uint16(i))
		keys.key("split.count", typeUint16)
		put(&keys.b, uint16(n))
		keys.key("split.tensors.count", typeInt32)
		put(&keys.b, int32(len(w.list)))
		files[i] = gguf(keys, w.list[i*len(w.list)/n:(i+1)*len(w.list)/n])
	}
	return files
}

func build(o Options) *writer {
	if o.Architecture == "" {
		o.Architecture = "llama"
	}
	if o.Context == 0 {
		o.Context = 1024
	}
	if o.Sharpness == 0 {
		o.Sharpness = 1
	}
	if o.Attention == 0 {
		o.Attention = 0.4
	}
	if o.Hidden == 0 {
		o.Hidden = 128
	}
	if o.Width == 0 {
		o.Width = width
	}
	if o.Type == "" {
		o.Type = F32
	}
	f, ok := formats[o.Type]
	if !ok {
		panic("no type of weights: " + o.Type)
	}

	v := vocabulary()
	for _, text := range o.Control {
		v = append(v, token{text, 0, control})
	}
	w := &writer{rng: rand.New(rand.NewSource(42)), format: f, dequantized: o.Dequantized}
	w.metadata(o, v)
	w.tensors(o, len(v))
	return w
}

// writer gathers a model.
type writer struct {
	keys
	list []tensor
	rng  *rand.Rand

	format      format // of matrices
	dequantized bool
}

// keys are the metadata of a GGUF file.
type keys struct {
	b bytes.Buffer
	n uint64
}

// tensor is one of a model: its shape, ggml's number of its type, and its bytes.
type tensor struct {
	name string
	dims []int
	kind uint32
	size int
	data []byte
}

func (w *writer) metadata(o Options, v []token) {
	a := o.Architecture + "."
	w.sizes(o.Architecture, w.fileType(), o.Context, Shape{
		Layers:     layers,
		Width:      o.Width,
		Hidden:     o.Hidden,
		Heads:      heads,
		HeadsKV:    kv,
		Vocabulary: len(v),
	})
	if o.Architecture == "qwen2vl" {
		w.array(a+"rope.dimension_sections", typeInt32, 4, func(b *bytes.Buffer) {
			for _, n := range []int32{2, 3, 3, 0} {
				put(b, n)
			}
		})
	}

	if o.Pooling > 0 {
		w.uint(a+"pooling_type", uint32(o.Pooling))
	}

	if o.Classes > 0 {
		w.array(a+"classifier.output_labels", typeString, o.Classes, func(b *bytes.Buffer) {
			for i := range o.Classes {
				putString(b, fmt.Sprint("label ", i))
			}
		})
	}

	w.vocabulary(v, o.Pre)
	if o.ChatTemplate != "" {
		w.str("tokenizer.chat_template", o.ChatTemplate)
	}
}

// sizes are the metadata of a model's shape.
func (w *writer) sizes(architecture string, file, context uint32, s Shape) {
	a := architecture + "."
	w.str("general.architecture", architecture)
	w.str("general.name", "serve test model")
	w.uint("general.alignment", 32)
	w.uint("general.file_type", file)
	w.uint(a+"context_length", context)
	w.uint(a+"embedding_length", uint32(s.Width))
	w.uint(a+"block_count", uint32(s.Layers))
	w.uint(a+"feed_forward_length", uint32(s.Hidden))
	w.uint(a+"attention.head_count", uint32(s.Heads))
	w.uint(a+"attention.head_count_kv", uint32(s.HeadsKV))
	w.uint(a+"rope.dimension_count", uint32(s.Width/s.Heads))
	w.uint(a+"vocab_size", uint32(s.Vocabulary))
	w.float(a+"attention.layer_norm_rms_epsilon", 1e-5)
}

func (w *writer) vocabulary(v []token, pre string) {
	model := "llama"
	if pre != "" {
		model = "gpt2"
		w.str("tokenizer.ggml.pre", pre)
		bytePairs(v)
		w.array("tokenizer.ggml.merges", typeString, len(merges), func(b *bytes.Buffer) {
			for _, m := range merges {
				putString(b, m)
			}
		})
	}

	w.str("tokenizer.ggml.model", model)
	w.array("tokenizer.ggml.tokens", typeString, len(v), func(b *bytes.Buffer) {
		for _, t := range v {
			putString(b, t.text)
		}
	})
	w.array("tokenizer.ggml.scores", typeFloat, len(v), func(b *bytes.Buffer) {
		for _, t := range v {
			put(b, t.score)
		}
	})
	w.array("tokenizer.ggml.token_type", typeInt32, len(v), func(b *bytes.Buffer) {
		for _, t := range v {
			put(b, t.kind)
		}
	})
	w.uint("tokenizer.ggml.unknown_token_id", 0)
	w.uint("tokenizer.ggml.bos_token_id", 1)
	w.uint("tokenizer.ggml.eos_token_id", 2)
	w.uint("tokenizer.ggml.padding_token_id", 0)
	w.uint("tokenizer.ggml.seperator_token_id", 2) // so spelt in the format
	w.key("tokenizer.ggml.add_bos_token", typeBool)
	w.b.WriteByte(1)
}

// fileType is llama.cpp's number of what most tensors are.
func (w *writer) fileType() uint32 {
	if w.dequantized {
		return formats[F32].file
	}
	return w.format.file
}

func (w *writer) tensors(o Options, vocab int) {
	head := o.Width / heads
	attention := float32(0.2)
	if o.Calm {
		attention = 0.02
	}

	// A sum of more products has a greater deviation, unless they are smaller.
	narrow := float32(math.Sqrt(width / float64(o.Width)))
	attention *= narrow

	w.tensor("token_embd.weight", 1, o.Width, vocab)
	w.tensor("output_norm.weight", 0, o.Width)
	w.tensor("output.weight", o.Sharpness*narrow, o.Width, vocab)
	for i := range layers {
		p := fmt.Sprintf("blk.%d.", i)
		w.tensor(p+"attn_norm.weight", 0, o.Width)
		w.tensor(p+"attn_q.weight", o.Attention*narrow, o.Width, o.Width)
		w.tensor(p+"attn_k.weight", o.Attention*narrow, o.Width, kv*head)
		if o.Architecture == "qwen3" {
			w.tensor(p+"attn_q_norm.weight", 0, head)
			w.tensor(p+"attn_k_norm.weight", 0, head)
		}
		w.tensor(p+"attn_v.weight", attention, o.Width, kv*head)
		w.tensor(p+"attn_output.weight", attention, o.Width, o.Width)
		w.tensor(p+"ffn_norm.weight", 0, o.Width)
		w.tensor(p+"ffn_gate.weight", 0.15*narrow, o.Width, o.Hidden)
		w.tensor(p+"ffn_up.weight", 0.15*narrow, o.Width, o.Hidden)
		w.tensor(p+"ffn_down.weight", 0.1*float32(math.Sqrt(128/float64(o.Hidden))), o.Hidden, o.Width)
	}
	if o.Classes > 0 {
		w.tensor("cls.output.weight", 0.3*narrow, o.Width, o.Classes)
	}
}

// tensor adds a tensor of normal values of the deviation, or of ones for 0.
func (w *writer) tensor(name string, deviation float32, dims ...int) {
	n := 1
	for _, d := range dims {
		n *= d
	}
	values := make([]float32, n)
	for i := range values {
		values[i] = 1
		if deviation > 0 {
			values[i] = float32(w.rng.NormFloat64()) * deviation
		}
	}

	f := formats[F32]
	if len(dims) == 2 {
		if dims[0]%w.format.elements != 0 {
			panic(fmt.Sprintf("rows of %d do not fill blocks of %d: %s", dims[0], w.format.elements, name))
		}
		f = w.format
	}
	data := f.encode(values)
	if w.dequantized {
		data = formats[F32].encode(f.decode(data))
		f = formats[F32]
	}
	w.list = append(w.list, tensor{name, dims, f.kind, len(data), data})
}

// gguf puts a file together.
func gguf(k keys, list []tensor) []byte {
	b := head(k, list)
	for _, t := range list {
		b.Write(t.data)
		pad(b)
	}
	return b.Bytes()
}

// head is a file up to its tensors' bytes, each of which begins at a multiple of 32.
func head(k keys, list []tensor) *bytes.Buffer {
	var b bytes.Buffer
	b.WriteString("GGUF")
	put(&b, uint32(3))
	put(&b, uint64(len(list)))
	put(&b, k.n)
	b.Write(k.b.Bytes())

	at := 0
	for _, t := range list {
		putString(&b, t.name)
		put(&b, uint32(len(t.dims)))
		for _, d := range t.dims {
			put(&b, uint64(d))
		}
		put(&b, t.kind)
		put(&b, uint64(at))
		at += t.size + padding(t.size)
	}
	pad(&b)
	return &b
}

func (k *keys) key(key string, kind uint32) {
	putString(&k.b, key)
	put(&k.b, kind)
	k.n++
}

func (k *keys) str(key, value string) {
	k.key(key, typeString)
	putString(&k.b, value)
}

func (k *keys) uint(key string, value uint32) {
	k.key(key, typeUint32)
	put(&k.b, value)
}

func (k *keys) float(key string, value float32) {
	k.key(key, typeFloat)
	put(&k.b, value)
}

func (k *keys) array(key string, kind uint32, n int, elements func(*bytes.Buffer)) {
	k.key(key, typeArray)
	put(&k.b, kind)
	put(&k.b, uint64(n))
	elements(&k.b)
}

func putString(b *bytes.Buffer, s string) {
	put(b, uint64(len(s)))
	b.WriteString(s)
}

func put(b *bytes.Buffer, v any) {
	if err := binary.Write(b, binary.LittleEndian, v); err != nil {
		panic(err) // v has no fixed size: a defect of this file
	}
}

func pad(b *bytes.Buffer) { b.Write(make([]byte, padding(b.Len()))) }

// padding is how many bytes after n come before the next tensor.
func padding(n int) int { return (32 - n%32) % 32 }
