package schema

import (
	"regexp"
	"slices"
)

// Schemas without $schema are read as those of 2020-12. Many are of older drafts: what means something else there,
// or nothing, is rewritten in today's form.

// knownDrafts are the drafts that the validator knows by their addresses.
var knownDrafts = regexp.MustCompile(`^https?://json-schema\.org/(draft-0[467]|draft/2019-09|draft/2020-12)/schema#?$`)

// named are the keywords whose members are names of schemas, and no keywords.
var named = []string{"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}

// modernize rewrites older forms in a document. It reports whether it changed anything, and whether the document is
// of a dialect that is not known.
func modernize(root *value) (changed, unknown bool) {
	if draft := root.members["$schema"]; draft != nil && draft.kind == text {
		if knownDrafts.MatchString(draft.text) {
			return false, false
		}
		root.remove("$schema")
		unknown = true
	}
	return modernizeSchema(root) || unknown, unknown
}

func modernizeSchema(v *value) (changed bool) {
	if v.kind == object {
		changed = v.modernizeLimit("exclusiveMinimum", "minimum")
		changed = v.modernizeLimit("exclusiveMaximum", "maximum") || changed
		changed = v.modernizeItems() || changed
		changed = v.modernizeRequired() || changed
	}

	v.schemas(func(s *value) { changed = modernizeSchema(s) || changed })
	return changed
}

// modernizeLimit reads a limit that says only whether another one is exclusive.
func (v *value) modernizeLimit(exclusive, limit string) bool {
	e := v.members[exclusive]
	if e == nil || e.kind != boolean {
		return false
	}
	n := v.members[limit]
	v.remove(exclusive)
	if e.yes && n != nil {
		v.remove(limit)
		v.set(exclusive, n)
	}
	return true
}

// modernizeItems reads a list of items, and what comes after them.
func (v *value) modernizeItems() bool {
	items := v.members["items"]
	if items == nil || items.kind != array {
		return false
	}
	v.remove("items")
	if len(items.items) > 0 {
		v.set("prefixItems", items)
	}
	if more := v.members["additionalItems"]; more != nil {
		v.remove("additionalItems")
		v.set("items", more)
	}
	return true
}

// modernizeRequired reads members that say themselves whether they are required.
func (v *value) modernizeRequired() (changed bool) {
	properties := v.members["properties"]
	if properties == nil || properties.kind != object {
		return false
	}

	for _, name := range properties.keys {
		p := properties.members[name]
		r := p.members["required"]
		if p.kind != object || r == nil || r.kind != boolean {
			continue
		}

		p.remove("required")
		changed = true
		if !r.yes {
			continue
		}

		list := v.members["required"]
		if list == nil || list.kind != array {
			list = &value{kind: array}
			v.remove("required")
			v.set("required", list)
		}

		if !slices.ContainsFunc(list.items, func(i *value) bool { return i.text == name }) {
			list.items = append(list.items, &value{kind: text, text: name})
		}
	}

	return changed
}

func (v *value) remove(key string) {
	delete(v.members, key)
	v.keys = slices.DeleteFunc(v.keys, func(k string) bool { return k == key })
}

func (v *value) set(key string, to *value) {
	if v.members[key] == nil {
		v.keys = append(v.keys, key)
	}
	v.members[key] = to
}
