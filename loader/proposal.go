package loader

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"

	"serve/engine/llama"
	"serve/fit"
	"serve/models"
)

// factsOf returns what the header of a model in these files says to package fit. Tensors that were said to lie in main
// memory count as such that always do.
func factsOf(h *models.Header, parts []string, o *ModelOptions) (*fit.Model, error) {
	tensors := h.Tensors
	for _, part := range parts[min(1, len(parts)):] {
		more, err := models.ReadHeader(part)
		if err != nil {
			return nil, err
		}
		tensors = append(slices.Clip(tensors), more.Tensors...)
	}

	var patterns []*regexp.Regexp
	for _, override := range o.placement().Overrides {
		pattern, err := regexp.Compile(override.Pattern)
		if err != nil {
			return nil, badOption("--override-tensor: %v", err)
		}
		patterns = append(patterns, pattern)
	}
	away := func(name string) bool {
		return slices.ContainsFunc(patterns, func(r *regexp.Regexp) bool { return r.MatchString(name) })
	}
	return fit.ModelOf(h, tensors, away), nil
}

// proposals is how often a plan is proposed anew with what was measured of the one before.
const proposals = 6

// propose has package fit place a model that does not fit on the GPUs whole: it decides by estimates, and what is taken
// is measured. A proposal that takes more than there is is made again with what its estimate lacked; one that is not
// measured to fit is never used. The memory is nil if there is no such proposal. whole is what all of the model takes.
func (p *planner) propose(lo *llama.Options, whole *llama.Memory) (*llama.Memory, error) {
	if p.facts == nil || p.o.SplitMode == llama.SplitRow || p.o.SplitMode == llama.SplitTensor {
		return nil, nil
	}

	on := p.o.fitMachine(whole)
	model, s := p.calibrated(*lo, whole)
	for range proposals {
		plan, _ := fit.Choose(model, on, s)
		if plan == nil {
			return nil, nil // the measured sizes say what is missing
		}

		next := p.asProposed(*lo, plan, on)
		memory, err := p.measure(next)
		if err != nil {
			return nil, err
		}
		if shortOf(p.o.budgetsOf(memory)) == nil {
			*lo = next
			p.proposed = plan
			return memory, nil
		}
		if !correct(on, plan, memory) {
			return nil, nil
		}
	}
	return nil, nil
}

// fitMachine describes the devices of a plan to package fit. What is taken of them besides weights, cells and buffers
// is their base, and so is what may be taken later.
func (o *ModelOptions) fitMachine(m *llama.Memory) *fit.Machine {
	describe := func(d llama.DeviceMemory) fit.Device {
		return fit.Device{
			Name:    d.Name,
			Unified: d.Unified,
			Free:    d.Free,
			Total:   d.Total,
			Reserve: o.Reserve.of(d),
			Limit:   o.Limits.of(d),
			Base:    d.Base + d.Later,
		}
	}

	last := len(m.Devices) - 1
	on := &fit.Machine{Host: describe(m.Devices[last])}
	for _, d := range m.Devices[:last] {
		device := describe(d)
		if d.Unified {
			device.Reserve = o.Reserve.More[d.Name] // the rest is subtracted once, of the host's
		}
		if hasContext(&d) {
			device.HostBase = contextHostMemory
			on.Host.Base -= min(on.Host.Base, contextHostMemory)
		}
		on.Devices = append(on.Devices, device)
	}
	return on
}

// calibrated returns the model and the settings for package fit, whose KV cells take what was measured.
func (p *planner) calibrated(lo llama.Options, whole *llama.Memory) (*fit.Model, fit.Settings) {
	s := fit.Settings{
		Context:    lo.Context,
		Sequences:  lo.Sequences,
		Cells:      p.o.Cells,
		KeepCells:  !p.shrink || p.o.Reproducible,
		Wanted:     agentContext,
		KeepWhole:  p.o.placed(),
		Split:      p.o.TensorSplit,
		K:          bytesOfElement(lo.KVType),
		V:          bytesOfElement(cmp.Or(lo.VType, lo.KVType)),
		MicroBatch: cmp.Or(lo.MicroBatch, lo.Batch, mostAtOnce),
	}

	model := *p.facts
	var kv uint64
	for _, d := range whole.Devices {
		kv += d.KV
	}

	if estimate := model.KV(s); estimate > 0 {
		factor := float64(kv) / float64(estimate)
		s.K *= factor
		s.V *= factor
	} else if n := len(model.Layers); n > 0 {
		model.Layers = slices.Clone(model.Layers)
		cells := float64(max(lo.Cells, lo.Context*lo.Sequences))
		for i := range model.Layers {
			model.Layers[i].K = int(float64(kv) / cells / s.K / float64(n))
		}
	}
	return &model, s
}

