package main

import (
	"fmt"
	"time"

	"serve/engine/llama"
)

// plan decides how a model is loaded. The first engine of a model is free to choose; one that
// comes after another must be like that, and is planned anew all the same: what was free then
// may not be free now.
func (a *loadAnswer) plan(q *loadRequest) (err error) {
	measure := func(lo llama.Options) (*llama.Memory, error) { return measure(q.Path, lo, q.Free) }
	o := q.Options.options()
	if q.Plan == nil {
		a.Plan, a.Memory, err = planMemory(o, q.Projector, q.TrainContext, q.Shrink, measure)
		return err
	}

	again := replanner{o: o, measure: measure, sleep: time.Sleep}
	a.Plan, a.Memory, err = again.plan(*q.Plan)
	if err == nil && a.Plan.Model.GPULayers != q.Plan.Model.GPULayers {
		a.Changed = fmt.Sprintf("%d layers on the GPU now: it has less memory free than before", a.Plan.Model.GPULayers)
	}
	return err
}

// How long a restarted engine waits for what its predecessor had: a driver may give back a card's
// memory seconds after the process has ended (ollama#7745: more than 5).
const (
	lookAgain  = 250 * time.Millisecond
	steadyFor  = 2 * time.Second // after which what is free will not change any more
	memoryWait = 10 * time.Second
)

// replanner plans an engine that takes another's place.
type replanner struct {
	o       modelOptions
	measure measureFunc
	sleep   func(time.Duration)
}

// plan returns the predecessor's plan if it fits, once its memory is free again. The loop that
// runs counts on its context, sequences and KV cells; only where the layers lie is open:
//
//  1. the same plan: a card keeps its reserve, the host gives its own up, which is there for
//     times like these;
//  2. fewer layers on the cards, if their number was left open;
//  3. the same plan without any reserve;
//  4. nothing: an error with the numbers, since to try would end in the kernel killing somebody.
func (r *replanner) plan(before llama.Options) (llama.Options, *llama.Memory, error) {
	memory, err := r.awaitMemory(before)
	if err != nil {
		return before, nil, err
	}
	if shortOf(restartBudgets(memory, r.o.reserve)) == nil {
		return before, memory, nil
	}

	if r.o.gpuLayers == "auto" && len(memory.Devices) > 1 {
		fewer := before
		moved, err := mostLayers(r.o.reserve, &fewer, r.measure)
		if err != nil {
			return before, nil, err
		}
		if shortOf(restartBudgets(moved, r.o.reserve)) == nil {
			return fewer, moved, nil
		}
	}

	none := memoryReserve{Given: true}
	return before, memory, noRoom(shortOf(budgetsOf(memory, none)), before)
}

// awaitMemory measures until the plan fits, what is free is steady, or it has taken too long.
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
			free += usable(d)
		}
		steady += lookAgain
		if free > before {
			before, steady = free, 0
		}
		if shortOf(restartBudgets(memory, r.o.reserve)) == nil || steady >= steadyFor || waited >= memoryWait {
			return memory, nil
		}
		r.sleep(lookAgain)
	}
}

// restartBudgets are those of an engine that takes another's place: the host keeps nothing back.
func restartBudgets(m *llama.Memory, reserve memoryReserve) []budget {
	list := budgetsOf(m, reserve)
	for i := range list {
		if list[i].host {
			list[i].reserve = 0
		}
	}
	return list
}
