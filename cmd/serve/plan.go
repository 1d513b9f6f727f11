package main

import (
	"cmp"
	"fmt"
	"strconv"

	"serve/engine/llama"
	"serve/machine"
	"serve/server"
)

// defaultContext is the most tokens a sequence gets unasked: long contexts cost memory that few
// requests use.
const defaultContext = 8192

// measureFunc computes the memory that a model with options would take.
type measureFunc func(llama.Options) (*llama.Memory, error)

// planMemory decides how a model is loaded, before it is: the layers on the GPU
// and the KV cells. What was asked for is kept or refused, with numbers; only
// what was left open is adapted, if shrink allows it, and the plan says how.
// Without room the error is a server.NoRoomError.
func planMemory(o modelOptions, projector string, trainContext int, shrink bool, measure measureFunc) (llama.Options, *llama.Memory, error) {
	lo := llama.Options{Sequences: o.parallel, Threads: cmp.Or(o.threads, llama.Threads()), KVType: o.kvType, Cells: o.kvCells, Projector: projector}
	lo.Model.NoMMap = o.noMMap
	lo.Model.NoRepack = o.noRepack
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
	memory, err := shortenEmbeddings(o, &lo, measure)
	if err != nil {
		return lo, nil, err
	}
	budgets := budgetsOf(memory, o.reserve)
	if short := shortOf(budgets); short == nil || o.kvCells > 0 || !shrink {
		return lo, memory, noRoom(short, lo)
	}

	if err := shareCells(&lo, budgets); err != nil {
		return lo, memory, err
	}
	if memory, err = measure(lo); err != nil {
		return lo, nil, err
	}
	return lo, memory, noRoom(shortOf(budgetsOf(memory, o.reserve)), lo)
}

// Tokens of the longest input that a model which generates embeds, where memory is short. Each has
// a row of logits in that context, which nobody asks for, and another in the graph.
var shorterEmbeddings = []int{1024, 512, 256}

// shortenEmbeddings places a model's layers. Before any of them, or a KV cell, gives way to
// embeddings that perhaps nobody will ask for, these become shorter.
func shortenEmbeddings(o modelOptions, lo *llama.Options, measure measureFunc) (*llama.Memory, error) {
	whole := *lo
	memory, err := placeLayers(o, lo, measure)
	if err != nil {
		return nil, err
	}
	asPlaced := o.gpuLayers != "auto" || lo.Model.GPULayers < 0
	if !memory.Generates || asPlaced && shortOf(budgetsOf(memory, o.reserve)) == nil {
		return memory, nil
	}

	for _, tokens := range shorterEmbeddings {
		shorter := whole
		shorter.EmbedLimit = tokens
		shorter.Model = firstPlacing(o, lo.Model)
		memory, err := measure(shorter)
		if err != nil {
			return nil, err
		}
		if shortOf(budgetsOf(memory, o.reserve)) == nil {
			*lo = shorter
			return memory, nil
		}
		whole.EmbedLimit = tokens
	}
	*lo = whole
	return placeLayers(o, lo, measure)
}

// firstPlacing is what placeLayers begins with: all layers, or those that were asked for.
func firstPlacing(o modelOptions, m llama.ModelOptions) llama.ModelOptions {
	if o.gpuLayers == "auto" {
		m.GPULayers = -1
		m.CPUOnly = false
	}
	return m
}

// placeLayers sets the number of layers on GPUs: as asked, or the most that fit.
func placeLayers(o modelOptions, lo *llama.Options, measure measureFunc) (*llama.Memory, error) {
	if o.gpuLayers != "auto" {
		n, err := strconv.Atoi(o.gpuLayers)
		if err != nil {
			return nil, fmt.Errorf("%w: --gpu-layers %q: a number or auto", errUsage, o.gpuLayers)
		}
		lo.Model.GPULayers = n
		lo.Model.CPUOnly = n == 0
		return measure(*lo)
	}

	lo.Model.GPULayers = -1
	memory, err := measure(*lo)
	if err != nil || cardsFit(budgetsOf(memory, o.reserve)) {
		return memory, err
	}
	return mostLayers(o.reserve, lo, measure)
}

// mostLayers puts as many layers on the GPUs as fit there.
func mostLayers(reserve memoryReserve, lo *llama.Options, measure measureFunc) (*llama.Memory, error) {
	low, high := 0, maxLayers
	for low < high { // by halving: each measure reads a header
		lo.Model.GPULayers = (low + high + 1) / 2
		memory, err := measure(*lo)
		if err != nil {
			return nil, err
		}
		if cardsFit(budgetsOf(memory, reserve)) {
			low = lo.Model.GPULayers
		} else {
			high = lo.Model.GPULayers - 1
		}
	}
	lo.Model.GPULayers = low
	memory, err := measure(*lo)
	if err != nil || cardsFit(budgetsOf(memory, reserve)) {
		return memory, err
	}
	return leaveCards(lo, measure)
}

// leaveCards has the processor compute alone: without a layer, too, a card would take a context
// and buffers for long prompts.
func leaveCards(lo *llama.Options, measure measureFunc) (*llama.Memory, error) {
	lo.Model.GPULayers = 0
	lo.Model.CPUOnly = true
	return measure(*lo)
}

// maxLayers is more than any model has.
const maxLayers = 256

// shareCells replaces a buffer for every sequence by one that they share, as
// large as fits. One whole context must fit.
func shareCells(lo *llama.Options, budgets []budget) error {
	all := lo.Context * lo.Sequences
	cells := all
	for _, b := range budgets {
		kv := b.plan.KV
		one := b // with no more cells than one context has
		one.plan.KV = kv / uint64(lo.Sequences)
		if !one.fits() {
			return noRoom(&one, *lo)
		}
		if kv > 0 {
			left := b.room() - (b.plan.Most() - kv)
			cells = min(cells, int(float64(left)/float64(kv)*float64(all)))
		}
	}
	lo.Cells = max(cells&^255, lo.Context)
	return nil
}

// noRoom says what is missing where; nil when nothing is.
func noRoom(b *budget, lo llama.Options) error {
	if b == nil {
		return nil
	}
	later := ""
	if b.plan.Later > 0 {
		later = fmt.Sprintf(", and %s for embeddings", machine.FormatSize(b.plan.Later))
	}
	err := fmt.Errorf("%w: %s needs %s%s, and has %s free, of which %s stay free (--memory-reserve)",
		errMemory, b.name, parts(b.plan), later, machine.FormatSize(b.free), machine.FormatSize(min(b.free, b.reserve)))
	blind := ""
	if lo.Projector != "" {
		blind = "--mmproj none, "
	}
	return &server.NoRoomError{
		Err: withHint(err, "try a smaller --ctx-size (now %d), fewer --parallel (now %d), --kv-type q8_0, %sor a smaller model",
			lo.Context, lo.Sequences, blind),
		Short: b.missing(),
	}
}
