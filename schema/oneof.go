package schema

import "slices"

// disjoint says whether no two schemas of a oneOf can hold of one value, as far
// as is seen at once: by their types, or by a property that both fix.
func (c *compiler) disjoint(list []*value) bool {
	for i, a := range list {
		for _, b := range list[:i] {
			if !c.apart(a, b) {
				return false
			}
		}
	}
	return true
}

func (c *compiler) apart(a, b *value) bool {
	fa := c.flat(a)
	fb := c.flat(b)
	if fa == nil || fb == nil {
		return false
	}

	ta := c.types(fa)
	tb := c.types(fb)
	both := false
	for name := range ta {
		both = both || ta[name] && (tb[name] || name == "integer" && tb["number"] || name == "number" && tb["integer"])
	}

	if !both {
		return true
	}
	va := fixed(fa)
	vb := fixed(fb)
	if va != nil && vb != nil {
		return !overlap(va, vb)
	}

	// A property that both require with values of their own.
	onlyObjects := ta["object"] && tb["object"]
	for name, n := range ta {
		onlyObjects = onlyObjects && (!n || name == "object" || !tb[name])
	}

	if !onlyObjects {
		return false
	}

	for _, v := range fa {
		properties := v.members["properties"]
		if properties == nil || properties.kind != object {
			continue
		}
		for _, key := range properties.keys {
			pa := c.property(fa, key)
			pb := c.property(fb, key)
			if pa != nil && pb != nil && !overlap(pa, pb) {
				return true
			}
		}
	}

	return false
}

// flat is a schema and what it refers to, if there are no choices in it.
func (c *compiler) flat(v *value) []*value {
	var all []*value
	seen := map[*value]bool{}
	for todo := []*value{v}; len(todo) > 0; todo = todo[1:] {
		v := todo[0]
		if v.kind != object || seen[v] {
			continue
		}
		seen[v] = true
		if r := v.members["$ref"]; r != nil {
			if target := c.resolve(v, r); target != nil {
				todo = append(todo, target)
			}
			if c.refAlone {
				continue
			}
		}
		all = append(all, v)
		todo = append(todo, c.list(v, "allOf")...)
	}
	return all
}

// fixed is the values that schemas allow, or nil if they fix none.
func fixed(all []*value) []*value {
	for _, v := range all {
		if k := v.members["const"]; k != nil {
			return []*value{k}
		}
		if e := v.members["enum"]; e != nil && e.kind == array {
			return e.items
		}
	}
	return nil
}

// property is the values that schemas allow for a required property.
func (c *compiler) property(all []*value, key string) []*value {
	required := false
	var values []*value
	for _, v := range all {
		if r := v.members["required"]; r != nil {
			for _, n := range r.items {
				required = required || n.kind == text && n.text == key
			}
		}
		if p := v.members["properties"]; p != nil && p.members[key] != nil {
			if f := fixed(c.flat(p.members[key])); f != nil {
				values = f
			}
		}
	}
	if !required {
		return nil
	}
	return values
}

func overlap(a, b []*value) bool {
	return slices.ContainsFunc(a, func(x *value) bool { return slices.ContainsFunc(b, x.equal) })
}
