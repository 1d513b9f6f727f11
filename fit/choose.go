package fit

import (
	"math"
	"slices"
)

// Settings are what a plan must keep to, and what it may choose.
type Settings struct {
	Context   int  // tokens of a sequence
	Sequences int  // at the same time
	Cells     int  // in all; 0 for those that all sequences need, or as many of them as fit
	KeepCells bool // if Cells is 0, each sequence must have all of its own
	// Wanted cells are kept, if they can be, where experts have to lie in main memory anyway: a layer's experts more or
	// less cost little beside them.
	Wanted int

	Layers      int  // on GPUs, as llama.cpp counts them: the last ones, of which the output is one
	LayersGiven bool // Layers counts
	KeepWhole   bool // layers are not to be divided

	Split      []float32 // proportions of the layers on each GPU; empty to be chosen
	K, V       float64   // bytes of an element of a key, and of a value
	MicroBatch int       // tokens of a compute graph
}

// Part says what of layers on GPUs lies in main memory.
type Part int

// Kinds.
const (
	Nothing Part = iota
	Experts
	FFN
)

// Share is what a plan takes of a device, in bytes.
type Share struct {
	Device  string
	First   int   // the first of its layers
	Layers  int   // how many it has
	Moved   []int // those of its layers whose experts or feed-forward networks are in main memory
	Output  bool  // it has what comes after the last layer
	Weights uint64
	KV      uint64
	Compute uint64
	Base    uint64
	Room    uint64
}

// Needs is the sum.
func (s *Share) Needs() uint64 { return s.Weights + s.KV + s.Compute + s.Base }

// Plan is a decision.
type Plan struct {
	Cells   int // in all
	All     int // those that all sequences would need
	Context int
	Layers  int     // on GPUs, without the output
	Of      int     // layers of the model
	Part    Part    // of what is moved
	Devices []Share // of those GPUs that are used
	Host    Share
	PerStep uint64   // bytes of weights that a token reads in main memory, apart from the table of embeddings
	Unknown []string // used devices that do not report their memory
}

// Short says what a plan lacks: the error of a model that does not fit.
type Short struct {
	Share Share  // of the device that is too small, in the least plan
	Free  uint64 // of the device
}

// step is a way of placing a model: its last layers on GPUs, and of so many of these the experts, or the feed-forward
// networks, in main memory.
type step struct {
	layers int
	moved  int
	cells  int // at least
}

// planner chooses for one model on one machine.
type planner struct {
	model   *Model
	machine *Machine
	s       Settings
	rooms   []uint64
	part    Part
}

// Choose plans a model. It takes the first of these that fits:
//
//  1. all on GPUs, with as many KV cells as fit, at least those of one sequence;
//  2. the experts of as few layers as it takes in main memory, with Settings.Wanted cells, or else with fewer;
//  3. for models without experts, the feed-forward networks of as few layers as it takes;
//  4. fewer layers on GPUs, without their experts or feed-forward networks;
//  5. all on the CPU.
//
// If nothing fits, there is no plan, and short says what is missing.
func Choose(m *Model, machine *Machine, s Settings) (plan *Plan, short *Short) {
	p := &planner{model: m, machine: machine, s: s, rooms: machine.rooms()}
	p.part = FFN
	for _, l := range m.Layers {
		if l.Experts > 0 {
			p.part = Experts
		}
	}

	fewest, most := p.cells()
	for _, st := range p.steps() {
		least := p.place(st, min(most, max(fewest, st.cells)))
		if least == nil {
			continue
		}
		lack := p.lack(least)
		if lack == nil {
			return p.mostCells(st, least, most), nil
		}
		if st.cells > fewest {
			continue // with fewer cells, fewer experts have to be there
		}
		if p.s.LayersGiven || !p.unified() {
			return nil, lack // more in main memory would need more of it
		}
		break // without the GPU's buffers it may fit
	}
	if p.s.LayersGiven && p.s.Layers != 0 && len(machine.Devices) > 0 {
		return nil, p.shortDevice(fewest)
	}

	none := p.place(step{}, fewest)
	if lack := p.lack(none); lack != nil {
		return nil, lack
	}
	return p.mostCells(step{}, none, most), nil
}

