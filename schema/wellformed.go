package schema

import (
	"fmt"
	"slices"
	"strings"

	"serve/steps"
)

// form is what the value of a keyword must be. It returns what is wrong with one, or nothing.
type form func(*checker, *value) string

// rule says of a keyword what its value must be, in the drafts from one to another; 0 for all later ones.
type rule struct {
	form        form
	since, last int
}

// schemaIn returns the form of a keyword that is a schema, or consists of some. Live says that they judge the same
// answers as the schema that the keyword is of.
func schemaIn(shape form, live bool) form {
	return func(c *checker, v *value) string {
		was := c.live
		defer func() { c.live = was }()
		c.live = was && live
		return shape(c, v)
	}
}

// The forms of keywords that are schemas, of which there are several.
var (
	oneForm    = schemaIn((*checker).schema, true)
	listForm   = schemaIn((*checker).schemaList, true)
	byNameForm = schemaIn((*checker).schemaMap, true)
	apartForm  = schemaIn((*checker).schemaMap, false)
	restForm   = schemaIn((*checker).schemaOrBool, true)
)

// wellFormed are the forms of all keywords, as the drafts' own schemas have them.
var wellFormed = map[string][]rule{
	"$schema":               {{isText, 0, 0}},
	"$ref":                  {{(*checker).reference, 0, 0}},
	"$dynamicRef":           {{isText, draft2020, 0}},
	"$recursiveRef":         {{isText, draft2019, 0}},
	"$comment":              {{isText, draft7, 0}},
	"title":                 {{isText, 0, 0}},
	"description":           {{isText, 0, 0}},
	"examples":              {{isList, draft6, 0}},
	"readOnly":              {{isBool, draft7, 0}},
	"writeOnly":             {{isBool, draft7, 0}},
	"deprecated":            {{isBool, draft2019, 0}},
	"format":                {{isText, 0, 0}},
	"contentEncoding":       {{isText, draft7, 0}},
	"contentMediaType":      {{isText, draft7, 0}},
	"contentSchema":         {{schemaIn((*checker).schema, false), draft2019, 0}},
	"type":                  {{isTypes, 0, 0}},
	"enum":                  {{isDistinctList, 0, draft7}, {isList, draft2019, 0}},
	"multipleOf":            {{isPositive, 0, 0}},
	"minimum":               {{isNumber, 0, 0}},
	"maximum":               {{isNumber, 0, 0}},
	"exclusiveMinimum":      {{isBool, 0, draft4}, {isNumber, draft6, 0}},
	"exclusiveMaximum":      {{isBool, 0, draft4}, {isNumber, draft6, 0}},
	"minLength":             {{isCount, 0, 0}},
	"maxLength":             {{isCount, 0, 0}},
	"pattern":               {{(*checker).pattern, 0, 0}},
	"minItems":              {{isCount, 0, 0}},
	"maxItems":              {{isCount, 0, 0}},
	"uniqueItems":           {{isBool, 0, 0}},
	"minContains":           {{isCount, draft2019, 0}},
	"maxContains":           {{isCount, draft2019, 0}},
	"minProperties":         {{isCount, 0, 0}},
	"maxProperties":         {{isCount, 0, 0}},
	"required":              {{isNames, 0, 0}},
	"dependentRequired":     {{isNamesMap, draft2019, 0}},
	"items":                 {{schemaIn((*checker).schemaOrList, true), 0, draft2019}, {oneForm, draft2020, 0}},
	"prefixItems":           {{listForm, draft2020, 0}},
	"additionalItems":       {{restForm, 0, draft2019}},
	"contains":              {{oneForm, draft6, 0}},
	"properties":            {{byNameForm, 0, 0}},
	"patternProperties":     {{schemaIn((*checker).patternMap, true), 0, 0}},
	"additionalProperties":  {{restForm, 0, 0}},
	"propertyNames":         {{oneForm, draft6, 0}},
	"dependencies":          {{schemaIn((*checker).dependencies, true), 0, 0}},
	"dependentSchemas":      {{byNameForm, draft2019, 0}},
	"allOf":                 {{listForm, 0, 0}},
	"anyOf":                 {{listForm, 0, 0}},
	"oneOf":                 {{listForm, 0, 0}},
	"not":                   {{oneForm, 0, 0}},
	"if":                    {{oneForm, draft7, 0}},
	"then":                  {{oneForm, draft7, 0}},
	"else":                  {{oneForm, draft7, 0}},
	"unevaluatedItems":      {{oneForm, draft2019, 0}},
	"unevaluatedProperties": {{oneForm, draft2019, 0}},
	"definitions":           {{apartForm, 0, 0}},
	"$defs":                 {{apartForm, draft2019, 0}},
}

