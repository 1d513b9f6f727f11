package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"serve/steps"
)

// expr is a part of a grammar's rule.
type expr interface{}

type (
	literal string   // exactly these characters
	class   []span   // one character of these
	seq     []expr   // one after another
	alt     []expr   // one of them; none of none
	ref     string   // another rule
	repeat  struct { // of e, from low to high times; high < 0 for any
		e         expr
		low, high int
	}
)

// span is a range of characters, both ends included.
type span struct{ lo, hi rune }

// never matches nothing at all, empty the empty text.
var (
	never = alt{}
	empty = literal("")
)

// grammar is a set of rules.
type grammar struct {
	prefix string
	rules  map[string]expr
}

// distinct removes alternatives that come again.
func distinct(list alt) alt {
	seen := map[expr]bool{}
	return slices.DeleteFunc(list, func(e expr) bool {
		switch e.(type) {
		case ref, literal:
			again := seen[e]
			seen[e] = true
			return again
		}
		return false
	})
}

// prune removes alternatives that no finite text can match, and rules that
// nothing leads to. It says whether the root matches anything.
func (g *grammar) prune(root string, budget *steps.Budget) (bool, error) {
	names := slices.Sorted(maps.Keys(g.rules))
	users := map[string][]string{} // rules by those that they name
	for _, name := range names {
		if err := budget.Look(1 + breadth(g.rules[name])); err != nil {
			return false, err
		}
		used := map[string]bool{}
		g.refs(g.rules[name], func(r string) {
			if !used[r] {
				used[r] = true
				users[r] = append(users[r], name)
			}
		})
	}

	productive := map[string]bool{}
	for todo := names; len(todo) > 0; {
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if productive[name] {
			continue
		}
		if err := budget.Spend(1 + breadth(g.rules[name])/4); err != nil {
			return false, err
		}
		if matches(g.rules[name], productive) {
			productive[name] = true
			todo = append(todo, users[name]...)
		}
	}
	if !productive[root] {
		return false, nil
	}

	for name, e := range g.rules {
		if err := budget.Look(1 + breadth(e)); err != nil {
			return false, err
		}
		g.rules[name] = cutDead(e, productive)
	}
	used := map[string]bool{root: true}
	for todo := []string{root}; len(todo) > 0; {
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if err := budget.Look(1 + breadth(g.rules[name])); err != nil {
			return false, err
		}
		g.refs(g.rules[name], func(r string) {
			if !used[r] {
				used[r] = true
				todo = append(todo, r)
			}
		})
	}
	maps.DeleteFunc(g.rules, func(name string, _ expr) bool { return !used[name] })
	return true, nil
}

// breadth is how many alternatives an expression has, of which alone there may be many.
func breadth(e expr) int {
	a, ok := e.(alt)
	if !ok {
		return 1
	}
	return len(a)
}

// refs calls f for the rules that an expression names.
func (g *grammar) refs(e expr, f func(name string)) {
	switch e := e.(type) {
	case ref:
		f(string(e))
	case seq:
		for _, p := range e {
			g.refs(p, f)
		}
	case alt:
		for _, p := range e {
			g.refs(p, f)
		}
	case repeat:
		g.refs(e.e, f)
	}
}

// stepsPerElement is what reading one element of a grammar costs in an engine.
const stepsPerElement = 2

// charge takes the steps that reading the grammar costs: repetitions are written out there.
func (g *grammar) charge(budget *steps.Budget) error {
	n := 0
	for _, e := range g.rules {
		n += 2 + elements(e)
	}
	return budget.Spend(n * stepsPerElement)
}

// elements is how many elements an expression has once its repetitions are written out. Characters count twice: they
// take the longest to read.
func elements(e expr) int {
	switch e := e.(type) {
	case literal:
		return 2 * len(e)
	case class:
		return 4 * len(e)
	case seq:
		n := 2
		for _, p := range e {
			n += elements(p)
		}
		return n
	case alt:
		n := 2
		for _, p := range e {
			n += 1 + elements(p)
		}
		return n

	case repeat:
		each := 4
		if l, ok := e.e.(literal); ok {
			each += 2 * len(l)
		}
		return elements(e.e) + each*max(e.low, e.high, 1)
	}
	return 1
}

