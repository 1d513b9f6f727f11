package openai

import (
	"encoding/json"

	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
)

const notJSON = "Only JSON output can be enforced: use 'response_format'."

// structuredFields declares vLLM's fields for answers of a form.
var structuredFields = wire.Table[chatRequest]{
	{
		Name: "guided_json",
		Type: wire.Of(guidedSchema, readGuided, func(r *chatRequest) *prompt.Format { return &r.guided }),
		Doc:  "JSON Schema of the answer; vLLM's former name for `response_format`.",
	},
	{
		Name: "structured_outputs",
		Type: wire.Of(structuredSchema, readStructured, func(r *chatRequest) *prompt.Format { return &r.guided }),
		Doc:  "vLLM's `response_format`: `json` is the JSON Schema of the answer; `json_object` allows any object.",
	},
	{Name: "guided_choice", Type: wire.Refuse[chatRequest](notJSON)},
	{Name: "guided_regex", Type: wire.Refuse[chatRequest](notJSON)},
	{Name: "guided_grammar", Type: wire.Refuse[chatRequest](notJSON)},
	{
		Name: "guided_decoding_backend",
		Type: wire.Ignore[chatRequest](wire.String),
		Doc:  "Library that vLLM uses for structured output.",
	},
	{
		Name: "guided_whitespace_pattern",
		Type: wire.Ignore[chatRequest](wire.String),
		Doc:  "Whitespace that vLLM allows in JSON.",
	},
}

// The schemas of these fields.
var (
	guidedSchema = wire.AnyOf(wire.Object, wire.Schema{"type": "string", "pattern": `^\s*\{`}).
			Examples(`{"type":"string"}`, `"{\"type\":\"string\"}"`)

	structuredSchema = wire.Open(map[string]wire.Schema{
		"json":        guidedSchema,
		"json_object": wire.Bool,
	}).Examples(`{"json":{"type":"string"}}`)
)

// readGuided reads a JSON Schema, or its text.
func readGuided(v wire.Value) (f prompt.Format, e *fault.Error) {
	if v.Raw[0] == '"' {
		text, e := v.Text()
		if e != nil {
			return f, e
		}
		if !json.Valid([]byte(text)) {
			return f, v.Invalid("it is not JSON.")
		}
		v.Raw = []byte(text)
	}
	if e := wire.IsObject(v); e != nil {
		return f, e
	}
	return prompt.SchemaFormat(v.Raw, v.Name, v.Name, false)
}

func readStructured(v wire.Value) (f prompt.Format, e *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return f, e
	}
	for _, name := range []string{"choice", "regex", "grammar", "structural_tag"} {
		if field, ok := object[name]; ok {
			return f, fault.New(fault.Unsupported, field.Name, "Unsupported parameter: '%s'. %s", field.Name, notJSON)
		}
	}
	wire.Others(object, "json", "json_object")

	if field, ok := object["json"]; ok {
		return readGuided(field)
	}
	if field, ok := object["json_object"]; ok {
		any, e := field.Bool()
		if e != nil || !any {
			return f, e
		}
		return prompt.ObjectFormat(v.Name)
	}
	return f, nil
}
