package llama

// #include "shim.h"
import "C"

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Ways to split a model among GPUs.
const (
	SplitNone   = "none"   // one GPU has all
	SplitLayer  = "layer"  // each has some layers, with their KV cells; the default
	SplitRow    = "row"    // each has some rows of matrices
	SplitTensor = "tensor" // each has a part of every tensor, and of the KV cells
)

var splitModes = map[string]int{SplitNone: 0, SplitLayer: 1, "": 1, SplitRow: 2, SplitTensor: 3}

// CPU names the processor's memory in a TensorOverride.
const CPU = "CPU"

// Placement says what computes a model, and where its tensors lie; the zero value splits layers among all GPUs, by
// their free memory.
type Placement struct {
	Devices     []string         `json:",omitempty"` // names of the GPUs, in order; empty for all
	SplitMode   string           `json:",omitempty"`
	MainGPU     int              `json:",omitempty"` // the GPU of SplitNone, by its index
	TensorSplit []float32        `json:",omitempty"` // proportions of the model on each GPU
	Overrides   []TensorOverride `json:",omitempty"` // the first whose pattern matches a tensor's name counts
	Metadata    []Metadata       `json:",omitempty"` // in place of the file's
}

// TensorOverride places the tensors whose names match a pattern, a regular expression, in a device's memory.
type TensorOverride struct {
	Pattern string
	Device  string // its name, or CPU
}

// Types of metadata.
const (
	MetadataInt   = "int"
	MetadataFloat = "float"
	MetadataBool  = "bool"
	MetadataText  = "str"
)

// Metadata is a value in place of the file's.
type Metadata struct {
	Key   string
	Type  string
	Value string // as it was given
}

// Parse returns the value: int64, float64, bool or string.
func (m Metadata) Parse() (any, error) {
	var v any
	var err error
	switch m.Type {
	case MetadataInt:
		v, err = strconv.ParseInt(m.Value, 10, 64)
	case MetadataFloat:
		v, err = strconv.ParseFloat(m.Value, 64)
	case MetadataBool:
		v, err = strconv.ParseBool(m.Value)
	case MetadataText:
		v = m.Value
	default:
		return nil, fmt.Errorf("%s has the type %q, not int, float, bool or str", m.Key, m.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %q is not of type %s", m.Key, m.Value, m.Type)
	}
	return v, nil
}

// placementParams is what C reads, as JSON.
type placementParams struct {
	Devices   []string         `json:"devices"`
	Mode      int              `json:"mode"`
	MainGPU   int              `json:"main_gpu"`
	Split     []float32        `json:"split"`
	Overrides []overrideParams `json:"overrides"`
	Metadata  []map[string]any `json:"metadata"` // key, type, and the value under the type's name
}

type overrideParams struct {
	Pattern string `json:"pattern"`
	Device  string `json:"device"`
}

// params returns the JSON that C reads; nil for the zero value.
func (p Placement) params() ([]byte, error) {
	mode, ok := splitModes[p.SplitMode]
	if !ok {
		return nil, fmt.Errorf("a model is split by none, layer, row or tensor, not %q", p.SplitMode)
	}
	zero := len(p.Devices)+len(p.TensorSplit)+len(p.Overrides)+len(p.Metadata) == 0
	if zero && mode == splitModes[SplitLayer] {
		return nil, nil
	}
	if len(p.TensorSplit) > int(C.serve_max_devices()) {
		return nil, fmt.Errorf("there are at most %d devices, not %d", int(C.serve_max_devices()), len(p.TensorSplit))
	}

	q := placementParams{
		Devices:   append([]string{}, p.Devices...),
		Mode:      mode,
		MainGPU:   p.MainGPU,
		Split:     append([]float32{}, p.TensorSplit...),
		Overrides: []overrideParams{},
		Metadata:  []map[string]any{},
	}
	for _, o := range p.Overrides {
		q.Overrides = append(q.Overrides, overrideParams(o))
	}
	for _, m := range p.Metadata {
		v, err := m.Parse()
		if err != nil {
			return nil, err
		}
		q.Metadata = append(q.Metadata, map[string]any{"key": m.Key, "type": m.Type, m.Type: v})
	}
	return json.Marshal(q)
}

// RoPE scales rotary embeddings, so that a model can read more than it was trained for; zero values are the model's.
type RoPE struct {
	Scaling    string  `json:",omitempty"` // none, linear or yarn
	FreqBase   float64 `json:",omitempty"`
	FreqScale  float64 `json:",omitempty"` // expands the context by 1/FreqScale
	YaRNOrig   int     `json:",omitempty"` // tokens that the model was trained for before it was scaled
	ExtFactor  Factor
	AttnFactor Factor
	BetaFast   Factor
	BetaSlow   Factor
}

// Factor is a number that may be 0; the zero value is the model's.
type Factor struct {
	Given bool
	N     float64
}

// c returns llama.cpp's value, which is negative for the model's own.
func (f Factor) c() C.float {
	if !f.Given {
		return -1
	}
	return C.float(f.N)
}

var ropeScalings = map[string]C.int32_t{"": -1, "none": 0, "linear": 1, "yarn": 2}

// RoPEScalings are the ways of scaling.
func RoPEScalings() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(ropeScalings)), func(name string) bool { return name == "" })
}

// set sets the parameters of a context.
func (r RoPE) set(params *C.serve_context_params) error {
	scaling, ok := ropeScalings[r.Scaling]
	if !ok {
		return fmt.Errorf("rotary embeddings are scaled by none, linear or yarn, not %q", r.Scaling)
	}
	params.rope_scaling = scaling
	params.rope_freq_base = C.float(r.FreqBase)
	params.rope_freq_scale = C.float(r.FreqScale)
	params.yarn_ext_factor = r.ExtFactor.c()
	params.yarn_attn_factor = r.AttnFactor.c()
	params.yarn_beta_fast = r.BetaFast.c()
	params.yarn_beta_slow = r.BetaSlow.c()
	params.yarn_orig_ctx = C.uint32_t(r.YaRNOrig)
	return nil
}

// Strategies of UseNUMA, by ggml's numbers.
var numaStrategies = map[string]C.int32_t{"distribute": 1, "isolate": 2, "numactl": 3}

// UseNUMA has compute threads pinned to the processors of nodes of memory by a strategy: distribute, isolate or
// numactl. It is called once, before a model is loaded and after UseKernels.
func UseNUMA(strategy string) error {
	n, ok := numaStrategies[strategy]
	if !ok {
		return fmt.Errorf("there is no NUMA strategy %q", strategy)
	}
	initialize()
	C.serve_numa(n)
	return nil
}
