package wire

import (
	"cmp"
	"encoding/json"
	"reflect"
	"slices"

	"serve/fault"
)

// Table declares all fields that an endpoint reads. Any other field is an error, unless the server
// accepts it and names it: no client relies on a field without knowing that it has no effect.
// Requests are decoded by it, and the documents and the description of the API are made from it.
type Table[T any] []Field[T]

// Field declares a field of a request.
type Field[T any] struct {
	Name     string
	Required bool    // it must be present and not null
	Type     Type[T] // its values, how they are read, and what becomes of them
	Doc      string  // one sentence for people; a refused field has its reason instead
}

// Type is a type of fields.
type Type[T any] struct {
	Policy Policy
	// Schema describes the values that Read takes. Where examples cannot be derived from it (see
	// Schema.Probes) it contains some. Of a refused field it describes the harmless values.
	Schema Schema
	Read   Setter[T]

	reason string // why a field is refused
}

// Default returns the type with the default of its fields, which documents show.
func (t Type[T]) Default(value any) Type[T] {
	t.Schema = t.Schema.with("default", value)
	return t
}

// Policy says what becomes of a field.
type Policy uint8

// The policies.
const (
	PolicyHonored Policy = iota // it does what the API's documentation says
	PolicyIgnored               // it is accepted and ignored: no answer could show the difference
	PolicyRefused               // it would change the answer and is not supported: an error that names it
)

// String returns the policy's name in documents.
func (p Policy) String() string { return [...]string{"honored", "ignored", "refused"}[p] }

// Decode reads a request body into T, as the notes say, which it adds to.
func (t Table[T]) Decode(body []byte, into *T, notes *Notes) *fault.Error {
	var required []string
	for i := range t {
		if t[i].Required {
			required = append(required, t[i].Name)
		}
	}

	return decode(body, required, notes, func(v Value) *fault.Error {
		i := t.index(v.Name)
		switch {
		case i < 0 && notes != nil && notes.Lenient:
			v.Ignore()
			return nil
		case i < 0:
			return unknown(v.Name)
		}
		return t[i].Type.Read(into, v)
	})
}

func (t Table[T]) index(name string) int {
	return slices.IndexFunc(t, func(f Field[T]) bool { return f.Name == name })
}

// Has reports whether a field is declared.
func (t Table[T]) Has(name string) bool { return t.index(name) >= 0 }

// Pick returns the fields with the given names, in that order. It panics if there is none of a name.
func (t Table[T]) Pick(names ...string) Table[T] {
	picked := make(Table[T], len(names))
	for i, name := range names {
		picked[i] = t[t.index(name)]
	}
	return picked
}

// Optional returns the table with the fields of the given names not required, for another endpoint.
func (t Table[T]) Optional(names ...string) Table[T] {
	t = slices.Clone(t)
	for _, name := range names {
		t[t.index(name)].Required = false
	}
	return t
}

// Lift returns the table of a request T that contains a P: the fields of P, then those of its own.
// Where both have a field, its own is the one.
func Lift[T, P any](of func(*T) *P, contained Table[P], own Table[T]) Table[T] {
	var table Table[T]
	for _, f := range contained {
		if own.index(f.Name) >= 0 {
			continue
		}
		table = append(table, Field[T]{
			Name:     f.Name,
			Required: f.Required,
			Doc:      f.Doc,
			Type: Type[T]{
				Policy: f.Type.Policy,
				Schema: f.Type.Schema,
				Read:   func(t *T, v Value) *fault.Error { return f.Type.Read(of(t), v) },
				reason: f.Type.reason,
			},
		})
	}
	return append(table, own...)
}

// Description is a field, whatever request it belongs to.
type Description struct {
	Name     string
	Required bool
	Policy   Policy
	Doc      string
	Schema   Schema
	// Try reads a value into an empty request. It reports whether the request is another now.
	Try func(json.RawMessage) (changed bool, e *fault.Error)
}

// Describe returns the descriptions of all fields, in the table's order.
func (t Table[T]) Describe() []Description {
	list := make([]Description, len(t))
	for i, f := range t {
		list[i] = Description{
			Name:     f.Name,
			Required: f.Required,
			Policy:   f.Type.Policy,
			Doc:      cmp.Or(f.Doc, f.Type.reason),
			Schema:   f.Type.Schema,
			Try: func(raw json.RawMessage) (bool, *fault.Error) {
				var before, after T
				e := f.Type.Read(&after, Value{Name: f.Name, Raw: raw})
				return !reflect.DeepEqual(before, after), e
			},
		}
	}
	return list
}
