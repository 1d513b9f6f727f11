package ollama

import (
	"net/http"

	"serve/fault"
	"serve/server/wire"
)

// policy is what becomes of a field. docs/ollama.md has the same table; a test compares them.
type policy string

const (
	honoured policy = "honoured" // it does what Ollama says
	accepted policy = "accepted" // its loss cannot be seen in the answer
	ignored  policy = "ignored"  // it could change the answer and does not; the header names it
	refused  policy = "refused"  // an error that names it
)

// field is a row of an endpoint's table. Fields that are in no table are ignored, and named.
type field struct {
	policy policy
	set    wire.Setter[request]
}

type fields map[string]field

// table is an endpoint's table.
type table struct {
	fields
	setters wire.Fields[request] // the same as package wire reads it
}

// tableOf makes a table of several parts.
func tableOf(parts ...fields) table {
	t := table{fields: fields{}, setters: wire.Fields[request]{}}
	for _, part := range parts {
		for name, row := range part {
			t.fields[name] = row
			t.setters[name] = row.set
		}
	}
	return t
}

func honour(set wire.Setter[request]) field { return field{honoured, set} }

// accept is for a field without an effect that an answer could show. Any value is taken, as by Ollama.
func accept() field {
	return field{accepted, func(*request, wire.Value) *fault.Error { return nil }}
}

// ignore is for a field that could change the answer. The harmless values are equivalent to leaving it
// out.
func ignore(harmless ...string) field {
	return field{ignored, func(r *request, v wire.Value) *fault.Error {
		for _, h := range harmless {
			if string(v.Raw) == h {
				return nil
			}
		}
		r.ignore(v.Name)
		return nil
	}}
}

// refuse is for a field without which the answer would be another one altogether.
func refuse(why string, harmless ...string) field {
	return field{refused, wire.Refused[request](why, harmless...)}
}

// ignoredHeader names the fields of a request that were ignored though they could change the answer.
const ignoredHeader = "X-Ignored-Fields"

// ignore notes a field that is ignored.
func (r *request) ignore(name string) { r.ignoredNames = append(r.ignoredNames, name) }

// setHeader names what was ignored.
func (r *request) setHeader(h http.Header) {
	h.Del(ignoredHeader)
	wire.AddList(h, ignoredHeader, r.ignoredNames)
}
