package schema

import "slices"

// profile is what is seen at once of a schema without choices.
type profile struct {
	all      []*value        // the schema and what it refers to
	types    typeSet         // that it allows
	fixed    map[string]bool // the values that it allows, in canonical form; nil if it does not list them
	required []string        // members that objects must have
	needs    map[string]bool // the same
}

// profile returns the profile of a schema. That of one that is no object has no schemas.
func (c *compiler) profile(v *value) *profile {
	if p := c.profiles[v]; p != nil {
		return p
	}

	p := &profile{all: c.flat(v)}
	p.types = c.types(p.all)
	if values := fixed(p.all); values != nil {
		p.fixed = map[string]bool{}
		for _, x := range values {
			text := x.canonical()
			p.fixed[text] = true
			c.spend(4 + len(text)/16)
		}
	}
	p.required, p.needs = c.requiredNames(p.all)
	c.profiles[v] = p
	return p
}

// maxPairs is how many pairs of schemas are compared for one list; with more, its schemas count as not disjoint.
const maxPairs = 100_000

// disjoint says whether no two schemas of a oneOf can hold of one value, as far
// as is seen at once: by their types, or by a property.
func (c *compiler) disjoint(list *value) bool {
	known, ok := c.apartness[list]
	if !ok {
		c.apartLeft = maxPairs
		known = c.allApart(list.items)
		c.apartness[list] = known
	}
	return known
}

func (c *compiler) allApart(list []*value) bool {
	if len(list) > maxAlternation {
		return false // and refused, when it is compiled
	}
	profiles := make([]*profile, len(list))
	for i, v := range list {
		profiles[i] = c.profile(v)
	}
	if distinctValues(profiles) || c.discriminated(profiles) {
		return true
	}

	for i, a := range list {
		for _, b := range list[:i] {
			if c.err != nil || !c.apart(a, b, 0) {
				return false
			}
		}
	}
	return true
}

// distinctValues says whether all schemas list their values, and none is in two lists.
func distinctValues(profiles []*profile) bool {
	seen := map[string]bool{}
	for _, p := range profiles {
		if p.fixed == nil {
			return false
		}
		for text := range p.fixed {
			if seen[text] {
				return false
			}
			seen[text] = true
		}
	}
	return true
}

// discriminated says whether all schemas are of objects, and one member, which all of them require, has values in
// each that it has in no other.
func (c *compiler) discriminated(profiles []*profile) bool {
	for _, p := range profiles {
		if len(p.all) == 0 || p.types != objectType {
			return false
		}
	}
	for _, name := range profiles[0].required {
		if !c.spend(len(profiles)) {
			return false
		}
		members := make([]*profile, 0, len(profiles))
		for _, p := range profiles {
			if m := c.fixedMember(p, name); m != nil {
				members = append(members, m)
			}
		}
		if len(members) == len(profiles) && distinctValues(members) {
			return true
		}
	}
	return false
}

// fixedMember returns the profile of a member that is required and has listed values, or nil.
func (c *compiler) fixedMember(p *profile, name string) *profile {
	if !p.needs[name] {
		return nil
	}
	for _, v := range c.memberSchemas(p.all, name) {
		if m := c.profile(v); m.fixed != nil {
			return m
		}
	}
	return nil
}

// maxApart is how deep properties of properties are compared.
const maxApart = 3

// apart says whether no value meets both schemas, as far as is seen at once.
func (c *compiler) apart(a, b *value, depth int) bool {
	if c.apartLeft--; c.apartLeft < 0 || !c.spend(5) {
		return false
	}

	pa := c.profile(a)
	pb := c.profile(b)
	if len(pa.all) == 0 || len(pb.all) == 0 {
		return a.kind == boolean && !a.yes || b.kind == boolean && !b.yes
	}

	both := pa.types.and(pb.types)
	if both == 0 {
		return true
	}
	if pa.fixed != nil && pb.fixed != nil {
		return !c.overlap(pa.fixed, pb.fixed)
	}

	// A property that tells objects apart, if there is nothing else in both.
	return both == objectType && (c.apartByMember(pa, pb, depth) || c.apartByMember(pb, pa, depth))
}

// apartByMember says whether a member that all objects of a have is none that b has, or has other values there.
func (c *compiler) apartByMember(a, b *profile, depth int) bool {
	for _, name := range a.required {
		if c.forbids(b.all, name) {
			return true
		}
		if !b.needs[name] || depth == maxApart {
			continue
		}
		for _, x := range c.memberSchemas(a.all, name) {
			for _, y := range c.memberSchemas(b.all, name) {
				if c.apart(x, y, depth+1) {
					return true
				}
			}
		}
		if c.apartLeft < 0 || c.err != nil {
			return false
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
		if v.kind != object || seen[v] || !c.spend(4) {
			continue
		}
		seen[v] = true
		if r := v.members["$ref"]; r != nil {
			if target := r.target; target != nil {
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

// overlap says whether a value is in both sets.
func (c *compiler) overlap(a, b map[string]bool) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	c.spend(len(a))
	for text := range a {
		if b[text] {
			return true
		}
	}
	return false
}
