package loader

import (
	"cmp"
	"fmt"
	"strings"
	"sync"

	"serve/engine/llama"
	"serve/machine"
)

// How far a model's memory may differ from its plan before that is reported: 5 %, and more than
// the variation from allocators and the mapping of the program's pages.
const (
	tolerated      = 0.05
	toleratedBytes = 32 << 20
)

// DeviceUse is the planned and actual memory of a model on a device.
type DeviceUse struct {
	Planned llama.DeviceMemory

	// Taken is the process's memory for the host. For a card, it is the decrease of free memory
	// during the load, since drivers do not report memory by process. 0 means unknown.
	Taken uint64
}

// usage is the planned and actual memory of a model.
type usage struct {
	process func() int   // returns the engine's process; nil if it is this one
	readers func() []int // returns the processes that read and write text; nil if there are none
	reading uint64       // bytes that these were found to take

	mu      sync.Mutex
	planned []llama.DeviceMemory
	left    map[string]uint64 // bytes free on each card, once the model was loaded
	devices []llama.Device    // that compute it
	folder  *keptFolder       // what is saved of it; nil for nothing
}

// set records a load.
func (u *usage) set(a *answer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.planned = a.Memory.Devices
	u.left = a.Left
	u.devices = a.Devices
}

// computing returns the devices that compute the model.
func (u *usage) computing() []llama.Device {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.devices
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
			if use.Taken > 0 {
				use.Taken += u.ofReaders()
			}
		}
		if i == len(planned)-1 {
			use.Planned.Base += u.reading
		}
		list = append(list, use)
	}
	return list
}

// ofReaders returns the memory of the processes that read and write text, without the files that they map: those are
// the program's, which the engine maps, too, and the model's, of which they need little.
func (u *usage) ofReaders() (total uint64) {
	if u.readers == nil {
		return 0
	}
	for _, id := range u.readers() {
		total += machine.PrivateMemory(id)
	}
	return total
}

// freeOfCards returns the free memory of the GPUs in a plan. Those that share the host's memory are
// left out: their free memory changes with everything that this machine does.
func freeOfCards(m *llama.Memory) map[string]uint64 {
	free := map[string]uint64{}
	for _, d := range m.Devices[:len(m.Devices)-1] {
		if n := llama.FreeMemory(d.Name); n > 0 && !d.Unified {
			free[d.Name] = n
		}
	}
	return free
}

// takenOf returns by how much a load reduced a card's free memory; 0 if unknown.
func takenOf(planned llama.DeviceMemory, left map[string]uint64) uint64 {
	now, reported := left[planned.Name]
	if !reported || !known(planned) {
		return 0
	}
	before := Usable(planned)
	return before - min(before, now)
}

// differs reports whether the memory taken on a device is far from the plan; unknown memory is not.
// Buffers that have not been used may be missing, and those allocated later may be present.
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

// warn warns if the memory taken differs from the plan.
func (u *usage) warn(r Reporter, model string) {
	var far []string
	for _, use := range u.now() {
		if use.differs() {
			far = append(far, fmt.Sprintf("%s of %s memory, %s planned",
				machine.FormatSize(use.Taken), use.Planned.Name, machine.FormatSize(use.Planned.Needs())))
		}
	}
	if len(far) > 0 {
		r.Warn("%s uses %s", model, strings.Join(far, "; "))
	}
}

// restarted reads the answer of a restarted engine. Why says what memory it lacked; empty for no lack.
func (u *usage) restarted(r Reporter, model, why string, text []byte) {
	a, err := readAnswer(text, true)
	if err == nil && a.Failed != nil {
		err = a.Failed.err()
	}
	if err != nil {
		r.Warn("the memory use of the restarted engine of %s is unknown: %v", model, err)
		return
	}
	switch {
	case a.Changed != "":
		r.Warn("%s: %s: %s", model, cmp.Or(why, "a GPU has less memory free than before"), a.Changed)
	case why != "":
		r.Warn("%s: %s: the plan is as before", model, why)
	}
	u.set(a)
	if a.Changed != "" {
		u.retire()
	}
}

// keep notes the folder to which the model's prefixes are written. There may be none.
func (u *usage) keep(f *keptFolder) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.folder = f
}

// retire has the folder left alone: its files are for the plan that the model was loaded with.
func (u *usage) retire() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.folder != nil {
		u.folder.Retire()
	}
}
