// Package fittest has the shapes of well-known models, for tests: their headers, and files of them without contents.
package fittest

import (
	"fmt"
	"slices"

	"serve/models"
)

// ggml's numbers of types.
const (
	f32   = 0
	f16   = 1
	q8    = 8
	q4K   = 12
	q6K   = 14
	mxfp4 = 39
)

// Model is a model without weights.
type Model struct {
	Name    string
	Values  []Value // of the header, in order
	Tensors []models.Tensor
	// Projector is how many bytes its projector for images has.
	Projector uint64
}

// Value is a value of a header: uint32, float32, bool, string or []uint32.
type Value struct {
	Key string
	V   any
}

// shape has the sizes that most models have.
type shape struct {
	name, arch              string
	layers, width, ff       int
	heads, headsKV, head    int
	vocabulary, context     int
	kind                    uint32 // of matrices
	tied, qkNorm            bool
	experts, used, ffExpert int
	expertKind              uint32
	shared                  int // width of the shared experts
	dense                   int // layers with a dense feed-forward network before those with experts
	extra                   []Value
	projector               uint64
}

// All has ten models: dense ones from small to large, with experts, with images, with a sliding window, and one most of
// whose layers are recurrent.
func All() []*Model {
	return []*Model{
		shape{name: "Llama 3.2 1B", arch: "llama", layers: 16, width: 2048, ff: 8192, heads: 32, headsKV: 8, head: 64,
			vocabulary: 128256, context: 131072, kind: q4K, tied: true}.model(),
		shape{name: "Llama 3.1 8B", arch: "llama", layers: 32, width: 4096, ff: 14336, heads: 32, headsKV: 8, head: 128,
			vocabulary: 128256, context: 131072, kind: q4K}.model(),
		shape{name: "Qwen2.5-VL 7B", arch: "qwen2vl", layers: 28, width: 3584, ff: 18944, heads: 28, headsKV: 4, head: 128,
			vocabulary: 152064, context: 128000, kind: q4K, projector: 1354 << 20,
			extra: []Value{{"qwen2vl.rope.dimension_sections", []uint32{16, 24, 24, 0}}}}.model(),
		shape{name: "Gemma 3 12B", arch: "gemma3", layers: 48, width: 3840, ff: 15360, heads: 16, headsKV: 8, head: 256,
			vocabulary: 262144, context: 131072, kind: q4K, tied: true, qkNorm: true, projector: 854 << 20,
			extra: []Value{{"gemma3.attention.sliding_window", uint32(1024)}}}.model(),
		shape{name: "Mistral Small 24B", arch: "llama", layers: 40, width: 5120, ff: 32768, heads: 32, headsKV: 8, head: 128,
			vocabulary: 131072, context: 32768, kind: q4K}.model(),
		shape{name: "Llama 3.3 70B", arch: "llama", layers: 80, width: 8192, ff: 28672, heads: 64, headsKV: 8, head: 128,
			vocabulary: 128256, context: 131072, kind: q4K}.model(),
		shape{name: "Qwen3 30B-A3B", arch: "qwen3moe", layers: 48, width: 2048, ff: 6144, heads: 32, headsKV: 4, head: 128,
			vocabulary: 151936, context: 40960, kind: q4K, expertKind: q4K, qkNorm: true,
			experts: 128, used: 8, ffExpert: 768}.model(),
		shape{name: "gpt-oss 120B", arch: "gpt-oss", layers: 36, width: 2880, ff: 2880, heads: 64, headsKV: 8, head: 64,
			vocabulary: 201088, context: 131072, kind: q8, expertKind: mxfp4,
			experts: 128, used: 4, ffExpert: 2880,
			extra: []Value{{"gpt-oss.attention.sliding_window", uint32(128)}}}.model(),
		granite("Granite 4.0 H Small", 40, 5, 15, 25, 35),
		deepSeek(),
	}
}

// model builds the header and the tensors.
func (s shape) model() *Model {
	m := &Model{Name: s.name, Projector: s.projector}
	m.header(s)
	m.Values = append(m.Values, s.extra...)
	m.outside(s)
	for i := range s.layers {
		m.attention(s, i)
		m.feedForward(s, i)
	}
	m.layOut()
	return m
}

// header adds the values that llama.cpp needs of every model.
func (m *Model) header(s shape) {
	add := func(key string, v any) { m.Values = append(m.Values, Value{key, v}) }
	a := s.arch + "."
	add("general.architecture", s.arch)
	add("general.name", s.name)
	add(a+"block_count", uint32(s.layers))
	add(a+"context_length", uint32(s.context))
	add(a+"embedding_length", uint32(s.width))
	add(a+"feed_forward_length", uint32(s.ff))
	add(a+"attention.head_count", uint32(s.heads))
	if s.headsKV > 0 {
		add(a+"attention.head_count_kv", uint32(s.headsKV))
	}
	add(a+"attention.key_length", uint32(s.head))
	add(a+"attention.value_length", uint32(s.head))
	add(a+"attention.layer_norm_rms_epsilon", float32(1e-6))
	add(a+"rope.freq_base", float32(1e6))
	add(a+"vocab_size", uint32(s.vocabulary))
	add("tokenizer.ggml.model", "no_vocab")
	if s.experts > 0 {
		add(a+"expert_count", uint32(s.experts))
		add(a+"expert_used_count", uint32(s.used))
		add(a+"expert_feed_forward_length", uint32(s.ffExpert))
	}
}

