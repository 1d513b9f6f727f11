package schema

import (
	"regexp"
	"slices"
	"strconv"
)

// Schemas without $schema are read as those of 2020-12. Many are of older drafts: what means something else there,
// or nothing, is rewritten in today's form.

// knownDrafts are the drafts that the validator knows by their addresses.
var knownDrafts = regexp.MustCompile(`^https?://json-schema\.org/(draft-0[467]|draft/2019-09|draft/2020-12)/schema#?$`)

// named are the keywords whose members are names of schemas, and no keywords.
var named = []string{"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}

// modernize rewrites older forms in a document. It reports whether the document is of a dialect that is not known.
func modernize(root *value) (unknown bool) {
	if draft := root.members["$schema"]; draft != nil && draft.kind == text {
		if knownDrafts.MatchString(draft.text) {
			return false
		}
		root.remove("$schema")
		unknown = true
	}
	modernizeSchema(root)
	return unknown
}

func modernizeSchema(v *value) {
	if v.kind == object {
		v.modernizeLimit("exclusiveMinimum", "minimum")
		v.modernizeLimit("exclusiveMaximum", "maximum")
		v.modernizeItems()
		v.modernizeRequired()
	}
	v.schemas(modernizeSchema)
}

// modernizeLimit reads a limit that says only whether another one is exclusive.
func (v *value) modernizeLimit(exclusive, limit string) {
	e := v.members[exclusive]
	if e == nil || e.kind != boolean {
		return
	}
	n := v.members[limit]
	v.remove(exclusive)
	if e.yes && n != nil {
		v.remove(limit)
		v.set(exclusive, n)
	}
}

// modernizeItems reads a list of items, and what comes after them.
func (v *value) modernizeItems() {
	items := v.members["items"]
	if items == nil || items.kind != array {
		return
	}
	v.remove("items")
	if len(items.items) > 0 {
		v.set("prefixItems", items)
	}
	if more := v.members["additionalItems"]; more != nil {
		v.remove("additionalItems")
		v.set("items", more)
	}
}

// modernizeRequired reads members that say themselves whether they are required.
func (v *value) modernizeRequired() {
	properties := v.members["properties"]
	if properties == nil || properties.kind != object {
		return
	}

	var listed map[string]bool // names in the list of this schema
	for _, name := range properties.keys {
		p := properties.members[name]
		r := p.members["required"]
		if p.kind != object || r == nil || r.kind != boolean {
			continue
		}

		p.remove("required")
		if !r.yes {
			continue
		}

		list := v.members["required"]
		if list == nil || list.kind != array {
			list = &value{kind: array}
			v.set("required", list)
		}
		if listed == nil {
			listed = map[string]bool{}
			for _, item := range list.items {
				listed[item.text] = true
			}
		}
		if !listed[name] {
			list.items = append(list.items, &value{
				kind:   text,
				parent: list,
				name:   strconv.Itoa(len(list.items)),
				text:   name,
			})
		}
	}
}

func (v *value) remove(key string) {
	delete(v.members, key)
	v.keys = slices.DeleteFunc(v.keys, func(k string) bool { return k == key })
}

// set adds a member, behind the others.
func (v *value) set(key string, to *value) {
	v.remove(key)
	v.keys = append(v.keys, key)
	v.members[key] = to
	to.parent = v
	to.name = key
}
