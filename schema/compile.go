package schema

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits on what is compiled.
const (
	maxRules       = 50_000
	maxAlternation = 512
	maxRepeat      = 1000 // times that a grammar counts
	maxTime        = 2 * time.Second
)

// compiler turns schemas into rules. A rule stands for a set of schemas that must
// all hold: a reference with siblings, the parts of an allOf, or just one.
type compiler struct {
	g        grammar
	root     *value
	names    map[string]string // rules by the set they stand for
	open     map[string]bool   // sets under way since the last character
	loose    map[string]bool   // pointers of keywords that are not enforced
	asserted map[string]bool   // pointers of keywords that assert more than types and members
	check    func(pointers []string, instance string) bool
	automata map[string]automaton // by pattern of the schema
	err      error
	began    time.Time
	closed   bool // Options.Closed
	// refAlone says that nothing counts beside a $ref, as in the drafts up to 7.
	refAlone bool
}

// enforced are the keywords that the compiler knows how to enforce, sometimes or
// always.
var enforced = map[string]bool{
	"type":                 true,
	"enum":                 true,
	"const":                true,
	"$ref":                 true,
	"allOf":                true,
	"anyOf":                true,
	"oneOf":                true,
	"properties":           true,
	"required":             true,
	"additionalProperties": true,
	"patternProperties":    true,
	"propertyNames":        true,
	"minProperties":        true,
	"maxProperties":        true,
	"items":                true,
	"prefixItems":          true,
	"additionalItems":      true,
	"minItems":             true,
	"maxItems":             true,
	"uniqueItems":          true,
	"minLength":            true,
	"maxLength":            true,
	"pattern":              true,
	"format":               true,
	"minimum":              true,
	"maximum":              true,
	"exclusiveMinimum":     true,
	"exclusiveMaximum":     true,
	"multipleOf":           true,
	"not":                  true,
}

// shapes are the keywords that say which members and types there are.
var shapes = map[string]bool{
	"type":                 true,
	"$ref":                 true,
	"allOf":                true,
	"properties":           true,
	"required":             true,
	"additionalProperties": true,
	"items":                true,
}

// unenforced are the keywords that no grammar of ours enforces.
var unenforced = map[string]bool{
	"if": true, "then": true, "else": true, "dependentRequired": true, "dependentSchemas": true, "dependencies": true,
	"unevaluatedProperties": true, "unevaluatedItems": true, "contains": true, "minContains": true, "maxContains": true,
	"$dynamicRef": true, "$recursiveRef": true,
}

// fail keeps the first error.
func (c *compiler) fail(v *value, format string, args ...any) {
	if c.err == nil {
		c.err = &Error{Pointer: v.pointer, Text: fmt.Sprintf(format, args...)}
	}
}

// ignore notes a keyword that is not enforced.
func (c *compiler) ignore(v *value, keyword string) {
	c.loose[v.pointer+"/"+escapePointer(keyword)] = true
}

// set is schemas that must all hold, and choices that are still to be made.
type set struct {
	all     []*value   // objects, without $ref, allOf and what is in choices
	choices [][]*value // of each list one must hold
	false   bool       // nothing holds
}

// flatten follows references and allOf, and takes choices apart.
func (c *compiler) flatten(schemas []*value, choices [][]*value) set {
	s := set{choices: slices.Clone(choices)}
	seen := map[*value]bool{}
	for todo := slices.Clone(schemas); len(todo) > 0; {
		v := todo[0]
		todo = todo[1:]
		if seen[v] {
			continue
		}

		seen[v] = true
		switch v.kind {
		case boolean:
			s.false = s.false || !v.yes
			continue
		case object:
		default:
			c.fail(v, "a schema must be an object, true or false")
			return s
		}

		if r := v.members["$ref"]; r != nil {
			if target := c.resolve(v, r); target != nil {
				todo = append(todo, target)
			}
			if c.refAlone {
				continue
			}
		}

		s.all = append(s.all, v)
		todo = append(todo, c.list(v, "allOf")...)
		for _, keyword := range []string{"anyOf", "oneOf"} {
			if list := c.list(v, keyword); list != nil {
				s.choices = append(s.choices, list)
				if keyword == "oneOf" && !c.disjoint(list) {
					c.ignore(v, keyword)
				}
			}
		}
	}

	return s
}

