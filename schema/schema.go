// Package schema compiles JSON Schemas into grammars, so that a model can write
// nothing else, and validates what it wrote. It reads the drafts from 4 on as far
// as they agree; what a grammar cannot enforce is named, and never dropped in
// silence.
package schema

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dlclark/regexp2"
	"github.com/santhosh-tekuri/jsonschema/v6"
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

	validator *jsonschema.Schema
	text      *dfa // the texts themselves, if it is no JSON
}

// address is where documents are said to lie; nothing is ever fetched.
const address = "urn:serve:schema"

// Options say how a schema is compiled.
type Options struct {
	Prefix string // of rules' names: lower-case letters, digits and dashes
	// Closed leaves members without a name in the schema out of objects that have
	// some with one and say nothing of others. All that is generated is as valid,
	// and a small model knows better where to end.
	Closed bool
	// Object allows objects alone, whatever the schema says of other types.
	Object bool
}

// anObject is the schema of Options.Object. It stands nowhere in a document.
var anObject = &value{
	kind:    object,
	pointer: " object",
	keys:    []string{"type"},
	members: map[string]*value{"type": {kind: text, text: "object"}},
}

// Compile compiles a schema. The error is an *Error where the schema itself is at
// fault, and ErrNever if no value is valid.
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

	root, document, unknown, err := readModern(document)
	if err != nil {
		return nil, nil, &Error{Text: err.Error()}
	}
	validators, err := newValidators(document)
	if err != nil {
		return nil, nil, &Error{Text: err.Error()}
	}

	c := newCompiler(root, o, validators)
	if draft := root.members["$schema"]; draft != nil {
		c.refAlone = oldDrafts.MatchString(draft.text)
	}
	if unknown {
		c.ignore(root, "$schema")
	}

	schemas := []*value{root}
	if o.Object {
		schemas = append(schemas, anObject)
	}

	e := c.schema(schemas...)
	if c.err != nil {
		return nil, nil, c.err
	}

	validator, err := validators.at("")
	if err != nil {
		return nil, nil, &Error{Text: reason(err)}
	}

	name := o.Prefix + "root"
	c.g.rules[name] = e
	if !c.g.prune(name) {
		return nil, nil, ErrNever
	}

	return &Compiled{
		Root:       name,
		Loose:      slices.Sorted(maps.Keys(c.loose)),
		Assertions: slices.Sorted(maps.Keys(c.asserted)),
		validator:  validator,
	}, &c.g, nil
}

func newCompiler(root *value, o Options, v *validators) *compiler {
	return &compiler{
		root:     root,
		names:    map[string]string{},
		open:     map[string]bool{},
		loose:    map[string]bool{},
		asserted: map[string]bool{},
		automata: map[string]automaton{},
		closed:   o.Closed,
		g:        grammar{prefix: o.Prefix, rules: map[string]expr{}},
		check:    v.check,
		began:    time.Now(),
	}
}

// readModern reads a schema, rewrites older forms, and makes all references pointers. Unknown means that $schema names
// a draft that is not known.
func readModern(document []byte) (root *value, modern []byte, unknown bool, err error) {
	root, err = read(document)
	if err != nil {
		return nil, nil, false, err
	}

	changed, unknown := modernize(root)
	if changed {
		document = []byte(root.marshal())
		if root, err = read(document); err != nil {
			return nil, nil, false, err
		}
	}

	if localize(root) {
		document = []byte(root.marshal())
	}
	return root, document, unknown, nil
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
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	return g.validator.Validate(v)
}

// validators are of the parts of one document.
type validators struct{ c *jsonschema.Compiler }

func newValidators(document []byte) (*validators, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(nowhere{})
	c.AssertFormat()
	c.UseRegexpEngine(newRegexp)
	if err := c.AddResource(address, doc); err != nil {
		return nil, err
	}
	return &validators{c}, nil
}

// nowhere loads nothing: a schema is whole in itself.
type nowhere struct{}

func (nowhere) Load(url string) (any, error) {
	return nil, errors.New("the schema refers to another document")
}

func (v *validators) at(pointer string) (*jsonschema.Schema, error) {
	return v.c.Compile(address + "#" + (&url.URL{Fragment: pointer}).EscapedFragment())
}

// check says whether a JSON text meets all schemas at pointers.
func (v *validators) check(pointers []string, text string) bool {
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(text)))
	if err != nil {
		return false
	}
	for _, pointer := range pointers {
		s, err := v.at(pointer)
		if err != nil || s.Validate(instance) != nil {
			return false
		}
	}
	return true
}

// reason is the part of a validator's error that says why.
func reason(err error) string {
	var invalid *jsonschema.SchemaValidationError
	if errors.As(err, &invalid) {
		err = invalid.Err
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// regexpTimeout bounds a search by an expression that Go's own engine, which
// needs no bound, does not know.
const regexpTimeout = 100 * time.Millisecond

// newRegexp reads an ECMAScript regular expression.
func newRegexp(p string) (jsonschema.Regexp, error) {
	if translated, err := translate(p); err == nil {
		if re, err := regexp.Compile(translated); err == nil {
			return re, nil
		}
	}
	re, err := regexp2.Compile(p, regexp2.ECMAScript|regexp2.Unicode)
	if err != nil && strings.Contains(strings.ToLower(p), `\p{`) {
		return anyText(p), nil // a property that neither engine knows; the grammar does not enforce it, either
	}
	if err != nil {
		return nil, err
	}
	re.MatchTimeout = regexpTimeout
	return backtracking{re}, nil
}

// anyText is a regular expression that cannot be read: everything matches.
type anyText string

func (a anyText) MatchString(string) bool { return true }
func (a anyText) String() string          { return string(a) }

// backtracking is a regular expression with references and lookaround.
type backtracking struct{ *regexp2.Regexp }

func (b backtracking) MatchString(s string) bool {
	found, err := b.Regexp.MatchString(s)
	return err == nil && found
}
