package schema

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
	"unicode"

	"serve/steps"
)

// maxProgram is the size of a pattern's program, in instructions; what is larger is not enforced.
const maxProgram = 20_000

// parsePattern reads an ECMAScript regular expression, and bounds what it becomes. It also returns the expression in
// Go's syntax.
func parsePattern(p string, budget *steps.Budget) (re *syntax.Regexp, translated string, err error) {
	translated, err = translate(p)
	if err != nil {
		return nil, "", err
	}
	if err := budget.Spend(parseCost(translated)); err != nil {
		return nil, "", err
	}
	re, err = syntax.Parse(translated, syntax.Perl)
	if err != nil {
		return nil, "", fmt.Errorf("the pattern %.60q: %w", p, err)
	}
	if programSize(re) > maxProgram {
		return nil, "", errTooLarge
	}
	return re, translated, nil
}

// parseCost is the steps that it takes to read an expression: classes of Unicode have hundreds of ranges, and those
// without case are made character by character.
func parseCost(p string) int {
	cost := len(p) + 100*strings.Count(strings.ToLower(p), `\p`)
	if strings.Contains(p, "(?i") || strings.Contains(p, "(?s") || strings.Contains(p, "(?m") {
		cost += 10_000 * strings.Count(p, "[")
	}
	return cost
}

// programSize is about how many instructions an expression becomes: repetitions are written out.
func programSize(re *syntax.Regexp) int {
	size := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		size += programSize(sub)
	}
	if re.Op == syntax.OpRepeat {
		size *= max(re.Min, re.Max, 1)
	}
	return min(size, 2*maxProgram)
}

// pattern is the automaton of the strings in which an ECMAScript regular
// expression finds something.
func pattern(p string, budget *steps.Budget) (*dfa, error) {
	re, _, err := parsePattern(p, budget)
	if err != nil {
		return nil, err
	}
	if err := budget.Spend(programSize(re)); err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return nil, fmt.Errorf("the pattern %.60q: %w", p, err)
	}
	return determine(prog, budget)
}

// automaton makes a pattern's automaton when it is first asked for, and once.
type automaton func() (*dfa, error)

func lazy(p string) automaton {
	return sync.OnceValues(func() (*dfa, error) { return pattern(p, nil) })
}

// pattern returns the automaton of a pattern of the schema.
func (c *compiler) pattern(p string) automaton {
	if c.automata[p] == nil {
		c.automata[p] = sync.OnceValues(func() (*dfa, error) { return pattern(p, c.budget) })
	}
	return c.automata[p]
}

// closure is a set of places in a program.
type closure struct {
	places  []uint32 // that read a character
	matched bool     // something was found, whatever follows
	atEnd   bool     // something is found if nothing follows
}

func (c *closure) key() string {
	b := make([]byte, 2, 2+2*len(c.places))
	if c.matched {
		b[0] = 1
	}
	if c.atEnd {
		b[1] = 1
	}
	for _, p := range c.places {
		b = binary.AppendUvarint(b, uint64(p))
	}
	return string(b)
}

// determiner makes a program into an automaton. A match may begin anywhere.
type determiner struct {
	prog    *syntax.Prog
	budget  *steps.Budget
	left    int      // of maxAutomatonSteps
	spans   [][]span // by instruction, the characters that it takes
	seen    []int    // by instruction, the closure that it was seen for last
	seenEnd []int    // the same, of what is reached only if nothing follows
	closure int      // the number of the one that is being made

	d       *dfa
	numbers map[string]int
	todo    []*closure
}

func determine(prog *syntax.Prog, budget *steps.Budget) (*dfa, error) {
	n := len(prog.Inst)
	m := &determiner{
		prog:    prog,
		budget:  budget,
		left:    maxAutomatonSteps,
		spans:   make([][]span, n),
		seen:    make([]int, n),
		seenEnd: make([]int, n),
		d:       &dfa{},
		numbers: map[string]int{},
	}
	for i := range prog.Inst {
		m.spans[i] = taken(&prog.Inst[i])
	}

	first, err := m.follow([]uint32{uint32(prog.Start)}, true)
	if err != nil {
		return nil, err
	}
	if _, err := m.number(first); err != nil {
		return nil, err
	}
	for len(m.d.edges) < len(m.todo) {
		c := m.todo[len(m.d.edges)]
		edges, err := m.edges(c)
		if err != nil {
			return nil, err
		}
		m.d.edges = append(m.d.edges, edges)
		m.d.accept = append(m.d.accept, c.matched || c.atEnd)
	}
	return m.d, nil
}

// spend takes steps, also of what one automaton may take.
func (m *determiner) spend(n int) error {
	if m.left -= n; m.left < 0 {
		return errTooLarge
	}
	return m.budget.Spend(n)
}

// number returns the state of a closure.
func (m *determiner) number(c *closure) (int, error) {
	key := c.key()
	n, ok := m.numbers[key]
	if !ok {
		if n = len(m.todo); n >= maxStates {
			return 0, errTooLarge
		}
		m.numbers[key] = n
		m.todo = append(m.todo, c)
	}
	return n, nil
}

