package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"serve/engine/llama"
	"serve/machine"
	"serve/server"
)

// How far what a model takes may be from its plan before serve says so: a twentieth, and more than
// what allocators and the mapping of the program's pages make of it.
const (
	tolerated      = 0.05
	toleratedBytes = 32 << 20
)

// taking is what a model was planned to take, and takes.
type taking struct {
	process func() int // that computes; nil where that is serve itself

	mu      sync.Mutex
	planned []llama.DeviceMemory
	left    map[string]uint64 // bytes free of each card, once it was loaded
}

// set notes a load.
func (t *taking) set(a *loadAnswer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.planned, t.left = a.Memory.Devices, a.Left
}

// now returns what was planned of each device, and what is taken: of the host by the process, of a
// card by the load, since drivers do not tell who has what. 0 is not known.
func (t *taking) now() (planned []llama.DeviceMemory, taken []uint64) {
	t.mu.Lock()
	planned = t.planned
	left := t.left
	t.mu.Unlock()

	taken = make([]uint64, len(planned))
	for i, d := range planned {
		switch {
		case i < len(planned)-1:
			taken[i] = takenOf(d, left)
		case t.process != nil:
			taken[i] = machine.ResidentMemory(t.process())
		}
	}
	return planned, taken
}

// devices is what /status and the metrics tell of it.
func (t *taking) devices() (list []server.DeviceMemory) {
	planned, taken := t.now()
	for i, d := range planned {
		if d.Most() > 0 {
			list = append(list, server.DeviceMemory{
				Device:  d.Name,
				Planned: d.Needs(),
				Later:   d.Later,
				Taken:   taken[i],
			})
		}
	}
	return list
}

// freeOfCards is what the GPUs of a plan have free now, those that share the host's memory left out:
// what they have free changes with all that this machine does.
func freeOfCards(m *llama.Memory) map[string]uint64 {
	free := map[string]uint64{}
	for _, d := range m.Devices[:len(m.Devices)-1] {
		if n := llama.FreeMemory(d.Name); n > 0 && !d.Unified {
			free[d.Name] = n
		}
	}
	return free
}

// takenOf is what a load left less free of a card; 0 if that is not known.
func takenOf(planned llama.DeviceMemory, left map[string]uint64) uint64 {
	now, told := left[planned.Name]
	if !told || !known(planned) {
		return 0
	}
	before := usable(planned)
	return before - min(before, now)
}

// differs reports whether what is taken of a device is far from the plan; what is not known is not.
// Buffers that are not used yet may be missing, and what may come later may be there.
func differs(d llama.DeviceMemory, taken uint64) bool {
	least, most := d.Needs()-d.Compute, d.Most()
	var off uint64
	switch {
	case taken == 0:
		return false
	case taken < least:
		off = least - taken
	case taken > most:
		off = taken - most
	}
	return off > toleratedBytes && float64(off) > tolerated*float64(d.Needs())
}

// tell says in a line where what is taken is not what was planned.
func (t *taking) tell(out *terminal, model string) {
	var far []string
	planned, taken := t.now()
	for i, d := range planned {
		if differs(d, taken[i]) {
			far = append(far, fmt.Sprintf("%s of %s, planned %s", machine.FormatSize(taken[i]), d.Name, machine.FormatSize(d.Needs())))
		}
	}
	if len(far) > 0 {
		out.note("warning: %s takes %s", model, strings.Join(far, "; "))
	}
}

// restarted reads the answer of an engine that has taken another's place.
func (t *taking) restarted(out *terminal, model string, answer []byte) {
	a := new(loadAnswer)
	if err := json.Unmarshal(answer, a); err != nil || a.Memory == nil {
		out.note("warning: %s: what the restarted engine takes is not known: %v", model, err)
		return
	}
	if a.Changed != "" {
		out.note("warning: %s: %s", model, a.Changed)
	}
	t.set(a)
}

// hostShare is what a plan may take of the host's memory, that of unified devices included.
func hostShare(m *llama.Memory) uint64 {
	var sum uint64
	for i, d := range m.Devices {
		if d.Unified || i == len(m.Devices)-1 {
			sum += d.Most()
		}
	}
	return sum
}

// describeIn tells an instance what its model takes.
func (t *taking) describeIn(in *server.Instance) {
	in.Memory = t.devices
	for _, d := range t.devices() {
		in.Bytes += d.Planned
		in.Later += d.Later
	}
	if t.process != nil {
		in.Process = func() server.Process {
			id := t.process()
			return server.Process{ID: id, Resident: machine.ResidentMemory(id)}
		}
	}
}
