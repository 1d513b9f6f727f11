package schema

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// property is a member that an object may or must have.
type property struct {
	name     string
	e        expr // its value
	required bool
}

// object compiles what schemas say of objects. Members come in the order of the
// schema: those with a name first, then any others.
func (c *compiler) object(all []*value) expr {
	names, required := c.memberNames(all)
	keys, err := c.patternKeys(all)
	if err != nil {
		c.ignoreAny(all, "patternProperties", "propertyNames")
		keys = nil
	}
	var list []property
	for _, name := range names {
		if c.err != nil {
			return never
		}
		schemas := c.memberSchemas(all, name)
		e := c.schema(schemas...)
		if keys != nil && keys.names != nil && !keys.names.has(name) {
			e = never
		}
		list = append(list, property{name, e, required[name]})
	}
	low, high := c.limits(all, "minProperties", "maxProperties")
	others := c.others(all, names, keys)
	return c.members(all, list, others, low, high)
}

// memberNames returns the names of members in order, and which are required.
func (c *compiler) memberNames(all []*value) (names []string, required map[string]bool) {
	known := map[string]bool{}
	add := func(name string) {
		if !known[name] {
			known[name] = true
			names = append(names, name)
		}
	}

	for _, v := range all {
		if p := v.members["properties"]; p != nil {
			if p.kind != object {
				c.fail(p, "properties must be an object")
				return nil, nil
			}
			c.spend(len(p.keys))
			for _, name := range p.keys {
				add(name)
			}
		}
	}

	list, required := c.requiredNames(all)
	for _, name := range list {
		add(name)
	}
	return names, required
}

// requiredNames returns the names of the members that objects must have, in order and as a set.
func (c *compiler) requiredNames(all []*value) (names []string, required map[string]bool) {
	required = map[string]bool{}
	for _, v := range all {
		r := v.members["required"]
		if r == nil || r.kind == boolean {
			continue // a boolean is of draft 3
		}
		if r.kind != array {
			c.fail(r, "required must be a list of names")
			return nil, nil
		}
		c.spend(len(r.items))
		for _, n := range r.items {
			if n.kind != text {
				c.fail(n, "required must be a list of names")
				return nil, nil
			}
			if !required[n.text] {
				required[n.text] = true
				names = append(names, n.text)
			}
		}
	}

	return names, required
}

// memberSchemas returns the schemas that a member's value must meet.
func (c *compiler) memberSchemas(all []*value, name string) []*value {
	var schemas []*value
	c.spend(1 + len(all))
	for _, v := range all {
		known := false
		if p := v.members["properties"]; p != nil && p.members[name] != nil {
			schemas = append(schemas, p.members[name])
			known = true
		}
		if p := v.members["patternProperties"]; p != nil && p.kind == object {
			c.spend(len(p.keys) * (1 + len(name)/4))
			for _, key := range p.keys {
				if d, err := c.pattern(key)(); err == nil && c.err == nil && d.has(name) {
					schemas = append(schemas, p.members[key])
					known = true
				}
			}
		}
		if a := v.members["additionalProperties"]; a != nil && !known {
			schemas = append(schemas, a)
		}
	}
	return schemas
}

// keyPatterns is what schemas say of names by pattern.
type keyPatterns struct {
	names *dfa            // all that propertyNames allow, nil for any
	by    map[string]*dfa // of patternProperties
	of    map[*value][]string
}

// maxKeyPatterns bounds the patterns of one object: each combination of them is a case of its own.
const maxKeyPatterns = 4

func (c *compiler) patternKeys(all []*value) (*keyPatterns, error) {
	k := &keyPatterns{by: map[string]*dfa{}, of: map[*value][]string{}}
	for _, v := range all {
		if p := v.members["patternProperties"]; p != nil {
			if p.kind != object {
				c.fail(p, "patternProperties must be an object")
				return nil, nil
			}
			if len(p.keys) > maxKeyPatterns {
				return nil, errTooLarge
			}

			for _, key := range p.keys {
				d, err := c.pattern(key)()
				if err != nil {
					return nil, err
				}
				k.by[key] = d
				k.of[v] = append(k.of[v], key)
			}
		}

		if n := v.members["propertyNames"]; n != nil {
			d, err := c.nameSchema(n)
			if err != nil {
				return nil, err
			}
			if k.names != nil {
				if d, err = intersect(k.names, d, c.budget); err != nil {
					return nil, err
				}
			}
			k.names = d
		}
	}

	if len(k.by) > maxKeyPatterns {
		return nil, errTooLarge
	}

	return k, nil
}