// taken returns the characters that an instruction takes, in order.
func taken(in *syntax.Inst) (list []span) {
	switch in.Op {
	case syntax.InstRune, syntax.InstRune1:
		if len(in.Rune) == 1 {
			r := in.Rune[0]
			list = append(list, span{r, r})
			// [Tt] comes as t in either case.
			for f := unicode.SimpleFold(r); syntax.Flags(in.Arg)&syntax.FoldCase != 0 && f != r; f = unicode.SimpleFold(f) {
				list = append(list, span{f, f})
			}
			return list
		}
		for k := 0; k+1 < len(in.Rune); k += 2 {
			list = append(list, span{in.Rune[k], in.Rune[k+1]})
		}
	case syntax.InstRuneAny:
		list = append(list, span{0, maxRune})
	case syntax.InstRuneAnyNotNL:
		list = append(list, span{0, '\n' - 1}, span{'\n' + 1, maxRune})
	}
	return list
}

// border is where a place begins to take characters, or ends to.
type border struct {
	at    rune
	place int // an index
	takes bool
}

// edges returns the edges out of a closure.
func (m *determiner) edges(c *closure) ([]edge, error) {
	if c.matched {
		n, err := m.number(c)
		return []edge{{span{0, maxRune}, n}}, err
	}

	var borders []border
	for i, pc := range c.places {
		for _, s := range m.spans[pc] {
			borders = append(borders, border{s.lo, i, true}, border{s.hi + 1, i, false})
		}
	}
	slices.SortFunc(borders, func(a, b border) int { return int(a.at - b.at) })

	var edges []edge
	known := map[string]int{} // states by the places that take a character
	takes := make([]int, len(c.places))
	for lo := rune(0); lo <= maxRune; {
		for len(borders) > 0 && borders[0].at == lo {
			if borders[0].takes {
				takes[borders[0].place]++
			} else {
				takes[borders[0].place]--
			}
			borders = borders[1:]
		}
		hi := rune(maxRune)
		if len(borders) > 0 {
			hi = borders[0].at - 1
		}

		n, err := m.next(c, takes, known)
		if err != nil {
			return nil, err
		}
		if k := len(edges); k > 0 && edges[k-1].to == n {
			edges[k-1].hi = hi
		} else {
			edges = append(edges, edge{span{lo, hi}, n})
		}
		lo = hi + 1
	}
	return edges, nil
}

// next returns the state after a character that some places take.
func (m *determiner) next(c *closure, takes []int, known map[string]int) (int, error) {
	if err := m.spend(1 + len(takes)/8); err != nil {
		return 0, err
	}
	next := []uint32{uint32(m.prog.Start)}
	key := make([]byte, 0, 2*len(takes))
	for i, pc := range c.places {
		if takes[i] > 0 {
			next = append(next, m.prog.Inst[pc].Out)
			key = binary.AppendUvarint(key, uint64(i))
		}
	}
	if n, ok := known[string(key)]; ok {
		return n, nil
	}

	after, err := m.follow(next, false)
	if err != nil {
		return 0, err
	}
	n, err := m.number(after)
	known[string(key)] = n
	return n, err
}

// follow goes on from places without reading, and notes where a match ends.
func (m *determiner) follow(from []uint32, begin bool) (*closure, error) {
	type place struct {
		pc  uint32
		end bool // reached only if nothing follows
	}
	c := &closure{}
	m.closure++
	var todo []place
	for _, pc := range from {
		todo = append(todo, place{pc, false})
	}

	visited := 0
	for len(todo) > 0 {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		seen := m.seen
		if p.end {
			seen = m.seenEnd
		}
		if seen[p.pc] == m.closure {
			continue
		}
		seen[p.pc] = m.closure
		visited++

		in := &m.prog.Inst[p.pc]
		switch in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			todo = append(todo, place{in.Arg, p.end}, place{in.Out, p.end})
		case syntax.InstCapture, syntax.InstNop:
			todo = append(todo, place{in.Out, p.end})
		case syntax.InstEmptyWidth:
			width := syntax.EmptyOp(in.Arg)
			if width&^(syntax.EmptyBeginText|syntax.EmptyEndText) != 0 {
				return nil, errors.New("word and line boundaries")
			}
			if width&syntax.EmptyBeginText == 0 || begin {
				todo = append(todo, place{in.Out, p.end || width&syntax.EmptyEndText != 0})
			}
		case syntax.InstMatch:
			if p.end {
				c.atEnd = true
			} else {
				c.matched = true
			}
		case syntax.InstFail:
		default:
			if !p.end {
				c.places = append(c.places, p.pc)
			}
		}
	}

	if c.matched {
		return &closure{matched: true}, m.spend(1 + visited/4)
	}

	slices.Sort(c.places)
	return c, m.spend(1 + visited/4)
}
