package openai

import (
	"regexp"

	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
)

var schemaName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// The schemas of formats.
var (
	responseFormatSchema = wire.Open(map[string]wire.Schema{
		"type": formatKinds,
		"json_schema": wire.Open(map[string]wire.Schema{
			"name":        {"type": "string", "pattern": schemaName.String()},
			"description": wire.String,
			"schema":      {},
			"strict":      wire.Bool,
			"type":        {},
		}, "name"),
	}, "type").Examples(`{"type":"json_object"}`)

	formatKinds = wire.Enum(formatText, formatObject, formatSchema)
)

// readResponseFormat reads response_format of chat completions.
func readResponseFormat(v wire.Value) (f prompt.Format, e *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return f, e
	}
	kind, e := readFormatKind(v, object)
	if e != nil || kind == formatText {
		return f, e
	}
	if kind == formatObject {
		if document, ok := object["schema"]; ok {
			o := formatOptions(v)
			o.SchemaField = document.Name
			return prompt.SchemaFormat(document.Raw, o) // llama.cpp's form
		}
		return prompt.ObjectFormat(formatOptions(v))
	}
	inner, e := v.Required(object, "json_schema")
	if e != nil {
		return f, e
	}
	return readJSONSchema(inner)
}

// The types of formats.
const (
	formatText   = "text"
	formatObject = "json_object"
	formatSchema = "json_schema"
)

func readFormatKind(v wire.Value, object map[string]wire.Value) (string, *fault.Error) {
	kind, e := v.Required(object, "type")
	if e != nil {
		return "", e
	}
	return kind.OneOf(formatText, formatObject, formatSchema)
}

// readJSONSchema reads {"name":…,"schema":…,"strict":…}.
func readJSONSchema(v wire.Value) (f prompt.Format, e *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return f, e
	}
	wire.Others(object, "name", "description", "schema", "strict", "type")

	name, e := v.Required(object, "name")
	if e != nil {
		return f, e
	}

	text, e := name.Text()
	if e != nil {
		return f, e
	}
	if !schemaName.MatchString(text) {
		return f, name.Invalid("a schema's name must have 1 to 64 letters, digits, underscores and dashes.")
	}

	strict := false
	if field, ok := object["strict"]; ok {
		if strict, e = field.Bool(); e != nil {
			return f, e
		}
	}

	document, ok := object["schema"]
	if !ok {
		document = wire.Value{Name: v.Name + ".schema", Raw: []byte(`{}`)}
	}

	o := formatOptions(v)
	o.SchemaField = document.Name
	o.Strict = strict
	return prompt.SchemaFormat(document.Raw, o)
}

// formatOptions returns how the format in a field is compiled.
func formatOptions(v wire.Value) prompt.FormatOptions {
	return prompt.FormatOptions{
		Field:       v.Name,
		SchemaField: v.Name,
		Budget:      v.Budget(),
	}
}
