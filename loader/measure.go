package loader

import (
	"fmt"
	"strings"

	"serve/engine/llama"
	"serve/machine"
)

// maxMeasured is the most KV cells that are laid out only to measure them: llama.cpp takes
// seconds for many millions.
const maxMeasured = 1 << 20

// What a driver's context takes for each process: of the card 580 to 592 MiB on an H100 and an H200 when a model has
// computed there, and 200 to 700 MB by what others report (llama.cpp#21692); of the host 115 to 135 MiB.
const (
	contextMemory     = 592 << 20
	contextHostMemory = 120 << 20
)

// What a process that computes takes besides what llama.cpp lays out. Most of it are pages of the
// program, which the system maps in pieces of its own choice: as many as this process has, which
// has just laid out the model with it, within what was seen. The rest are Go's runtime, stacks, a
// chat template, graphs, and what allocators keep: 9 to 20 MiB (Linux on x86-64, two threads).
const (
	leastProgram = 32 << 20
	mostProgram  = 72 << 20
	runtimeOwn   = 16 << 20
)

func processMemory() uint64 {
	return min(max(machine.ResidentFiles(), leastProgram), mostProgram) + runtimeOwn
}

// measureFunc computes the memory that a model with options would take.
type measureFunc func(llama.Options) (*llama.Memory, error)

// measure is llama.Measure with what it does not see: the process, the context on a card, and
// what the system lets us have. room is the host's free memory, 0 if unknown. What many cells take
// follows from what fewer do.
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

// addContext counts a context. To ask such a driver what is free opens one: what it says is less
// by that already.
func addContext(d *llama.DeviceMemory) {
	d.Base = contextMemory
	if known(*d) {
		d.Free += contextMemory
	}
}