// list returns a keyword's list of schemas, or nil.
func (c *compiler) list(v *value, keyword string) []*value {
	l := v.members[keyword]
	if l == nil {
		return nil
	}
	if l.kind != array || len(l.items) == 0 {
		c.fail(l, "%s must be a list of schemas", keyword)
		return nil
	}
	return l.items
}

// key names a set, so that the same one is compiled once.
func (s *set) key() string {
	pointers := make([]string, 0, len(s.all))
	for _, v := range s.all {
		pointers = append(pointers, "#"+v.pointer)
	}
	slices.Sort(pointers)
	var choices []string
	for _, list := range s.choices {
		choices = append(choices, list[0].pointer)
	}
	return strings.Join(slices.Compact(pointers), "\n") + "\n|" + strings.Join(choices, "\n")
}

// schema returns the rule for schemas that must all hold where a value begins
// anew: after a character of another.
func (c *compiler) schema(schemas ...*value) expr {
	open := c.open
	c.open = map[string]bool{}
	defer func() { c.open = open }()
	return c.set(c.flatten(schemas, nil))
}

func (c *compiler) set(s set) expr {
	if c.err != nil || s.false {
		return never
	}
	key := s.key()
	if c.open[key] {
		return never // it would only lead back to itself
	}
	if name, ok := c.names[key]; ok {
		return ref(name)
	}
	if len(c.names) >= maxRules || time.Since(c.began) > maxTime {
		c.fail(c.root, "it needs more than %d grammar rules, or takes more than %s to compile", maxRules, maxTime)
		return never
	}
	name := c.g.prefix + strconv.Itoa(len(c.names))
	c.names[key] = name
	c.open[key] = true
	defer delete(c.open, key)
	c.g.rules[name] = c.body(s)
	return ref(name)
}

// body makes the first choice that is left, or compiles what there is no choice about.
func (c *compiler) body(s set) expr {
	if len(s.choices) == 0 {
		return c.value(s.all)
	}
	list := s.choices[0]
	if len(list) > maxAlternation {
		c.fail(list[0], "more than %d alternatives", maxAlternation)
		return never
	}
	var out alt
	for _, choice := range list {
		// The choice is made: its schema joins the others, behind them, and the list leaves.
		next := c.flatten([]*value{choice}, s.choices[1:])
		next.all = slices.Concat(s.all, slices.DeleteFunc(next.all, func(v *value) bool {
			return slices.Contains(s.all, v)
		}))
		out = append(out, c.set(next))
	}
	return out
}

// typeNames are JSON Schema's types. A number is written as one or as an integer.
var typeNames = []string{"null", "boolean", "object", "array", "number", "integer", "string"}

// types returns the types that all schemas allow.
func (c *compiler) types(all []*value) map[string]bool {
	allowed := map[string]bool{
		"null":    true,
		"boolean": true,
		"object":  true,
		"array":   true,
		"number":  true,
		"string":  true,
	}
	for _, v := range all {
		t := v.members["type"]
		if t == nil {
			continue
		}

		names := []*value{t}
		if t.kind == array {
			names = t.items
		}

		here := map[string]bool{}
		for _, n := range names {
			if n.kind != text || !slices.Contains(typeNames, n.text) {
				c.fail(n, "the type %.40s is not one of %s", n.marshal(), strings.Join(typeNames, ", "))
				return nil
			}
			here[n.text] = true
		}

		next := map[string]bool{}
		for _, n := range typeNames {
			if n == "integer" {
				whole := here["integer"] || here["number"]
				was := allowed["integer"] || allowed["number"]
				next[n] = whole && was && (!here["number"] || !allowed["number"])
			} else {
				next[n] = here[n] && allowed[n]
			}
		}

		allowed = next
	}

	return allowed
}

