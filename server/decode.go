package server

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"serve/fault"
)

// A setter reads one field of a request body into T. It is not called for null,
// which means the same as leaving the field out.
type setter[T any] func(*T, value) *fault.Error

// fields is an endpoint's contract: what it reads, and nothing else. A name that
// is not in it is refused, so that no client believes in a field that does nothing.
type fields[T any] map[string]setter[T]

// value is a field's name, as errors spell it, and its JSON.
type value struct {
	name string
	raw  json.RawMessage
}

// decode reads a request body into T by the table of its fields.
func decode[T any](r *http.Request, into *T, table fields[T], required ...string) *fault.Error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return toFault(err, "")
	}
	if !utf8.Valid(body) {
		return fault.New(fault.Malformed, "", "The request body is not valid UTF-8.")
	}
	var object map[string]json.RawMessage
	if e := unmarshalObject(body, &object); e != nil {
		return e
	}
	for _, name := range required {
		if isNull(object[name]) {
			return fault.New(fault.MissingField, name, "Missing required parameter: '%s'.", name)
		}
	}
	// In order of name, so that the same body always gets the same error.
	for _, name := range slices.Sorted(maps.Keys(object)) {
		set, ok := table[name]
		if !ok {
			return fault.New(fault.UnknownField, name, "Unknown parameter: '%s'.", name)
		}
		if isNull(object[name]) {
			continue
		}
		if e := set(into, value{name, object[name]}); e != nil {
			return e
		}
	}
	return nil
}

func unmarshalObject(body []byte, object *map[string]json.RawMessage) *fault.Error {
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	if len(trimmed) == 0 {
		return fault.New(fault.Malformed, "", "The request body is empty; it must be a JSON object.")
	}
	if err := json.Unmarshal(body, object); err != nil {
		if trimmed[0] != '{' && json.Valid(body) {
			return fault.New(fault.Malformed, "", "The request body must be a JSON object.")
		}
		return fault.New(fault.Malformed, "", "We could not parse the JSON body of your request: %v.", err)
	}
	return nil
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// kind names a JSON value's type as OpenAI's messages do.
func (v value) kind() string {
	switch v.raw[0] {
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
	if strings.ContainsAny(string(v.raw), ".eE") {
		return "a decimal"
	}
	return "an integer"
}

func (v value) wrongType(expected string) *fault.Error {
	return fault.New(fault.WrongType, v.name, "Invalid type for '%s': expected %s, but got %s instead.", v.name, expected, v.kind())
}

func (v value) invalid(format string, args ...any) *fault.Error {
	e := fault.New(fault.InvalidValue, v.name, format, args...)
	e.Message = "Invalid '" + v.name + "': " + e.Message
	return e
}

func (v value) string() (string, *fault.Error) {
	var s string
	if v.raw[0] != '"' || json.Unmarshal(v.raw, &s) != nil {
		return "", v.wrongType("a string")
	}
	return s, nil
}

func (v value) bool() (bool, *fault.Error) {
	switch string(v.raw) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, v.wrongType("a boolean")
}

// number reads a number within bounds.
func (v value) number(low, high float64) (float64, *fault.Error) {
	f, err := strconv.ParseFloat(string(v.raw), 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0, v.wrongType("a decimal")
	}
	return f, v.within(f, low, high, decimals)
}

// integer reads an integer within bounds; 1.0 is one too.
func (v value) integer(low, high int64) (int64, *fault.Error) {
	n, err := strconv.ParseInt(string(v.raw), 10, 64)
	if err == nil {
		if n < low || n > high {
			return 0, v.within(float64(n), float64(low), float64(high), integers)
		}
		return n, nil
	}
	f, err := strconv.ParseFloat(string(v.raw), 64)
	if err != nil && !math.IsInf(f, 0) || f != math.Trunc(f) {
		return 0, v.wrongType("an integer")
	}
	if e := v.within(f, float64(low), float64(high), integers); e != nil {
		return 0, e
	}
	return int64(f), nil
}

// bounds is how errors spell a number's type, and what they are when it is out of bounds.
type bounds struct {
	noun     string
	tooSmall fault.Kind
	tooLarge fault.Kind
}

var (
	decimals = bounds{"decimal", fault.DecimalTooSmall, fault.DecimalTooLarge}
	integers = bounds{"integer", fault.IntegerTooSmall, fault.IntegerTooLarge}
)

func (v value) within(f, low, high float64, of bounds) *fault.Error {
	text := func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
	switch {
	case f < low:
		return fault.New(of.tooSmall, v.name,
			"Invalid '%s': %s below minimum value. Expected a value >= %s, but got %s instead.",
			v.name, of.noun, text(low), v.raw)
	case f > high:
		return fault.New(of.tooLarge, v.name,
			"Invalid '%s': %s above maximum value. Expected a value <= %s, but got %s instead.",
			v.name, of.noun, text(high), v.raw)
	}
	return nil
}

// array splits an array of at most limit elements; their names carry the index.
func (v value) array(limit int) ([]value, *fault.Error) {
	var raws []json.RawMessage
	if v.raw[0] != '[' || json.Unmarshal(v.raw, &raws) != nil {
		return nil, v.wrongType("an array")
	}
	if len(raws) > limit {
		return nil, fault.New(fault.ArrayTooLong, v.name,
			"Invalid '%s': array too long. Expected an array with maximum length %d, but got an array with length %d instead.", v.name, limit, len(raws))
	}
	values := make([]value, len(raws))
	for i, raw := range raws {
		values[i] = value{v.name + "[" + strconv.Itoa(i) + "]", raw}
	}
	return values, nil
}

func (v value) empty() *fault.Error {
	return fault.New(fault.ArrayEmpty, v.name,
		"Invalid '%s': empty array. Expected an array with minimum length 1, but got an empty array instead.", v.name)
}

// object splits an object; the values' names carry the path.
func (v value) object() (map[string]value, *fault.Error) {
	var raws map[string]json.RawMessage
	if v.raw[0] != '{' || json.Unmarshal(v.raw, &raws) != nil {
		return nil, v.wrongType("an object")
	}
	values := make(map[string]value, len(raws))
	for name, raw := range raws {
		if !isNull(raw) {
			values[name] = value{v.name + "." + name, raw}
		}
	}
	return values, nil
}

// one reads a string that must be one of a few.
func (v value) one(of ...string) (string, *fault.Error) {
	s, e := v.string()
	if e != nil {
		return "", e
	}
	if !slices.Contains(of, s) {
		return "", v.invalid("supported values are '%s', but got '%s' instead.", strings.Join(of, "', '"), s)
	}
	return s, nil
}
