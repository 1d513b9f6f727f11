package prompt

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"serve/engine"
	"serve/fault"
	"serve/schema"
)

// compile compiles a schema. With strict, it is an error if a part of it cannot be enforced.
func compile(
	document []byte, field string, o schema.Options, strict bool,
) (*schema.Compiled, *fault.Error) {
	if number := hugeNumber(document); number != "" {
		return nil, fault.New(
			fault.InvalidSchema, field, "Invalid schema in '%s': the number %.40s is too large.", field, number,
		)
	}

	o.Closed = true
	g, err := schema.Compile(document, o)
	var at *schema.Error
	switch {
	case errors.Is(err, schema.ErrNever):
		return nil, fault.New(fault.InvalidSchema, field, "Invalid schema in '%s': no value can satisfy it.", field)
	case errors.As(err, &at):
		return nil, fault.New(fault.InvalidSchema, field, "Invalid schema in '%s': %v.", field, at)
	case err != nil:
		return nil, fault.New(fault.Internal, "", "Internal server error: %v.", err)
	}

	if strict && len(g.Loose) > 0 {
		return nil, fault.New(fault.InvalidSchema, field,
			"Invalid schema in '%s': with 'strict', every keyword must be enforceable, and these are not: %s. "+
				"Remove them, or remove 'strict'.", field, strings.Join(g.Loose, ", "))
	}
	return g, nil
}

// Compile compiles the schema of the arguments. Index is the tool's index in the request, which makes
// the names of the grammar's rules unique.
func (t *Tool) Compile(index int) (e *fault.Error) {
	t.Parameters = []byte(mendSurrogates(string(t.Parameters)))
	o := schema.Options{Prefix: fmt.Sprintf("arguments-%d-", index), Object: true}
	t.arguments, e = compile(t.Parameters, t.Field, o, t.Strict)
	return e
}

const answerPrefix = "answer-"

// ObjectFormat returns the format for any JSON object. Field is the request's field, for errors.
func ObjectFormat(field string) (Format, *fault.Error) {
	answer, e := compile([]byte(`{"type":"object"}`), field, schema.Options{Prefix: answerPrefix}, false)
	return Format{field: field, answer: answer}, e
}

// SchemaFormat returns the format for a JSON Schema. The fields are those of the schema itself and of
// the format, for errors.
func SchemaFormat(document []byte, documentField, field string, strict bool) (Format, *fault.Error) {
	document = []byte(mendSurrogates(string(document)))
	answer, e := compile(document, documentField, schema.Options{Prefix: answerPrefix}, strict)
	return Format{schema: string(document), field: field, answer: answer}, e
}

// PatternFormat returns the format for text that matches a regular expression as a whole.
func PatternFormat(expression, field string) (Format, *fault.Error) {
	answer, err := schema.CompilePattern(expression, answerPrefix)
	shown := "Answer with text that matches this regular expression, and nothing else:\n" + expression
	return textFormat(answer, err, shown, field)
}

// ChoiceFormat returns the format for one of several texts.
func ChoiceFormat(list []string, field string) (Format, *fault.Error) {
	answer, err := schema.CompileChoices(list, answerPrefix)
	shown := "Answer with one of these texts, and nothing else:\n" + strings.Join(list, "\n")
	return textFormat(answer, err, shown, field)
}

func textFormat(answer *schema.Compiled, err error, shown, field string) (Format, *fault.Error) {
	switch {
	case errors.Is(err, schema.ErrNever):
		return Format{}, fault.New(fault.InvalidValue, field, "Invalid '%s': no text can match it.", field)
	case err != nil:
		return Format{}, fault.New(fault.Unsupported, field, "Unsupported '%s': it cannot be enforced: %v.", field, err)
	}
	return Format{schema: shown, field: field, text: true, answer: answer}, nil
}

// instruction describes the format to the model. Templates have no place for that.
func (f *Format) instruction() string {
	if f.text {
		return f.schema
	}
	if f.schema == "" {
		return "Answer with one JSON object and nothing else."
	}
	return "Answer with JSON that matches this JSON Schema, and nothing else:\n" + f.schema
}

// notEnforced lists the parts of the schemas that the grammar does not enforce, as Prompt.NotEnforced.
func (r *renderer) notEnforced() []string {
	var list []string
	add := func(field string, pointers []string) {
		if len(pointers) > 0 {
			list = append(list, field+" "+strings.Join(pointers, " "))
		}
	}
	if r.Format.asked() {
		add(r.Format.field, r.Format.answer.Loose)
	}
	for i := range r.Tools.List {
		tool := &r.Tools.List[i]
		if slices.Contains(r.loose, tool) {
			add(tool.Field, tool.arguments.Assertions)
			continue
		}
		add(tool.Field, tool.arguments.Loose)
	}
	return list
}

// verifies reports whether answers must be verified.
func (c *Conversation) verifies() bool {
	return c.Format.asked() || slices.ContainsFunc(c.Tools.List, func(t Tool) bool { return t.Strict })
}

// Verifier returns a function that verifies n answers while they are generated. It is called with
// every event, and returns an error at the end of an answer that violates its schema. It is nil if
// there is nothing to verify.
//
// Usually the grammar has enforced the schema. But a grammar may be wrong, and a call in an
// unexpected format was not constrained. Truncated answers are not verified; with stops, what a client's stop string
// may have ended is one, too.
func (c *Conversation) Verifier(n int, stops bool) func(*engine.Event) error {
	if !c.verifies() {
		return nil
	}
	replies := make([]Collector, n)
	return func(e *engine.Event) error {
		r := &replies[e.Choice]
		r.Add(e)
		if r.Finish != engine.FinishStop || stops && c.truncated(r) {
			return nil
		}
		return c.verify(r)
	}
}

// truncated reports whether an answer ends before its JSON or its text does.
func (c *Conversation) truncated(r *Collector) bool {
	if n := len(r.Calls); n > 0 {
		return !json.Valid([]byte(r.Calls[n-1].Arguments))
	}
	begun, _ := c.begun()
	if c.Format.text {
		return c.Format.answer.Validate([]byte(begun+r.Text())) != nil
	}
	return !json.Valid([]byte(begun + r.Text()))
}

// verify validates a complete answer.
func (c *Conversation) verify(r *Collector) error {
	if len(r.Calls) == 0 {
		if !c.Format.asked() {
			return nil
		}
		begun, _ := c.begun()
		if err := c.Format.answer.Validate([]byte(begun + r.Text())); err != nil {
			return violation("answer does", c.Format.field, err)
		}
		return nil
	}

	for i := range r.Calls {
		if err := c.Tools.verify(&r.Calls[i]); err != nil {
			return err
		}
	}
	return nil
}

// verify validates the arguments of a call of a strict tool.
func (t *Tools) verify(call *Call) error {
	for i := range t.List {
		tool := &t.List[i]
		if tool.Name != call.Name || !tool.Strict {
			continue
		}
		if err := tool.arguments.Validate([]byte(call.Arguments)); err != nil {
			return violation("arguments do", tool.Field, err)
		}
	}
	return nil
}

// violation returns the error for output that violates a schema: what is its kind with a verb, such as "answer does".
// It contains only the first line of
// the validator's error: the others quote the output.
func violation(what, field string, err error) *fault.Error {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return fault.New(fault.SchemaViolation, "",
		"The model's %s not match '%s': %s.", what, field, line)
}