// visit is a schema to check.
type visit struct {
	schema *value
	live   bool // it judges answers, and does not just stand in the document
	loose  bool // it is a part of a keyword that is named as not enforced
}

// checker looks for mistakes in a document, and prepares what the validator needs of it.
type checker struct {
	*validator
	budget *steps.Budget
	todo   []visit
	seen   map[visit]bool
	live   bool // the schema at hand; likewise
	loose  bool
	err    error
}

// check returns the first mistake that it finds in a document, as an *Error, or the budget's error. Afterwards nothing
// in the validator changes any more.
func (v *validator) check(root *value, budget *steps.Budget) error {
	c := &checker{
		validator: v,
		budget:    budget,
		seen:      map[visit]bool{},
	}
	c.todo = append(c.todo, visit{schema: root, live: true})
	for len(c.todo) > 0 && c.err == nil {
		last := len(c.todo) - 1
		next := c.todo[last]
		c.todo = c.todo[:last]
		if c.seen[next] {
			continue
		}
		c.seen[next] = true
		c.live = next.live
		c.loose = next.loose
		c.keywords(next.schema)
	}
	if err := budget.Spend(0); err != nil {
		return err
	}
	return c.err
}

// keywords checks the keywords of one schema.
func (c *checker) keywords(s *value) {
	if c.budget.Spend(5+2*len(s.keys)) != nil {
		return
	}
	if s.kind == boolean && c.draft >= draft6 {
		return
	}
	if s.kind != object {
		c.fail(s, "a schema must be an object, true or false")
		return
	}

	if c.live {
		c.dynamic = c.dynamic || s.members["$dynamicRef"] != nil || s.members["$recursiveRef"] != nil
		c.tracks = c.tracks || s.members["unevaluatedProperties"] != nil || s.members["unevaluatedItems"] != nil
	}
	alone := c.draft < draft2019 && s.members["$ref"] != nil
	live := c.live
	loose := c.loose
	for _, name := range s.keys {
		c.live = live && (!alone || name == "$ref")
		c.loose = loose || unenforced[name]
		for _, r := range wellFormed[name] {
			if c.draft < r.since || r.last > 0 && c.draft > r.last {
				continue
			}
			if wrong := r.form(c, s.members[name]); wrong != "" {
				c.fail(s.members[name], name+" "+wrong)
			}
		}
	}
	if list := s.members["enum"]; list != nil && live && list.kind == array {
		c.enum(list, c.budget)
	}
}

func (c *checker) fail(s *value, what string) {
	if c.err == nil {
		c.err = &Error{Pointer: s.pointer(), Text: what}
	}
}

func isText(_ *checker, v *value) string {
	if v.kind != text {
		return "must be a string"
	}
	return ""
}

func isBool(_ *checker, v *value) string {
	if v.kind != boolean {
		return "must be true or false"
	}
	return ""
}

func isNumber(_ *checker, v *value) string {
	if v.kind != number {
		return "must be a number"
	}
	return ""
}

func isPositive(_ *checker, v *value) string {
	if v.kind != number || v.number.Sign() <= 0 {
		return "must be a number above 0"
	}
	return ""
}

func isCount(_ *checker, v *value) string {
	if v.kind != number || !v.number.IsInt() || v.number.Sign() < 0 {
		return "must be a whole number of at least 0"
	}
	return ""
}

func isList(_ *checker, v *value) string {
	if v.kind != array {
		return "must be a list"
	}
	return ""
}

