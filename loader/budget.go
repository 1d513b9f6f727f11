package loader

import (
	"fmt"
	"strings"

	"serve/engine/llama"
	"serve/machine"
)

// A budget is one pool of memory with the memory that a plan takes, and may take: a device's
// own memory, or the host's, including what devices without their own memory take there.
type budget struct {
	name    string
	plan    llama.DeviceMemory // summed
	free    uint64
	reserve uint64
	limit   uint64 // of --device-memory; 0 for none
	host    bool
}

// room returns the bytes that a plan may take.
func (b *budget) room() uint64 {
	room := b.free - min(b.free, b.reserve)
	if b.limit > 0 {
		room = min(room, b.limit)
	}
	return room
}

// fits reports whether the plan fits, including what may be allocated later.
func (b *budget) fits() bool { return b.plan.Most() <= b.room() }

// missing returns how many bytes the plan exceeds the budget by.
func (b *budget) missing() uint64 { return b.plan.Most() - min(b.plan.Most(), b.room()) }

// budgetsOf returns the budgets of a plan. A device that does not report its memory is left
// out: it is unknown whether it is full. The host comes last, if its memory is known.
func (o *ModelOptions) budgetsOf(m *llama.Memory) []budget {
	return budgetsWithin(m, o.Reserve, o.Limits)
}

// budgetsWithin is budgetsOf for limits alone.
func budgetsWithin(m *llama.Memory, reserve Reserve, limits DeviceLimits) []budget {
	var list []budget
	host := *m.Host()
	names := []string{host.Name}

	for _, d := range m.Devices[:len(m.Devices)-1] {
		b := budget{name: d.Name, plan: d, free: Usable(d), reserve: reserve.of(d), limit: limits.of(d)}
		if d.Unified {
			// Its driver may allow it less than the host has. The reserve is subtracted only once.
			b.reserve = reserve.More[d.Name]
			host.Weights += d.Weights
			host.KV += d.KV
			host.Compute += d.Compute
			host.Base += d.Base
			host.Later += d.Later
			host.Saved += d.Saved
			names = append(names, d.Name)
		}
		if !known(d) && b.limit > 0 {
			b.free = b.limit
			b.reserve = 0
		}
		if known(d) || b.limit > 0 {
			list = append(list, b)
		}
	}

	if known(host) {
		list = append(list, budget{
			name:    strings.Join(names, " and "),
			plan:    host,
			free:    Usable(host),
			reserve: reserve.of(host),
			limit:   limits.of(host),
			host:    true,
		})
	}
	return list
}

// known reports whether a device reports its memory: drivers that cannot say 0 of 0.
func known(d llama.DeviceMemory) bool { return d.Free > 0 || d.Total > 0 }

// Usable returns how many bytes a device has free. Some drivers report more than the device has.
func Usable(d llama.DeviceMemory) uint64 {
	if d.Total > 0 {
		return min(d.Free, d.Total)
	}
	return d.Free
}

// shortOf returns a budget that the plan exceeds, or nil.
func shortOf(list []budget) *budget {
	for i := range list {
		if !list[i].fits() {
			return &list[i]
		}
	}
	return nil
}

// cardsFit reports whether the plan fits in all memory except possibly the host's.
func cardsFit(list []budget) bool {
	short := shortOf(list)
	return short == nil || short.host
}

// hostShare returns the bytes of host memory that a plan may take, including unified devices.
func hostShare(m *llama.Memory) uint64 {
	var sum uint64
	for i, d := range m.Devices {
		if d.Unified || i == len(m.Devices)-1 {
			sum += d.Most()
		}
	}
	return sum
}

// describeParts describes the parts of a plan's memory on a device.
func describeParts(d llama.DeviceMemory) string {
	text := fmt.Sprintf("%s = %s weights + %s KV cache + %s compute", machine.FormatSize(d.Needs()),
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

// DescribeMemory describes a model's memory on a device, for display.
func DescribeMemory(d llama.DeviceMemory) string {
	text := describeParts(d)
	if d.Later > 0 {
		text += fmt.Sprintf(", and %s if embeddings are requested", machine.FormatSize(d.Later))
	}
	if d.Saved > 0 {
		text += fmt.Sprintf(", and up to %s for the prefix cache", machine.FormatSize(d.Saved))
	}
	if !known(d) {
		return text + "; free memory is not reported"
	}
	return fmt.Sprintf("%s; %s free", text, machine.FormatSize(Usable(d)))
}
