package server

import (
	"errors"
	"net/http"
	"regexp"
	"strings"

	"serve/engine"
	"serve/fault"
	"serve/schema"
	"serve/server/wire"
)

// schemaHeader names what of a request's schemas is not enforced.
const schemaHeader = "X-Schema-Not-Enforced"

// compileSchema compiles a schema of a request. Under strict everything in it must
// be enforced; otherwise what is not is returned to be told.
func compileSchema(v wire.Value, prefix string, strict bool) (*schema.Grammar, *fault.Error) {
	g, err := schema.Compile(v.Raw, schema.Options{Prefix: prefix, Closed: true})
	var at *schema.Error
	switch {
	case errors.Is(err, schema.ErrNever):
		return nil, fault.New(fault.InvalidSchema, v.Name, "Invalid schema in '%s': no value is valid.", v.Name)
	case errors.As(err, &at):
		return nil, fault.New(fault.InvalidSchema, v.Name, "Invalid schema in '%s': %v.", v.Name, at)
	case err != nil:
		return nil, toFault(err, v.Name)
	}
	if strict && len(g.Loose) > 0 {
		return nil, fault.New(fault.InvalidSchema, v.Name,
			"Invalid schema in '%s': with 'strict' everything in it must be enforced, and these keywords cannot be: %s. Leave them out, or 'strict'.", v.Name, strings.Join(g.Loose, ", "))
	}
	return g, nil
}

// tellLoose says in a header what is not enforced.
func tellLoose(h http.Header, where string, g *schema.Grammar) {
	if g != nil && len(g.Loose) > 0 {
		h.Add(schemaHeader, where+" "+strings.Join(g.Loose, " "))
	}
}

// placeholder is the schema that llama.cpp gets in the place of ours: it knows
// where in a model's format an answer or a call's arguments stand, and our rules
// go there.
const placeholder = `{"const":"schema"}`

// Rules of llama.cpp's chat grammars where a schema stands.
const answerRule = "response-format-schema"

func argumentsRule(tool string) string {
	return "tool-" + notInRules.ReplaceAllString(tool, "-") + "-schema"
}

var notInRules = regexp.MustCompile(`[^a-zA-Z0-9-]+`)

// fences is how llama.cpp lets a model put JSON into a block of Markdown; who asks
// for JSON wants nothing around it.
var fences = regexp.MustCompile("\\(\"```json\" space (response-format) space \"```\" \\| space response-format space\\)")

// putSchema replaces a rule of a chat's grammar by compiled ones; false if there
// is no such rule.
func putSchema(g *engine.Grammar, rule string, compiled *schema.Grammar) bool {
	lines := strings.Split(strings.TrimRight(g.Text, "\n"), "\n")
	found := false
	for i, line := range lines {
		if strings.HasPrefix(line, rule+" ::= ") {
			lines[i] = rule + " ::= " + compiled.Root
			found = true
		}
	}
	if found {
		g.Text = fences.ReplaceAllString(strings.Join(lines, "\n"), "$1 space") + "\n" + compiled.Rules
	}
	return found
}

// either lets a model call tools or answer by a schema: the grammars of both, under
// names of their own. The one for calls begins with what the template has written
// of the answer; so must the other, where the schema alone is all of it. What a client
// has begun comes after that.
func either(calls, answer engine.Grammar, alone bool, begun string) engine.Grammar {
	out := calls
	out.Lazy, out.Triggers = false, nil
	template, written := strings.TrimSuffix(calls.GenerationPrompt, begun), ""
	if calls.FromChat && alone && template != "" {
		written = `"` + gbnfEscapes.Replace(template) + `" `
	}
	out.Text = "root ::= c-root | " + written + "a-root\n" + rename(calls.Text, "c-") + "\n" + rename(constrain.ReplaceAllString(answer.Text, ""), "a-")
	return out
}

// constrain is how gpt-oss says that JSON follows, which llama.cpp's parser of calls
// does not expect before an answer.
var constrain = regexp.MustCompile(` \(space "<\|constrain\|>"\? \[A-Za-z0-9_-\]\+\)\?`)

var gbnfEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`)

// untilCall is the text that a grammar allows before calls that must come.
var untilCall = regexp.MustCompile(`(?m)^(root ::= .*?) until-[0-9-]+\??((?: space)? tool-calls?)$`)

// manyCalls is what llama.cpp's grammars of some formats allow even where one call
// was asked for.
var manyCalls = regexp.MustCompile(`(?m)^tool-calls ::= \(tool-call space\)\+$`)

// rename puts a prefix before every rule's name of a grammar.
func rename(gbnf, prefix string) string {
	var b strings.Builder
	for i := 0; i < len(gbnf); {
		switch c := gbnf[i]; {
		case c == '"' || c == '[':
			end := byte('"')
			if c == '[' {
				end = ']'
			}
			j := i + 1
			for j < len(gbnf) && gbnf[j] != end {
				if gbnf[j] == '\\' {
					j++
				}
				j++
			}
			j = min(j+1, len(gbnf))
			b.WriteString(gbnf[i:j])
			i = j
		case isLetter(c):
			j := i
			for j < len(gbnf) && (isLetter(gbnf[j]) || gbnf[j] == '-' || gbnf[j] >= '0' && gbnf[j] <= '9') {
				j++
			}
			b.WriteString(prefix + gbnf[i:j])
			i = j
		case c == '{':
			j := i + strings.IndexByte(gbnf[i:], '}') + 1
			if j <= i {
				j = len(gbnf)
			}
			b.WriteString(gbnf[i:j])
			i = j
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String()
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// responseFormat is the form that an answer must have; the zero value is any text.
type responseFormat struct {
	grammar *schema.Grammar
	text    string // the schema, to tell the model
	field   string
	strict  bool
}

// anyObject is what json_object asks for.
var anyObject = wire.Value{Name: "response_format", Raw: []byte(`{"type":"object"}`)}

var schemaName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// readResponseFormat reads response_format of chat completions.
func readResponseFormat(v wire.Value) (f responseFormat, e *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return f, e
	}
	kind, e := v.Required(object, "type")
	if e != nil {
		return f, e
	}
	name, e := kind.OneOf("text", "json_object", "json_schema")
	if e != nil || name == "text" {
		return f, e
	}
	f.field = v.Name
	if name == "json_object" {
		f.grammar, e = compileSchema(anyObject, "answer-", false)
		return f, e
	}
	inner, e := v.Required(object, "json_schema")
	if e != nil {
		return f, e
	}
	return readJSONSchema(inner)
}

// readJSONSchema reads {"name":…,"schema":…,"strict":…}.
func readJSONSchema(v wire.Value) (f responseFormat, e *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return f, e
	}
	if e := wire.Only(object, "name", "description", "schema", "strict", "type"); e != nil {
		return f, e
	}
	name, e := v.Required(object, "name")
	if e != nil {
		return f, e
	}
	text, e := name.Text()
	if e != nil {
		return f, e
	}
	if !schemaName.MatchString(text) {
		return f, name.Invalid("a schema's name has 1 to 64 letters, digits, underscores and dashes.")
	}
	if strict, ok := object["strict"]; ok {
		if f.strict, e = strict.Bool(); e != nil {
			return f, e
		}
	}
	document, ok := object["schema"]
	if !ok {
		document = wire.Value{Name: v.Name + ".schema", Raw: []byte(`{}`)}
	}
	f.field, f.text = v.Name, string(document.Raw)
	f.grammar, e = compileSchema(document, "answer-", f.strict)
	return f, e
}

// asked says whether an answer must have a form.
func (f *responseFormat) asked() bool { return f.grammar != nil }

// instruction tells the model what the grammar will hold it to: no template has a
// place for that.
func (f *responseFormat) instruction() string {
	if f.text == "" {
		return "Answer with one JSON object and nothing else."
	}
	return "Answer with JSON that matches this JSON Schema, and nothing else:\n" + f.text
}

// check validates a whole answer.
func (f *responseFormat) check(text string) error {
	if !f.asked() {
		return nil
	}
	if err := f.grammar.Validate([]byte(text)); err != nil {
		return schemaViolation("answer", f.field, err)
	}
	return nil
}

// schemaViolation is the error for what a model wrote and must not have.
func schemaViolation(what, field string, err error) *fault.Error {
	return fault.New(fault.SchemaViolation, "",
		"What the model wrote as its %s does not match '%s': %s.", what, field, firstLine(err))
}

// firstLine leaves out what a validator quotes of the answer.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