// unified reports whether a GPU has the host's memory.
func (p *planner) unified() bool {
	return slices.ContainsFunc(p.machine.Devices, func(d Device) bool { return d.Unified })
}

// cells returns the least and the most cells that there may be.
func (p *planner) cells() (least, most int) {
	all := p.s.Context * p.s.Sequences
	switch {
	case p.s.Cells > 0:
		return p.s.Cells, p.s.Cells
	case p.s.KeepCells:
		return all, all
	}
	return p.s.Context, all
}

// steps lists the ways to use GPUs, the best first.
func (p *planner) steps() (list []step) {
	n := len(p.model.Layers)
	if len(p.machine.Devices) == 0 || n == 0 {
		return nil
	}
	if p.s.LayersGiven {
		if p.s.Layers == 0 {
			return nil
		}
		if p.s.Layers > 0 {
			n = min(n, p.s.Layers-1)
		}
		return []step{{layers: n}}
	}

	movable := 0
	for i := range p.model.Layers {
		if !p.s.KeepWhole && p.movable(i) > 0 {
			movable++
		}
	}
	list = append(list, step{layers: n})
	if p.part == Experts {
		for moved := range movable {
			list = append(list, step{layers: n, moved: moved + 1, cells: p.s.Wanted})
		}
	}
	for moved := range movable {
		list = append(list, step{layers: n, moved: moved + 1})
	}
	for layers := n - 1; layers > 0; layers-- {
		moved := 0
		for i := n - layers; i < n && !p.s.KeepWhole; i++ {
			if p.movable(i) > 0 {
				moved++
			}
		}
		list = append(list, step{layers: layers, moved: moved})
	}
	return list
}

// movable returns the bytes of a layer that can lie in main memory while a GPU computes the layer.
func (p *planner) movable(layer int) uint64 {
	if p.part == Experts {
		return p.model.Layers[layer].Experts
	}
	return p.model.Layers[layer].FFN
}

// mostCells returns the plan with as many cells as fit, where that with the least fits.
func (p *planner) mostCells(st step, least *Plan, most int) *Plan {
	best := least
	low := least.Cells
	for high := most; low < high; {
		cells := low + (high-low+1)/2
		if rounded := cells &^ 255; rounded > low && cells < most {
			cells = rounded
		}
		plan := p.place(st, cells)
		if plan != nil && p.lack(plan) == nil {
			best = plan
			low = cells
		} else {
			high = cells - 1
		}
	}
	if best.Cells < most && best.Cells > least.Cells {
		if rounded := p.place(st, max(least.Cells, best.Cells&^255)); rounded != nil {
			return rounded
		}
	}
	return best
}

// kv returns the bytes of the cells and states of a layer.
func (p *planner) kv(layer, cells int) uint64 {
	l := &p.model.Layers[layer]
	return uint64(float64(cells)*(float64(l.K)*p.s.K+float64(l.V)*p.s.V)) + l.State*uint64(p.s.Sequences)
}

// compute estimates the buffers of a graph on a device, with so many cells: intermediate results, attention's mask, and
// a copy of the largest matrix in main memory, which GPUs fetch for long prompts.
func (p *planner) compute(cells int, largest uint64) uint64 {
	rows := uint64(p.s.MicroBatch)
	results := rows * 4 * uint64(6*p.model.Width+2*p.model.Inner)
	seen := cells
	if all := p.s.Context * p.s.Sequences; cells >= all {
		seen = p.s.Context // each sequence has a buffer of its own
	}
	logits := uint64(p.s.Sequences) * uint64(p.model.Vocabulary) * 4
	return results + 4*rows*uint64(seen) + logits + 2*largest
}

// place places a model as a step says; nil if it does not fit on the GPUs. What the host lacks is for lack to say.
func (p *planner) place(st step, cells int) *Plan {
	plan := &Plan{
		Cells:   cells,
		All:     p.s.Context * p.s.Sequences,
		Context: p.s.Context,
		Layers:  st.layers,
		Of:      len(p.model.Layers),
	}
	if st.layers > 0 && !p.spread(plan, st) {
		return nil
	}
	if st.moved > 0 {
		plan.Part = p.part
	}
	p.addHost(plan)
	return plan
}

