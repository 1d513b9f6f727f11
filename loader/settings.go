package loader

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"serve/engine/llama"
	"serve/fit"
	"serve/machine"
	"serve/models"
)

// noDevice is the value of --device that leaves GPUs alone.
const noDevice = "none"

// Limit is the memory that may be taken of a device at most.
type Limit struct {
	Device string // empty for each GPU
	Bytes  uint64
}

// DeviceLimits are the limits of devices' memory.
type DeviceLimits []Limit

// of returns the most that may be taken of a device, 0 for no limit. One that names the device counts more.
func (l DeviceLimits) of(d llama.DeviceMemory) (bytes uint64) {
	for _, limit := range l {
		switch {
		case limit.Device == d.Name:
			return limit.Bytes
		case limit.Device == "" && d.Type != "cpu":
			bytes = limit.Bytes
		}
	}
	return bytes
}

// typeOfKeys and typeOfValues are the data types of the KV cache's parts.
func (o *ModelOptions) typeOfKeys() string   { return cmp.Or(o.KeyType, o.KVType) }
func (o *ModelOptions) typeOfValues() string { return cmp.Or(o.ValueType, o.KVType) }

// DescribeKVType names the data types of the KV cache.
func (o *ModelOptions) DescribeKVType() string {
	k := o.typeOfKeys()
	v := o.typeOfValues()
	if k == v {
		return k
	}
	return k + " keys and " + v + " values"
}

// check refuses options that contradict each other, and those that llama.cpp would end the process for.
func (o *ModelOptions) check() error {
	switch {
	case slices.Contains(o.Devices, noDevice) && len(o.Devices) > 1:
		return badOption("--device none is for the CPU alone; it cannot be in a list of GPUs")
	case o.noDevices() && o.GPULayers.Given && o.GPULayers.N != 0:
		return badOption("--gpu-layers %s needs a GPU, and --device none leaves them alone", o.GPULayers)
	case o.MainGPU > 0 && o.SplitMode != llama.SplitNone:
		return badOption("--main-gpu chooses the GPU of --split-mode none; with --split-mode %s all GPUs have a part",
			cmp.Or(o.SplitMode, llama.SplitLayer))
	case o.MainGPU > 0 && len(o.Devices) > 0 && o.MainGPU >= len(o.Devices):
		return badOption("--main-gpu %d: --device names only %d, which are counted from 0", o.MainGPU, len(o.Devices))
	case len(o.TensorSplit) > 0 && o.SplitMode == llama.SplitNone:
		return badOption("--tensor-split divides a model, and --split-mode none does not")
	case len(o.TensorSplit) > 0 && len(o.Devices) > 0 && len(o.TensorSplit) != len(o.Devices):
		return badOption("--tensor-split has %d proportions for the %d GPUs of --device", len(o.TensorSplit), len(o.Devices))
	case o.AllExperts && o.CPUExperts.Given:
		return badOption("--cpu-moe keeps all experts in main memory, and --n-cpu-moe %s those of some layers; "+
			"give one of them", o.CPUExperts)
	case o.FlashAttn == "off" && o.typeOfValues() != "f16" && o.typeOfValues() != "":
		return badOption("--flash-attn off needs values in f16: %s values are read by flash attention only", o.typeOfValues())
	case o.Batch > 0 && o.Batch < o.Parallel:
		return badOption("--batch-size %d is too small for a token of each of %d requests (--parallel)", o.Batch, o.Parallel)
	case o.MicroBatch > max(o.Batch, mostAtOnce) || o.Batch > 0 && o.MicroBatch > o.Batch:
		return badOption("--ubatch-size %d is more than a step has (--batch-size)", o.MicroBatch)
	case o.Reproducible && len(o.Devices) > 0 && !o.noDevices():
		return badOption("--reproducible cannot be held on a GPU, whose sums depend on the batch; use --device none")
	}
	if err := o.checkRPC(); err != nil {
		return err
	}
	return o.checkTensorMode()
}

// checkTensorMode refuses what llama.cpp has no implementation for where each GPU has a part of every tensor.
func (o *ModelOptions) checkTensorMode() error {
	if o.SplitMode != llama.SplitTensor {
		return nil
	}
	switch {
	case o.FlashAttn == "off":
		return badOption("--split-mode tensor needs flash attention, and --flash-attn is off")
	case o.typeOfKeys() != "f16" || o.typeOfValues() != "f16":
		return badOption("--split-mode tensor needs KV cells in f16, not in %s", o.DescribeKVType())
	case o.CPUExperts.Given && o.CPUExperts.N > 0 || o.AllExperts:
		return badOption("--split-mode tensor cannot keep experts in main memory (--n-cpu-moe, --cpu-moe): llama.cpp crashes")
	case o.BackendSampling == "on":
		return badOption("--split-mode tensor has no --backend-sampling: the CPU draws tokens there")
	case len(o.Overrides) > 0:
		return badOption("--split-mode tensor places every tensor itself, so --override-tensor has no place for it")
	}
	return nil
}

// noDevices reports whether --device says that no GPU is to be used.
func (o *ModelOptions) noDevices() bool { return len(o.Devices) == 1 && o.Devices[0] == noDevice }

