package schema

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"serve/steps"
)

// Limits on what is compiled, besides the budget's.
const (
	maxRules       = 50_000
	maxAlternation = 512
	maxRepeat      = 1000 // times that a grammar counts
)

// compiler turns schemas into rules. A rule stands for a set of schemas that must
// all hold: a reference with siblings, the parts of an allOf, or just one.
type compiler struct {
	g         grammar
	root      *value
	budget    *steps.Budget
	validator *validator
	names     map[string]string    // rules by the set they stand for
	open      map[string]bool      // sets under way since the last character
	loose     map[keyword]bool     // keywords that are not enforced
	asserted  map[keyword]bool     // keywords that assert more than types and members
	automata  map[string]automaton // by pattern of the schema
	written   map[*dfa]expr        // automata that are rules already
	flattened map[*value]bool      // schemas whose keywords have been noted, and whether they assert anything
	profiles  map[*value]*profile
	apartness map[*value]bool // lists of a oneOf, and whether no two of their schemas can match at once
	apartLeft int             // pairs that may be compared for the list at hand
	err       error
	closed    bool // Options.Closed
	// refAlone says that nothing counts beside a $ref, as in the drafts up to 7.
	refAlone bool
}

// keyword is a keyword of a schema.
type keyword struct {
	of   *value
	name string
}

// pointer is where a keyword stands in the document.
func (k keyword) pointer() string { return k.of.pointer() + "/" + escapePointer(k.name) }

// spend takes steps from the budget. It reports false if there are none left: then compiling has failed.
func (c *compiler) spend(n int) bool {
	if err := c.budget.Spend(n); err != nil && c.err == nil {
		c.err = err
	}
	return c.err == nil
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
		c.err = &Error{Pointer: v.pointer(), Text: fmt.Sprintf(format, args...)}
	}
}

// ignore notes a keyword that is not enforced.
func (c *compiler) ignore(v *value, name string) { c.loose[keyword{v, name}] = true }

// set is schemas that must all hold, and choices that are still to be made.
type set struct {
	all     []*value // objects that assert something beside $ref, allOf and what is in choices
	choices []*value // lists, of each of which one must hold
	false   bool     // nothing holds
}

// flatten follows references and allOf, and takes choices apart.
func (c *compiler) flatten(schemas, choices []*value) set {
	s := set{choices: slices.Clone(choices)}
	seen := map[*value]bool{}
	for todo := slices.Clone(schemas); len(todo) > 0; {
		v := todo[0]
		todo = todo[1:]
		if seen[v] {
			continue
		}
		if !c.spend(4) {
			return s
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
			if target := r.target; target != nil {
				todo = append(todo, target)
			}
			if c.refAlone {
				continue
			}
		}

		todo = append(todo, c.list(v, "allOf")...)
		c.add(&s, v)
		if !c.spend(len(s.choices)) {
			return s
		}
	}

	return s
}