// tensor adds a tensor.
func (m *Model) tensor(name string, kind uint32, dims ...int) {
	t := models.Tensor{Name: name, Type: kind}
	elements := uint64(1)
	for _, d := range dims {
		t.Dims = append(t.Dims, uint64(d))
		elements *= uint64(d)
	}
	per, bytes, ok := models.BlockSize(kind)
	if !ok || t.Dims[0]%per != 0 {
		panic(fmt.Sprintf("%s has rows of %d elements of type %d", name, dims[0], kind))
	}
	t.Bytes = elements / per * bytes
	m.Tensors = append(m.Tensors, t)
}

// outside adds what is in no layer.
func (m *Model) outside(s shape) {
	kind := s.kind
	if s.tied {
		kind = q6K
	}
	m.tensor("token_embd.weight", kind, s.width, s.vocabulary)
	m.tensor("output_norm.weight", f32, s.width)
	if !s.tied {
		output := uint32(q6K)
		if s.width%256 != 0 {
			output = q8
		}
		m.tensor("output.weight", output, s.width, s.vocabulary)
	}
}

// attention adds a layer's attention.
func (m *Model) attention(s shape, layer int) {
	p := fmt.Sprintf("blk.%d.", layer)
	q := s.heads * s.head
	kv := s.headsKV * s.head
	m.tensor(p+"attn_norm.weight", f32, s.width)
	m.tensor(p+"attn_q.weight", s.kind, s.width, q)
	m.tensor(p+"attn_k.weight", s.kind, s.width, kv)
	m.tensor(p+"attn_v.weight", s.kind, s.width, kv)
	m.tensor(p+"attn_output.weight", s.kind, q, s.width)
	if s.qkNorm {
		m.tensor(p+"attn_q_norm.weight", f32, s.head)
		m.tensor(p+"attn_k_norm.weight", f32, s.head)
	}

	switch s.arch {
	case "qwen2vl":
		m.tensor(p+"attn_q.bias", f32, q)
		m.tensor(p+"attn_k.bias", f32, kv)
		m.tensor(p+"attn_v.bias", f32, kv)
	case "gemma3":
		m.tensor(p+"post_attention_norm.weight", f32, s.width)
		m.tensor(p+"post_ffw_norm.weight", f32, s.width)
	case "gpt-oss":
		m.tensor(p+"post_attention_norm.weight", f32, s.width)
		m.tensor(p+"attn_q.bias", f32, q)
		m.tensor(p+"attn_k.bias", f32, kv)
		m.tensor(p+"attn_v.bias", f32, kv)
		m.tensor(p+"attn_output.bias", f32, s.width)
		m.tensor(p+"attn_sinks.weight", f32, s.heads)
	}
}

// feedForward adds a layer's feed-forward network, or its experts.
func (m *Model) feedForward(s shape, layer int) {
	p := fmt.Sprintf("blk.%d.", layer)
	if s.arch != "gpt-oss" {
		m.tensor(p+"ffn_norm.weight", f32, s.width)
	}
	if s.experts == 0 || layer < s.dense {
		m.tensor(p+"ffn_gate.weight", s.kind, s.width, s.ff)
		m.tensor(p+"ffn_up.weight", s.kind, s.width, s.ff)
		m.tensor(p+"ffn_down.weight", s.kind, s.ff, s.width)
		return
	}

	m.tensor(p+"ffn_gate_inp.weight", f32, s.width, s.experts)
	m.tensor(p+"ffn_gate_exps.weight", s.expertKind, s.width, s.ffExpert, s.experts)
	m.tensor(p+"ffn_up_exps.weight", s.expertKind, s.width, s.ffExpert, s.experts)
	m.tensor(p+"ffn_down_exps.weight", s.expertKind, s.ffExpert, s.width, s.experts)
	if s.shared > 0 {
		m.tensor(p+"ffn_gate_shexp.weight", s.kind, s.width, s.shared)
		m.tensor(p+"ffn_up_shexp.weight", s.kind, s.width, s.shared)
		m.tensor(p+"ffn_down_shexp.weight", s.kind, s.shared, s.width)
	}
	if s.arch == "gpt-oss" {
		m.tensor(p+"ffn_gate_inp.bias", f32, s.experts)
		m.tensor(p+"ffn_gate_exps.bias", f32, s.ffExpert, s.experts)
		m.tensor(p+"ffn_up_exps.bias", f32, s.ffExpert, s.experts)
		m.tensor(p+"ffn_down_exps.bias", f32, s.width, s.experts)
	}
}

