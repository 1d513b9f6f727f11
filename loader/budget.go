package loader

import (
	"fmt"
	"strings"

	"serve/engine/llama"
	"serve/machine"
)

// A budget is one pool of memory, what a plan takes of it, and what it may take: a device's own
// memory, or the host's, with all that devices without memory of their own take of that.
type budget struct {
	name    string
	plan    llama.DeviceMemory // summed
	free    uint64
	reserve uint64
	host    bool
}

// room returns what a plan may take.
func (b *budget) room() uint64 { return b.free - min(b.free, b.reserve) }

// fits reports whether the plan, with all that may come later, has room.
func (b *budget) fits() bool { return b.plan.Most() <= b.room() }

// missing returns how many bytes the plan lacks.
func (b *budget) missing() uint64 { return b.plan.Most() - min(b.plan.Most(), b.room()) }

// budgetsOf says what a plan takes of which memory. A device that does not say how much it has
// is left out: nobody can tell whether it is full. The host comes last, if it is known.
func budgetsOf(m *llama.Memory, reserve Reserve) []budget {
	var list []budget
	host := *m.Host()
	names := []string{host.Name}

	for _, d := range m.Devices[:len(m.Devices)-1] {
		b := budget{name: d.Name, plan: d, free: Usable(d), reserve: reserve.of(d)}
		if d.Unified {
			// Its driver may allow it less than the host has. What both leave free is left once.
			b.reserve = 0
			host.Weights += d.Weights
			host.KV += d.KV
			host.Compute += d.Compute
			host.Base += d.Base
			host.Later += d.Later
			names = append(names, d.Name)
		}
		if known(d) {
			list = append(list, b)
		}
	}

	if known(host) {
		list = append(list, budget{
			name:    strings.Join(names, " and "),
			plan:    host,
			free:    Usable(host),
			reserve: reserve.of(host),
			host:    true,
		})
	}
	return list
}

// known reports whether a device says how much memory it has: drivers that cannot tell say 0 of 0.
func known(d llama.DeviceMemory) bool { return d.Free > 0 || d.Total > 0 }

// Usable returns how many bytes a device has free. Some drivers say more than there is.
func Usable(d llama.DeviceMemory) uint64 {
	if d.Total > 0 {
		return min(d.Free, d.Total)
	}
	return d.Free
}

// shortOf returns a budget that the plan does not fit, or nil.
func shortOf(list []budget) *budget {
	for i := range list {
		if !list[i].fits() {
			return &list[i]
		}
	}
	return nil
}

// cardsFit reports whether the plan fits all memory but the host's.
func cardsFit(list []budget) bool {
	short := shortOf(list)
	return short == nil || short.host
}

// hostShare returns what a plan may take of the host's memory, that of unified devices included.
func hostShare(m *llama.Memory) uint64 {
	var sum uint64
	for i, d := range m.Devices {
		if d.Unified || i == len(m.Devices)-1 {
			sum += d.Most()
		}
	}
	return sum
}

// describeParts says what a plan takes of a device, and what for.
func describeParts(d llama.DeviceMemory) string {
	text := fmt.Sprintf("%s = %s weights + %s KV cells + %s compute", machine.FormatSize(d.Needs()),
		machine.FormatSize(d.Weights), machine.FormatSize(d.KV), machine.FormatSize(d.Compute))
	if d.Base > 0 {
		what := "process"
		if d.Type != "cpu" {
			what = "context"
		}
		text += fmt.Sprintf(" + %s %s", machine.FormatSize(d.Base), what)
	}
	return text
}

// DescribeMemory says what a model takes of a device's memory, for a person.
func DescribeMemory(d llama.DeviceMemory) string {
	text := describeParts(d)
	if d.Later > 0 {
		text += fmt.Sprintf(", and %s if embeddings are requested", machine.FormatSize(d.Later))
	}
	if !known(d) {
		return text + "; free memory is not reported"
	}
	return fmt.Sprintf("%s; %s free", text, machine.FormatSize(Usable(d)))
}