// add adds a schema to a set, and its choices.
func (c *compiler) add(s *set, v *value) {
	asserts := c.note(v)
	for _, name := range []string{"anyOf", "oneOf"} {
		if c.list(v, name) == nil {
			continue
		}
		list := v.members[name]
		if !slices.Contains(s.choices, list) {
			s.choices = append(s.choices, list)
		}
		if name == "oneOf" && !c.disjoint(list) {
			c.ignore(v, name)
			asserts = true
		}
	}
	if asserts {
		s.all = append(s.all, v)
	}
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
	var b []byte
	for _, list := range [][]*value{s.all, s.choices} {
		ids := make([]int, len(list))
		for i, v := range list {
			ids[i] = v.id
		}
		slices.Sort(ids)
		b = binary.AppendUvarint(b, uint64(len(ids)))
		for _, id := range ids {
			b = binary.AppendUvarint(b, uint64(id))
		}
	}
	return string(b)
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
	if c.err != nil || s.false || !c.spend(10+len(s.all)+len(s.choices)) {
		return never
	}
	key := s.key()
	if c.open[key] {
		return never // it would only lead back to itself
	}
	if name, ok := c.names[key]; ok {
		return ref(name)
	}
	if len(c.names) >= maxRules {
		c.fail(c.root, "it needs more than %d rules", maxRules)
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
	list := s.choices[0].items
	if len(list) > maxAlternation {
		c.fail(list[0], "more than %d alternatives", maxAlternation)
		return never
	}

	known := map[*value]bool{}
	for _, v := range s.all {
		known[v] = true
	}
	var out alt
	for _, choice := range list {
		// The choice is made: its schema joins the others, behind them, and the list leaves.
		next := c.flatten([]*value{choice}, s.choices[1:])
		next.all = slices.Concat(s.all, slices.DeleteFunc(next.all, func(v *value) bool { return known[v] }))
		out = append(out, c.set(next))
	}
	return distinct(out)
}

// typeNames are JSON Schema's types. A number is written as one or as an integer.
var typeNames = []string{"null", "boolean", "object", "array", "number", "integer", "string"}

// typeSet is a set of types, a bit for each of typeNames.
type typeSet uint8

const (
	nullType typeSet = 1 << iota
	booleanType
	objectType
	arrayType
	numberType
	integerType
	stringType

	// anyType has no bit for integers, which are numbers.
	anyType = nullType | booleanType | objectType | arrayType | numberType | stringType
)

func (t typeSet) has(other typeSet) bool { return t&other != 0 }

// and returns the types that are in both sets.
func (t typeSet) and(other typeSet) typeSet {
	const numeric = numberType | integerType
	both := t & other &^ integerType
	if t.has(numeric) && other.has(numeric) && !both.has(numberType) {
		both |= integerType
	}
	return both
}

// types returns the types that all schemas allow.
func (c *compiler) types(all []*value) typeSet {
	allowed := anyType
	for _, v := range all {
		t := v.members["type"]
		if t == nil {
			continue
		}

		names := []*value{t}
		if t.kind == array {
			names = t.items
		}

		var here typeSet
		for _, n := range names {
			here |= 1 << slices.Index(typeNames, n.text)
		}
		allowed = allowed.and(here)
	}
	return allowed
}

// value compiles schemas between which there is no choice any more.
func (c *compiler) value(all []*value) expr {
	allowed := c.types(all)
	if c.err != nil {
		return never
	}

	for _, v := range all {
		if v.members["enum"] != nil || v.members["const"] != nil {
			return c.listed(all, v)
		}
	}

	allowed = c.exclude(all, allowed)
	var out alt
	for _, t := range []struct {
		bit typeSet
		e   func([]*value) expr
	}{
		{objectType, c.object},
		{arrayType, c.array},
		{stringType, c.string},
		{numberType, func(all []*value) expr { return c.number(all, false) }},
		{integerType, func(all []*value) expr { return c.number(all, true) }},
		{booleanType, func([]*value) expr { return alt{literal("true"), literal("false")} }},
		{nullType, func([]*value) expr { return literal("null") }},
	} {
		if allowed.has(t.bit) {
			out = append(out, t.e(all))
		}
	}

	return out
}

// note finds the keywords that are not enforced. One that is not known is an annotation, as JSON Schema has it:
// generators of schemas write many of their own. It reports whether there is anything else in the schema than
// references, allOf and choices.
func (c *compiler) note(v *value) (asserts bool) {
	if known, ok := c.flattened[v]; ok {
		return known
	}
	c.spend(len(v.keys))

	for _, name := range v.keys {
		switch {
		case unenforced[name]:
			c.ignore(v, name)
			fallthrough
		case enforced[name] && !shapes[name]:
			c.asserted[keyword{v, name}] = true
		}
		switch name {
		case "$ref", "allOf", "anyOf", "oneOf":
		default:
			asserts = asserts || enforced[name] || unenforced[name]
		}
	}
	c.flattened[v] = asserts
	return asserts
}

// exclude takes the types away that a "not" names; any other "not" is not enforced.
func (c *compiler) exclude(all []*value, allowed typeSet) typeSet {
	for _, v := range all {
		not := v.members["not"]
		switch {
		case not == nil, not.kind == boolean && !not.yes:
		case not.kind == boolean, not.kind == object && len(not.keys) == 0:
			allowed = 0
		case not.kind == object && len(not.keys) == 1 && not.members["type"] != nil:
			named := c.types([]*value{not})
			if named.has(integerType) && allowed.has(numberType) {
				c.ignore(v, "not")
			}
			if named.has(numberType) {
				named |= integerType
			}
			allowed &^= named

		default:
			c.ignore(v, "not")
		}
	}
	return allowed
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

	var out alt
	for _, x := range values {
		valid := true
		for _, s := range all {
			if valid = valid && c.validator.holds(s, x, c.budget); !c.spend(1) {
				return never
			}
		}
		if valid {
			text := x.marshal()
			c.spend(len(text) / 16)
			out = append(out, literal(text))
		}
	}

	return distinct(out)
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
