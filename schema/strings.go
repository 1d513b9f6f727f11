package schema

import (
	"fmt"
	"strconv"
)

// string compiles what schemas say of strings. A length alone is counted by the
// grammar; patterns and formats become an automaton, together with all else.
func (c *compiler) string(all []*value) expr {
	low, high := c.limits(all, "minLength", "maxLength")
	if high >= 0 && low > high {
		return never
	}

	d, narrowed := c.patterns(all)
	if !narrowed {
		if low > maxRepeat || high > maxRepeat {
			c.ignoreAny(all, "minLength", "maxLength")
			low = min(low, maxRepeat)
			high = -1
		}
		return seq{literal(`"`), c.chars(low, high), literal(`"`)}
	}

	if low > 0 || high >= 0 {
		l, err := lengths(low, high, c.budget)
		if err == nil {
			l, err = intersect(d, l, c.budget)
		}
		if err != nil {
			c.ignoreAny(all, "minLength", "maxLength")
		} else {
			d = l
		}
	}

	return c.quoted(d)
}

// chars is low to high characters of a string, high < 0 for no limit: a rule that all strings of these lengths share.
func (c *compiler) chars(low, high int) expr {
	e := repeat{c.basic("char"), low, high}
	if low == 0 && high < 0 {
		return e
	}
	name := fmt.Sprintf("%schars-%d-", c.g.prefix, low)
	if high >= 0 {
		name += strconv.Itoa(high)
	}
	c.g.rules[name] = e
	return ref(name)
}

// ignoreAny notes keywords wherever they stand.
func (c *compiler) ignoreAny(all []*value, keywords ...string) {
	for _, v := range all {
		for _, keyword := range keywords {
			if v.members[keyword] != nil {
				c.ignore(v, keyword)
			}
		}
	}
}

// patterns is the strings that all patterns and formats allow; false for all.
func (c *compiler) patterns(all []*value) (d *dfa, narrowed bool) {
	d = anything()
	add := func(v *value, keyword string, a automaton) {
		next, err := a()
		if err == nil && narrowed {
			next, err = intersect(d, next, c.budget)
		}
		if err != nil {
			c.ignore(v, keyword)
			return
		}
		d = next
		narrowed = true
	}

	for _, v := range all {
		if p := v.members["pattern"]; p != nil {
			if p.kind != text {
				c.fail(p, "pattern must be a string")
				return d, false
			}
			add(v, "pattern", c.pattern(p.text))
		}

		if f := v.members["format"]; f != nil {
			a, enforced := formats[f.text]
			switch {
			case enforced && f.kind == text:
				add(v, "format", a)
			case otherFormats[f.text] || f.kind != text:
				c.ignore(v, "format")
			}
		}
	}

	return d, narrowed
}

// basic returns a rule that every JSON grammar needs.
func (c *compiler) basic(name string) ref {
	full := c.g.prefix + name
	if _, ok := c.g.rules[full]; ok {
		return ref(full)
	}

	c.g.rules[full] = empty // for those that lead back to it
	hex := class{{'0', '9'}, {'a', 'f'}, {'A', 'F'}}
	var e expr
	switch name {
	case "ws":
		// Enough for what is pretty, and not so much that a model can go on for ever.
		e = alt{empty, literal(" "), seq{literal("\n"), repeat{class{{' ', ' '}, {'\t', '\t'}}, 0, 20}}}
	case "char":
		// One character of a string. Halves of surrogate pairs are not written.
		e = alt{
			class{{' ', '!'}, {'#', '['}, {']', 0xd7ff}, {0xe000, maxRune}},
			seq{
				literal(`\`),
				alt{
					class{{'"', '"'}, {'\\', '\\'}, {'/', '/'}, {'b', 'b'}, {'f', 'f'}, {'n', 'n'}, {'r', 'r'}, {'t', 't'}},
					seq{
						literal("u"),
						alt{
							seq{class{{'0', '9'}, {'a', 'c'}, {'A', 'C'}, {'e', 'f'}, {'E', 'F'}}, repeat{hex, 3, 3}},
							seq{class{{'d', 'd'}, {'D', 'D'}}, class{{'0', '7'}}, repeat{hex, 2, 2}},
						},
					},
				},
			},
		}
	}

	c.g.rules[full] = e
	return ref(full)
}

// quoted writes an automaton's strings as JSON: each character in one way only.
func (c *compiler) quoted(d *dfa) expr {
	if e, ok := c.written[d]; ok {
		return e
	}
	if d.isEmpty() {
		return never
	}

	prefix := fmt.Sprintf("%ss%d-", c.g.prefix, len(c.g.rules))
	if len(c.g.rules)+len(d.edges) > maxRules {
		c.fail(c.root, "more than %d rules", maxRules)
		return never
	}

	for s := range d.edges {
		if !c.spend(5 + 2*len(d.edges[s])) {
			return never
		}
		byTarget := map[int]class{}
		var order []int
		for _, e := range d.edges[s] {
			if _, ok := byTarget[e.to]; !ok {
				order = append(order, e.to)
			}
			byTarget[e.to] = append(byTarget[e.to], e.span)
		}
		var out alt
		for _, to := range order {
			out = append(out, seq{written(byTarget[to]), ref(prefix + strconv.Itoa(to))})
		}
		if d.accept[s] {
			out = append(out, literal(`"`))
		}
		c.g.rules[prefix+strconv.Itoa(s)] = out
	}

	c.written[d] = seq{literal(`"`), ref(prefix + "0")}
	return c.written[d]
}

// escapes are the characters that have an escape of their own.
var escapes = map[rune]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}

// written is characters as they stand in a JSON string.
func written(c class) expr {
	var plain class
	var out alt
	for _, s := range c {
		for r := s.lo; r <= min(s.hi, '\\'); r++ {
			if short, ok := escapes[r]; ok {
				out = append(out, literal(short))
			} else if r < ' ' && s.hi < ' ' {
				// Only where they are meant, and not in every "any character".
				out = append(out, literal(fmt.Sprintf(`\u%04x`, r)))
			}
		}
		for _, part := range []span{{' ', '!'}, {'#', '['}, {']', 0xd7ff}, {0xe000, maxRune}} {
			lo := max(s.lo, part.lo)
			hi := min(s.hi, part.hi)
			if lo <= hi {
				plain = append(plain, span{lo, hi})
			}
		}
	}

	if len(plain) > 0 {
		out = append(alt{plain}, out...)
	}

	return out
}
