package loader

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"serve/engine/llama"
	"serve/machine"
)

// How far what a model takes may be from its plan before that is reported: a twentieth, and more
// than what allocators and the mapping of the program's pages make of it.
const (
	tolerated      = 0.05
	toleratedBytes = 32 << 20
)

// DeviceUse is what a model was planned to take of a device, and takes.
type DeviceUse struct {
	Planned llama.DeviceMemory

	// Taken is of the host by the process, and of a card by the load, since drivers do not tell
	// which process has what; 0 if it is not known.
	Taken uint64
}

// usage is what a model was planned to take, and takes.
type usage struct {
	process func() int // that computes; nil if it is this one

	mu      sync.Mutex
	planned []llama.DeviceMemory
	left    map[string]uint64 // bytes free on each card, once the model was loaded
}

// set notes a load.
func (u *usage) set(a *answer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.planned = a.Memory.Devices
	u.left = a.Left
}

// now returns the use of each device of the plan, the host last.
func (u *usage) now() (list []DeviceUse) {
	u.mu.Lock()
	planned := u.planned
	left := u.left
	u.mu.Unlock()

	for i, d := range planned {
		use := DeviceUse{Planned: d}
		switch {
		case i < len(planned)-1:
			use.Taken = takenOf(d, left)
		case u.process != nil:
			use.Taken = machine.ResidentMemory(u.process())
		}
		list = append(list, use)
	}
	return list
}

// freeOfCards is what the GPUs of a plan have free now. Those that share the host's memory are left
// out: what they have free changes with all that this machine does.
func freeOfCards(m *llama.Memory) map[string]uint64 {
	free := map[string]uint64{}
	for _, d := range m.Devices[:len(m.Devices)-1] {
		if n := llama.FreeMemory(d.Name); n > 0 && !d.Unified {
			free[d.Name] = n
		}
	}
	return free
}

// takenOf is by how much a load reduced what a card has free; 0 if that is not known.
func takenOf(planned llama.DeviceMemory, left map[string]uint64) uint64 {
	now, reported := left[planned.Name]
	if !reported || !known(planned) {
		return 0
	}
	before := Usable(planned)
	return before - min(before, now)
}

// differs reports whether what is taken of a device is far from the plan; what is not known is not.
// Buffers that are not used yet may be missing, and what may come later may be there.
func (u DeviceUse) differs() bool {
	least := u.Planned.Needs() - u.Planned.Compute
	most := u.Planned.Most()

	var off uint64
	switch {
	case u.Taken == 0:
		return false
	case u.Taken < least:
		off = least - u.Taken
	case u.Taken > most:
		off = u.Taken - most
	}
	return off > toleratedBytes && float64(off) > tolerated*float64(u.Planned.Needs())
}

// warn reports where what is taken is not what was planned.
func (u *usage) warn(r Reporter, model string) {
	var far []string
	for _, use := range u.now() {
		if use.differs() {
			far = append(far, fmt.Sprintf("%s of %s, planned %s",
				machine.FormatSize(use.Taken), use.Planned.Name, machine.FormatSize(use.Planned.Needs())))
		}
	}
	if len(far) > 0 {
		r.Warn("%s takes %s", model, strings.Join(far, "; "))
	}
}

// restarted reads the answer of an engine that has taken another's place.
func (u *usage) restarted(r Reporter, model string, text []byte) {
	a := new(answer)
	if err := json.Unmarshal(text, a); err != nil || a.Memory == nil {
		r.Warn("the memory use of the restarted engine of %s is unknown: %v", model, err)
		return
	}
	if a.Changed != "" {
		r.Warn("%s: %s", model, a.Changed)
	}
	u.set(a)
}
