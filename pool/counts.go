package pool

import (
	"time"

	"serve/engine"
	"serve/kernels"
)

// Counts are the totals of a model's engines so far, and the state of the present one.
type Counts struct {
	engine.Stats
	Loaded   bool
	Asleep   bool // as Pool.Asleep has it
	Bytes    uint64
	Loads    int
	LoadTime time.Duration
	Process  ProcessUse
	Kernels  kernels.Choice
	Memory   []MemoryUse
	Devices  []DeviceInfo
	// WhyProcessor says why no GPU is used though there is one.
	WhyProcessor string
}

// Waiting returns how many requests have a place in the queue of a model that is in memory, by client.
func (p *Pool) Waiting() map[string]int {
	waiting := map[string]int{}
	for _, e := range p.engines() {
		for client, n := range e.Waiting() {
			waiting[client] += n
		}
	}
	return waiting
}

// Counts returns the counts of a model.
func (p *Pool) Counts(m *Model) Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slot(m)
	c := Counts{Loaded: s.instance != nil, Asleep: s.asleep, Loads: s.loads, LoadTime: s.loadTime}
	c.Add(s.past)
	for _, in := range s.ending {
		c.Add(in.Engine.Stats())
	}

	if c.Loaded {
		now := s.instance.Engine.Stats()
		c.Add(now)
		c.Present = now.Present
		c.Bytes = s.instance.Bytes
		c.Kernels = s.instance.Kernels
		if s.instance.Devices != nil {
			c.Devices, c.WhyProcessor = s.instance.Devices()
		}
		if s.instance.Process != nil {
			c.Process = s.instance.Process()
		}
		if s.instance.Memory != nil {
			c.Memory = s.instance.Memory()
		}
	}

	return c
}
