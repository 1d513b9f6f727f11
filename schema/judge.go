package schema

import (
	"math/big"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/dlclark/regexp2"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"serve/steps"
)

// limits are the keywords that bound numbers, and those of draft 4 by which the bound itself is not allowed.
var limits = []struct {
	name, exclusive string
	allows          func(order int) bool // a number that compares to the bound like this
}{
	{"minimum", "exclusiveMinimum", func(order int) bool { return order >= 0 }},
	{"maximum", "exclusiveMaximum", func(order int) bool { return order <= 0 }},
	{"exclusiveMinimum", "", func(order int) bool { return order > 0 }},
	{"exclusiveMaximum", "", func(order int) bool { return order < 0 }},
}

func isMultiple(x, of *big.Rat) bool { return new(big.Rat).Quo(x, of).IsInt() }

// object judges objects.
func (r *run) object(s, x *value, out *verdict) *keyword {
	if x.kind != object {
		return nil
	}
	if f := amount(s, len(x.members), "minProperties", "maxProperties"); f != nil {
		return f
	}
	if !r.hasAll(x, s.members["required"]) {
		return &keyword{s, "required"}
	}

	for _, name := range x.keys {
		judged, f := r.member(s, x.members[name], name)
		if f != nil {
			return f
		}
		if judged && r.tracks {
			out.member(name)
		}
	}
	if f := r.memberNames(s, x); f != nil {
		return f
	}
	return r.dependent(s, x, out)
}

// hasAll says whether an object has the members of a list.
func (r *run) hasAll(x, list *value) bool {
	if list == nil || list.kind != array || !r.spend(len(list.items)) {
		return true
	}
	return !slices.ContainsFunc(list.items, func(name *value) bool {
		_, ok := x.members[name.text]
		return !ok
	})
}

// member judges one member. It reports whether any schema was for it.
func (r *run) member(s, x *value, name string) (judged bool, f *keyword) {
	if p := s.members["properties"]; p != nil && p.members[name] != nil {
		judged = true
		if f := r.eval(p.members[name], x).failed; f != nil {
			return true, f
		}
	}
	if p := s.members["patternProperties"]; p != nil && p.kind == object {
		for _, pattern := range p.keys {
			if !r.finds(pattern, name) {
				continue
			}
			judged = true
			if f := r.eval(p.members[pattern], x).failed; f != nil {
				return true, f
			}
		}
	}
	if rest := s.members["additionalProperties"]; rest != nil && !judged {
		return true, r.eval(rest, x).failed
	}
	return judged, nil
}

// memberNames judges the names of members.
func (r *run) memberNames(s, x *value) *keyword {
	schema := s.members["propertyNames"]
	if schema == nil || r.draft < draft6 {
		return nil
	}
	for _, name := range x.keys {
		if f := r.eval(schema, r.nameOf(name)).failed; f != nil {
			return f
		}
	}
	return nil
}

// dependent judges by what depends on the presence of members.
func (r *run) dependent(s, x *value, out *verdict) *keyword {
	for _, name := range []string{"dependencies", "dependentRequired", "dependentSchemas"} {
		of := s.members[name]
		if of == nil || of.kind != object || name != "dependencies" && r.draft < draft2019 {
			continue
		}
		r.spend(len(of.keys))
		for _, member := range of.keys {
			if _, has := x.members[member]; !has {
				continue
			}
			if what := of.members[member]; what.kind != array {
				if f := r.also(what, x, out); f != nil {
					return f
				}
			} else if !r.hasAll(x, what) {
				return &keyword{s, name}
			}
		}
	}
	return nil
}

// applied judges by the schemas that hold together, alternatively or not at all.
func (r *run) applied(s, x *value, out *verdict) *keyword {
	if not := s.members["not"]; not != nil && r.eval(not, x).failed == nil {
		return &keyword{s, "not"}
	}
	if list := s.members["allOf"]; list != nil {
		for _, schema := range list.items {
			if f := r.also(schema, x, out); f != nil {
				return f
			}
		}
	}

	for _, name := range []string{"anyOf", "oneOf"} {
		list := s.members[name]
		if list == nil || list.kind != array || len(list.items) == 0 {
			continue
		}
		valid := 0
		for _, schema := range list.items {
			if r.also(schema, x, out) == nil {
				valid++
			}
			if valid == 1 && name == "anyOf" && !r.tracks {
				break
			}
		}
		if valid == 0 || valid > 1 && name == "oneOf" {
			return &keyword{s, name}
		}
	}
	return nil
}

// conditional judges by if, then and else.
func (r *run) conditional(s, x *value, out *verdict) *keyword {
	condition := s.members["if"]
	if condition == nil || r.draft < draft7 {
		return nil
	}
	branch := s.members["then"]
	if r.also(condition, x, out) != nil {
		branch = s.members["else"]
	}
	if branch == nil {
		return nil
	}
	return r.also(branch, x, out)
}

// search is a pattern that can be searched for in a time that is proportional to the text.
type search struct {
	re    *regexp.Regexp // nil for a pattern that only a search with backtracking finds: it is not looked for
	size  int            // of its program
	valid bool           // as an ECMAScript regular expression
}

// pattern returns the search for a pattern.
func (v *validator) pattern(p string, budget *steps.Budget) *search {
	s := v.patterns[p]
	if s == nil {
		s = newSearch(p, budget)
		v.patterns[p] = s
	}
	return s
}

func newSearch(p string, budget *steps.Budget) *search {
	re, translated, err := parsePattern(p, budget)
	if err != nil {
		return &search{valid: budget.Spend(2*len(p)) == nil && isPattern(p)}
	}
	size := programSize(re)
	if budget.Spend(2*size) != nil {
		return &search{valid: true}
	}
	compiled, err := regexp.Compile(translated)
	if err != nil {
		return &search{valid: true}
	}
	return &search{
		re:    compiled,
		size:  size,
		valid: true,
	}
}

// isPattern says whether a text is an ECMAScript regular expression, perhaps one with references or lookaround. It
// only reads the expression, and searches for nothing.
func isPattern(p string) bool {
	if len(p) > maxPattern {
		return true
	}
	_, err := regexp2.Compile(p, regexp2.ECMAScript|regexp2.Unicode)
	// A property that is not known may be one of a newer Unicode.
	return err == nil || strings.Contains(strings.ToLower(p), `\p{`)
}

// checkedFormats are the formats that values are held to, by the library's functions for them.
var checkedFormats = func() map[string]func() *jsonschema.Schema {
	checks := map[string]func() *jsonschema.Schema{}
	for _, name := range []string{
		"json-pointer", "relative-json-pointer", "uuid", "duration", "period", "ipv4", "ipv6", "hostname", "email",
		"date", "time", "date-time", "uri", "iri", "uri-reference", "iri-reference", "uri-template", "semver",
	} {
		checks[name] = sync.OnceValue(func() *jsonschema.Schema {
			c := jsonschema.NewCompiler()
			c.AssertFormat()
			address := "urn:serve:format:" + name
			if c.AddResource(address, map[string]any{"format": name}) != nil {
				return nil
			}
			compiled, err := c.Compile(address)
			if err != nil {
				return nil
			}
			return compiled
		})
	}
	return checks
}()

// hasFormat says whether a string has a format. It has all those that are not known.
func hasFormat(format, s string) bool {
	if format == "regex" {
		return isPattern(s)
	}
	check := checkedFormats[format]
	if check == nil {
		return true
	}
	return check().Validate(s) == nil
}
