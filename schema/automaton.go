package schema

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
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

// maxStates bounds automata; what needs more is not enforced.
const maxStates = 4000

var errTooLarge = errors.New("the string constraints are too complex")

const maxRune = unicode.MaxRune

// anything is the automaton of all strings.
func anything() *dfa { return &dfa{edges: [][]edge{{{span{0, maxRune}, 0}}}, accept: []bool{true}} }

// lengths is the automaton of all strings of low to high characters; high < 0
// for no limit.
func lengths(low, high int) (*dfa, error) {
	n := max(low, high) + 1
	if n > maxStates {
		return nil, errTooLarge
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
func words(list []string) *dfa {
	d := &dfa{edges: [][]edge{nil}, accept: []bool{false}}
	for _, w := range list {
		s := 0
		for _, r := range w {
			i := slices.IndexFunc(d.edges[s], func(e edge) bool { return e.lo == r })
			if i < 0 {
				d.edges = append(d.edges, nil)
				d.accept = append(d.accept, false)
				d.edges[s] = append(d.edges[s], edge{span{r, r}, len(d.edges) - 1})
				i = len(d.edges[s]) - 1
			}
			s = d.edges[s][i].to
		}
		d.accept[s] = true
	}
	for s := range d.edges {
		slices.SortFunc(d.edges[s], func(a, b edge) int { return int(a.lo - b.lo) })
	}
	return d
}

// has says whether a string is in the set.
func (d *dfa) has(s string) bool {
	state := 0
	for _, r := range s {
		i := slices.IndexFunc(d.edges[state], func(e edge) bool { return e.lo <= r && r <= e.hi })
		if i < 0 {
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
func intersect(a, b *dfa) (*dfa, error) {
	type pair struct{ a, b int }
	number := map[pair]int{{0, 0}: 0}
	todo := []pair{{0, 0}}
	d := &dfa{}
	for len(d.edges) < len(todo) {
		p := todo[len(d.edges)]
		var edges []edge
		for _, x := range a.edges[p.a] {
			for _, y := range b.edges[p.b] {
				s := span{max(x.lo, y.lo), min(x.hi, y.hi)}
				if s.lo > s.hi {
					continue
				}
				to := pair{x.to, y.to}
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
		}
		slices.SortFunc(edges, func(a, b edge) int { return int(a.lo - b.lo) })
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

// pattern is the automaton of the strings in which an ECMAScript regular
// expression finds something.
func pattern(p string) (*dfa, error) {
	translated, err := translate(p)
	if err != nil {
		return nil, err
	}
	re, err := syntax.Parse(translated, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("the pattern %.60q: %w", p, err)
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return nil, fmt.Errorf("the pattern %.60q: %w", p, err)
	}
	return determine(prog)
}

// automaton makes a pattern's automaton when it is first asked for, and once.
type automaton func() (*dfa, error)

func lazy(p string) automaton {
	return sync.OnceValues(func() (*dfa, error) { return pattern(p) })
}

// pattern returns the automaton of a pattern of the schema.
func (c *compiler) pattern(p string) automaton {
	if c.automata[p] == nil {
		c.automata[p] = lazy(p)
	}
	return c.automata[p]
}

// ecmaSpace is what \s means in ECMAScript, as the inside of a class.
const ecmaSpace = `\t\n\v\f\r \x{a0}\x{feff}\x{2028}\x{2029}\p{Zs}`

// translate writes an ECMAScript regular expression in Go's syntax.
func translate(p string) (string, error) {
	if len(p) > 10_000 {
		return "", errTooLarge
	}

	var b strings.Builder
	inClass := false
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case c == '\\' && i+1 < len(p):
			n, err := translateEscape(&b, p[i:], inClass)
			if err != nil {
				return "", err
			}
			i += n - 1
			continue
		case c == '[' && !inClass:
			inClass = true
			if strings.HasPrefix(p[i:], "[^]") {
				b.WriteString(`[\x{0}-\x{10ffff}]`)
				inClass = false
				i += 2
				continue
			}
		case c == '[':
			b.WriteString(`\[`)
			continue
		case c == ']' && inClass:
			inClass = false
		case c == '.' && !inClass:
			b.WriteString(`[^\n\r\x{2028}\x{2029}]`)
			continue
		case c == '(' && !inClass && strings.HasPrefix(p[i:], "(?<") && i+3 < len(p) && p[i+3] != '=' && p[i+3] != '!':
			b.WriteString("(?P<")
			i += 2
			continue
		}
		b.WriteByte(c)
	}

	return b.String(), nil
}

// Escapes of ECMAScript that Go writes otherwise: a character by its number, one by its surrogates, and one of a
// script or a category.
var (
	braced          = regexp.MustCompile(`^\\u\{([0-9a-fA-F]{1,6})\}`)
	surrogates      = regexp.MustCompile(`^\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})`)
	unicodeProperty = regexp.MustCompile(
		`^\\[pP]\{(?:Script|sc|Script_Extensions|scx|General_Category|gc)=([A-Za-z_]+)\}`)
)

// translateEscape writes the escape that p begins with and returns its length.
func translateEscape(b *strings.Builder, p string, inClass bool) (int, error) {
	switch c := p[1]; {
	case c == 's' && inClass:
		b.WriteString(ecmaSpace)
	case c == 's':
		b.WriteString("[" + ecmaSpace + "]")
	case c == 'S' && !inClass:
		b.WriteString("[^" + ecmaSpace + "]")
	case c == 'S':
		return 0, fmt.Errorf(`\S in a class`)
	case c == 'u' && braced.MatchString(p):
		digits := braced.FindStringSubmatch(p)[1]
		b.WriteString(`\x{` + digits + "}")
		return len(digits) + 4, nil
	case c == 'u' && surrogates.MatchString(p):
		pair := surrogates.FindStringSubmatch(p)
		high, _ := strconv.ParseUint(pair[1], 16, 16)
		low, _ := strconv.ParseUint(pair[2], 16, 16)
		fmt.Fprintf(b, `\x{%x}`, utf16.DecodeRune(rune(high), rune(low)))
		return len(pair[0]), nil

	case (c == 'p' || c == 'P') && unicodeProperty.MatchString(p):
		named := unicodeProperty.FindStringSubmatch(p)
		b.WriteString(p[:2] + "{" + named[1] + "}")
		return len(named[0]), nil
	case c == 'u' && len(p) >= 6 && isHex(p[2:6]):
		b.WriteString(`\x{` + p[2:6] + "}")
		return 6, nil
	case c == 'c' && len(p) >= 3 && unicode.IsLetter(rune(p[2])):
		fmt.Fprintf(b, `\x%02x`, p[2]&31)
		return 3, nil
	case c == '0' && (len(p) < 3 || p[2] < '0' || p[2] > '9'):
		b.WriteString(`\x00`)
	case c >= '1' && c <= '9', c == 'k', c == 'b' && !inClass, c == 'B':
		return 0, fmt.Errorf("\\%c", c)
	case c == 'b':
		b.WriteString(`\x08`)
	case c == 'p' || c == 'P':
		b.WriteString(strings.Replace(strings.Replace(p[:2], "p{Letter}", "pL", 1), "P{Letter}", "PL", 1))
	case c < 0x80 && (unicode.IsLetter(rune(c)) || unicode.IsDigit(rune(c))):
		b.WriteString(p[:2]) // d, D, w, W, t, n, v, f, r, x
	default:
		b.WriteString(`\` + p[1:2])
	}

	return 2, nil
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) {
			return false
		}
	}
	return true
}

// closure is a set of places in a program.
type closure struct {
	places  []uint32 // that read a character
	matched bool     // something was found, whatever follows
	atEnd   bool     // something is found if nothing follows
}

func (c *closure) key() string { return fmt.Sprint(c.places, c.matched, c.atEnd) }

// determine makes a program into an automaton. A match may begin anywhere.
func determine(prog *syntax.Prog) (*dfa, error) {
	cuts := boundaries(prog)
	first, err := follow(prog, []uint32{uint32(prog.Start)}, true)
	if err != nil {
		return nil, err
	}

	numbers := map[string]int{first.key(): 0}
	todo := []*closure{first}
	d := &dfa{}
	for len(d.edges) < len(todo) {
		c := todo[len(d.edges)]
		var edges []edge
		for i := range cuts[:len(cuts)-1] {
			lo := cuts[i]
			hi := cuts[i+1] - 1
			next := c
			if !c.matched {
				if next, err = step(prog, c, lo); err != nil {
					return nil, err
				}
			}
			n, ok := numbers[next.key()]
			if !ok {
				if n = len(todo); n >= maxStates {
					return nil, errTooLarge
				}
				numbers[next.key()] = n
				todo = append(todo, next)
			}
			if k := len(edges); k > 0 && edges[k-1].to == n {
				edges[k-1].hi = hi
			} else {
				edges = append(edges, edge{span{lo, hi}, n})
			}
		}
		d.edges = append(d.edges, edges)
		d.accept = append(d.accept, c.matched || c.atEnd)
	}

	return d, nil
}

// boundaries cuts the characters into ranges that a program treats alike.
func boundaries(prog *syntax.Prog) []rune {
	cuts := []rune{0, maxRune + 1}
	for i := range prog.Inst {
		in := &prog.Inst[i]
		switch in.Op {
		case syntax.InstRune, syntax.InstRune1:
			if len(in.Rune) == 1 {
				r := in.Rune[0]
				cuts = append(cuts, r, r+1)
				// [Tt] comes as t in either case.
				for f := unicode.SimpleFold(r); syntax.Flags(in.Arg)&syntax.FoldCase != 0 && f != r; f = unicode.SimpleFold(f) {
					cuts = append(cuts, f, f+1)
				}
				continue
			}

			for k := 0; k+1 < len(in.Rune); k += 2 {
				cuts = append(cuts, in.Rune[k], in.Rune[k+1]+1)
			}

		case syntax.InstRuneAnyNotNL:
			cuts = append(cuts, '\n', '\n'+1)
		}
	}

	slices.Sort(cuts)
	return slices.Compact(cuts)
}

// follow goes on from places without reading, and notes where a match ends.
func follow(prog *syntax.Prog, from []uint32, begin bool) (*closure, error) {
	c := &closure{}
	atEnd := map[uint32]bool{} // reached only if nothing follows
	seen := map[uint32]bool{}
	type place struct {
		pc  uint32
		end bool
	}
	var todo []place
	for _, pc := range from {
		todo = append(todo, place{pc, false})
	}

	for len(todo) > 0 {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		visited := seen
		if p.end {
			visited = atEnd
		}
		if visited[p.pc] {
			continue
		}
		visited[p.pc] = true
		in := &prog.Inst[p.pc]
		switch in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			todo = append(todo, place{in.Arg, p.end}, place{in.Out, p.end})
		case syntax.InstCapture, syntax.InstNop:
			todo = append(todo, place{in.Out, p.end})
		case syntax.InstEmptyWidth:
			width := syntax.EmptyOp(in.Arg)
			if width&^(syntax.EmptyBeginText|syntax.EmptyEndText) != 0 {
				return nil, errors.New("word and line boundaries are not supported")
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
		return &closure{matched: true}, nil
	}

	slices.Sort(c.places)
	return c, nil
}

func step(prog *syntax.Prog, c *closure, r rune) (*closure, error) {
	next := []uint32{uint32(prog.Start)}
	for _, pc := range c.places {
		if in := &prog.Inst[pc]; in.MatchRune(r) {
			next = append(next, in.Out)
		}
	}
	return follow(prog, next, false)
}
