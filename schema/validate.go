package schema

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"serve/steps"
)

// The drafts of JSON Schema, by their years from 2019 on.
const (
	draft4    = 4
	draft6    = 6
	draft7    = 7
	draft2019 = 2019
	draft2020 = 2020
)

// validator judges values by the parts of one document. Each part judges each value once, so that the work is
// bounded by the product of the two, however often parts refer to each other.
type validator struct {
	draft    int
	dynamic  bool                       // there are references that depend on the way to them, which are not followed
	tracks   bool                       // something depends on which members and items others have judged
	enums    map[*value]map[string]bool // by list, its values in canonical form
	patterns map[string]*search
}

func newValidator(root *value) *validator {
	v := &validator{
		draft:    draft2020,
		enums:    map[*value]map[string]bool{},
		patterns: map[string]*search{},
	}
	if named := root.members["$schema"]; named != nil && named.kind == text {
		for draft, part := range map[int]string{
			draft4: "draft-04", draft6: "draft-06", draft7: "draft-07", draft2019: "2019-09",
		} {
			if strings.Contains(named.text, part) {
				v.draft = draft
			}
		}
	}
	return v
}

// validate says why a value does not meet a schema. The error names the keyword, and nothing of the value.
func (v *validator) validate(schema, x *value) error {
	budget := steps.New(context.Background(), steps.PerRequest)
	r := newRun(v, budget)
	f := r.eval(schema, x).failed
	if err := budget.Spend(0); err != nil {
		return fmt.Errorf("validating it: %w", err)
	}
	if f == nil {
		return nil
	}
	return fmt.Errorf("it violates %s", f.pointer())
}

// holds says whether a value meets a schema. It is false when the budget ends.
func (v *validator) holds(schema, x *value, budget *steps.Budget) bool {
	return newRun(v, budget).eval(schema, x).failed == nil
}

// pair is a schema that judges a value.
type pair struct{ schema, value *value }

// verdict is what a schema says of a value.
type verdict struct {
	failed    *keyword // nil if it is valid
	done      bool     // false while it is being found out
	evaluated evaluated
}

// evaluated are the members and items that a schema has judged, if anybody asks.
type evaluated struct {
	members map[string]bool
	items   map[int]bool
}

// run is one judgment.
type run struct {
	*validator
	budget *steps.Budget
	known  map[pair]*verdict
	names  map[string]*value // of members, as values
	texts  map[*value]string // values in canonical form
}

func newRun(v *validator, budget *steps.Budget) *run {
	return &run{
		validator: v,
		budget:    budget,
		known:     map[pair]*verdict{},
		names:     map[string]*value{},
		texts:     map[*value]string{},
	}
}

// spend takes steps. It reports false if there are none left.
func (r *run) spend(n int) bool { return r.budget.Spend(n) == nil }

// eval judges a value.
func (r *run) eval(schema, x *value) *verdict {
	key := pair{schema, x}
	if found := r.known[key]; found != nil {
		if !found.done {
			return &verdict{failed: &keyword{schema, "$ref"}} // it would only lead back to itself
		}
		return found
	}

	out := &verdict{}
	r.known[key] = out
	switch {
	case !r.spend(6):
		out.failed = &keyword{schema, ""}
	case schema.kind == boolean && !schema.yes:
		out.failed = &keyword{schema.parent, schema.name}
	case schema.kind == object:
		out.failed = r.keywords(schema, x, out)
	}
	out.done = true
	return out
}

// keywords judges a value by the keywords of a schema, and returns the first that it violates.
func (r *run) keywords(s, x *value, out *verdict) *keyword {
	if ref := s.members["$ref"]; ref != nil && ref.target != nil {
		if f := r.also(ref.target, x, out); f != nil || r.draft < draft2019 {
			return f
		}
	}
	for _, judge := range []func(s, x *value, out *verdict) *keyword{
		r.general, r.object, r.array, r.text, r.number, r.applied, r.conditional, r.unevaluated,
	} {
		if f := judge(s, x, out); f != nil {
			return f
		}
	}
	return nil
}

