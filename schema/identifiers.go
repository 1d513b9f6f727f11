package schema

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A schema may have parts with addresses of their own, and names for parts. References by those are rewritten as
// JSON pointers into the document, and the addresses removed: what is left means the same wherever it stands.

// identifiers are the addresses and names of a document's parts.
type identifiers struct {
	keyword  string // of addresses, which draft 4 spells differently
	refAlone bool   // nothing counts beside a $ref
	parts    map[string]*value
	dynamic  bool // a reference depends on the way to it
}

// localize rewrites the references of a document and removes its addresses, unless there are references that
// depend on them. It reports whether it has removed any.
func localize(root *value) (changed bool) {
	ids := &identifiers{keyword: "$id", parts: map[string]*value{}}
	if draft := root.members["$schema"]; draft != nil && draft.kind == text {
		ids.refAlone = oldDrafts.MatchString(draft.text)
		if strings.Contains(draft.text, "draft-04") {
			ids.keyword = "id"
		}
	}

	base := &url.URL{Scheme: "urn", Opaque: "serve:schema"}
	ids.parts[base.String()] = root
	ids.collect(root, base)
	ids.rewrite(root, root, base)
	return !ids.dynamic && ids.remove(root)
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

// plainAnchor matches names of parts.
var plainAnchor = regexp.MustCompile(`^[A-Za-z_][-A-Za-z0-9._:]*$`)

// base returns the address of a schema within another one's.
func (ids *identifiers) base(v *value, outer *url.URL) *url.URL {
	id := v.members[ids.keyword]
	if id == nil || id.kind != text || ids.refAlone && v.members["$ref"] != nil {
		return outer
	}
	own, err := outer.Parse(id.text)
	if err != nil || strings.HasPrefix(id.text, "#") {
		return outer
	}
	own.Fragment = ""
	own.RawFragment = ""
	return own
}

// collect finds the addresses and names. Of two that are the same the first counts.
func (ids *identifiers) collect(v *value, base *url.URL) {
	base = ids.base(v, base)
	add := func(address string) {
		if ids.parts[address] == nil {
			ids.parts[address] = v
		}
	}

	if id := v.members[ids.keyword]; id != nil && id.kind == text {
		if name, ok := strings.CutPrefix(id.text, "#"); !ok {
			add(base.String())
		} else if plainAnchor.MatchString(name) {
			add(base.String() + "#" + name) // as in drafts 4 to 7
		}
	}
	for _, keyword := range []string{"$anchor", "$dynamicAnchor"} {
		if name := v.members[keyword]; name != nil && name.kind == text {
			add(base.String() + "#" + name.text)
		}
	}
	for _, keyword := range []string{"$dynamicRef", "$recursiveRef"} {
		ids.dynamic = ids.dynamic || v.members[keyword] != nil
	}

	v.schemas(func(part *value) { ids.collect(part, base) })
}

// rewrite makes the references in a schema pointers into the document. Those that lead nowhere stay as they are.
func (ids *identifiers) rewrite(root, v *value, base *url.URL) {
	base = ids.base(v, base)
	if r := v.members["$ref"]; r != nil && r.kind == text {
		if target := ids.target(root, base, r.text); target != nil {
			r.text = "#" + (&url.URL{Fragment: target.pointer}).EscapedFragment()
		}
	}
	v.schemas(func(part *value) { ids.rewrite(root, part, base) })
}

// target returns what a reference means, or nil. A pointer that leads nowhere in a part with an address of its own
// is taken for one into the document, as its author must have meant it.
func (ids *identifiers) target(root *value, base *url.URL, ref string) *value {
	to, err := base.Parse(ref)
	if err != nil {
		return nil
	}
	fragment := to.Fragment
	to.Fragment = ""
	to.RawFragment = ""
	if strings.HasPrefix(ref, "#") {
		to = base
	}

	resource := ids.parts[to.String()]
	switch {
	case resource == nil:
		return nil
	case strings.HasPrefix(fragment, "/"):
		if target := resource.lookup(fragment); target != nil {
			return target
		}
		return root.lookup(fragment)
	case fragment != "":
		return ids.parts[to.String()+"#"+fragment]
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

// remove removes the addresses and names from a schema and its parts. It reports whether there were any.
func (ids *identifiers) remove(v *value) (removed bool) {
	for _, keyword := range []string{ids.keyword, "$anchor", "$dynamicAnchor"} {
		if name := v.members[keyword]; name != nil && name.kind == text {
			v.remove(keyword)
			removed = true
		}
	}
	v.schemas(func(part *value) { removed = ids.remove(part) || removed })
	return removed
}
