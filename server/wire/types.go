package wire

import (
	"encoding/json"
	"math"

	"serve/fault"
)

// Constraints of the variables that fields are read into.
type (
	floating interface{ ~float32 | ~float64 }
	integral interface {
		~int | ~int32 | ~int64 | ~uint32
	}
)

// NumberOf is a number within bounds.
func NumberOf[T any, F floating](low, high float64, variable func(*T) *F) Type[T] {
	return Type[T]{
		Schema: Number(low, high),
		Read: func(t *T, v Value) *fault.Error {
			f, e := v.Number(low, high)
			if e == nil {
				*variable(t) = F(f)
			}
			return e
		},
	}
}

// IntegerOf is an integer within bounds.
func IntegerOf[T any, N integral](low, high int64, variable func(*T) *N) Type[T] {
	return Type[T]{
		Schema: Integer(low, high),
		Read: func(t *T, v Value) *fault.Error {
			n, e := v.Integer(low, high)
			if e == nil {
				*variable(t) = N(n)
			}
			return e
		},
	}
}

// StringOf is a string.
func StringOf[T any](variable func(*T) *string) Type[T] {
	return Of(String, Value.Text, variable)
}

// TextOf is a string of at most so many characters.
func TextOf[T any](most int, variable func(*T) *string) Type[T] {
	read := func(v Value) (string, *fault.Error) { return v.TextUpTo(most) }
	return Of(String.with("maxLength", most), read, variable)
}

// BoolOf is a boolean.
func BoolOf[T any](variable func(*T) *bool) Type[T] {
	return Of(Bool, Value.Bool, variable)
}

// Of is a type whose values are read by a function and kept in a variable.
func Of[T, V any](s Schema, read func(Value) (V, *fault.Error), variable func(*T) *V) Type[T] {
	return Type[T]{
		Schema: s,
		Read: func(t *T, v Value) (e *fault.Error) {
			*variable(t), e = read(v)
			return e
		},
	}
}

// OneOf is a string that must be one of a few, for which set is called.
func OneOf[T any](set func(*T, string), values ...string) Type[T] {
	return Type[T]{
		Schema: Enum(values...),
		Read: func(t *T, v Value) *fault.Error {
			s, e := v.OneOf(values...)
			if e == nil {
				set(t, s)
			}
			return e
		},
	}
}

// Custom is a type with a decoder of its own.
func Custom[T any](s Schema, read Setter[T]) Type[T] { return Type[T]{Schema: s, Read: read} }

// Ignore is for a field that has no observable effect. Only its type is checked, which is that of s:
// String, Bool, Object, Array, Count, an Enum, or Any.
func Ignore[T any](s Schema) Type[T] {
	return Type[T]{
		Policy: PolicyIgnored,
		Schema: s,
		Read:   func(_ *T, v Value) *fault.Error { return v.is(s) },
	}
}

// Refuse is for an unsupported field that would change the answer. The harmless values, which are
// equivalent to omitting the field, are accepted.
func Refuse[T any](why string, harmless ...string) Type[T] {
	values := make([]json.RawMessage, len(harmless))
	for i, h := range harmless {
		values[i] = json.RawMessage(h)
	}
	s := Schema{"enum": values}
	if len(values) == 0 {
		s = Schema{"not": Schema{}}
	}
	return Type[T]{Policy: PolicyRefused, Schema: s, Read: refused[T](why, harmless...), reason: why}
}

// is checks a value for the type of a schema.
func (v Value) is(s Schema) (e *fault.Error) {
	if words, ok := s["enum"].([]string); ok {
		_, e = v.OneOf(words...)
		return e
	}

	switch s["type"] {
	case nil: // anything
	case "string":
		_, e = v.Text()
	case "boolean":
		_, e = v.Bool()
	case "object":
		_, e = v.Object()
	case "array":
		_, e = v.Array(maxElements)
	case "integer":
		_, e = v.Integer(0, math.MaxInt32)
	default:
		panic("no type that can be checked")
	}
	return e
}
