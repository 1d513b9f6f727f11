// Package wire contains what the HTTP APIs have in common: decoding of requests by tables of
// fields, JSON encoding by hand, and framing of server-sent events.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"serve/fault"
)

// A Setter reads one field of a request body into T. It is not called for null,
// which means the same as leaving the field out.
type Setter[T any] func(*T, Value) *fault.Error

// Value is a field's JSON and its name, as it appears in errors.
type Value struct {
	Name  string
	Raw   json.RawMessage
	notes *Notes
}

// decode splits a request body and calls set for each of its fields.
func decode(body []byte, required []string, notes *Notes, set func(Value) *fault.Error) *fault.Error {
	if !utf8.Valid(body) {
		return fault.New(fault.Malformed, "", "The request body is not valid UTF-8.")
	}

	object, e := split(body)
	if e != nil {
		return e
	}
	if e := refuseDuplicates(body); e != nil {
		return e
	}
	if notes != nil {
		for name, value := range notes.Defaults {
			if IsNull(object[name]) {
				object[name] = value
			}
		}
	}
	for _, name := range required {
		if IsNull(object[name]) {
			return fault.New(fault.MissingField, name, "Missing required parameter: '%s'.", name)
		}
	}

	// In order of name, so that the same body always yields the same error.
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if IsNull(object[name]) {
			continue
		}
		if e := set(Value{name, object[name], notes}); e != nil {
			return e
		}
	}
	return nil
}

func unknown(name string) *fault.Error {
	return fault.New(fault.UnknownField, name, "Unknown parameter: '%s'.", name)
}

// split checks a body, and splits its object.
func split(body []byte) (map[string]json.RawMessage, *fault.Error) {
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	switch {
	case len(trimmed) == 0:
		return nil, fault.New(fault.Malformed, "", "The request body is empty; it must be a JSON object.")
	case !json.Valid(body):
		var object map[string]json.RawMessage
		return nil, fault.New(fault.Malformed, "", "We could not parse the JSON body of your request: %v.",
			json.Unmarshal(body, &object))
	case trimmed[0] != '{':
		return nil, fault.New(fault.Malformed, "", "The request body must be a JSON object.")
	}
	if n := count(body); n > maxValues {
		return nil, fault.New(fault.Malformed, "",
			"The request body has too many values: %d (maximum %d).", n, maxValues)
	}

	object := map[string]json.RawMessage{}
	members(body, func(name string, raw json.RawMessage) bool {
		object[name] = raw
		return len(object) <= maxMembers
	})
	if len(object) > maxMembers {
		return nil, fault.New(fault.Malformed, "", "The request body has too many fields (maximum %d).", maxMembers)
	}
	return object, nil
}

// maxMembers is the maximum number of an object's members.
const maxMembers = 1 << 14

