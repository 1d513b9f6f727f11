package schema

import (
	"errors"
	"slices"
	"unicode"

	"serve/steps"
)

// dfa is a deterministic automaton over characters: a set of strings. State 0 is
// the first. What no edge takes is not in the set.
type dfa struct {
	edges  [][]edge // by state, in order, without overlap
	accept []bool
}

type edge struct {
	span
	to int
}

// Limits on one automaton; what needs more is not enforced.
const (
	maxStates         = 4000
	maxAutomatonSteps = 1_000_000
)

var errTooLarge = errors.New("the string constraints are too complex")

const maxRune = unicode.MaxRune

// anything is the automaton of all strings.
func anything() *dfa { return &dfa{edges: [][]edge{{{span{0, maxRune}, 0}}}, accept: []bool{true}} }

// lengths is the automaton of all strings of low to high characters; high < 0
// for no limit.
func lengths(low, high int, budget *steps.Budget) (*dfa, error) {
	n := max(low, high) + 1
	if n > maxStates {
		return nil, errTooLarge
	}
	if err := budget.Spend(n); err != nil {
		return nil, err
	}

	d := &dfa{edges: make([][]edge, n), accept: make([]bool, n)}
	for i := range n {
		d.accept[i] = i >= low
		if i+1 < n {
			d.edges[i] = []edge{{span{0, maxRune}, i + 1}}
		}
	}
	if high < 0 {
		d.edges[n-1] = []edge{{span{0, maxRune}, n - 1}}
	}
	return d, nil
}

// words is the automaton of a set of strings.
func words(list []string, budget *steps.Budget) (*dfa, error) {
	d := &dfa{edges: [][]edge{nil}, accept: []bool{false}}
	// In order, so that what a word shares with those before it is at the end of each state's edges.
	for _, w := range slices.Sorted(slices.Values(list)) {
		if err := budget.Spend(1 + len(w)); err != nil {
			return nil, err
		}

		s := 0
		for _, r := range w {
			last := len(d.edges[s]) - 1
			if last < 0 || d.edges[s][last].lo != r {
				d.edges = append(d.edges, nil)
				d.accept = append(d.accept, false)
				d.edges[s] = append(d.edges[s], edge{span{r, r}, len(d.edges) - 1})
				last++
			}
			s = d.edges[s][last].to
		}
		d.accept[s] = true
	}
	return d, nil
}

// has says whether a string is in the set.
func (d *dfa) has(s string) bool {
	state := 0
	for _, r := range s {
		i, found := slices.BinarySearchFunc(d.edges[state], r, func(e edge, r rune) int {
			switch {
			case e.hi < r:
				return -1
			case e.lo > r:
				return 1
			}
			return 0
		})
		if !found {
			return false
		}
		state = d.edges[state][i].to
	}
	return d.accept[state]
}

// complement is every string that is not in the set.
func (d *dfa) complement() *dfa {
	sink := len(d.edges)
	c := &dfa{edges: make([][]edge, sink+1), accept: make([]bool, sink+1)}
	for s := range sink {
		c.accept[s] = !d.accept[s]
		next := rune(0)
		for _, e := range d.edges[s] {
			if e.lo > next {
				c.edges[s] = append(c.edges[s], edge{span{next, e.lo - 1}, sink})
			}
			c.edges[s] = append(c.edges[s], e)
			next = e.hi + 1
		}
		if next <= maxRune {
			c.edges[s] = append(c.edges[s], edge{span{next, maxRune}, sink})
		}
	}
	c.accept[sink] = true
	c.edges[sink] = []edge{{span{0, maxRune}, sink}}
	return c
}

// intersect is what is in both sets.
func intersect(a, b *dfa, budget *steps.Budget) (*dfa, error) {
	type pair struct{ a, b int }
	number := map[pair]int{{0, 0}: 0}
	todo := []pair{{0, 0}}
	d := &dfa{}
	for len(d.edges) < len(todo) {
		p := todo[len(d.edges)]
		if err := budget.Spend(2 + len(a.edges[p.a]) + len(b.edges[p.b])); err != nil {
			return nil, err
		}

		var edges []edge
		for x, y := a.edges[p.a], b.edges[p.b]; len(x) > 0 && len(y) > 0; {
			s := span{max(x[0].lo, y[0].lo), min(x[0].hi, y[0].hi)}
			to := pair{x[0].to, y[0].to}
			if x[0].hi <= y[0].hi {
				x = x[1:]
			} else {
				y = y[1:]
			}
			if s.lo > s.hi {
				continue
			}

			n, ok := number[to]
			if !ok {
				if n = len(todo); n >= maxStates {
					return nil, errTooLarge
				}
				number[to] = n
				todo = append(todo, to)
			}
			edges = append(edges, edge{s, n})
		}
		d.edges = append(d.edges, edges)
		d.accept = append(d.accept, a.accept[p.a] && b.accept[p.b])
	}

	return d, nil
}

// isEmpty says whether no string is in the set.
func (d *dfa) isEmpty() bool {
	seen := make([]bool, len(d.edges))
	seen[0] = true
	for todo := []int{0}; len(todo) > 0; todo = todo[1:] {
		if d.accept[todo[0]] {
			return false
		}
		for _, e := range d.edges[todo[0]] {
			if !seen[e.to] {
				seen[e.to] = true
				todo = append(todo, e.to)
			}
		}
	}
	return true
}
