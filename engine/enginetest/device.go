package enginetest

import (
	"slices"
	"time"

	"serve/engine"
)

// Device says how long a machine would compute. Its Step is for Options.BeforeDecode: it only sleeps, so in a bubble of
// testing/synctest a fake computes with a machine's timings in virtual time. It belongs to one fake at a time.
type Device struct {
	Name string

	// Graphs is what one graph takes, by its tokens in ascending order; between two of them lies a line.
	Graphs []Graph

	// Row is what drawing a token takes besides: the output layer, and the sampler on the processor.
	Row time.Duration

	// Attend is what a token takes for each 1000 tokens before it in its sequence, where fewer than 64 tokens of the
	// sequence are in the graph, and AttendMany where there are more.
	Attend, AttendMany time.Duration

	// Cross is what a token takes for each 1000 cells of other sequences, where all share a buffer.
	Cross time.Duration

	Counts Counts // of all steps so far
}

// Graph is what one pass over a model's weights takes.
type Graph struct {
	Tokens int
	Took   time.Duration
}

// Counts is what a device has computed.
type Counts struct {
	Steps  int
	Graphs int
}

// many is the tokens of a sequence in a graph from which on its attention is computed as a product of matrices.
const many = 64

// Largest returns the tokens that a graph can have.
func (d *Device) Largest() int { return d.Graphs[len(d.Graphs)-1].Tokens }

// GraphTime returns what a graph of n tokens takes.
func (d *Device) GraphTime(n int) time.Duration {
	i, found := slices.BinarySearchFunc(d.Graphs, n, func(g Graph, n int) int { return g.Tokens - n })
	if found || i == 0 {
		return d.Graphs[i].Took
	}
	below := d.Graphs[i-1]
	above := d.Graphs[i]
	part := float64(n-below.Tokens) / float64(above.Tokens-below.Tokens)
	return below.Took + time.Duration(part*float64(above.Took-below.Took))
}

// AttendTime returns what n tokens of a sequence take for those before them in one graph.
func (d *Device) AttendTime(before, n int) time.Duration {
	each := d.Attend
	if n >= many {
		each = d.AttendMany
	}
	return time.Duration(float64(each) * (float64(before) + float64(n)/2) * float64(n) / 1000)
}

// Timed returns o with a runner that computes as slowly as the device.
func (d *Device) Timed(o Options) Options {
	held := make([]int, o.Limits.Sequences)
	o.BeforeDecode = func(b *engine.Batch) error {
		time.Sleep(d.step(b, o.Limits.Shared, held))
		return nil
	}
	return o
}

// run is the tokens of a sequence that follow each other in a batch.
type run struct {
	sequence int
	before   int // tokens of the sequence
	n        int
}

// step returns what a batch takes, and notes how many cells each sequence then holds. What is no longer needed counts
// until its slot is used again.
func (d *Device) step(b *engine.Batch, shared bool, held []int) time.Duration {
	var runs []run
	rows := 0
	for i, seq := range b.Sequences {
		if i == 0 || b.Sequences[i-1] != seq {
			runs = append(runs, run{sequence: int(seq), before: int(b.Positions[i])})
		}
		runs[len(runs)-1].n++
		rows += int(b.Outputs[i])
		held[seq] = int(b.Positions[i]) + 1
	}

	cells := 0
	split := splitEqual
	if shared {
		split = splitSimple
		for _, n := range held {
			cells += n
		}
	}

	d.Counts.Steps++
	took := time.Duration(rows) * d.Row
	for len(runs) > 0 {
		var graph []run
		graph, runs = split(runs, d.Largest())
		took += d.runTime(graph, cells)
	}
	return took
}

// runTime returns what a graph takes, where all sequences of a shared buffer hold so many cells.
func (d *Device) runTime(graph []run, cells int) time.Duration {
	d.Counts.Graphs++
	tokens := 0
	var took time.Duration
	for _, r := range graph {
		tokens += r.n
		took += d.AttendTime(r.before, r.n)
		others := max(cells-r.before-r.n, 0)
		took += time.Duration(float64(d.Cross) * float64(others) * float64(r.n) / 1000)
	}
	return took + d.GraphTime(tokens)
}

// splitSimple takes the first tokens, whose ever they are, as llama.cpp does where all sequences share a buffer.
func splitSimple(runs []run, largest int) (graph, rest []run) {
	for len(runs) > 0 && largest > 0 {
		r := &runs[0]
		n := min(r.n, largest)
		largest -= n
		graph = append(graph, run{r.sequence, r.before, n})
		r.before += n
		r.n -= n
		if r.n == 0 {
			runs = runs[1:]
		}
	}
	return graph, runs
}

// splitEqual takes equally many tokens of the first sequence and of those whose numbers follow its own, as many as the
// shortest of them has left, as llama.cpp does where each sequence has a buffer of its own.
func splitEqual(runs []run, largest int) (graph, rest []run) {
	together := 1
	n := runs[0].n
	for together < min(len(runs), largest) && runs[together].sequence == runs[together-1].sequence+1 {
		n = min(n, runs[together].n)
		together++
	}

	n = min(n, largest/together)
	for i, r := range runs {
		if i < together {
			graph = append(graph, run{r.sequence, r.before, n})
			r.before += n
			r.n -= n
		}
		if r.n > 0 {
			rest = append(rest, r)
		}
	}
	return graph, rest
}