// Hybrid has two of the layers of Granite 4.0 H Small: llama.cpp allocates the states of a model even to lay it out,
// and those of all layers take it half a minute.
func Hybrid() *Model { return granite("two layers of Granite 4.0 H Small", 2, 1) }

// granite is Granite 4.0 H Small: a few of its layers have attention, the others keep a state.
func granite(name string, layers int, attention ...int) *Model {
	s := shape{name: name, arch: "granitehybrid", layers: layers, width: 4096, ff: 768, heads: 32, headsKV: 0,
		head: 128, vocabulary: 100352, context: 131072, kind: q4K, expertKind: q4K, experts: 72, used: 10, ffExpert: 768,
		shared: 1536, tied: true}
	const (
		inner  = 8192
		state  = 128
		ranks  = 128
		groups = 1
		conv   = 4
	)
	m := &Model{Name: s.name}
	m.header(s)
	headsKV := make([]uint32, s.layers)
	for _, i := range attention {
		headsKV[i] = 8
	}
	a := s.arch + "."
	m.Values = append(m.Values, Value{a + "attention.head_count_kv", headsKV},
		Value{a + "ssm.conv_kernel", uint32(conv)}, Value{a + "ssm.inner_size", uint32(inner)},
		Value{a + "ssm.state_size", uint32(state)}, Value{a + "ssm.time_step_rank", uint32(ranks)},
		Value{a + "ssm.group_count", uint32(groups)}, Value{a + "expert_shared_feed_forward_length", uint32(s.shared)})

	m.outside(s)
	for i := range s.layers {
		if slices.Contains(attention, i) {
			s.headsKV = 8
			m.attention(s, i)
		} else {
			p := fmt.Sprintf("blk.%d.", i)
			m.tensor(p+"attn_norm.weight", f32, s.width)
			m.tensor(p+"ssm_in.weight", s.kind, s.width, 2*inner+2*groups*state+ranks)
			m.tensor(p+"ssm_conv1d.weight", f32, conv, inner+2*groups*state)
			m.tensor(p+"ssm_conv1d.bias", f32, inner+2*groups*state)
			m.tensor(p+"ssm_dt.bias", f32, ranks)
			m.tensor(p+"ssm_a", f32, 1, ranks)
			m.tensor(p+"ssm_d", f32, 1, ranks)
			m.tensor(p+"ssm_norm.weight", f32, inner/groups, groups)
			m.tensor(p+"ssm_out.weight", s.kind, inner, s.width)
		}
		m.feedForward(s, i)
	}
	m.layOut()
	return m
}

// deepSeek is DeepSeek V3: its cells have a compressed form of keys and values.
func deepSeek() *Model {
	s := shape{name: "DeepSeek V3 671B", arch: "deepseek2", layers: 61, width: 7168, ff: 18432, heads: 128, headsKV: 1,
		vocabulary: 129280, context: 163840, kind: q4K, expertKind: q4K, experts: 256, used: 8, ffExpert: 2048,
		shared: 2048, dense: 3}
	const (
		loraQ  = 1536
		loraKV = 512
		rope   = 64
		nope   = 128
		value  = 128
	)
	m := &Model{Name: s.name}
	s.head = loraKV + rope
	m.header(s)
	for i := range m.Values {
		if m.Values[i].Key == "deepseek2.attention.value_length" {
			m.Values[i].V = uint32(loraKV)
		}
	}
	a := s.arch + "."
	m.Values = append(m.Values, Value{a + "attention.q_lora_rank", uint32(loraQ)},
		Value{a + "attention.kv_lora_rank", uint32(loraKV)}, Value{a + "attention.key_length_mla", uint32(nope + rope)},
		Value{a + "attention.value_length_mla", uint32(value)}, Value{a + "leading_dense_block_count", uint32(s.dense)},
		Value{a + "expert_shared_count", uint32(1)}, Value{a + "expert_gating_func", uint32(2)},
		Value{a + "expert_weights_scale", float32(2.5)}, Value{a + "rope.dimension_count", uint32(rope)})

	m.outside(s)
	for i := range s.layers {
		p := fmt.Sprintf("blk.%d.", i)
		m.tensor(p+"attn_norm.weight", f32, s.width)
		m.tensor(p+"attn_q_a_norm.weight", f32, loraQ)
		m.tensor(p+"attn_kv_a_norm.weight", f32, loraKV)
		m.tensor(p+"attn_q_a.weight", s.kind, s.width, loraQ)
		m.tensor(p+"attn_q_b.weight", s.kind, loraQ, s.heads*(nope+rope))
		m.tensor(p+"attn_kv_a_mqa.weight", s.kind, s.width, loraKV+rope)
		m.tensor(p+"attn_k_b.weight", q8, nope, loraKV, s.heads)
		m.tensor(p+"attn_v_b.weight", q8, loraKV, value, s.heads)
		m.tensor(p+"attn_output.weight", s.kind, s.heads*value, s.width)
		m.feedForward(s, i)
	}
	m.layOut()
	return m
}