// spread gives each GPU its layers. It reports whether they have room.
func (p *planner) spread(plan *Plan, st step) bool {
	n := len(p.model.Layers)
	first := n - st.layers
	var largest uint64
	for i := range p.model.Layers {
		if i < first || st.moved > 0 {
			largest = max(largest, p.model.Layers[i].Largest)
		}
	}
	compute := p.compute(plan.Cells, largest)

	// What every GPU that has layers must hold of each, and the output after the last.
	loads := make([]uint64, 0, st.layers+1)
	for i := first; i < n; i++ {
		load := p.model.Layers[i].weights() + p.kv(i, plan.Cells)
		if st.moved > 0 {
			load -= p.movable(i)
		}
		loads = append(loads, load)
	}
	loads = append(loads, p.model.Output+p.model.Copied)

	rooms := slices.Clone(p.rooms)
	for i := range rooms {
		rooms[i] -= min(rooms[i], compute)
	}
	if len(rooms) > 0 {
		rooms[0] -= min(rooms[0], p.model.Projector)
	}
	counts := p.divide(loads, rooms)
	if counts == nil {
		return false
	}

	slack := make([]uint64, len(counts))
	at := first
	for d, count := range counts {
		share := p.share(d, at, count, plan.Cells, st.moved > 0)
		share.Compute = compute
		if d == 0 {
			share.Weights += p.model.Projector
		}
		at += share.Layers
		if count > 0 {
			slack[d] = share.Room - min(share.Room, share.Needs())
		}
		plan.Devices = append(plan.Devices, share)
	}
	if st.moved > 0 && !p.keep(plan, slack, st.moved) {
		return false
	}
	plan.Devices = slices.DeleteFunc(plan.Devices, func(s Share) bool { return s.Layers == 0 && !s.Output })
	return true
}

// share returns what a GPU takes of the layers from at on, of which count may be the output; without buffers.
func (p *planner) share(d, at, count, cells int, moved bool) Share {
	device := &p.machine.Devices[d]
	n := len(p.model.Layers)
	s := Share{Device: device.Name, First: at, Layers: min(count, n-at), Base: device.Base, Room: p.rooms[d] + device.Base}
	for i := at; i < at+s.Layers; i++ {
		s.Weights += p.model.Layers[i].weights()
		s.KV += p.kv(i, cells)
		if moved && p.movable(i) > 0 {
			s.Weights -= p.movable(i)
			s.Moved = append(s.Moved, i)
		}
	}
	if s.Output = count > s.Layers; s.Output {
		s.Weights += p.model.Output + p.model.Copied
	}
	return s
}

// keep puts the experts of all but so many layers back on the GPUs. It reports whether they have room.
func (p *planner) keep(plan *Plan, slack []uint64, moved int) bool {
	left := -moved
	for _, s := range plan.Devices {
		left += len(s.Moved)
	}
	for ; left > 0; left-- {
		best := -1
		for d := range plan.Devices {
			s := &plan.Devices[d]
			if n := len(s.Moved); n == 0 || p.movable(s.Moved[n-1]) > slack[d] {
				continue
			}
			if best < 0 || slack[d] > slack[best] {
				best = d
			}
		}
		if best < 0 {
			return false
		}

		s := &plan.Devices[best]
		last := len(s.Moved) - 1
		bytes := p.movable(s.Moved[last])
		s.Moved = s.Moved[:last]
		s.Weights += bytes
		slack[best] -= bytes
	}
	return true
}

// divide divides loads among GPUs, in order, so that the fullest has as much room left as can be, in proportion. It
// returns how many each gets; nil if there is no room.
func (p *planner) divide(loads, rooms []uint64) []int {
	if len(p.s.Split) > 0 {
		return p.divideAsGiven(loads, rooms)
	}
	if fill(loads, rooms, 1) == nil {
		return nil
	}
	low := 0.0
	high := 1.0
	for range 30 {
		if middle := (low + high) / 2; fill(loads, rooms, middle) != nil {
			high = middle
		} else {
			low = middle
		}
	}
	return fill(loads, rooms, high)
}

