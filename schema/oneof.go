package schema

import "slices"

// disjoint says whether no two schemas of a oneOf can hold of one value, as far
// as is seen at once: by their types, or by a property.
func (c *compiler) disjoint(list []*value) bool {
	for i, a := range list {
		for _, b := range list[:i] {
			if !c.apart(a, b, 0) {
				return false
			}
		}
	}
	return true
}

// maxApart is how deep properties of properties are compared.
const maxApart = 3

// apart says whether no value meets both schemas, as far as is seen at once.
func (c *compiler) apart(a, b *value, depth int) bool {
	fa := c.flat(a)
	fb := c.flat(b)
	if fa == nil || fb == nil {
		return a.kind == boolean && !a.yes || b.kind == boolean && !b.yes
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

	// A property that tells objects apart, if there is nothing else in both.
	onlyObjects := ta["object"] && tb["object"]
	for name, n := range ta {
		onlyObjects = onlyObjects && (!n || name == "object" || !tb[name])
	}
	return onlyObjects && (c.apartByMember(fa, fb, depth) || c.apartByMember(fb, fa, depth))
}

// apartByMember says whether a member that all objects of a have is none that b has, or has other values there.
func (c *compiler) apartByMember(a, b []*value, depth int) bool {
	_, required := c.memberNames(a)
	_, requiredToo := c.memberNames(b)
	for name := range required {
		if c.forbids(b, name) {
			return true
		}
		if !requiredToo[name] || depth == maxApart {
			continue
		}
		for _, x := range c.memberSchemas(a, name) {
			for _, y := range c.memberSchemas(b, name) {
				if c.apart(x, y, depth+1) {
					return true
				}
			}
		}
	}
	return false
}

// forbids says whether objects cannot have a member.
func (c *compiler) forbids(all []*value, name string) bool {
	return slices.ContainsFunc(c.memberSchemas(all, name), func(v *value) bool { return v.kind == boolean && !v.yes })
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

func overlap(a, b []*value) bool {
	return slices.ContainsFunc(a, func(x *value) bool { return slices.ContainsFunc(b, x.equal) })
}
