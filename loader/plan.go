package loader

import (
	"cmp"

	"serve/engine/llama"
	"serve/machine"
	"serve/models"
)

// Plan decides how a model would be loaded now, without loading it. The memory is nil if that
// is unknown; if there is both memory and an error, the error says why the model does not fit.
func Plan(local *models.Local, h *models.Header, o ModelOptions) (llama.Options, *llama.Memory, error) {
	if err := o.reproducible(nil); err != nil {
		return llama.Options{}, nil, err
	}
	p := planner{
		o:         o,
		projector: projectorFile(local),
		train:     h.TrainContext(),
		shrink:    true,
		measure: func(lo llama.Options) (*llama.Memory, error) {
			return measure(local.Path(), lo, machine.FreeMemory())
		},
	}
	return p.plan()
}

// projectorFile returns the file of a model's projector, "" for none.
func projectorFile(local *models.Local) string {
	if local.Projector == nil {
		return ""
	}
	return local.Projector.Name
}

// planner decides how a model is loaded, before it is.
type planner struct {
	o         ModelOptions
	projector string // its file
	train     int    // tokens that the model was trained for, 0 if unknown
	shrink    bool   // options that were not given may be reduced
	measure   measureFunc
}

// plan decides on the layers on the GPU, the KV cells, and the prefix cache. Options that were given are kept or
// refused with numbers; only others are adapted, if allowed. If the model does not fit, the error
// is a MemoryError.
func (p *planner) plan() (llama.Options, *llama.Memory, error) {
	lo, memory, err := p.planModel()
	if err == nil {
		err = p.planCache(lo, memory)
	}
	return lo, memory, err
}

// planModel is plan, without a prefix cache.
func (p *planner) planModel() (llama.Options, *llama.Memory, error) {
	lo, err := p.options()
	if err != nil {
		return lo, nil, err
	}

	memory, err := p.shortenEmbeddings(&lo)
	if err != nil {
		return lo, nil, err
	}
	budgets := budgetsOf(memory, p.o.Reserve)
	short := shortOf(budgets)
	if short == nil {
		return p.lengthen(lo, memory)
	}
	if p.o.Cells > 0 || !p.shrink || p.o.Reproducible {
		return lo, memory, noRoom(short, lo)
	}

	if err := shareCells(&lo, budgets); err != nil {
		return lo, memory, err
	}
	memory, err = p.measure(lo)
	if err != nil {
		return lo, nil, err
	}
	if short := shortOf(budgetsOf(memory, p.o.Reserve)); short != nil {
		return lo, memory, noRoom(short, lo)
	}
	return p.lengthen(lo, memory)
}

// options returns the options that a plan starts with.
func (p *planner) options() (llama.Options, error) {
	lo := llama.Options{
		Sequences: p.o.Parallel,
		Threads:   cmp.Or(p.o.Threads, llama.Threads()),
		KVType:    p.o.KVType,
		Cells:     p.o.Cells,
		Projector: p.projector,
	}
	lo.BackendSampling = p.o.BackendSampling
	lo.Model.NoMMap = p.o.NoMMap
	lo.Model.NoRepack = p.o.NoRepack
	lo.Reproducible = p.o.Reproducible

	switch {
	case p.o.Context > 0:
		lo.Context = p.o.Context
	case p.train > 0:
		lo.Context = min(p.train, DefaultContext)
	default:
		lo.Context = DefaultContext
	}
	if lo.Cells > 0 && lo.Cells < lo.Context {
		return lo, badOption("--kv-cells %d cannot hold one context of %d tokens", lo.Cells, lo.Context)
	}
	if all := lo.Context * lo.Sequences; p.o.Reproducible && lo.Cells > 0 && lo.Cells < all {
		return lo, badOption("--reproducible needs a buffer for each sequence, so --kv-cells %d is too few for "+
			"%d times %d tokens", lo.Cells, lo.Sequences, lo.Context)
	}
	return lo, nil
}

// Maximum tokens of an input to embed with a generating model, if memory is short. Each token takes a
// row of unused logits in that context, and another in the graph.
var shorterEmbeddings = []int{1024, 512, 256}

// shortenEmbeddings places a model's layers. Embeddings may never be requested, so it reduces their
// length before it gives up layers on the GPU or KV cells for them.
func (p *planner) shortenEmbeddings(lo *llama.Options) (*llama.Memory, error) {
	whole := *lo
	memory, err := p.placeLayers(lo)
	if err != nil {
		return nil, err
	}
	asPlaced := p.o.GPULayers.Given || lo.Model.GPULayers < 0
	if !memory.Generates || asPlaced && shortOf(budgetsOf(memory, p.o.Reserve)) == nil {
		return memory, nil
	}

	for _, tokens := range shorterEmbeddings {
		shorter := whole
		shorter.EmbedLimit = tokens
		shorter.Model = p.firstPlacing(lo.Model)
		memory, err := p.measure(shorter)
		if err != nil {
			return nil, err
		}
		if shortOf(budgetsOf(memory, p.o.Reserve)) == nil {
			*lo = shorter
			return memory, nil
		}
		whole.EmbedLimit = tokens
	}

	*lo = whole
	return p.placeLayers(lo)
}

// firstPlacing returns the placement that placeLayers starts with: all layers, or the given number.
func (p *planner) firstPlacing(m llama.LoadOptions) llama.LoadOptions {
	if !p.o.GPULayers.Given {
		m.GPULayers = -1
		m.CPUOnly = false
	}
	return m
}

// placeLayers sets the number of layers on GPUs: as given, or as many as fit.
func (p *planner) placeLayers(lo *llama.Options) (*llama.Memory, error) {
	if layers := p.o.GPULayers; layers.Given {
		lo.Model.GPULayers = layers.N
		lo.Model.CPUOnly = layers.N == 0
		return p.measure(*lo)
	}

	lo.Model.GPULayers = -1
	memory, err := p.measure(*lo)
	if err != nil || cardsFit(budgetsOf(memory, p.o.Reserve)) {
		return memory, err
	}
	return mostLayers(p.o.Reserve, lo, p.measure)
}

// maxLayers is more than any model has.
const maxLayers = 256

// mostLayers puts as many layers on the GPUs as fit there.
func mostLayers(reserve Reserve, lo *llama.Options, measure measureFunc) (*llama.Memory, error) {
	low := 0
	high := maxLayers
	for low < high { // by bisection: each measurement reads a header
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

// leaveCards makes the CPU compute alone: even without layers, a card would need a context and
// buffers for long prompts.
func leaveCards(lo *llama.Options, measure measureFunc) (*llama.Memory, error) {
	lo.Model.GPULayers = 0
	lo.Model.CPUOnly = true
	return measure(*lo)
}

// shareCells replaces the buffers of the sequences by one that they share, as large as fits. At
// least one whole context must fit.
func shareCells(lo *llama.Options, budgets []budget) error {
	all := lo.Context * lo.Sequences
	cells := all
	for _, b := range budgets {
		kv := b.plan.KV
		one := b // with the cells of only one context
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

// noRoom returns the error for a budget that a plan exceeds; nil for no budget.
func noRoom(b *budget, lo llama.Options) error {
	if b == nil {
		return nil
	}
	return &MemoryError{
		Device:    b.name,
		Needs:     b.plan,
		Free:      b.free,
		Reserved:  min(b.free, b.reserve),
		Short:     b.missing(),
		Context:   lo.Context,
		Parallel:  lo.Sequences,
		Projector: lo.Projector != "",
	}
}
