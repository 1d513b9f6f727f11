// Package schema compiles JSON Schemas into grammars, so that a model can write
// nothing else, and validates what it wrote. It reads the drafts from 4 on as far
// as they agree; what a grammar cannot enforce is named, and never dropped in
// silence.
package schema

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"serve/steps"
)

// Compiled is a compiled schema.
type Compiled struct {
	// Root is the rule to begin with, Rules all of them as GBNF. Every name begins
	// with the prefix.
	Root, Rules string
	// Loose are the keywords that the grammar does not enforce, as JSON pointers
	// into the schema, in order. Validate checks most of them.
	Loose []string
	// Assertions are the keywords that assert more than types and members, enforced or not, as Loose has them.
	Assertions []string

	root      *value
	validator *validator
	text      *dfa // the texts themselves, if it is no JSON
}

// Options say how a schema is compiled.
type Options struct {
	Prefix string // of rules' names: lower-case letters, digits and dashes
	// Closed leaves members without a name in the schema out of objects that have
	// some with one and say nothing of others. All that is generated is as valid,
	// and a small model knows better where to end.
	Closed bool
	// Object allows objects alone, whatever the schema says of other types.
	Object bool
	// Budget is what compiling may cost; nil for no limit.
	Budget *steps.Budget
}

// anObject is the schema of Options.Object. It stands nowhere in a document.
var anObject = &value{
	kind:    object,
	keys:    []string{"type"},
	members: map[string]*value{"type": {kind: text, text: "object"}},
}

// Compile compiles a schema. The error is an *Error where the schema itself is at
// fault, ErrNever if no value is valid, and steps.ErrSpent or the context's if the budget has ended.
func Compile(document []byte, o Options) (*Compiled, error) {
	g, rules, err := compile(document, o)
	if err != nil {
		return nil, err
	}
	g.Rules = rules.String()
	return g, nil
}

func compile(document []byte, o Options) (*Compiled, *grammar, error) {
	if !plainName.MatchString(o.Prefix) {
		return nil, nil, fmt.Errorf("the prefix %q is not a rule name", o.Prefix)
	}

	root, unknown, err := readModern(document, o.Budget)
	if err != nil {
		return nil, nil, schemaError(err, o.Budget)
	}

	c := newCompiler(root, o)
	if err := c.validator.check(root, o.Budget); err != nil {
		return nil, nil, err
	}
	if unknown {
		c.ignore(root, "$schema")
	}

	schemas := []*value{root}
	if o.Object {
		schemas = append(schemas, anObject)
	}

	e := c.schema(schemas...)
	if !c.spend(0) {
		return nil, nil, c.err
	}
	name := o.Prefix + "root"
	c.g.rules[name] = e
	if ok, err := c.g.prune(name, o.Budget); err != nil || !ok {
		return nil, nil, cmp.Or(err, ErrNever)
	}
	if err := c.g.charge(o.Budget); err != nil {
		return nil, nil, err
	}

	g := &Compiled{
		Root:      name,
		root:      root,
		validator: c.validator,
	}
	if g.Loose, err = pointers(c.loose, o.Budget); err != nil {
		return nil, nil, err
	}
	if g.Assertions, err = pointers(c.asserted, o.Budget); err != nil {
		return nil, nil, err
	}
	return g, &c.g, nil
}

// schemaError returns an error of the document itself, or that of a budget that has ended.
func schemaError(err error, budget *steps.Budget) error {
	if ended := budget.Spend(0); ended != nil {
		return ended
	}
	return &Error{Text: err.Error()}
}

// pointers returns where keywords stand, in order.
func pointers(keywords map[keyword]bool, budget *steps.Budget) ([]string, error) {
	var list []string
	for k := range keywords {
		pointer := k.pointer()
		if err := budget.Spend(2 + len(pointer)/16); err != nil {
			return nil, err
		}
		list = append(list, pointer)
	}
	slices.Sort(list)
	return list, nil
}

func newCompiler(root *value, o Options) *compiler {
	c := &compiler{
		root:      root,
		budget:    o.Budget,
		names:     map[string]string{},
		open:      map[string]bool{},
		loose:     map[keyword]bool{},
		asserted:  map[keyword]bool{},
		automata:  map[string]automaton{},
		written:   map[*dfa]expr{},
		flattened: map[*value]bool{},
		profiles:  map[*value]*profile{},
		apartness: map[*value]bool{},
		closed:    o.Closed,
		g:         grammar{prefix: o.Prefix, rules: map[string]expr{}},
	}
	c.validator = newValidator(root)
	c.refAlone = c.validator.draft < draft2019
	return c
}

// readModern reads a schema, rewrites older forms, and resolves all references. Unknown means that $schema names a
// draft that is not known.
func readModern(document []byte, budget *steps.Budget) (root *value, unknown bool, err error) {
	root, err = read(document, budget)
	if err != nil {
		return nil, false, err
	}
	unknown = modernize(root)
	return root, unknown, localize(root, budget)
}

// data are the keywords whose values are no schemas.
var data = map[string]bool{"enum": true, "const": true, "default": true, "examples": true, "example": true}

// oldDrafts are those in which nothing counts beside a $ref.
var oldDrafts = regexp.MustCompile(`draft-0[3467]`)

var errText = errors.New("the text is not one of the allowed choices, or does not match the pattern")

// Validate checks a JSON text against the whole schema, or a text against its pattern.
func (g *Compiled) Validate(text []byte) error {
	if g.text != nil {
		if !g.text.has(string(text)) {
			return errText
		}
		return nil
	}
	v, err := readInstance(text, nil)
	if err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	return g.validator.validate(g.root, v)
}
