package loader

import (
	"cmp"
	"context"

	"serve/engine/llama"
	"serve/fit"
	"serve/machine"
	"serve/models"
)

// Planned is how a model would be loaded.
type Planned struct {
	Options  llama.Options
	Memory   *llama.Memory // nil if that is unknown
	Decision Decision
}

// Plan decides how a model would be loaded now, without loading it. If there is both memory and an error, the error
// says why the model does not fit.
func Plan(ctx context.Context, local *models.Local, h *models.Header, o ModelOptions, c Connect) (*Planned, error) {
	if err := o.reproducible(nil); err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if !o.cpuOnly() {
		if err := o.addWorkers(ctx, c); err != nil {
			return nil, err
		}
		list, err := llama.Devices()
		if err != nil {
			return nil, &DeviceError{Text: err.Error()}
		}
		if err := o.checkDevices(DeviceList{Devices: list}.GPUs()); err != nil {
			return nil, err
		}
	}
	if err := o.replaceMetadata(h); err != nil {
		return nil, err
	}
	facts, err := factsOf(h, local.Parts(), &o)
	if err != nil {
		return nil, err
	}

	p := planner{
		o:         o,
		projector: projectorFile(local),
		train:     h.TrainContext(),
		facts:     facts,
		shrink:    true,
		measure: func(lo llama.Options) (*llama.Memory, error) {
			return measure(local.Path(), lo, machine.FreeMemory())
		},
	}
	lo, memory, err := p.plan()
	return &Planned{lo, memory, p.decision(lo, memory)}, err
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
	projector string     // its file
	train     int        // tokens that the model was trained for, 0 if unknown
	facts     *fit.Model // what the model's header says; nil if unknown
	shrink    bool       // options that were not given may be reduced
	measure   measureFunc

	proposed *fit.Plan // the proposal that was taken; nil for none
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
	budgets := p.o.budgetsOf(memory)
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
	if short := shortOf(p.o.budgetsOf(memory)); short != nil {
		return lo, memory, noRoom(short, lo)
	}
	return p.lengthen(lo, memory)
}

// options returns the options that a plan starts with.
func (p *planner) options() (llama.Options, error) {
	lo := llama.Options{
		Sequences:  p.o.Parallel,
		Threads:    cmp.Or(p.o.Threads, llama.Threads()),
		KVType:     p.o.typeOfKeys(),
		VType:      p.o.typeOfValues(),
		FlashAttn:  p.o.FlashAttn,
		RoPE:       p.o.RoPE,
		Batch:      p.o.Batch,
		MicroBatch: p.o.MicroBatch,
		Cells:      p.o.Cells,
		Projector:  p.projector,
	}
	lo.BackendSampling = p.o.BackendSampling
	if err := p.o.check(); err != nil {
		return lo, err
	}
	lo.Model.Placement = p.o.placement()
	lo.Model.Lock = p.o.Lock
	lo.Model.NoMMap = p.o.NoMMap
	lo.Model.NoRepack = p.o.NoRepack
	lo.Reproducible = p.o.Reproducible

	if lo.MicroBatch == 0 && lo.Batch > mostAtOnce {
		lo.MicroBatch = mostAtOnce
	}
	lo.Context = p.firstContext()
	if lo.Cells > 0 && lo.Cells < lo.Context {
		return lo, badOption("--kv-cells %d cannot hold one context of %d tokens", lo.Cells, lo.Context)
	}
	if all := lo.Context * lo.Sequences; p.o.Reproducible && lo.Cells > 0 && lo.Cells < all {
		return lo, badOption("--reproducible needs a buffer for each sequence, so --kv-cells %d is too few for "+
			"%d times %d tokens", lo.Cells, lo.Sequences, lo.Context)
	}
	return lo, nil
}

// mostAtOnce is how many tokens of a step are computed at once, unless it is said how many: more take memory.
const mostAtOnce = 512

// firstContext returns the context size that a plan starts with.
func (p *planner) firstContext() int {
	switch {
	case p.o.Context > 0:
		return p.o.Context
	case p.train > 0:
		return min(p.train, DefaultContext)
	}
	return DefaultContext
}

// Maximum tokens of an input to embed with a generating model, if memory is short. Each token takes a
// row of unused logits in that context, and another in the graph.
var shorterEmbeddings = []int{1024, 512, 256}

// shortenEmbeddings places a model's layers. Embeddings may never be requested, so it reduces their
// length before it gives up layers on the GPU or KV cells for them.
func (p *planner) shortenEmbeddings(lo *llama.Options) (*llama.Memory, error) {
	lo.Model = p.firstPlacing(lo.Model)
	memory, err := p.measure(*lo)
	if err != nil {
		return nil, err
	}
	if shortOf(p.o.budgetsOf(memory)) == nil {
		return memory, nil
	}
	if !memory.Generates {
		return p.adapt(lo, memory)
	}

	for _, tokens := range shorterEmbeddings {
		lo.EmbedLimit = tokens
		if memory, err = p.measure(*lo); err != nil {
			return nil, err
		}
		if shortOf(p.o.budgetsOf(memory)) == nil {
			return memory, nil
		}
	}
	return p.adapt(lo, memory)
}

// firstPlacing returns the placement that a plan starts with: all layers on GPUs, or the given number.
func (p *planner) firstPlacing(m llama.LoadOptions) llama.LoadOptions {
	m.GPULayers = -1
	if p.o.GPULayers.Given {
		m.GPULayers = p.o.GPULayers.N
	}
	m.CPUOnly = p.o.cpuOnly()
	if m.CPUOnly {
		m.GPULayers = 0
	}
	return m
}

// adapt takes from the GPUs what does not fit there, unless it was said how many layers they have. memory is what
// the plan takes so far.
func (p *planner) adapt(lo *llama.Options, memory *llama.Memory) (*llama.Memory, error) {
	if p.o.GPULayers.Given || cardsFit(p.o.budgetsOf(memory)) {
		return memory, nil
	}
	if proposed, err := p.propose(lo, memory); proposed != nil || err != nil {
		return proposed, err
	}
	return mostLayers(&p.o, lo, p.measure)
}

// maxLayers is more than any model has.
const maxLayers = 256

// mostLayers puts as many layers on the GPUs as fit there.
func mostLayers(o *ModelOptions, lo *llama.Options, measure measureFunc) (*llama.Memory, error) {
	low := 0
	high := maxLayers
	for low < high { // by bisection: each measurement reads a header
		lo.Model.GPULayers = (low + high + 1) / 2
		memory, err := measure(*lo)
		if err != nil {
			return nil, err
		}
		if cardsFit(o.budgetsOf(memory)) {
			low = lo.Model.GPULayers
		} else {
			high = lo.Model.GPULayers - 1
		}
	}

	lo.Model.GPULayers = low
	memory, err := measure(*lo)
	if err != nil || cardsFit(o.budgetsOf(memory)) {
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
	if lo.Cells > 0 {
		all = lo.Cells
	}
	cells := all
	for _, b := range budgets {
		kv := b.plan.KV
		one := b // with the cells of only one context
		one.plan.KV = uint64(float64(kv) * float64(lo.Context) / float64(all))
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
		Limit:     b.limit,
		Short:     b.missing(),
		Context:   lo.Context,
		Parallel:  lo.Sequences,
		Projector: lo.Projector != "",
	}
}
