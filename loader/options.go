package loader

import (
	"errors"
	"strconv"

	"serve/engine/llama"
)

// DefaultContext is the context size that a plan starts with unless one is given, or fewer tokens if
// the model was trained for fewer. It is raised if memory allows.
const DefaultContext = 8192

// AutoKernels chooses CPU kernels by measuring them.
const AutoKernels = "auto"

// ModelOptions control the layout of a model in memory. They are plain data, passed to the
// engine's process as JSON. The plan chooses fields that are zero.
type ModelOptions struct {
	Context    int    // maximum tokens per request, prompt plus answer; 0 for as much of the model's own as fits
	Parallel   int    // requests processed at the same time
	Cells      int    // total KV cells; 0 for Context times Parallel, or what fits in memory
	KVType     string // data type of the KV cache: f16, q8_0 or q4_0
	KeyType    string // of its keys; KVType by default
	ValueType  string // of its values; KVType by default
	FlashAttn  string // on, off or auto
	Batch      int    // tokens of a step; 0 for 512
	MicroBatch int    // tokens of a step that are computed at once; 0 for Batch, at most 512
	Threads    int    // compute threads; 0 for one per physical core
	// BackendSampling says whether tokens are drawn on the device that computes the logits: on, off, or auto, on a GPU.
	// Empty is off.
	BackendSampling string
	Kernels         string // CPU kernels: AutoKernels, or a name

	RPC         []string // addresses of workers, whose devices are used beside this machine's
	GPULayers   Layers
	Devices     []string  // names of the GPUs to use, in order; none for the CPU alone; empty for all
	SplitMode   string    // llama.SplitLayer by default
	MainGPU     int       // of llama.SplitNone
	TensorSplit []float32 // proportions of the model on each GPU; empty to be chosen
	CPUExperts  Layers    // the first layers whose experts are in main memory; the zero value for as few as must
	AllExperts  bool      // the experts of all layers are
	Overrides   []llama.TensorOverride
	Limits      DeviceLimits // of devices' memory
	Reserve     Reserve

	NoMMap   bool   // read the file instead of mapping it
	Lock     bool   // keep weights from being swapped out
	NoRepack bool   // keep the CPU's weights as they are in the file
	NUMA     string // strategy for several memory nodes; empty for none
	// PrefixCache is the host memory for prefixes that lose their slots.
	PrefixCache CacheSize
	// PrefixFolder is where what is saved there is written; empty for nowhere. Its files take at most PrefixFolderSize.
	PrefixFolder     string
	PrefixFolderSize int64

	RoPE     llama.RoPE
	Metadata []llama.Metadata // in place of the file's
	// Reproducible makes answers that depend on nothing but their requests: on the CPU, with weights as they are in the
	// file and a buffer for each sequence.
	Reproducible bool
}

// Layers is a number of layers on the GPU; the zero value means as many as fit.
type Layers struct {
	Given bool
	N     int
}

// Texts of Layers: of the zero value, and of all layers.
const (
	autoLayers = "auto"
	allLayers  = "all"
)

// ParseLayers reads a number of layers, all or auto.
func ParseLayers(text string) (Layers, error) {
	switch text {
	case autoLayers:
		return Layers{}, nil
	case allLayers:
		return Layers{Given: true, N: -1}, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return Layers{}, errors.New("must be a number, all or auto")
	}
	return Layers{Given: true, N: n}, nil
}

// String returns what ParseLayers reads.
func (l Layers) String() string {
	switch {
	case !l.Given:
		return autoLayers
	case l.N < 0:
		return allLayers
	}
	return strconv.Itoa(l.N)
}

// cpuOnly reports whether GPUs must not be used.
func (o *ModelOptions) cpuOnly() bool {
	return o.GPULayers.Given && o.GPULayers.N == 0 || o.noDevices()
}

// reproducible adjusts the options to those that answers can be reproducible with, and refuses others.
func (o *ModelOptions) reproducible(gpus []llama.Device) error {
	switch {
	case !o.Reproducible:
		return nil
	case o.GPULayers.Given && o.GPULayers.N != 0:
		return badOption("--reproducible cannot be held on a GPU, whose sums depend on the batch; use --gpu-layers 0")
	case !o.GPULayers.Given && !o.noDevices() && len(gpus) > 0:
		return badOption("--reproducible cannot be held on a GPU, and %s is here; add --gpu-layers 0 to compute on the CPU",
			DescribeDevices(gpus))
	}
	o.GPULayers = Layers{Given: true}
	o.NoRepack = true
	return nil
}

// Reserve is the memory that a plan leaves free on each device; the zero value is the default.
type Reserve struct {
	Given bool
	Bytes uint64

	// More is what to leave free besides, by the device's name: one that ran out of memory has less than it says.
	More map[string]uint64 `json:",omitempty"`
}

// DefaultReserve is for other programs, for what drivers and allocators take beyond what they
// are asked for, and for the plan's error. llama.cpp leaves the same amount free on a card.
const DefaultReserve = 1 << 30

// smallDevice limits the default reserve to this fraction of a device: on a machine with
// 2 GiB, reserving 1 GiB would leave nothing to serve with.
const smallDevice = 8

// of returns the bytes to leave free on a device.
func (r Reserve) of(d llama.DeviceMemory) uint64 {
	more := r.More[d.Name]
	switch {
	case r.Given:
		return r.Bytes + more
	case d.Total > 0:
		return min(DefaultReserve, d.Total/smallDevice) + more
	}
	return DefaultReserve + more
}