// checkDevices refuses devices that a process does not have.
func (o *ModelOptions) checkDevices(gpus []llama.Device) error {
	if o.noDevices() {
		return nil
	}
	have := func(name string) bool {
		return slices.ContainsFunc(gpus, func(d llama.Device) bool { return d.Name == name })
	}
	list := "there is no GPU"
	if len(gpus) > 0 {
		list = "there is " + DescribeDevices(gpus)
	}

	for _, name := range o.Devices {
		if !have(name) {
			return badOption("--device %s: %s", name, list)
		}
	}
	for _, override := range o.Overrides {
		if override.Device != llama.CPU && !have(override.Device) {
			return badOption("--override-tensor %s=%s: a tensor lies in the memory of the CPU or of a GPU, and %s",
				override.Pattern, override.Device, list)
		}
	}
	for _, limit := range o.Limits {
		if limit.Device != "" && limit.Device != "host" && !have(limit.Device) {
			return badOption("--device-memory %s: %s", limit.Device, list)
		}
	}
	used := len(gpus)
	if len(o.Devices) > 0 {
		used = len(o.Devices)
	}
	if used > 0 && len(o.TensorSplit) > used {
		return badOption("--tensor-split has %d proportions for %d GPUs", len(o.TensorSplit), used)
	}
	if used > 0 && o.MainGPU >= used {
		return badOption("--main-gpu %d: there are %d GPUs, which are counted from 0", o.MainGPU, used)
	}
	return o.checkSplit(gpus)
}

// checkSplit refuses a way to split models that the GPUs' backends do not have.
func (o *ModelOptions) checkSplit(gpus []llama.Device) error {
	if o.SplitMode == llama.SplitTensor && len(gpus) == 0 && !o.cpuOnly() {
		return badOption("--split-mode tensor needs a GPU, and there is none")
	}
	if o.SplitMode != llama.SplitRow || o.cpuOnly() {
		return nil
	}
	for _, d := range gpus {
		if !strings.HasPrefix(d.Name, "SYCL") {
			return badOption("--split-mode row: llama.cpp has it for SYCL only, not for %s; use layer or tensor", d.Name)
		}
	}
	return nil
}

// checkHost refuses what the process that loads models must be able to do, and is not.
func (o *ModelOptions) checkHost(local *models.Local, isolated bool) error {
	if o.NUMA != "" && isolated {
		return badOption("--numa pins threads, which the engine's sandbox forbids: use it with --isolate=false, or start " +
			"serve under numactl, whose policy engines inherit")
	}
	if len(o.RPC) > 0 && !isolated {
		return badOption("--rpc needs an engine's process, since llama.cpp ends it when a device is lost; leave out " +
			"--isolate=false")
	}
	if o.Lock {
		var weights uint64
		for _, f := range local.Weights {
			weights += uint64(max(f.Size, 0))
		}
		if limit := machine.LockLimit(); weights > limit {
			return badOption("--mlock: this user may lock %s of memory, and %s has %s of weights; raise the limit "+
				"(ulimit -l unlimited, or LimitMEMLOCK=infinity for systemd)", machine.FormatSize(limit), local.Name,
				machine.FormatSize(weights))
		}
	}
	return nil
}

// replaceMetadata puts the values of --override-kv into a header.
func (o *ModelOptions) replaceMetadata(h *models.Header) error {
	for _, m := range o.Metadata {
		v, err := m.Parse()
		if err == nil {
			err = h.Replace(m.Key, v)
		}
		if err != nil {
			return badOption("--override-kv %s=%s:%s: %v", m.Key, m.Type, m.Value, err)
		}
	}
	return nil
}

// placement returns what is asked for of where a model lies.
func (o *ModelOptions) placement() llama.Placement {
	p := llama.Placement{
		SplitMode:   o.SplitMode,
		MainGPU:     o.MainGPU,
		TensorSplit: o.TensorSplit,
		Overrides:   slices.Clone(o.Overrides),
		Metadata:    o.Metadata,
	}
	if !o.noDevices() {
		p.Devices = o.Devices
	}

	var layers []int // nil for all
	switch {
	case o.AllExperts:
	case o.CPUExperts.Given && o.CPUExperts.N > 0:
		for i := range min(o.CPUExperts.N, maxModelLayers) {
			layers = append(layers, i)
		}
	default:
		return p
	}
	experts := llama.TensorOverride{Pattern: layersPattern(layers, fit.ExpertTensors), Device: llama.CPU}
	p.Overrides = append(p.Overrides, experts)
	return p
}

// maxModelLayers is more than any model has layers.
const maxModelLayers = 1024

// placed reports whether it was said where tensors lie, so that no others are to be moved.
func (o *ModelOptions) placed() bool {
	return o.AllExperts || o.CPUExperts.Given || len(o.Overrides) > 0
}

// layersPattern returns a pattern for tensors of some layers; of all for nil.
func layersPattern(layers []int, tensors string) string {
	if layers == nil {
		return `^blk\.\d+` + tensors
	}
	var numbers []string
	for _, n := range layers {
		numbers = append(numbers, fmt.Sprint(n))
	}
	return `^blk\.(` + strings.Join(numbers, "|") + ")" + tensors
}