// IsNull reports whether a field is absent or null, which are equivalent.
func IsNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// kind returns the name of the value's JSON type, with an article.
func (v Value) kind() string {
	switch v.Raw[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	if strings.ContainsAny(string(v.Raw), ".eE") {
		return "a decimal"
	}
	return "an integer"
}

// WrongType returns the error for a value of an unexpected type.
func (v Value) WrongType(expected string) *fault.Error {
	return fault.New(fault.WrongType, v.Name,
		"Invalid type for '%s': expected %s, but got %s instead.", v.Name, expected, v.kind())
}

// Invalid returns the error for an unusable value of the right type. The format gives the reason.
func (v Value) Invalid(format string, args ...any) *fault.Error {
	e := fault.New(fault.InvalidValue, v.Name, format, args...)
	e.Message = "Invalid '" + v.Name + "': " + e.Message
	return e
}

// Text reads a string.
func (v Value) Text() (string, *fault.Error) {
	if e := v.alive(); e != nil {
		return "", e
	}
	s, ok := unquote(v.Raw)
	if !ok {
		return "", v.WrongType("a string")
	}
	return s, nil
}

// alive returns an error if the request has ended, which nobody reads, or has used its CPU time.
func (v Value) alive() *fault.Error {
	if v.notes == nil || v.notes.Ended == nil {
		return nil
	}
	return v.notes.Ended()
}

// TextUpTo reads a string of at most so many characters.
func (v Value) TextUpTo(most int) (string, *fault.Error) {
	s, e := v.Text()
	if e != nil {
		return "", e
	}
	if n := utf8.RuneCountInString(s); n > most {
		return "", fault.New(fault.StringTooLong, v.Name, "Invalid '%s': string too long. "+
			"Expected a string with maximum length %d, but got a string with length %d instead.", v.Name, most, n)
	}
	return s, nil
}

// Bool reads a boolean.
func (v Value) Bool() (bool, *fault.Error) {
	switch string(v.Raw) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, v.WrongType("a boolean")
}

// Number reads a number within bounds.
func (v Value) Number(low, high float64) (float64, *fault.Error) {
	f, err := strconv.ParseFloat(string(v.Raw), 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0, v.WrongType("a decimal")
	}
	return f, v.within(f, low, high, decimals)
}

// Integer reads an integer within bounds; 1.0 is one too.
func (v Value) Integer(low, high int64) (int64, *fault.Error) {
	n, outside := strconv.ParseInt(string(v.Raw), 10, 64)
	if outside == nil {
		if n < low || n > high {
			return 0, v.within(float64(n), float64(low), float64(high), integers)
		}
		return n, nil
	}
	f, err := strconv.ParseFloat(string(v.Raw), 64)
	if err != nil && !math.IsInf(f, 0) || f != math.Trunc(f) {
		return 0, v.WrongType("an integer")
	}
	// As floats, the largest bounds are beyond those of integers.
	if f >= math.MaxInt64 || errors.Is(outside, strconv.ErrRange) {
		f = math.Inf(int(math.Copysign(1, f)))
	}
	if e := v.within(f, float64(low), float64(high), integers); e != nil {
		return 0, e
	}
	return int64(f), nil
}

// bounds is the name of a number's type, and the kinds of errors for numbers out of bounds.
type bounds struct {
	noun     string
	tooSmall fault.Kind
	tooLarge fault.Kind
}

var (
	decimals = bounds{"decimal", fault.DecimalTooSmall, fault.DecimalTooLarge}
	integers = bounds{"integer", fault.IntegerTooSmall, fault.IntegerTooLarge}
)

func (v Value) within(f, low, high float64, of bounds) *fault.Error {
	text := func(f float64) string {
		switch {
		case of == integers && f >= math.MaxInt64: // as a float, that bound is one more
			return strconv.FormatInt(math.MaxInt64, 10)
		case of == integers:
			return strconv.FormatInt(int64(f), 10)
		}
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	switch {
	case f < low:
		return fault.New(of.tooSmall, v.Name,
			"Invalid '%s': %s below minimum value. Expected a value >= %s, but got %s instead.",
			v.Name, of.noun, text(low), v.Raw)
	case f > high:
		return fault.New(of.tooLarge, v.Name,
			"Invalid '%s': %s above maximum value. Expected a value <= %s, but got %s instead.",
			v.Name, of.noun, text(high), v.Raw)
	}
	return nil
}

// Array splits an array of at most limit elements; their names carry the index.
func (v Value) Array(limit int) ([]Value, *fault.Error) {
	n, e := v.length(limit)
	if e != nil {
		return nil, e
	}

	values := make([]Value, 0, n)
	elements(v.Raw, func(raw json.RawMessage) bool {
		values = append(values, v.element(len(values), raw))
		return true
	})
	return values, nil
}

// length returns the number of elements of an array of at most limit.
func (v Value) length(limit int) (n int, e *fault.Error) {
	if e := v.alive(); e != nil {
		return 0, e
	}
	if !elements(v.Raw, func(json.RawMessage) bool { n++; return true }) {
		return 0, v.WrongType("an array")
	}
	if n > limit {
		return 0, fault.New(fault.ArrayTooLong, v.Name,
			"Invalid '%s': array too long. "+
				"Expected an array with maximum length %d, but got an array with length %d instead.", v.Name, limit, n)
	}
	return n, nil
}

// Empty returns the error for an array without elements.
func (v Value) Empty() *fault.Error {
	return fault.New(fault.ArrayEmpty, v.Name,
		"Invalid '%s': empty array. Expected an array with minimum length 1, but got an empty array instead.", v.Name)
}

// Object splits an object; the values' names carry the path.
func (v Value) Object() (map[string]Value, *fault.Error) {
	if e := v.alive(); e != nil {
		return nil, e
	}
	values := map[string]Value{}
	n := 0
	if !members(v.Raw, func(name string, raw json.RawMessage) bool {
		n++
		delete(values, name) // the last one of a name counts
		if !IsNull(raw) {
			values[name] = Value{v.Name + "." + name, raw, v.notes}
		}
		return n <= maxMembers
	}) {
		return nil, v.WrongType("an object")
	}
	if n > maxMembers {
		return nil, v.Invalid("too many members (maximum %d).", maxMembers)
	}
	return values, nil
}

// OneOf reads a string that must be one of a few.
func (v Value) OneOf(of ...string) (string, *fault.Error) {
	s, e := v.Text()
	if e != nil {
		return "", e
	}
	if !slices.Contains(of, s) {
		return "", v.Invalid("supported values are '%s', but got '%s' instead.", strings.Join(of, "', '"), s)
	}
	return s, nil
}

// Required returns a required field of an object; v is the object itself.
func (v Value) Required(object map[string]Value, name string) (Value, *fault.Error) {
	field, ok := object[name]
	if !ok {
		name = v.Name + "." + name
		return field, fault.New(fault.MissingField, name, "Missing required parameter: '%s'.", name)
	}
	return field, nil
}

// RequiredText returns a required field of an object that is a string; v is the object itself.
func (v Value) RequiredText(object map[string]Value, name string) (string, *fault.Error) {
	field, e := v.Required(object, name)
	if e != nil {
		return "", e
	}
	return field.Text()
}

// OptionalText returns a field of an object that is a string, if it is there.
func OptionalText(object map[string]Value, name string) (string, *fault.Error) {
	field, ok := object[name]
	if !ok {
		return "", nil
	}
	return field.Text()
}

// Only returns an error for the first field, in order of name, that is not known.
func Only(object map[string]Value, known ...string) *fault.Error {
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(known, name) {
			return unknown(object[name].Name)
		}
	}
	return nil
}

// DeploymentValue is the name of the path value that has the model's name in paths of Azure's API.
const DeploymentValue = "deployment"

// UnknownPath returns the error for a path without an endpoint. It says the path as the client sent it.
func UnknownPath(r *http.Request) *fault.Error {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	hint := ""
	switch rest, doubled := strings.CutPrefix(path, "/v1/v1/"); {
	case doubled:
		hint = " The base URL probably has one /v1 too many; did you mean /v1/" + rest + "?"
	case strings.TrimSuffix(path, "/") == "/v1":
		hint = " The endpoints are under this path: GET /v1/models lists the models."
	}
	return fault.New(fault.UnknownPath, "", "Unknown request URL: %s %s.%s", r.Method, path, hint)
}
