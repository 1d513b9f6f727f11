package loader

import (
	"cmp"
	"fmt"
	"reflect"
	"strings"
	"time"

	"serve/engine/llama"
	"serve/fit"
)

// How long a restarted engine waits for its predecessor's memory: a driver may free a card's
// memory seconds after the process has ended (ollama#7745: more than 5).
const (
	lookAgain  = 250 * time.Millisecond
	steadyFor  = 2 * time.Second // after which free memory is not expected to change anymore
	memoryWait = 10 * time.Second
)

// replanner plans a restarted engine.
type replanner struct {
	o       ModelOptions
	facts   *fit.Model // what the model's header says; nil if unknown
	measure measureFunc
	sleep   func(time.Duration)

	proposed *fit.Plan // that moved tensors; nil for none
}

// plan returns the predecessor's plan if it fits, once its memory is free again. The running
// loop depends on the context size and the sequences; the KV cells and the placement may
// change, in the order of a first plan:
//
//  1. the same plan, with the reserve on cards, but without the host's reserve, which is meant
//     for such cases;
//  2. fewer KV cells, down to those of one context, unless their number was given;
//  3. experts or feed-forward networks in main memory, then fewer layers on the cards, if their
//     number was not given;
//  4. the same plan without any reserve, except where memory ran out;
//  5. an error with the numbers, since trying would make the kernel kill some process.
func (r *replanner) plan(before llama.Options) (llama.Options, *llama.Memory, error) {
	memory, err := r.awaitMemory(before)
	if err != nil {
		return before, nil, err
	}
	if shortOf(r.budgets(memory)) == nil {
		return before, memory, nil
	}

	if cards := len(memory.Devices) > 1 && !cardsFit(r.budgets(memory)); cards {
		for _, less := range []func(llama.Options, *llama.Memory) (llama.Options, *llama.Memory, error){
			r.fewerCells, r.moved, r.fewerLayers,
		} {
			next, taken, err := less(before, memory)
			if err != nil {
				return before, nil, err
			}
			if taken != nil && shortOf(r.budgets(taken)) == nil {
				return next, taken, nil
			}
		}
	}

	none := Reserve{Given: true, More: map[string]uint64{}}
	for _, d := range memory.Devices {
		if r.o.Reserve.More[d.Name] > 0 {
			none.More[d.Name] = r.o.Reserve.of(d)
		}
	}
	return before, memory, noRoom(shortOf(budgetsWithin(memory, none, r.o.Limits)), before)
}

// mayShare reports whether sequences may share fewer cells than they had.
func (r *replanner) mayShare(before llama.Options, memory *llama.Memory) bool {
	return r.o.Cells == 0 && !r.o.Reproducible && before.NotReproducible && memory.Generates
}

// fewerCells has the sequences share as many cells as fit. The memory is nil if they may not, or if not even one
// context fits.
func (r *replanner) fewerCells(
	before llama.Options, memory *llama.Memory,
) (llama.Options, *llama.Memory, error) {
	if !r.mayShare(before, memory) {
		return before, nil, nil
	}
	less := before
	if err := shareCells(&less, r.budgets(memory)); err != nil {
		return before, nil, nil //nolint:nilerr // what is missing is said if nothing else fits
	}
	taken, err := r.measure(less)
	return less, taken, err
}

// moved has package fit move tensors to main memory, with no more cells than one context needs if there may be fewer.
// The memory is nil if it knows nothing that fits.
func (r *replanner) moved(before llama.Options, memory *llama.Memory) (llama.Options, *llama.Memory, error) {
	if r.o.GPULayers.Given || r.facts == nil {
		return before, nil, nil
	}

	whole := before
	whole.Model.Placement = r.o.placement()
	p := planner{o: r.o, facts: r.facts, measure: r.measure}
	whole.Model = p.firstPlacing(whole.Model)
	if r.mayShare(before, memory) {
		whole.Cells = whole.Context
	}
	p.o.Cells = whole.Cells
	taken, err := r.measure(whole)
	if err != nil {
		return before, nil, err
	}
	taken, err = p.propose(&whole, taken)
	r.proposed = p.proposed
	return whole, taken, err
}

// fewerLayers puts as many layers on the cards as fit there with the cells that there were.
func (r *replanner) fewerLayers(before llama.Options, _ *llama.Memory) (llama.Options, *llama.Memory, error) {
	if r.o.GPULayers.Given {
		return before, nil, nil
	}
	taken, err := mostLayers(&r.o, &before, r.measure)
	return before, taken, err
}

// changes says how a plan differs from the one before; empty if it does not.
func (r *replanner) changes(before, now llama.Options) string {
	if r.proposed != nil && !reflect.DeepEqual(now.Model, before.Model) {
		return r.proposed.Choice()
	}

	var list []string
	if now.Cells != before.Cells {
		cells := cmp.Or(before.Cells, before.Context*before.Sequences)
		list = append(list, fmt.Sprintf("%d KV cells instead of %d, for at least one request of full length at a time",
			now.Cells, cells))
	}
	if now.Model.GPULayers != before.Model.GPULayers {
		list = append(list, fmt.Sprintf("only %d layers are on the GPU now", now.Model.GPULayers))
	}
	return strings.Join(list, "; ")
}

// awaitMemory measures until the plan fits, free memory is steady, or it has taken too long.
func (r *replanner) awaitMemory(lo llama.Options) (*llama.Memory, error) {
	var steady time.Duration
	var before uint64
	for waited := time.Duration(0); ; waited += lookAgain {
		memory, err := r.measure(lo)
		if err != nil {
			return nil, err
		}

		var free uint64
		for _, d := range memory.Devices {
			free += Usable(d)
		}
		steady += lookAgain
		if free > before {
			before = free
			steady = 0
		}

		fits := shortOf(r.budgets(memory)) == nil
		if fits || steady >= steadyFor || waited >= memoryWait {
			return memory, nil
		}
		r.sleep(lookAgain)
	}
}

// budgets returns the budgets of a restarted engine: the host has no reserve.
func (r *replanner) budgets(m *llama.Memory) []budget {
	list := r.o.budgetsOf(m)
	for i := range list {
		if list[i].host {
			list[i].reserve = 0
		}
	}
	return list
}
