// Package fit decides where a model lies on a machine: which layers on which device, which experts in main memory, and
// how many KV cells there are. It is pure: it plans with what a model's header says and with estimates of the rest, so
// that it can plan for machines that nobody has. What a plan really takes is measured before it is used (package
// loader).
package fit

import (
	"regexp"
	"strconv"
	"strings"

	"serve/models"
)

// Model is what a plan needs to know of a model. Sizes are in bytes.
type Model struct {
	Architecture string
	Layers       []Layer
	Input        uint64 // the table of embeddings and the like, which stay in main memory
	Output       uint64 // what comes after the last layer
	Copied       uint64 // of Input, to the GPU that computes the output
	Away         uint64 // of what stays in main memory though layers are on GPUs: the bytes that a token reads
	Projector    uint64 // for images, on the first device
	Train        int    // tokens that the model was trained for, 0 if unknown

	Width      int     // of an embedding
	Inner      int     // of the widest intermediate result, for one token
	Vocabulary int     // tokens
	Used       float64 // the part of a layer's experts that a token uses
}

// Layer is one layer of a model.
type Layer struct {
	Rest    uint64 // attention, norms, what is neither of the following
	FFN     uint64 // matrices of the feed-forward network
	Experts uint64 // matrices of the experts
	Largest uint64 // tensor of FFN or Experts

	K, V  int    // elements of a KV cell
	State uint64 // of a sequence, in layers that keep a state instead of cells
}

// weights are all of a layer's.
func (l *Layer) weights() uint64 { return l.Rest + l.FFN + l.Experts }

// Names of tensors that can lie in main memory while their layer is computed on a GPU, as llama.cpp matches them.
const (
	ExpertTensors = `\.ffn_(up|down|gate|gate_up)_(ch|)exps`
	FFNTensors    = `\.ffn_(up|down|gate)\.`
)

var (
	expertTensors = regexp.MustCompile(ExpertTensors)
	ffnTensors    = regexp.MustCompile(FFNTensors)
)

// ModelOf returns what the header of a model says, with the tensors of all of its files. Those that away reports are in
// main memory whatever is planned; nil for none.
func ModelOf(h *models.Header, tensors []models.Tensor, away func(name string) bool) *Model {
	arch := h.Architecture()
	m := &Model{
		Architecture: arch,
		Layers:       make([]Layer, min(h.Uint(arch+".block_count"), 1<<14)),
		Train:        h.TrainContext(),
		Width:        int(h.Uint(arch + ".embedding_length")),
	}
	used := h.Uint(arch + ".expert_used_count")
	if all := h.Uint(arch + ".expert_count"); all > 0 {
		m.Used = float64(used) / float64(all)
	}

	shapes := map[string][]uint64{}
	for _, t := range tensors {
		shapes[t.Name] = t.Dims
		if away != nil && away(t.Name) {
			m.keepAway(t)
		} else {
			m.add(t, used)
		}
	}
	if table, ok := shapes["token_embd.weight"]; ok && len(table) > 1 {
		m.Vocabulary = int(table[1])
		if _, own := shapes["output.weight"]; !own {
			m.Copied = bytesOf(tensors, "token_embd.weight")
		}
	}

	for i := range m.Layers {
		m.Layers[i].addCells(shapes, "blk."+strconv.Itoa(i)+".")
		if shapes["blk."+strconv.Itoa(i)+".ssm_conv1d.weight"] != nil {
			m.Layers[i].State = stateOf(h)
		}
	}
	return m
}

// KV returns the bytes of the cells and states of all sequences.
func (m *Model) KV(s Settings) (sum uint64) {
	p := planner{model: m, s: s}
	_, cells := p.cells()
	for i := range m.Layers {
		sum += p.kv(i, cells)
	}
	return sum
}