// fill gives each GPU in turn as many loads as fit into a part of its room; nil if some are left.
func fill(loads, rooms []uint64, part float64) []int {
	counts := make([]int, len(rooms))
	next := 0
	for d, room := range rooms {
		left := uint64(float64(room) * part)
		for next < len(loads) && loads[next] <= left {
			left -= loads[next]
			counts[d]++
			next++
		}
	}
	if next < len(loads) {
		return nil
	}
	return counts
}

// divideAsGiven divides loads by given proportions, as llama.cpp does.
func (p *planner) divideAsGiven(loads, rooms []uint64) []int {
	var sum float32
	ends := make([]float32, len(rooms))
	for d := range rooms {
		if d < len(p.s.Split) {
			sum += p.s.Split[d]
		}
		ends[d] = sum
	}

	counts := make([]int, len(rooms))
	left := slices.Clone(rooms)
	for i, load := range loads {
		at := float32(i) / float32(len(loads))
		d := slices.IndexFunc(ends, func(end float32) bool { return end/sum > at })
		if d < 0 || load > left[d] {
			return nil
		}
		left[d] -= load
		counts[d]++
	}
	return counts
}

// addHost adds what a plan takes of main memory.
func (p *planner) addHost(plan *Plan) {
	host := &p.machine.Host
	h := Share{Device: host.Name, Base: host.Base, Weights: p.model.Input, Room: host.Room()}
	plan.PerStep = p.model.Away
	first := len(p.model.Layers) - plan.Layers
	for i := range first {
		l := &p.model.Layers[i]
		h.Weights += l.weights()
		h.KV += p.kv(i, plan.Cells)
		plan.PerStep += l.Rest + l.FFN + p.usedOf(l.Experts)
	}
	if len(plan.Devices) == 0 {
		h.Weights += p.model.Output + p.model.Projector
		plan.PerStep += p.model.Output + p.model.Copied
	}

	h.Compute = p.compute(plan.Cells, 0)
	for i := range plan.Devices {
		s := &plan.Devices[i]
		for _, layer := range s.Moved {
			h.Weights += p.movable(layer)
			if p.part == Experts {
				plan.PerStep += p.usedOf(p.movable(layer))
			} else {
				plan.PerStep += p.movable(layer)
			}
		}
		d := p.device(s.Device)
		h.Base += d.HostBase
		if !d.Known() {
			plan.Unknown = append(plan.Unknown, d.Name)
		}
	}
	h.Layers = first
	plan.Host = h
}

// usedOf returns how many bytes of experts a token reads.
func (p *planner) usedOf(experts uint64) uint64 {
	return uint64(math.Round(float64(experts) * p.model.Used))
}

func (p *planner) device(name string) *Device {
	for i := range p.machine.Devices {
		if p.machine.Devices[i].Name == name {
			return &p.machine.Devices[i]
		}
	}
	return &p.machine.Host
}

// lack returns what main memory lacks for a plan, with the GPUs whose memory it is; nil if it has room or does not
// report it.
func (p *planner) lack(plan *Plan) *Short {
	host := &p.machine.Host
	all := plan.Host
	for _, s := range plan.Devices {
		if p.device(s.Device).Unified {
			all.Weights += s.Weights
			all.KV += s.KV
			all.Compute += s.Compute
			all.Base += s.Base
			all.Device += " and " + s.Device
		}
	}
	if all.Needs() <= host.Room() || !host.Known() && host.Limit == 0 {
		return nil
	}
	return &Short{Share: all, Free: host.Usable()}
}

// shortDevice says what the largest GPU lacks for the layers that it must have.
func (p *planner) shortDevice(cells int) *Short {
	largest := 0
	for i := range p.rooms {
		if p.rooms[i] > p.rooms[largest] {
			largest = i
		}
	}
	st := p.steps()[0]
	s := p.share(largest, len(p.model.Layers)-st.layers, st.layers+1, cells, false)
	s.Compute = p.compute(cells, 0)
	return &Short{Share: s, Free: p.machine.Devices[largest].Usable()}
}
