package loader

import (
	"time"

	"serve/engine/llama"
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
	measure measureFunc
	sleep   func(time.Duration)
}

// plan returns the predecessor's plan if it fits, once its memory is free again. The running
// loop depends on the context size, sequences and KV cells; only the placement of layers may
// change:
//
//  1. the same plan, with the reserve on cards, but without the host's reserve, which is meant
//     for such cases;
//  2. fewer layers on the cards, if their number was not given;
//  3. the same plan without any reserve;
//  4. an error with the numbers, since trying would make the kernel kill some process.
func (r *replanner) plan(before llama.Options) (llama.Options, *llama.Memory, error) {
	memory, err := r.awaitMemory(before)
	if err != nil {
		return before, nil, err
	}
	if shortOf(r.budgets(memory)) == nil {
		return before, memory, nil
	}

	if !r.o.GPULayers.Given && len(memory.Devices) > 1 {
		fewer := before
		moved, err := mostLayers(&r.o, &fewer, r.measure)
		if err != nil {
			return before, nil, err
		}
		if shortOf(r.budgets(moved)) == nil {
			return fewer, moved, nil
		}
	}

	none := Reserve{Given: true}
	return before, memory, noRoom(shortOf(budgetsWithin(memory, none, r.o.Limits)), before)
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
