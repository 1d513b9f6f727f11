package wire

import (
	"encoding/json"
	"maps"
	"math"
)

// Schema is a JSON Schema, of draft 2020-12.
type Schema map[string]any

// Schemas of simple values.
var (
	String = Schema{"type": "string"}
	Bool   = Schema{"type": "boolean"}
	Object = Schema{"type": "object"}
	Array  = Schema{"type": "array", "maxItems": maxElements}
	Count  = Integer(0, math.MaxInt32)
	Any    = Schema{}
)

// Number is the schema of a number within bounds.
func Number(low, high float64) Schema {
	return Schema{"type": "number", "minimum": low, "maximum": high}
}

// Integer is the schema of an integer within bounds.
func Integer(low, high int64) Schema {
	return Schema{"type": "integer", "minimum": low, "maximum": high}
}

// Enum is the schema of a string that is one of a few.
func Enum(values ...string) Schema { return Schema{"type": "string", "enum": values} }

// ListOf is the schema of an array of at most limit elements.
func ListOf(element Schema, limit int) Schema {
	return Schema{"type": "array", "items": element, "maxItems": limit}
}

// NonEmpty is the schema of an array with an element at least.
func (s Schema) NonEmpty() Schema { return s.with("minItems", 1) }

// Closed is the schema of an object with these properties and no others.
func Closed(properties map[string]Schema, required ...string) Schema {
	return Open(properties, required...).with("additionalProperties", false)
}

// Open is the schema of an object with these properties, which may have others.
func Open(properties map[string]Schema, required ...string) Schema {
	s := Schema{"type": "object"}
	if len(properties) > 0 {
		s["properties"] = properties
	}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// AnyOf is the schema of values of any of some schemas.
func AnyOf(of ...Schema) Schema { return Schema{"anyOf": of} }

// Examples adds valid values, as JSON, to a schema. Tests send them.
func (s Schema) Examples(values ...string) Schema {
	var list []json.RawMessage
	for _, v := range values {
		list = append(list, json.RawMessage(v))
	}
	return s.with("examples", list)
}

func (s Schema) with(name string, value any) Schema {
	s = maps.Clone(s)
	s[name] = value
	return s
}