// Placed returns the plan of a model that was placed by others: its last layers are on these GPUs, as many as llama.cpp
// counts them; negative for all. Only what it chooses and what it costs can be asked of it.
func (m *Model) Placed(layers int, on []Device) *Plan {
	n := len(m.Layers)
	if layers >= 0 {
		n = min(n, max(0, layers-1))
	}
	plan := &Plan{Layers: n, Of: len(m.Layers), PerStep: m.Away}
	if len(on) == 0 {
		plan.Layers = 0
		return plan
	}
	for i := range on {
		plan.Devices = append(plan.Devices, Share{Device: on[i].Name})
		if !on[i].Known() {
			plan.Unknown = append(plan.Unknown, on[i].Name)
		}
	}
	p := planner{model: m}
	for _, l := range m.Layers[:len(m.Layers)-n] {
		plan.PerStep += l.Rest + l.FFN + p.usedOf(l.Experts)
	}
	return plan
}

func bytesOf(tensors []models.Tensor, name string) uint64 {
	for _, t := range tensors {
		if t.Name == name {
			return t.Bytes
		}
	}
	return 0
}

// add adds a tensor of a model of whose experts so many are used.
func (m *Model) add(t models.Tensor, used uint64) {
	layer := layerOf(t.Name)
	switch {
	case layer < 0 && strings.HasPrefix(t.Name, "output"), layer < 0 && !strings.Contains(t.Name, "token_embd"):
		m.Output += t.Bytes
		return
	case layer < 0:
		m.Input += t.Bytes
		return
	case layer >= len(m.Layers):
		return // of layers that are not computed, such as those for predicting several tokens
	}

	l := &m.Layers[layer]
	rows := 0
	if len(t.Dims) > 1 {
		rows = int(t.Dims[1])
	}
	switch {
	case expertTensors.MatchString(t.Name):
		l.Experts += t.Bytes
		l.Largest = max(l.Largest, t.Bytes)
		rows *= int(used)
	case ffnTensors.MatchString(t.Name):
		l.FFN += t.Bytes
		l.Largest = max(l.Largest, t.Bytes)
	default:
		l.Rest += t.Bytes
	}
	if strings.HasSuffix(t.Name, ".weight") {
		m.Inner = max(m.Inner, rows)
	}
}

// keepAway adds a tensor that stays in main memory.
func (m *Model) keepAway(t models.Tensor) {
	m.Input += t.Bytes
	switch {
	case layerOf(t.Name) < 0:
	case expertTensors.MatchString(t.Name):
		m.Away += uint64(float64(t.Bytes) * m.Used)
	default:
		m.Away += t.Bytes
	}
}

// layerOf returns the layer in a tensor's name, -1 for none.
func layerOf(name string) int {
	rest, ok := strings.CutPrefix(name, "blk.")
	if !ok {
		return -1
	}
	number, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(number)
	if err != nil {
		return -1
	}
	return n
}

// addCells sets what a cell has, by the shapes of the tensors that make keys and values.
func (l *Layer) addCells(shapes map[string][]uint64, prefix string) {
	rows := func(name string) int {
		if dims := shapes[prefix+name+".weight"]; len(dims) > 1 {
			return int(dims[1])
		}
		return 0
	}

	switch {
	case rows("attn_k") > 0:
		l.K = rows("attn_k")
		l.V = rows("attn_v")
		if l.V == 0 {
			l.V = l.K
		}
	case rows("attn_qkv") > 0 && len(shapes[prefix+"attn_output.weight"]) > 0:
		both := max(0, rows("attn_qkv")-int(shapes[prefix+"attn_output.weight"][0]))
		l.K = both / 2
		l.V = both / 2
	case rows("attn_kv_a_mqa") > 0:
		l.K = rows("attn_kv_a_mqa") // values are a part of it
	}
}

// stateOf returns the bytes that a layer keeps of a sequence, in models after Mamba.
func stateOf(h *models.Header) uint64 {
	of := func(key string) uint64 { return min(h.Uint(h.Architecture()+".ssm."+key), 1<<20) }
	inner := of("inner_size")
	state := of("state_size")
	before := max(of("conv_kernel"), 1) - 1
	return 4 * (before*(inner+2*of("group_count")*state) + inner*state)
}
