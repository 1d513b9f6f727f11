package loader

import (
	"fmt"
	"strings"

	"serve/engine/llama"
	"serve/machine"
)

// maxMeasured is the maximum number of KV cells to lay out for a measurement: llama.cpp takes
// seconds for many millions.
const maxMeasured = 1 << 20

// Memory of a driver's context for each process: on the card 580 to 592 MiB on an H100 and an H200 after a model has
// computed there, and 200 to 700 MB according to others (llama.cpp#21692); on the host 115 to 175 MiB.
const (
	contextMemory     = 592 << 20
	contextHostMemory = 160 << 20
)

// Memory of an engine's process beyond what llama.cpp lays out. Most of it is pages of the program,
// which the system maps in pieces of its own choice: estimated by those of this process, which has
// just laid out the model, within the observed range. The rest is Go's runtime, stacks, a chat
// template, graphs, and memory kept by allocators: 9 to 20 MiB (Linux on x86-64, two threads).
const (
	leastProgram = 32 << 20
	mostProgram  = 72 << 20
	runtimeOwn   = 16 << 20
)

func processMemory() uint64 {
	return min(max(machine.ResidentFiles(), leastProgram), mostProgram) + runtimeOwn
}

// measureFunc computes the memory that a model would take with the options.
type measureFunc func(llama.Options) (*llama.Memory, error)

// measure is llama.Measure plus what it does not see: the process, the context on a card, and the
// system's limits. room is the host's free memory, 0 if unknown. The memory of very many cells is
// extrapolated from fewer.
func measure(path string, lo llama.Options, room uint64) (*llama.Memory, error) {
	scale := 1.0
	if cells := lo.Context * lo.Sequences; lo.Cells == 0 && cells > maxMeasured {
		lo.Context = maxMeasured / lo.Sequences
		scale = float64(cells) / float64(lo.Context*lo.Sequences)
	}

	m, err := llama.Measure(path, lo)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModel, err)
	}
	host := m.Host()
	for i := range m.Devices {
		d := &m.Devices[i]
		d.KV = uint64(float64(d.KV) * scale)
		d.Compute = uint64(float64(d.Compute) * scale)
		if hasContext(d) {
			addContext(d)
			host.Base += contextHostMemory
		}
	}

	host.Base += processMemory()
	if limit := machine.MemoryLimit(); limit > 0 {
		host.Total = min(host.Total, limit)
	}
	if now := machine.FreeMemory(); now > 0 {
		host.Free = now
	}
	if room > 0 {
		host.Free = min(host.Free, room)
	}
	return m, nil
}

// hasContext reports whether a device's driver keeps a context for each process: those of
// ggml's CUDA code do.
func hasContext(d *llama.DeviceMemory) bool {
	for _, driver := range []string{"CUDA", "ROCm", "MUSA"} {
		if strings.HasPrefix(d.Name, driver) {
			return true
		}
	}
	return false
}

// addContext adds the memory of a context. Asking such a driver for its free memory opens one, so
// the reported free memory is already less by that.
func addContext(d *llama.DeviceMemory) {
	d.Base = contextMemory
	if known(*d) {
		d.Free += contextMemory
	}
}
