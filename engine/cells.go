package engine

import "math"

// cells accounts for the KV cells of a buffer that sequences share: which
// sequence holds which, and which several hold because one was copied from
// another. When every sequence has a buffer of its own there is nothing to
// account for, and every method says that there is room.
type cells struct {
	refs []int32   // by cell: sequences that hold it; nil when nothing is shared
	free []int32   // cells that none holds
	held [][]int32 // by sequence: its cells in order of position
}

func newCells(l Limits) cells {
	c := cells{held: make([][]int32, l.Sequences)}
	if !l.Shared {
		return c
	}
	c.refs = make([]int32, l.Cells)
	for i := range l.Cells {
		c.free = append(c.free, int32(i))
	}
	return c
}

// room returns how many cells are free.
func (c *cells) room() int {
	if c.refs == nil {
		return math.MaxInt
	}
	return len(c.free)
}

// grow gives a sequence n more cells; there must be room.
func (c *cells) grow(seq, n int) {
	if c.refs == nil {
		return
	}
	from := len(c.free) - n
	for _, cell := range c.free[from:] {
		c.refs[cell] = 1
		c.held[seq] = append(c.held[seq], cell)
	}
	c.free = c.free[:from]
}

// trim leaves a sequence its first n cells.
func (c *cells) trim(seq, n int) {
	if c.refs == nil {
		return
	}
	for _, cell := range c.held[seq][n:] {
		if c.refs[cell]--; c.refs[cell] == 0 {
			c.free = append(c.free, cell)
		}
	}
	c.held[seq] = c.held[seq][:n]
}

// copy makes dst hold what src holds.
func (c *cells) copy(src, dst int) {
	if c.refs == nil {
		return
	}
	c.trim(dst, 0)
	for _, cell := range c.held[src] {
		c.refs[cell]++
	}
	c.held[dst] = append(c.held[dst], c.held[src]...)
}

// alone returns how many cells would be free if the sequence were dropped.
func (c *cells) alone(seq int) int {
	n := 0
	for _, cell := range c.held[seq] {
		if c.refs[cell] == 1 {
			n++
		}
	}
	return n
}