// value compiles schemas between which there is no choice any more.
func (c *compiler) value(all []*value) expr {
	c.note(all)
	allowed := c.types(all)
	if c.err != nil {
		return never
	}

	for _, v := range all {
		if v.members["enum"] != nil || v.members["const"] != nil {
			return c.listed(all, v)
		}
	}

	c.exclude(all, allowed)
	var out alt
	for _, t := range []struct {
		name string
		e    func([]*value) expr
	}{
		{"object", c.object}, {"array", c.array}, {"string", c.string}, {"number",
			func(all []*value) expr { return c.number(all, false) }},
		{"integer", func(all []*value) expr { return c.number(all, true) }},
		{"boolean", func([]*value) expr { return alt{literal("true"), literal("false")} }}, {"null",
			func([]*value) expr { return literal("null") }},
	} {
		if allowed[t.name] {
			out = append(out, t.e(all))
		}
	}

	return out
}

// note finds the keywords that are not enforced. One that is not known is an annotation, as JSON Schema has it:
// generators of schemas write many of their own.
func (c *compiler) note(all []*value) {
	for _, v := range all {
		for _, keyword := range v.keys {
			switch {
			case unenforced[keyword]:
				c.ignore(v, keyword)
				fallthrough
			case enforced[keyword] && !shapes[keyword]:
				c.asserted[v.pointer+"/"+escapePointer(keyword)] = true
			}
		}
	}
}

// exclude takes the types away that a "not" names; any other "not" is not enforced.
func (c *compiler) exclude(all []*value, allowed map[string]bool) {
	for _, v := range all {
		not := v.members["not"]
		switch {
		case not == nil, not.kind == boolean && !not.yes:
		case not.kind == boolean, not.kind == object && len(not.keys) == 0:
			clear(allowed)
		case not.kind == object && len(not.keys) == 1 && not.members["type"] != nil:
			for name, named := range c.types([]*value{not}) {
				if !named {
					continue
				}
				if name == "integer" && allowed["number"] {
					c.ignore(v, "not")
				}
				delete(allowed, name)
				if name == "number" {
					delete(allowed, "integer")
				}
			}

		default:
			c.ignore(v, "not")
		}
	}
}

// listed compiles an enum or a const: those of its values that all schemas hold of.
func (c *compiler) listed(all []*value, v *value) expr {
	values := []*value{v.members["const"]}
	if list := v.members["enum"]; values[0] == nil {
		if list.kind != array {
			c.fail(list, "enum must be a list")
			return never
		}
		values = list.items
	}

	var pointers []string
	objects := false
	for _, s := range all {
		if s == anObject {
			objects = true
			continue
		}
		pointers = append(pointers, s.pointer)
	}

	var out alt
	for _, x := range values {
		if objects && x.kind != object {
			continue
		}
		if text := x.marshal(); c.check(pointers, text) {
			out = append(out, literal(text))
		}
	}

	return out
}

// count reads a keyword that counts; absent is the value without it.
func (c *compiler) count(v *value, keyword string, absent int) int {
	n := v.members[keyword]
	if n == nil {
		return absent
	}
	if n.kind != number || !n.number.IsInt() || n.number.Sign() < 0 || !n.number.Num().IsInt64() ||
		n.number.Num().Int64() > 1<<31 {
		c.fail(n, "%s must be a whole number of at least 0", keyword)
		return absent
	}
	return int(n.number.Num().Int64())
}

// limits reads a pair of counting keywords of all schemas; high is -1 for none.
func (c *compiler) limits(all []*value, lowest, highest string) (low, high int) {
	high = -1
	for _, v := range all {
		low = max(low, c.count(v, lowest, 0))
		if h := c.count(v, highest, -1); h >= 0 && (high < 0 || h < high) {
			high = h
		}
	}
	return low, high
}

var plainName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// Error says what is wrong with a schema, and where.
type Error struct {
	Pointer string // a JSON pointer into the schema
	Text    string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Pointer == "" {
		return e.Text
	}
	return e.Pointer + ": " + e.Text
}

// ErrNever says that no value can satisfy it.
var ErrNever = errors.New("no value can satisfy it")