// nameSchema is the strings that a schema of names allows.
func (c *compiler) nameSchema(v *value) (*dfa, error) {
	if v.kind == boolean {
		if v.yes {
			return anything(), nil
		}
		return words(nil, c.budget)
	}

	all := c.flat(v)
	for _, s := range all {
		for _, keyword := range s.keys {
			switch keyword {
			case "type", "pattern", "format", "minLength", "maxLength", "enum", "const", "$ref", "allOf":
			default:
				if enforced[keyword] || unenforced[keyword] {
					return nil, fmt.Errorf("%s is not supported in propertyNames", keyword)
				}
			}
		}
	}

	before := len(c.loose)
	d, _ := c.patterns(all)
	if len(c.loose) > before {
		return nil, errors.New("a pattern in propertyNames cannot be enforced")
	}

	low, high := c.limits(all, "minLength", "maxLength")
	l, err := lengths(low, high, c.budget)
	if err != nil {
		return nil, err
	}
	if d, err = intersect(d, l, c.budget); err != nil {
		return nil, err
	}

	if values := fixed(all); values != nil {
		var list []string
		for _, x := range values {
			if x.kind == text {
				list = append(list, x.text)
			}
		}
		w, err := words(list, c.budget)
		if err != nil {
			return nil, err
		}
		return intersect(d, w, c.budget)
	}

	return d, nil
}

// others is a member with any other name, never if there is none.
func (c *compiler) others(all []*value, names []string, keys *keyPatterns) expr {
	if keys == nil {
		keys = &keyPatterns{}
	}

	open := true
	told := false
	for _, v := range all {
		a := v.members["additionalProperties"]
		open = open && (a == nil || a.kind != boolean || a.yes)
		told = told || a != nil || v.members["propertyNames"] != nil || v.members["minProperties"] != nil
	}

	if c.closed && !told && len(names) > 0 {
		open = false
	}
	if !open && len(keys.by) == 0 {
		return never
	}

	named, err := words(names, c.budget)
	if err != nil {
		return never
	}
	rest := named.complement()
	if keys.names != nil {
		narrowed, err := intersect(rest, keys.names, c.budget)
		if err != nil {
			c.ignoreAny(all, "propertyNames")
		} else {
			rest = narrowed
		}
	}

	patterns := slices.Sorted(maps.Keys(keys.by))
	var out alt
	for chosen := range 1 << len(patterns) {
		if e := c.other(all, rest, patterns, chosen, keys); e != nil {
			out = append(out, e)
		}
	}

	return out
}

// other is a member whose name matches just the chosen patterns; nil for none.
func (c *compiler) other(all []*value, rest *dfa, patterns []string, chosen int, keys *keyPatterns) expr {
	var err error
	for i, p := range patterns {
		d := keys.by[p]
		if chosen>>i&1 == 0 {
			d = d.complement()
		}
		if rest, err = intersect(rest, d, c.budget); err != nil {
			c.ignoreAny(all, "patternProperties")
			return nil
		}
	}

	if rest.isEmpty() {
		return nil
	}

	var schemas []*value
	for _, v := range all {
		matched := false
		for i, p := range patterns {
			if chosen>>i&1 == 1 && slices.Contains(keys.of[v], p) {
				schemas = append(schemas, v.members["patternProperties"].members[p])
				matched = true
			}
		}
		if a := v.members["additionalProperties"]; a != nil && !matched {
			schemas = append(schemas, a)
		}
	}

	return c.member(c.quoted(rest), c.schema(schemas...))
}

// member is a name and a value.
func (c *compiler) member(name, e expr) expr { return seq{name, literal(":"), c.basic("ws"), e} }

