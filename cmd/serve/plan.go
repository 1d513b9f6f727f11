package main

import (
	"cmp"
	"fmt"
	"strconv"

	"serve/engine/llama"
	"serve/server"
)

const (
	// defaultContext is the most tokens a sequence gets unasked: long contexts cost
	// memory that few requests use.
	defaultContext = 8192
	// headroom is the part of the free memory that a plan may take. The rest is for
	// the server itself and for what its estimate cannot see.
	headroom = 0.92
)

// measureFunc computes the memory that a model with options would take.
type measureFunc func(llama.Options) (*llama.Memory, error)

// planMemory decides how a model is loaded, before it is: the layers on the GPU
// and the KV cells. What was asked for is kept or refused, with numbers; only
// what was left open is adapted, if shrink allows it, and the plan says how.
// Without room the error is a server.NoRoomError.
func planMemory(o modelOptions, projector string, trainContext int, shrink bool, measure measureFunc) (llama.Options, *llama.Memory, error) {
	lo := llama.Options{Sequences: o.parallel, Threads: cmp.Or(o.threads, llama.Threads()), KVType: o.kvType, Cells: o.kvCells, Projector: projector}
	lo.Model.NoMMap = o.noMMap
	switch {
	case o.ctxSize > 0:
		lo.Context = o.ctxSize
	case trainContext > 0:
		lo.Context = min(trainContext, defaultContext)
	default:
		lo.Context = defaultContext
	}
	if lo.Cells > 0 && lo.Cells < lo.Context {
		return lo, nil, fmt.Errorf("%w: --kv-cells %d has no room for one context of %d", errUsage, lo.Cells, lo.Context)
	}
	memory, err := placeLayers(o.gpuLayers, &lo, measure)
	if err != nil {
		return lo, nil, err
	}
	if short := shortOf(memory); short == nil || o.kvCells > 0 || !shrink {
		return lo, memory, noRoom(short, lo)
	}
	if err := shareCells(&lo, memory); err != nil {
		return lo, memory, err
	}
	if memory, err = measure(lo); err != nil {
		return lo, nil, err
	}
	return lo, memory, noRoom(shortOf(memory), lo)
}

// placeLayers sets the number of layers on GPUs: as asked, or the most that fit.
func placeLayers(asked string, lo *llama.Options, measure measureFunc) (*llama.Memory, error) {
	if asked != "auto" {
		n, err := strconv.Atoi(asked)
		if err != nil {
			return nil, fmt.Errorf("%w: --gpu-layers %q: a number or auto", errUsage, asked)
		}
		lo.Model.GPULayers = n
		lo.Model.CPUOnly = n == 0
		return measure(*lo)
	}
	lo.Model.GPULayers = -1
	memory, err := measure(*lo)
	if err != nil || len(memory.Devices) == 1 || gpusFit(memory) {
		return memory, err
	}
	// The most layers that fit, found by halving: each measure reads a header.
	low, high := 0, maxLayers
	for low < high {
		lo.Model.GPULayers = (low + high + 1) / 2
		if memory, err = measure(*lo); err != nil {
			return nil, err
		}
		if gpusFit(memory) {
			low = lo.Model.GPULayers
		} else {
			high = lo.Model.GPULayers - 1
		}
	}
	lo.Model.GPULayers = low
	return measure(*lo)
}

// maxLayers is more than any model has.
const maxLayers = 256

func gpusFit(m *llama.Memory) bool {
	for _, d := range m.Devices[:len(m.Devices)-1] {
		if !fits(d) {
			return false
		}
	}
	return true
}

func fits(d llama.DeviceMemory) bool { return float64(d.Needs()) <= headroom*float64(d.Free) }

// shortOf returns a device that has not enough room, or nil.
func shortOf(m *llama.Memory) *llama.DeviceMemory {
	for i := range m.Devices {
		if !fits(m.Devices[i]) {
			return &m.Devices[i]
		}
	}
	return nil
}

// shareCells replaces a buffer for every sequence by one that they share, as
// large as fits. One whole context must fit.
func shareCells(lo *llama.Options, m *llama.Memory) error {
	all := lo.Context * lo.Sequences
	cells := all
	for _, d := range m.Devices {
		one := d // with no more cells than one context has
		one.KV = d.KV / uint64(lo.Sequences)
		if !fits(one) {
			return noRoom(&one, *lo)
		}
		if d.KV > 0 {
			room := headroom*float64(d.Free) - float64(d.Weights) - float64(d.Compute)
			cells = min(cells, int(room/float64(d.KV)*float64(all)))
		}
	}
	lo.Cells = max(cells&^255, lo.Context)
	return nil
}

// noRoom says what is missing where; nil when nothing is.
func noRoom(d *llama.DeviceMemory, lo llama.Options) error {
	if d == nil {
		return nil
	}
	err := fmt.Errorf("%w: %s needs %s (%s weights, %s KV cells, %s compute) and has %s free, %.0f %% of which may be used",
		errMemory, d.Name, size(d.Needs()), size(d.Weights), size(d.KV), size(d.Compute), size(d.Free), 100*headroom)
	blind := ""
	if lo.Projector != "" {
		blind = "--mmproj none, "
	}
	return &server.NoRoomError{Err: withHint(err, "try a smaller --ctx-size (now %d), fewer --parallel (now %d), --kv-type q8_0, %sor a smaller model",
		lo.Context, lo.Sequences, blind), Short: d.Needs() - uint64(headroom*float64(d.Free))}
}