// also judges a value by another schema, which sees the same members and items.
func (r *run) also(schema, x *value, out *verdict) *keyword {
	sub := r.eval(schema, x)
	if sub.failed == nil {
		r.merge(out, sub)
	}
	return sub.failed
}

// merge adds the members and items that another schema has judged.
func (r *run) merge(out, sub *verdict) {
	if !r.tracks || !r.spend(len(sub.evaluated.members)+len(sub.evaluated.items)) {
		return
	}
	for name := range sub.evaluated.members {
		out.member(name)
	}
	for i := range sub.evaluated.items {
		out.item(i)
	}
}

func (v *verdict) member(name string) {
	if v.evaluated.members == nil {
		v.evaluated.members = map[string]bool{}
	}
	v.evaluated.members[name] = true
}

func (v *verdict) item(i int) {
	if v.evaluated.items == nil {
		v.evaluated.items = map[int]bool{}
	}
	v.evaluated.items[i] = true
}

// canonical returns a value in canonical form.
func (r *run) canonical(x *value) string {
	text, ok := r.texts[x]
	if !ok {
		text = x.canonical()
		r.spend(1 + len(text)/8)
		r.texts[x] = text
	}
	return text
}

// enum returns the values of an enum in canonical form.
func (v *validator) enum(list *value, budget *steps.Budget) map[string]bool {
	set, ok := v.enums[list]
	if !ok {
		set = map[string]bool{}
		for _, item := range list.items {
			text := item.canonical()
			if budget.Spend(2+len(text)/8) != nil {
				return set
			}
			set[text] = true
		}
		v.enums[list] = set
	}
	return set
}

// isType says whether a value is of a type.
func isType(x *value, name string) bool {
	switch name {
	case "null":
		return x.kind == null
	case "boolean":
		return x.kind == boolean
	case "object":
		return x.kind == object
	case "array":
		return x.kind == array
	case "number":
		return x.kind == number
	case "integer":
		return x.kind == number && x.number.IsInt()
	case "string":
		return x.kind == text
	}
	return false
}

// general judges by the keywords for values of any type.
func (r *run) general(s, x *value, _ *verdict) *keyword {
	if t := s.members["type"]; t != nil {
		found := isType(x, t.text)
		for _, name := range t.items {
			found = found || isType(x, name.text)
		}
		if !found {
			return &keyword{s, "type"}
		}
	}
	if c := s.members["const"]; c != nil && r.draft >= draft6 && r.canonical(x) != r.canonical(c) {
		return &keyword{s, "const"}
	}
	if list := s.members["enum"]; list != nil && list.kind == array && !r.enum(list, r.budget)[r.canonical(x)] {
		return &keyword{s, "enum"}
	}
	return nil
}

// wholeNumber returns the number of a keyword that counts; false if there is none.
func wholeNumber(s *value, name string) (int64, bool) {
	n := s.members[name]
	if n == nil || n.kind != number || !n.number.IsInt() || !n.number.Num().IsInt64() {
		return 0, false
	}
	return n.number.Num().Int64(), true
}

// amount returns the keyword by which there are too few or too many of something, or nil.
func amount(s *value, n int, lowest, highest string) *keyword {
	if low, ok := wholeNumber(s, lowest); ok && int64(n) < low {
		return &keyword{s, lowest}
	}
	if high, ok := wholeNumber(s, highest); ok && int64(n) > high {
		return &keyword{s, highest}
	}
	return nil
}

// text judges strings.
func (r *run) text(s, x *value, _ *verdict) *keyword {
	if x.kind != text {
		return nil
	}
	if f := amount(s, utf8.RuneCountInString(x.text), "minLength", "maxLength"); f != nil {
		return f
	}
	if p := s.members["pattern"]; p != nil && p.kind == text && !r.finds(p.text, x.text) {
		return &keyword{s, "pattern"}
	}
	if f := s.members["format"]; f != nil && f.kind == text {
		if r.spend(5+len(x.text)/8) && !hasFormat(f.text, x.text) {
			return &keyword{s, "format"}
		}
	}
	return nil
}

