package schema

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"serve/steps"
)

// A schema may have parts with addresses of their own, and names for parts. References by those are resolved, as
// JSON pointers into the document are, and the addresses removed: what is left means the same wherever it stands.

// identifiers are the addresses and names of a document's parts.
type identifiers struct {
	root     *value
	keyword  string // of addresses, which draft 4 spells differently
	refAlone bool   // nothing counts beside a $ref
	parts    map[string]*value
	dynamic  bool // a reference depends on the way to it
	budget   *steps.Budget
}

// base is the address that references in a part are relative to.
type base struct {
	url     *url.URL
	address string
}

func newBase(u *url.URL) base { return base{u, u.String()} }

// localize resolves the references of a document and removes its addresses, unless there are references that
// depend on them.
func localize(root *value, budget *steps.Budget) error {
	ids := &identifiers{
		root:    root,
		keyword: "$id",
		parts:   map[string]*value{},
		budget:  budget,
	}
	if draft := root.members["$schema"]; draft != nil && draft.kind == text {
		ids.refAlone = oldDrafts.MatchString(draft.text)
		if strings.Contains(draft.text, "draft-04") {
			ids.keyword = "id"
		}
	}

	outer := newBase(&url.URL{Scheme: "urn", Opaque: "serve:schema"})
	ids.parts[outer.address] = root
	if err := ids.collect(root, outer); err != nil {
		return err
	}
	if err := ids.resolve(root, outer); err != nil {
		return err
	}
	if !ids.dynamic {
		ids.remove(root)
	}
	return nil
}

// schemas calls f for the schemas that a schema consists of: the values of all keywords, known or not, that may be
// some.
func (v *value) schemas(f func(*value)) {
	for _, key := range v.keys {
		member := v.members[key]
		switch {
		case data[key]:
		case slices.Contains(named, key) && member.kind == object:
			for _, name := range member.keys {
				f(member.members[name])
			}
		default:
			f(member)
		}
	}
	for _, item := range v.items {
		f(item)
	}
}

// eachSchema is schemas for a function that may fail. It ends with the first error.
func (v *value) eachSchema(f func(*value) error) (err error) {
	v.schemas(func(part *value) {
		if err == nil {
			err = f(part)
		}
	})
	return err
}

// plainAnchor matches names of parts.
var plainAnchor = regexp.MustCompile(`^[A-Za-z_][-A-Za-z0-9._:]*$`)

// base returns the base of a schema within another one's.
func (ids *identifiers) base(v *value, outer base) (base, error) {
	id := v.members[ids.keyword]
	if id == nil || id.kind != text || ids.refAlone && v.members["$ref"] != nil || strings.HasPrefix(id.text, "#") {
		return outer, nil
	}
	if err := ids.budget.Spend(20 + (len(id.text)+len(outer.address))/8); err != nil {
		return outer, err
	}
	own, err := outer.url.Parse(id.text)
	if err != nil {
		return outer, nil
	}
	own.Fragment = ""
	own.RawFragment = ""
	return newBase(own), nil
}

// collect finds the addresses and names. Of two that are the same the first counts.
func (ids *identifiers) collect(v *value, outer base) error {
	own, err := ids.base(v, outer)
	if err != nil {
		return err
	}
	add := func(address string) {
		if ids.parts[address] == nil {
			ids.parts[address] = v
		}
	}
	name := func(name string) error {
		add(own.address + "#" + name)
		return ids.budget.Spend(1 + (len(own.address)+len(name))/8)
	}

	if id := v.members[ids.keyword]; id != nil && id.kind == text {
		if anchor, ok := strings.CutPrefix(id.text, "#"); !ok {
			add(own.address)
		} else if plainAnchor.MatchString(anchor) { // as in drafts 4 to 7
			if err := name(anchor); err != nil {
				return err
			}
		}
	}
	for _, keyword := range []string{"$anchor", "$dynamicAnchor"} {
		if anchor := v.members[keyword]; anchor != nil && anchor.kind == text {
			if err := name(anchor.text); err != nil {
				return err
			}
		}
	}
	for _, keyword := range []string{"$dynamicRef", "$recursiveRef"} {
		ids.dynamic = ids.dynamic || v.members[keyword] != nil
	}

	return v.eachSchema(func(part *value) error { return ids.collect(part, own) })
}

// resolve finds the targets of the references in a schema. Those that lead nowhere stay without one.
func (ids *identifiers) resolve(v *value, outer base) error {
	own, err := ids.base(v, outer)
	if err != nil {
		return err
	}
	if r := v.members["$ref"]; r != nil && r.kind == text {
		if err := ids.budget.Spend(2 + (len(r.text)+len(own.address))/8); err != nil {
			return err
		}
		r.target = ids.target(own, r.text)
	}
	return v.eachSchema(func(part *value) error { return ids.resolve(part, own) })
}

// target returns what a reference means, or nil. A pointer that leads nowhere in a part with an address of its own
// is taken for one into the document, as its author must have meant it.
func (ids *identifiers) target(from base, ref string) *value {
	address := from.address
	fragment, local := strings.CutPrefix(ref, "#")
	if local {
		fragment = unescapePercent(fragment)
	} else {
		to, err := from.url.Parse(ref)
		if err != nil {
			return nil
		}
		fragment = to.Fragment
		to.Fragment = ""
		to.RawFragment = ""
		address = to.String()
	}

	resource := ids.parts[address]
	switch {
	case resource == nil:
		return nil
	case strings.HasPrefix(fragment, "/"):
		if target := resource.lookup(fragment); target != nil {
			return target
		}
		return ids.root.lookup(fragment)
	case fragment != "":
		return ids.parts[address+"#"+fragment]
	}
	return resource
}

// lookup follows a JSON pointer; nil if it leads nowhere.
func (v *value) lookup(pointer string) *value {
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		part = unescapePointer(part)
		next := v.members[part]
		if v.kind == array {
			if i, err := strconv.Atoi(part); err == nil && i >= 0 && i < len(v.items) {
				next = v.items[i]
			}
		}
		if v = next; v == nil {
			return nil
		}
	}
	return v
}

// remove removes the addresses and names from a schema and its parts.
func (ids *identifiers) remove(v *value) {
	for _, keyword := range []string{ids.keyword, "$anchor", "$dynamicAnchor"} {
		if name := v.members[keyword]; name != nil && name.kind == text {
			v.remove(keyword)
		}
	}
	v.schemas(ids.remove)
}
