package remote

import (
	"fmt"

	"serve/engine"
)

// Fault is what a child's end says of the device that it computed on.
type Fault struct {
	Kind FaultKind
	Err  error // what happened, and what to do if it goes on
}

// FaultKind says what helps against a fault.
type FaultKind int

const (
	NoFault FaultKind = iota
	// FaultOfMemory means that the device had no memory left. No request is to blame: another child must take less.
	FaultOfMemory
	// FaultOfContext means that what a process had on the device is unusable. Another process can compute.
	FaultOfContext
	// FaultOfDevice means that the device, or its driver, is unusable, and that another process will find it so, too.
	FaultOfDevice
)

// judge returns what the end of a child says of its device. Each end is judged once.
func (r *Runner) judge(g *generation, exit ChildExit) Fault {
	g.judging.Do(func() {
		if exit.Fault {
			g.fault = r.o.Fault(exit)
		}
	})
	return g.fault
}

// counts counts a fault. It returns why there will be no other child if there were too many without a step in between:
// then the device is sick, whatever is computed. The end of a child for want of memory does not count, since the next
// one takes less, until it is refused.
func (r *Runner) counts(f Fault) error {
	if f.Kind != FaultOfContext && f.Kind != FaultOfDevice {
		return nil
	}
	if r.faults.Add(1) < maxFaults {
		return nil
	}
	return fmt.Errorf("%w: %d faults of its device without a step in between: %w", engine.ErrFatal, maxFaults, f.Err)
}