// isDistinctList is a list with at least one value, and none twice.
func isDistinctList(c *checker, v *value) string {
	if v.kind != array || len(v.items) == 0 {
		return "must be a list of values"
	}
	if len(c.enum(v, c.budget)) < len(v.items) {
		return "must not have a value twice"
	}
	return ""
}

// isNames is a list of names, none of them twice. In draft 4 it is not empty.
func isNames(c *checker, v *value) string {
	const wrong = "must be a list of names, each once"
	if v.kind != array || len(v.items) == 0 && c.draft == draft4 {
		return wrong
	}
	if c.budget.Spend(len(v.items)) != nil {
		return ""
	}
	seen := map[string]bool{}
	for _, name := range v.items {
		if name.kind != text || seen[name.text] {
			return wrong
		}
		seen[name.text] = true
	}
	return ""
}

func isNamesMap(c *checker, v *value) string {
	if v.kind != object {
		return "must be an object"
	}
	for _, name := range v.keys {
		if wrong := isNames(c, v.members[name]); wrong != "" {
			return "must have lists of names"
		}
	}
	return ""
}

func isTypes(c *checker, v *value) string {
	const wrong = "must be the name of a type, or a list of some, each once"
	names := []*value{v}
	if v.kind == array {
		names = v.items
	}
	if len(names) == 0 || len(names) > len(typeNames) {
		return wrong
	}
	var seen []string
	for _, name := range names {
		if name.kind != text || !slices.Contains(typeNames, name.text) {
			c.fail(name, fmt.Sprintf("the type %.40s is not one of %s", name.marshal(), strings.Join(typeNames, ", ")))
			return ""
		}
		if slices.Contains(seen, name.text) {
			return wrong
		}
		seen = append(seen, name.text)
	}
	return ""
}

// reference checks a $ref, and what it leads to.
func (c *checker) reference(v *value) string {
	if v.kind != text {
		return "must be a string"
	}
	switch {
	case !c.live, v.target == nil && c.loose:
		return ""
	case v.target == nil:
		c.fail(v, lost(v))
		return ""
	}
	return c.schema(v.target)
}

// pattern checks a regular expression. In drafts that have a name for that form, those that judge nothing are
// checked, too.
func (c *checker) pattern(v *value) string {
	if v.kind != text {
		return "must be a string"
	}
	if (c.live || c.draft < draft2019) && !c.validator.pattern(v.text, c.budget).valid {
		return "is no regular expression"
	}
	return ""
}

func (c *checker) schema(v *value) string {
	c.todo = append(c.todo, visit{v, c.live, c.loose})
	return ""
}

// schemaOrBool is a schema, or a boolean: draft 4 has none elsewhere.
func (c *checker) schemaOrBool(v *value) string {
	if v.kind == boolean {
		return ""
	}
	return c.schema(v)
}

func (c *checker) schemaList(v *value) string {
	if v.kind != array || len(v.items) == 0 {
		return "must be a list of schemas"
	}
	for _, item := range v.items {
		c.schema(item)
	}
	return ""
}

func (c *checker) schemaOrList(v *value) string {
	if v.kind == array {
		return c.schemaList(v)
	}
	return c.schema(v)
}

func (c *checker) schemaMap(v *value) string {
	if v.kind != object {
		return "must be an object"
	}
	for _, name := range v.keys {
		c.schema(v.members[name])
	}
	return ""
}

func (c *checker) patternMap(v *value) string {
	if v.kind == object {
		for _, name := range v.keys {
			if wrong := c.pattern(&value{kind: text, text: name}); wrong != "" {
				return "has a name that " + wrong
			}
		}
	}
	return c.schemaMap(v)
}

func (c *checker) dependencies(v *value) string {
	if v.kind != object {
		return "must be an object"
	}
	for _, name := range v.keys {
		if member := v.members[name]; member.kind == array {
			if wrong := isNames(c, member); wrong != "" {
				return "must have schemas or lists of names"
			}
			continue
		}
		c.schema(v.members[name])
	}
	return ""
}
