package ollama

import (
	"net/http"
	"slices"

	"serve/fault"
	"serve/server/dialect"
	"serve/server/wire"
)

// table is the declaration of an endpoint's fields. Fields that are in none are ignored, and named.
type table = wire.Table[request]

// named is the type of a field that could change the answer and does not: it is ignored, and the header
// names it. The harmless values are equivalent to leaving it out.
func named(harmless ...string) wire.Type[request] {
	t := wire.Ignore[request](wire.Any)
	t.Read = func(_ *request, v wire.Value) *fault.Error {
		if !slices.Contains(harmless, string(v.Raw)) {
			v.Ignore()
		}
		return nil
	}
	return t
}

// unseen is the type of a field whose loss no answer shows. Any value is taken, as by Ollama.
func unseen() wire.Type[request] { return wire.Ignore[request](wire.Any) }

// join makes a table of several.
func join(tables ...table) table { return slices.Concat(tables...) }

// setHeader names what was ignored since it was called last.
func (r *request) setHeader(h http.Header) {
	ignored := r.notes.Ignored()
	wire.AddList(h, dialect.IgnoredHeader, ignored[r.named:])
	r.named = len(ignored)
}