// members puts an object together.
func (c *compiler) members(all []*value, list []property, others expr, low, high int) expr {
	required := 0
	for _, p := range list {
		if p.required {
			required++
		}
	}

	none := matchesNothing(others)
	repeatLow := 0
	repeatHigh := -1
	switch {
	case len(list) == required:
		// All that is counted is the others.
		repeatLow = max(0, low-required)
		if high >= 0 {
			repeatHigh = high - required
		}
		if repeatHigh < -1 || high >= 0 && repeatHigh < 0 {
			return never
		}
		if repeatLow > maxRepeat || repeatHigh > maxRepeat {
			c.ignoreAny(all, "minProperties", "maxProperties")
			repeatLow = 0
			repeatHigh = -1
		}
		if none && repeatLow > 0 {
			return never
		}
	case low <= required && (high < 0 || none && high >= len(list)):
	case none && len(list) <= 12:
		// Few enough to count by cases.
		return c.counted(list, low, high)
	default:
		c.ignoreAny(all, "minProperties", "maxProperties")
	}

	if none {
		others = nil
		repeatLow = 0
		repeatHigh = 0
	}
	return c.inOrder(list, others, repeatLow, repeatHigh)
}

// inOrder compiles an object whose named members come in order, and then the others, so many of them.
func (c *compiler) inOrder(list []property, others expr, repeatLow, repeatHigh int) expr {
	prefix := fmt.Sprintf("%so%d-", c.g.prefix, len(c.g.rules))
	ws := c.basic("ws")
	comma := seq{ws, literal(","), ws}
	// first(i) is what may come at the beginning from member i on, rest(i) what may
	// come after another member.
	first := func(i int) ref { return ref(fmt.Sprintf("%sf%d", prefix, i)) }
	rest := func(i int) ref { return ref(fmt.Sprintf("%sr%d", prefix, i)) }
	c.spend(25 * len(list))
	for i, p := range list {
		kv := c.member(literal(quote(p.name)), p.e)
		with := seq{kv, rest(i + 1)}
		without := seq{comma, kv, rest(i + 1)}
		if p.required {
			c.g.rules[string(first(i))] = with
			c.g.rules[string(rest(i))] = without
		} else {
			c.g.rules[string(first(i))] = alt{with, first(i + 1)}
			c.g.rules[string(rest(i))] = alt{without, rest(i + 1)}
		}
	}

	n := len(list)
	c.g.rules[string(first(n))] = empty
	c.g.rules[string(rest(n))] = empty
	if others != nil {
		c.g.rules[string(rest(n))] = repeat{seq{comma, others}, repeatLow, repeatHigh}
		beginning := seq{others, repeat{seq{comma, others}, max(0, repeatLow-1), less(repeatHigh)}}
		switch {
		case repeatHigh == 0:
		case repeatLow == 0:
			c.g.rules[string(first(n))] = alt{beginning, empty}
		default:
			c.g.rules[string(first(n))] = beginning
		}
	}

	return seq{literal("{"), ws, first(0), ws, literal("}")}
}

// less is a limit after one was taken off it.
func less(high int) int {
	if high < 0 {
		return high
	}
	return max(0, high-1)
}

func matchesNothing(e expr) bool {
	a, ok := e.(alt)
	return ok && len(a) == 0
}

// counted is an object of low to high of the members: rules know how many there are.
func (c *compiler) counted(list []property, low, high int) expr {
	if high < 0 || high > len(list) {
		high = len(list)
	}

	prefix := fmt.Sprintf("%sn%d-", c.g.prefix, len(c.g.rules))
	name := func(i, n int) ref { return ref(fmt.Sprintf("%s%d-%d", prefix, i, n)) }
	ws := c.basic("ws")
	for i := 0; i <= len(list); i++ {
		for n := 0; n <= i && n <= high; n++ {
			if i == len(list) {
				c.g.rules[string(name(i, n))] = never
				if n >= low {
					c.g.rules[string(name(i, n))] = empty
				}
				continue
			}
			var out alt
			if n < high {
				with := seq{c.member(literal(quote(list[i].name)), list[i].e), name(i+1, n+1)}
				if n > 0 {
					with = append(seq{ws, literal(","), ws}, with...)
				}
				out = append(out, with)
			}
			if !list[i].required {
				out = append(out, name(i+1, n))
			}
			c.g.rules[string(name(i, n))] = out
		}
	}

	return seq{literal("{"), ws, name(0, 0), ws, literal("}")}
}
