package openai

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"serve/fault"
	"serve/lark"
	"serve/prompt"
	"serve/server/wire"
)

// maxChoices is the maximum number of texts of a choice.
const maxChoices = 1024

// structuredFields declares vLLM's fields for answers of a form.
var structuredFields = wire.Table[chatRequest]{
	{
		Name: "guided_json",
		Type: wire.Of(guidedSchema, readGuided, (*chatRequest).nextGuided),
		Doc:  "JSON Schema of the answer; vLLM's former name for `response_format`.",
	},
	{
		Name: "structured_outputs",
		Type: wire.Of(structuredSchema, readStructured, (*chatRequest).nextGuided),
		Doc: "What the answer must be: `json` is its JSON Schema, `json_object` allows any object; `choice`, `regex` " +
			"and `grammar` are for text, like the fields that begin with `guided_`.",
	},
	{
		Name: "guided_choice",
		Type: wire.Of(choicesSchema, readChoices, (*chatRequest).nextGuided),
		Doc:  "List of texts, one of which is the answer.",
	},
	{
		Name: "guided_regex",
		Type: wire.Of(regexSchema, readRegex, (*chatRequest).nextGuided),
		Doc:  "Regular expression that the answer must match, in ECMAScript's syntax.",
	},
	{
		Name: "guided_grammar",
		Type: wire.Of(larkSchema, readLark, (*chatRequest).nextGuided),
		Doc:  "Grammar of the answer, in Lark's notation, without recursion.",
	},
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

	regexSchema = wire.Schema{"type": "string", "format": "regex"}.Examples(`"[a-z]+"`)
	larkSchema  = wire.Schema{"type": "string", "pattern": "start"}.Examples(`"start: /[a-z]+/"`)

	choicesSchema = wire.Schema{
		"type":     "array",
		"items":    wire.String,
		"minItems": 1,
		"maxItems": maxChoices,
	}.Examples(`["yes","no"]`)

	structuredSchema = wire.Open(map[string]wire.Schema{
		"json":        guidedSchema,
		"json_object": wire.Bool,
		"choice":      choicesSchema,
		"regex":       regexSchema,
		"grammar":     larkSchema,
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
			return f, v.Invalid("it is not valid JSON.")
		}
		v.Raw = []byte(text)
	}
	if e := wire.IsObject(v); e != nil {
		return f, e
	}
	return prompt.SchemaFormat(v.Raw, formatOptions(v))
}

// readChoices reads a list of texts.
func readChoices(v wire.Value) (f prompt.Format, e *fault.Error) {
	list, e := v.Array(maxChoices)
	if e != nil {
		return f, e
	}
	if len(list) == 0 {
		return f, v.Empty()
	}
	texts, e := stringList(list)
	if e != nil {
		return f, e
	}
	return prompt.ChoiceFormat(texts, formatOptions(v))
}

func readRegex(v wire.Value) (f prompt.Format, e *fault.Error) {
	text, e := v.Text()
	if e != nil {
		return f, e
	}
	return prompt.PatternFormat(text, formatOptions(v))
}

// readLark reads a grammar.
func readLark(v wire.Value) (f prompt.Format, e *fault.Error) {
	text, e := v.Text()
	if e != nil {
		return f, e
	}
	expression, err := lark.Regexp(text)
	if err != nil {
		return f, fault.New(fault.Unsupported, v.Name, "Unsupported '%s': %v. Grammars must be in Lark's notation, "+
			"without recursion.", v.Name, err)
	}
	return prompt.PatternFormat(expression, formatOptions(v))
}

// structuredForms are the members of structured_outputs of which there may be one.
var structuredForms = map[string]func(wire.Value) (prompt.Format, *fault.Error){
	"json":        readGuided,
	"json_object": readAnyObject,
	"choice":      readChoices,
	"regex":       readRegex,
	"grammar":     readLark,
}

func readAnyObject(v wire.Value) (f prompt.Format, e *fault.Error) {
	any, e := v.Bool()
	if e != nil || !any {
		return f, e
	}
	return prompt.ObjectFormat(formatOptions(v))
}

func readStructured(v wire.Value) (f prompt.Format, e *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return f, e
	}
	if field, ok := object["structural_tag"]; ok {
		return f, fault.New(fault.Unsupported, field.Name,
			"Unsupported parameter: '%s'. Tool calls already follow their own format.", field.Name)
	}
	names := slices.Sorted(maps.Keys(structuredForms))
	wire.Others(object, names...)

	given := slices.DeleteFunc(names, func(name string) bool { _, ok := object[name]; return !ok })
	switch len(given) {
	case 0:
		return f, nil
	case 1:
		return structuredForms[given[0]](object[given[0]])
	}
	return f, v.Invalid("only one of %s may be given.", strings.Join(given, ", "))
}
