package fit

import (
	"fmt"
	"strings"

	"serve/machine"
)

// Choice says in a few words where a model lies.
func (p *Plan) Choice() string {
	text := "all on the CPU"
	if len(p.Devices) > 0 {
		text = fmt.Sprintf("%s on %s", p.layers(), p.devices())
	}
	if n := p.moved(); n > 0 {
		what := "the experts"
		if p.Part == FFN {
			what = "the feed-forward networks"
		}
		of := "all"
		if n < p.Layers {
			of = fmt.Sprint(n)
		}
		text += fmt.Sprintf(" but %s of %s of them", what, of)
	}
	if p.Cells < p.All {
		text += fmt.Sprintf("; %d of %d KV cells", p.Cells, p.All)
	}
	return text
}

// layers says how many layers are on GPUs.
func (p *Plan) layers() string {
	if p.Layers == p.Of {
		return fmt.Sprintf("all %d layers", p.Of)
	}
	return fmt.Sprintf("%d of %d layers", p.Layers, p.Of)
}

// devices names the GPUs, with their layers if there are several.
func (p *Plan) devices() string {
	if len(p.Devices) == 1 {
		return p.Devices[0].Device
	}
	var list []string
	for _, s := range p.Devices {
		if s.Layers == 0 && !s.Output {
			list = append(list, s.Device)
			continue
		}
		list = append(list, fmt.Sprintf("%s (%d)", s.Device, s.Layers))
	}
	return strings.Join(list, ", ")
}

// moved returns of how many layers on GPUs something is in main memory.
func (p *Plan) moved() (n int) {
	for _, s := range p.Devices {
		n += len(s.Moved)
	}
	return n
}

// Cost says what a plan costs in comparison with a machine that has room for all; empty for nothing.
func (p *Plan) Cost() string {
	var costs []string
	if len(p.Devices) > 0 && p.PerStep > 0 {
		costs = append(costs, fmt.Sprintf("each token reads %s of weights in main memory", machine.FormatSize(p.PerStep)))
	}
	if p.Cells < p.All {
		costs = append(costs, fmt.Sprintf("at most %s of full length at the same time",
			count(max(1, p.Cells/max(1, p.Context)), "request")))
	}
	for _, name := range p.Unknown {
		costs = append(costs, name+" does not report its memory, so whether it fits is unknown")
	}
	return strings.Join(costs, ", and ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// String is the plan and its cost in one line.
func (p *Plan) String() string {
	if cost := p.Cost(); cost != "" {
		return p.Choice() + ": " + cost
	}
	return p.Choice()
}
