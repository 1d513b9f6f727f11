package loader

import "serve/engine/llama"

// DefaultContext is what a plan begins with unless a context was asked for: so many tokens, or fewer if
// the model was trained for fewer. It becomes more where memory allows.
const DefaultContext = 8192

// AutoKernels leaves the choice of the CPU's kernels to a measurement.
const AutoKernels = "auto"

// ModelOptions say how a model is laid out in memory. They are plain data, which crosses to
// the engine's process as JSON. What is zero is chosen by the plan.
type ModelOptions struct {
	Context   int    // tokens of a request, prompt and answer; 0 for as much of the model's own as fits
	Parallel  int    // requests answered at the same time
	Cells     int    // KV cells in all; 0 for Context times Parallel, or what fits in memory
	KVType    string // of keys and values in the KV cache: f16, q8_0 or q4_0
	Threads   int    // that compute; 0 for one per physical core
	Kernels   string // of the CPU; AutoKernels, or a name
	GPULayers Layers
	NoMMap    bool // read the file instead of mapping it
	NoRepack  bool // keep the CPU's weights as they are in the file
	Reserve   Reserve
}

// Layers is a number of layers on the GPU; the zero value is as many as fit.
type Layers struct {
	Given bool
	N     int
}

// cpuOnly reports whether GPUs are to be left alone.
func (o *ModelOptions) cpuOnly() bool { return o.GPULayers.Given && o.GPULayers.N == 0 }

// Reserve is the memory that a plan leaves free on each device; the zero value is the default.
type Reserve struct {
	Given bool
	Bytes uint64
}

// DefaultReserve is for other programs, for what drivers and allocators take besides what they
// are asked for, and for the error of the plan. llama.cpp leaves as much on a card.
const DefaultReserve = 1 << 30

// smallDevice is the part of a device that is reserved at most, unless a size was asked for: on
// a machine of 2 GiB a whole one would leave nothing to serve with.
const smallDevice = 8

// of returns what stays free on a device.
func (r Reserve) of(d llama.DeviceMemory) uint64 {
	switch {
	case r.Given:
		return r.Bytes
	case d.Total > 0:
		return min(DefaultReserve, d.Total/smallDevice)
	}
	return DefaultReserve
}
