package wire

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"serve/fault"
)

// A query is a second table of a request: its parameters are declared, described and read as the fields of a body are.
// Their values are text, which becomes JSON by the declared schema. A list is given by repeating its parameter, with or
// without [] after the name. An empty value is the same as leaving the parameter out.

// CheckQuery checks the parameters of a query by their declarations. A parameter that is not declared is an error; if
// it is lenient, its name is returned instead.
func CheckQuery(query string, declared []Description, lenient bool) (ignored []string, e *fault.Error) {
	given, e := splitQuery(query)
	if e != nil {
		return nil, e
	}

	// In order of name, so that the same query always yields the same error.
	for _, name := range slices.Sorted(maps.Keys(given)) {
		i := slices.IndexFunc(declared, func(d Description) bool { return d.Name == name })
		switch {
		case i < 0 && lenient:
			ignored = append(ignored, name)
			continue
		case i < 0:
			return nil, fault.New(fault.UnknownField, name, "Unknown parameter: '%s'. The URL's query has it.", name)
		}

		v, e := queryValue(name, given[name], declared[i].Schema)
		if e != nil {
			return nil, e
		}
		if IsNull(v.Raw) {
			continue
		}
		if _, e := declared[i].Try(v.Raw); e != nil {
			return nil, e
		}
	}

	return ignored, nil
}

// Query reads the parameters of a query into T. Those that the table does not declare are left to CheckQuery, to which
// the server gives the query first.
func (t Table[T]) Query(query string, into *T) *fault.Error {
	given, e := splitQuery(query)
	if e != nil {
		return e
	}
	for i := range t {
		f := &t[i]
		v, e := queryValue(f.Name, given[f.Name], f.Type.Schema)
		if e != nil {
			return e
		}
		if IsNull(v.Raw) {
			continue
		}
		if e := f.Type.Read(into, v); e != nil {
			return e
		}
	}
	return nil
}

// splitQuery returns the values of a query by name.
func splitQuery(query string) (map[string][]string, *fault.Error) {
	pairs, err := url.ParseQuery(query)
	if err != nil {
		return nil, fault.New(fault.Malformed, "", "The URL's query cannot be read: %v.", err)
	}

	given := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		plain := cmp.Or(strings.TrimSuffix(name, "[]"), name)
		for _, text := range append(pairs[name], name) {
			if !utf8.ValidString(text) {
				return nil, fault.New(fault.Malformed, "", "The URL's query is not valid UTF-8.")
			}
		}
		given[plain] = append(given[plain], pairs[name]...)
	}
	return given, nil
}

// queryValue returns the value of a parameter as JSON of the schema's type, or as a string if it is none of those. The
// value of one that is not given is null.
func queryValue(name string, given []string, s Schema) (Value, *fault.Error) {
	given = slices.DeleteFunc(slices.Clone(given), func(text string) bool { return text == "" })
	v := Value{Name: name}
	switch {
	case len(given) == 0:
		return v, nil
	case s["type"] == Array["type"]:
		v.Raw, _ = json.Marshal(given)
		return v, nil
	case len(given) > 1:
		return v, v.Invalid("the URL's query has it %d times.", len(given))
	}

	if text := given[0]; literal(text, s) {
		v.Raw = []byte(text)
	} else {
		v.Raw = AppendString(nil, text)
	}
	return v, nil
}

// literal reports whether a text is a number or a boolean where a schema has one.
func literal(text string, s Schema) bool {
	var parsed any
	if json.Unmarshal([]byte(text), &parsed) != nil {
		return false
	}
	_, number := parsed.(float64)
	_, boolean := parsed.(bool)
	switch s["type"] {
	case "integer", "number":
		return number
	case "boolean":
		return boolean
	}
	harmless, _ := s["enum"].([]json.RawMessage)
	return slices.ContainsFunc(harmless, func(raw json.RawMessage) bool { return string(raw) == text })
}