// matches says whether a finite text matches, as far as is known of the rules.
func matches(e expr, productive map[string]bool) bool {
	switch e := e.(type) {
	case ref:
		return productive[string(e)]
	case seq:
		return !slices.ContainsFunc(e, func(p expr) bool { return !matches(p, productive) })
	case alt:
		return slices.ContainsFunc(e, func(p expr) bool { return matches(p, productive) })
	case repeat:
		return e.low == 0 || matches(e.e, productive)
	case class:
		return len(e) > 0
	}
	return true
}

func cutDead(e expr, productive map[string]bool) expr {
	switch e := e.(type) {
	case seq:
		out := make(seq, len(e))
		for i, p := range e {
			out[i] = cutDead(p, productive)
		}
		return out
	case alt:
		var out alt
		for _, p := range e {
			if matches(p, productive) {
				out = append(out, cutDead(p, productive))
			}
		}
		return out
	case repeat:
		if !matches(e.e, productive) {
			return empty
		}
		return repeat{cutDead(e.e, productive), e.low, e.high}
	}
	return e
}

// String writes the rules as GBNF, in order of name.
func (g *grammar) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(g.rules)) {
		b.WriteString(name + " ::= ")
		write(&b, g.rules[name], false)
		b.WriteByte('\n')
	}
	return b.String()
}

// write writes an expression; inner ones that are more than one item in parentheses.
func write(b *strings.Builder, e expr, inner bool) {
	switch e := e.(type) {
	case literal:
		b.WriteString(quoteLiteral(string(e)))
	case class:
		writeClass(b, e)
	case ref:
		b.WriteString(string(e))
	case repeat:
		write(b, e.e, true)
		switch {
		case e.low == 0 && e.high < 0:
			b.WriteByte('*')
		case e.low == 1 && e.high < 0:
			b.WriteByte('+')
		case e.low == 0 && e.high == 1:
			b.WriteByte('?')
		case e.high < 0:
			fmt.Fprintf(b, "{%d,}", e.low)
		default:
			fmt.Fprintf(b, "{%d,%d}", e.low, e.high)
		}

	case seq:
		writeList(b, e, " ", inner)
	case alt:
		writeList(b, e, " | ", inner)
	}
}

func writeList(b *strings.Builder, list []expr, between string, inner bool) {
	if len(list) == 0 {
		b.WriteString(`""`)
		return
	}
	if len(list) == 1 {
		write(b, list[0], inner)
		return
	}
	if inner {
		b.WriteByte('(')
	}
	for i, p := range list {
		if i > 0 {
			b.WriteString(between)
		}
		write(b, p, true)
	}
	if inner {
		b.WriteByte(')')
	}
}

func quoteLiteral(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		writeRune(&b, r, `"\`)
	}
	b.WriteByte('"')
	return b.String()
}

func writeClass(b *strings.Builder, c class) {
	b.WriteByte('[')
	for _, s := range c {
		writeRune(b, s.lo, `[]^-\"`)
		if s.hi > s.lo {
			b.WriteByte('-')
			writeRune(b, s.hi, `[]^-\"`)
		}
	}
	b.WriteByte(']')
}

// writeRune writes a character in one of GBNF's ways.
func writeRune(b *strings.Builder, r rune, special string) {
	switch {
	case r > 0xffff:
		fmt.Fprintf(b, `\U%08X`, r)
	case r > 0x7e:
		fmt.Fprintf(b, `\u%04X`, r)
	case r < ' ' || strings.ContainsRune(special, r):
		fmt.Fprintf(b, `\x%02X`, r)
	default:
		b.WriteRune(r)
	}
}
