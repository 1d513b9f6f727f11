package loader

import "serve/engine/llama"

// agentContext is the context that the first message of a coding agent needs, with the work that follows.
// For less than this, sequences share their cells, which costs a part of their speed together.
const agentContext = 32768

const (
	// growth is the part of the memory that a plan leaves which a longer context may take: other models
	// are to have theirs.
	growth = 4
	// sharePart is the part of shared cells that a sequence leaves to the others.
	sharePart = 4
)

// lengthen gives sequences more of the context that the model was trained for, if it was not said how
// much they get, and no other memory has to give way:
//
//  1. where cells are shared already, most of them;
//  2. the longest context whose cells fit into a part of what is free, for every sequence;
//  3. if that is too short for agents, most of the cells that all sequences have together.
//
// It returns the plan and its memory, those that it got if nothing better fits.
func (p *planner) lengthen(lo llama.Options, memory *llama.Memory) (llama.Options, *llama.Memory, error) {
	if p.o.Context > 0 || !memory.Generates || p.train <= lo.Context {
		return lo, memory, nil
	}
	if lo.Cells > 0 {
		return p.shareMost(lo, memory)
	}

	base := p.o.budgetsOf(memory)
	best := lo
	bestMemory := memory
	for context := p.train; context > lo.Context; context = context / 2 &^ 255 {
		longer := lo
		longer.Context = context
		measured, err := p.measure(longer)
		if err != nil {
			return lo, memory, err
		}
		if grows(base, p.o.budgetsOf(measured)) {
			best = longer
			bestMemory = measured
			break
		}
	}

	if best.Context >= min(p.train, agentContext) || lo.Sequences == 1 || p.o.Reproducible {
		return best, bestMemory, nil
	}
	best.Cells = best.Context * best.Sequences
	shared, sharedMemory, err := p.shareMost(best, bestMemory)
	if err != nil || shared.Context == best.Context {
		best.Cells = 0
		return best, bestMemory, err
	}
	return shared, sharedMemory, nil
}

// shareMost lets a sequence have most of the cells that all share.
func (p *planner) shareMost(lo llama.Options, memory *llama.Memory) (llama.Options, *llama.Memory, error) {
	longer := lo
	longer.Context = min(p.train, (lo.Cells-lo.Cells/sharePart)&^255)
	if longer.Context <= lo.Context {
		return lo, memory, nil
	}

	measured, err := p.measure(longer)
	if err != nil {
		return lo, memory, err
	}
	if shortOf(p.o.budgetsOf(measured)) != nil {
		return lo, memory, nil
	}
	return longer, measured, nil
}

// grows reports whether a plan takes no more of what another leaves than a longer context may.
func grows(base, longer []budget) bool {
	if len(base) != len(longer) {
		return false
	}
	for i := range base {
		before := base[i].plan.Most()
		room := base[i].room()
		if longer[i].plan.Most() > before+(room-min(room, before))/growth {
			return false
		}
	}
	return true
}
