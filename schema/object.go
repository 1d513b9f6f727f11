package schema

import (
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
	required = map[string]bool{}
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, v := range all {
		if p := v.members["properties"]; p != nil {
			if p.kind != object {
				c.fail(p, "properties is an object")
				return nil, nil
			}
			for _, name := range p.keys {
				add(name)
			}
		}
	}
	for _, v := range all {
		r := v.members["required"]
		if r == nil || r.kind == boolean {
			continue // a boolean is of draft 3
		}
		if r.kind != array {
			c.fail(r, "required is a list of names")
			return nil, nil
		}
		for _, n := range r.items {
			if n.kind != text {
				c.fail(n, "required is a list of names")
				return nil, nil
			}
			add(n.text)
			required[n.text] = true
		}
	}
	return names, required
}

// memberSchemas returns the schemas that a member's value must meet.
func (c *compiler) memberSchemas(all []*value, name string) []*value {
	var schemas []*value
	for _, v := range all {
		known := false
		if p := v.members["properties"]; p != nil && p.members[name] != nil {
			schemas, known = append(schemas, p.members[name]), true
		}
		if p := v.members["patternProperties"]; p != nil && p.kind == object {
			for _, key := range p.keys {
				if d, err := c.pattern(key)(); err == nil && d.has(name) {
					schemas, known = append(schemas, p.members[key]), true
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

func (c *compiler) patternKeys(all []*value) (*keyPatterns, error) {
	k := &keyPatterns{by: map[string]*dfa{}, of: map[*value][]string{}}
	for _, v := range all {
		if p := v.members["patternProperties"]; p != nil {
			if p.kind != object {
				c.fail(p, "patternProperties is an object")
				return nil, nil
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
				if d, err = intersect(k.names, d); err != nil {
					return nil, err
				}
			}
			k.names = d
		}
	}
	if len(k.by) > 4 {
		return nil, errTooLarge // each combination of them is a case of its own
	}
	return k, nil
}

// nameSchema is the strings that a schema of names allows.
func (c *compiler) nameSchema(v *value) (*dfa, error) {
	if v.kind == boolean {
		if v.yes {
			return anything(), nil
		}
		return words(nil), nil
	}
	all := c.flat(v)
	for _, s := range all {
		for _, keyword := range s.keys {
			switch keyword {
			case "type", "pattern", "format", "minLength", "maxLength", "enum", "const", "$ref", "allOf":
			default:
				if enforced[keyword] || unenforced[keyword] {
					return nil, fmt.Errorf("%s of names", keyword)
				}
			}
		}
	}
	before := len(c.loose)
	d, _ := c.patterns(all)
	if len(c.loose) > before {
		return nil, fmt.Errorf("a pattern of names")
	}
	low, high := c.limits(all, "minLength", "maxLength")
	l, err := lengths(low, high)
	if err != nil {
		return nil, err
	}
	if d, err = intersect(d, l); err != nil {
		return nil, err
	}
	if values := fixed(all); values != nil {
		var list []string
		for _, x := range values {
			if x.kind == text {
				list = append(list, x.text)
			}
		}
		return intersect(d, words(list))
	}
	return d, nil
}

// others is a member with any other name, never if there is none.
func (c *compiler) others(all []*value, names []string, keys *keyPatterns) expr {
	if keys == nil {
		keys = &keyPatterns{}
	}
	open, told := true, false
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
	rest := words(names).complement()
	if keys.names != nil {
		narrowed, err := intersect(rest, keys.names)
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
		if rest, err = intersect(rest, d); err != nil {
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
				schemas, matched = append(schemas, v.members["patternProperties"].members[p]), true
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
	repeatLow, repeatHigh := 0, -1
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
			repeatLow, repeatHigh = 0, -1
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
		others, repeatLow, repeatHigh = nil, 0, 0
	}
	prefix := fmt.Sprintf("%so%d-", c.g.prefix, len(c.g.rules))
	ws := c.basic("ws")
	comma := seq{ws, literal(","), ws}
	// first(i) is what may come at the beginning from member i on, rest(i) what may
	// come after another member.
	first, rest := func(i int) ref { return ref(fmt.Sprintf("%sf%d", prefix, i)) }, func(i int) ref { return ref(fmt.Sprintf("%sr%d", prefix, i)) }
	for i, p := range list {
		kv := c.member(literal(quote(p.name)), p.e)
		with, without := seq{kv, rest(i + 1)}, seq{comma, kv, rest(i + 1)}
		if p.required {
			c.g.rules[string(first(i))], c.g.rules[string(rest(i))] = with, without
		} else {
			c.g.rules[string(first(i))], c.g.rules[string(rest(i))] = alt{with, first(i + 1)}, alt{without, rest(i + 1)}
		}
	}
	n := len(list)
	c.g.rules[string(first(n))], c.g.rules[string(rest(n))] = empty, empty
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

// array compiles what schemas say of arrays.
func (c *compiler) array(all []*value) expr {
	low, high := c.limits(all, "minItems", "maxItems")
	fixedItems := 0
	for _, v := range all {
		fixedItems = max(fixedItems, len(c.tuple(v)))
	}
	for _, v := range all {
		if u := v.members["uniqueItems"]; u != nil && u.kind == boolean && u.yes && high != 1 && high != 0 {
			c.ignore(v, "uniqueItems")
		}
	}
	var list []expr
	for i := range fixedItems {
		list = append(list, c.schema(c.itemSchemas(all, i)...))
	}
	item := c.schema(c.itemSchemas(all, fixedItems)...)
	if high >= 0 && low > high {
		return never
	}
	repeatLow, repeatHigh := max(0, low-fixedItems), -1
	if high >= 0 {
		repeatHigh = max(0, high-fixedItems)
	}
	if repeatLow > maxRepeat || repeatHigh > maxRepeat {
		c.ignoreAny(all, "minItems", "maxItems")
		repeatLow, repeatHigh = min(repeatLow, maxRepeat), -1
	}
	ws := c.basic("ws")
	comma := seq{ws, literal(","), ws}
	// From the end: what may come after item i.
	tail := expr(repeat{seq{comma, item}, repeatLow, repeatHigh})
	if len(list) == 0 {
		var body expr = empty
		if repeatHigh != 0 {
			some := seq{item, repeat{seq{comma, item}, max(0, repeatLow-1), less(repeatHigh)}}
			body = alt{some, empty}
			if repeatLow > 0 {
				body = some
			}
		} else if repeatLow > 0 {
			return never
		}
		return seq{literal("["), ws, body, ws, literal("]")}
	}
	for i := len(list) - 1; i >= 0; i-- {
		var here seq
		if i > 0 {
			here = seq{comma, list[i], tail}
		} else {
			here = seq{list[i], tail}
		}
		switch {
		case high >= 0 && i >= high:
			tail = empty
		case i >= low:
			tail = alt{here, empty}
		default:
			tail = here
		}
	}
	return seq{literal("["), ws, tail, ws, literal("]")}
}

// tuple is the schemas of the first items, by the name of either draft.
func (c *compiler) tuple(v *value) []*value {
	if p := v.members["prefixItems"]; p != nil && p.kind == array {
		return p.items
	}
	if i := v.members["items"]; i != nil && i.kind == array {
		return i.items
	}
	return nil
}

// itemSchemas returns the schemas that item i must meet.
func (c *compiler) itemSchemas(all []*value, i int) []*value {
	var schemas []*value
	for _, v := range all {
		tuple := c.tuple(v)
		items, additional := v.members["items"], v.members["additionalItems"]
		switch {
		case i < len(tuple):
			schemas = append(schemas, tuple[i])
		case items != nil && items.kind != array:
			schemas = append(schemas, items)
		case items != nil && additional != nil:
			schemas = append(schemas, additional)
		}
	}
	return schemas
}