// number judges numbers.
func (r *run) number(s, x *value, _ *verdict) *keyword {
	if x.kind != number {
		return nil
	}
	for _, l := range limits {
		limit := s.members[l.name]
		if limit == nil || limit.kind != number {
			continue
		}
		other := s.members[l.exclusive]
		exclusive := other != nil && other.kind == boolean && other.yes
		if order := x.number.Cmp(limit.number); !l.allows(order) || exclusive && order == 0 {
			return &keyword{s, l.name}
		}
	}
	if m := s.members["multipleOf"]; m != nil && m.kind == number && m.number.Sign() > 0 {
		if !isMultiple(x.number, m.number) {
			return &keyword{s, "multipleOf"}
		}
	}
	return nil
}

// pattern judges whether a text has a pattern in it. What cannot be searched for is taken to be there.
func (r *run) finds(pattern, text string) bool {
	p := r.pattern(pattern, r.budget)
	if p.re == nil || !r.spend(1+len(text)*p.size/64) {
		return true
	}
	return p.re.MatchString(text)
}

// nameOf returns the name of a member as a value.
func (r *run) nameOf(name string) *value {
	if r.names[name] == nil {
		r.names[name] = &value{kind: text, text: name}
	}
	return r.names[name]
}

// array judges arrays.
func (r *run) array(s, x *value, out *verdict) *keyword {
	if x.kind != array {
		return nil
	}
	if f := amount(s, len(x.items), "minItems", "maxItems"); f != nil {
		return f
	}
	if u := s.members["uniqueItems"]; u != nil && u.kind == boolean && u.yes {
		seen := map[string]bool{}
		for _, item := range x.items {
			text := r.canonical(item)
			if seen[text] {
				return &keyword{s, "uniqueItems"}
			}
			seen[text] = true
		}
	}

	tuple, rest := r.itemSchemas(s)
	for i, item := range x.items {
		schema := rest
		if i < len(tuple) {
			schema = tuple[i]
		}
		if schema == nil {
			break
		}
		if f := r.eval(schema, item).failed; f != nil {
			return f
		}
		if r.tracks {
			out.item(i)
		}
	}
	return r.contains(s, x, out)
}

// itemSchemas returns the schemas of the first items, and that of the others.
func (r *run) itemSchemas(s *value) (tuple []*value, rest *value) {
	items := s.members["items"]
	switch {
	case r.draft >= draft2020:
		if p := s.members["prefixItems"]; p != nil {
			tuple = p.items
		}
		return tuple, items
	case items != nil && items.kind == array:
		return items.items, s.members["additionalItems"]
	}
	return nil, items
}

// contains judges how many items are as asked.
func (r *run) contains(s, x *value, out *verdict) *keyword {
	schema := s.members["contains"]
	if schema == nil || r.draft < draft6 {
		return nil
	}
	found := 0
	for i, item := range x.items {
		if r.eval(schema, item).failed != nil {
			continue
		}
		found++
		if r.tracks && r.draft >= draft2020 {
			out.item(i)
		}
	}

	_, bounded := wholeNumber(s, "minContains")
	if r.draft < draft2019 || !bounded {
		if found == 0 {
			return &keyword{s, "contains"}
		}
	}
	if r.draft < draft2019 {
		return nil
	}
	return amount(s, found, "minContains", "maxContains")
}

// unevaluated judges the members and items that nothing else has judged.
func (r *run) unevaluated(s, x *value, out *verdict) *keyword {
	if r.draft < draft2019 || r.dynamic || !r.tracks {
		return nil
	}
	if schema := s.members["unevaluatedProperties"]; schema != nil && x.kind == object {
		for _, name := range x.keys {
			if !out.evaluated.members[name] && r.eval(schema, x.members[name]).failed != nil {
				return &keyword{s, "unevaluatedProperties"}
			}
			out.member(name)
		}
	}
	if schema := s.members["unevaluatedItems"]; schema != nil && x.kind == array {
		for i, item := range x.items {
			if !out.evaluated.items[i] && r.eval(schema, item).failed != nil {
				return &keyword{s, "unevaluatedItems"}
			}
			out.item(i)
		}
	}
	return nil
}