// bytesOfElement returns the size of an element of a KV cell.
func bytesOfElement(kvType string) float64 {
	switch kvType {
	case "q8_0":
		return 34.0 / 32
	case "q4_0":
		return 18.0 / 32
	}
	return 2
}

// asProposed returns options that place a model as a plan says.
func (p *planner) asProposed(lo llama.Options, plan *fit.Plan, on *fit.Machine) llama.Options {
	if plan.Cells < plan.All {
		lo.Cells = plan.Cells
	}
	if len(plan.Devices) == 0 {
		lo.Model.GPULayers = 0
		lo.Model.CPUOnly = true
		return lo
	}

	var moved []int
	lo.Model.GPULayers = plan.Layers + 1
	for _, s := range plan.Devices {
		moved = append(moved, s.Moved...)
	}
	if len(moved) > 0 {
		tensors := fit.ExpertTensors
		if plan.Part == fit.FFN {
			tensors = fit.FFNTensors
		}
		override := llama.TensorOverride{Pattern: layersPattern(moved, tensors), Device: llama.CPU}
		lo.Model.Overrides = append(slices.Clone(p.o.placement().Overrides), override)
	}
	if len(on.Devices) > 1 && len(p.o.TensorSplit) == 0 {
		lo.Model.Devices = nil
		lo.Model.TensorSplit = nil
		for _, s := range plan.Devices {
			count := s.Layers
			if s.Output {
				count++
			}
			lo.Model.Devices = append(lo.Model.Devices, s.Device)
			lo.Model.TensorSplit = append(lo.Model.TensorSplit, float32(count))
		}
	}
	if plan.Layers == plan.Of && len(moved) == 0 {
		lo.Model.GPULayers = -1
	}
	return lo
}

// correct adds to the devices' base what a plan takes more than was estimated. It reports whether it takes more.
func correct(on *fit.Machine, plan *fit.Plan, m *llama.Memory) (more bool) {
	estimates := map[string]uint64{plan.Host.Device: plan.Host.Needs()}
	for _, s := range plan.Devices {
		estimates[s.Device] = s.Needs()
	}
	of := func(name string) *fit.Device {
		for i := range on.Devices {
			if on.Devices[i].Name == name {
				return &on.Devices[i]
			}
		}
		return &on.Host
	}
	for _, d := range m.Devices {
		estimate, used := estimates[d.Name]
		if taken := d.Most(); used && taken > estimate {
			of(d.Name).Base += taken - estimate
			more = true
		}
	}
	return more
}

// Decision says how a model is placed, and what that costs.
type Decision struct {
	Choice string
	Cost   string // in comparison with a machine that has room for all; empty for nothing
}

// String is both, in one line.
func (d Decision) String() string {
	if d.Cost == "" {
		return d.Choice
	}
	return fmt.Sprintf("%s: %s", d.Choice, d.Cost)
}

// decision describes a plan.
func (p *planner) decision(lo llama.Options, m *llama.Memory) Decision {
	if m == nil || p.facts == nil {
		return Decision{}
	}
	plan := p.proposed
	if plan == nil {
		plan = p.facts.Placed(lo.Model.GPULayers, usedGPUs(m))
		plan.All = p.firstContext() * lo.Sequences
	}
	plan.Context = lo.Context
	plan.Cells = plan.All
	if lo.Cells > 0 {
		plan.Cells = min(lo.Cells, plan.All) // a longer context than was asked for is no loss
	}
	return Decision{Choice: plan.Choice(), Cost: plan.Cost()}
}

// usedGPUs returns the GPUs that have a part of a model.
func usedGPUs(m *llama.Memory) (list []fit.Device) {
	for _, d := range m.Devices[:len(m.Devices)-1] {
		if d.Weights+d.KV > 0 {
			list = append(list, fit.Device{Name: d.Name, Free: d.Free, Total: d.Total})
		}
	}
	return list
}
