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
	"serve/steps"
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
		return nil, spent(err, field)
	}

	if strict && len(g.Loose) > 0 {
		return nil, fault.New(fault.InvalidSchema, field,
			"Invalid schema in '%s': with 'strict', every keyword must be enforceable, and these are not: %s. "+
				"Remove them, or remove 'strict'.", field, strings.Join(g.Loose, ", "))
	}
	return g, nil
}

// spent returns the fault of a budget that has ended while a field was compiled.
func spent(err error, field string) *fault.Error {
	if errors.Is(err, steps.ErrSpent) {
		return fault.New(fault.InvalidSchema, field,
			"Invalid schema in '%s': with what the request has had compiled before, it takes more work than a request may "+
				"cost. Make it smaller: fewer alternatives in anyOf and oneOf, fewer and shorter patterns, and lower "+
				"bounds of lengths and counts.", field)
	}
	if e := fault.OfContext(err); e != nil {
		return e
	}
	return fault.New(fault.Internal, "", "Internal server error: %v.", err)
}

// Compile compiles the schema of the arguments. Index is the tool's index in the request, which makes
// the names of the grammar's rules unique. The budget is the request's.
func (t *Tool) Compile(index int, budget *steps.Budget) (e *fault.Error) {
	t.Parameters = []byte(mendSurrogates(string(t.Parameters)))
	o := schema.Options{
		Prefix: fmt.Sprintf("arguments-%d-", index),
		Object: true,
		Budget: budget,
	}
	t.arguments, e = compile(t.Parameters, t.Field, o, t.Strict)
	return e
}

const answerPrefix = "answer-"

// FormatOptions say where in a request a format is, and how it is compiled.
type FormatOptions struct {
	Field       string // the request's field with the format, for errors
	SchemaField string // that with the schema itself
	Strict      bool   // requires that the whole schema is enforced
	Budget      *steps.Budget
}

func (o *FormatOptions) schema() schema.Options {
	return schema.Options{Prefix: answerPrefix, Budget: o.Budget}
}

// ObjectFormat returns the format for any JSON object.
func ObjectFormat(o FormatOptions) (Format, *fault.Error) {
	answer, e := compile([]byte(`{"type":"object"}`), o.Field, o.schema(), false)
	return Format{field: o.Field, answer: answer}, e
}

// SchemaFormat returns the format for a JSON Schema.
func SchemaFormat(document []byte, o FormatOptions) (Format, *fault.Error) {
	document = []byte(mendSurrogates(string(document)))
	answer, e := compile(document, o.SchemaField, o.schema(), o.Strict)
	return Format{schema: string(document), field: o.Field, answer: answer}, e
}

// PatternFormat returns the format for text that matches a regular expression as a whole.
func PatternFormat(expression string, o FormatOptions) (Format, *fault.Error) {
	answer, err := schema.CompilePattern(expression, o.schema())
	shown := "Answer with text that matches this regular expression, and nothing else:\n" + expression
	return textFormat(answer, err, shown, o.Field)
}

// ChoiceFormat returns the format for one of several texts.
func ChoiceFormat(list []string, o FormatOptions) (Format, *fault.Error) {
	answer, err := schema.CompileChoices(list, o.schema())
	shown := "Answer with one of these texts, and nothing else:\n" + strings.Join(list, "\n")
	return textFormat(answer, err, shown, o.Field)
}

func textFormat(answer *schema.Compiled, err error, shown, field string) (Format, *fault.Error) {
	switch {
	case errors.Is(err, schema.ErrNever):
		return Format{}, fault.New(fault.InvalidValue, field, "Invalid '%s': no text is allowed by it.", field)
	case errors.Is(err, steps.ErrSpent), fault.OfContext(err) != nil:
		return Format{}, spent(err, field)
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
func (t *Tools) verify(call *ToolCall) error {
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
// It contains only the first line of the validator's error: the others quote the output.
func violation(what, field string, err error) *fault.Error {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return fault.New(fault.SchemaViolation, "",
		"The model's %s not match '%s': %s.", what, field, line)
}
