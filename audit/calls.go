package audit

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Call is a call of a tool.
type Call struct {
	Name string

	arguments []byte // as the model wrote them
}

// writeCalls writes calls as they are digested: of each, two netstrings, its name and its arguments in one form.
func writeCalls(w io.Writer, list []Call) {
	for i := range list {
		arguments := canonical(list[i].arguments)
		fmt.Fprintf(w, "%d:%s,%d:%s,", len(list[i].Name), list[i].Name, len(arguments), arguments)
	}
}

// ParseCalls reads calls as people have them: a list of objects with a name and arguments, an object or a text. They
// may be in another object each, as OpenAI's and Ollama's APIs have them ("function"), and Anthropic's "input" counts
// as arguments.
func ParseCalls(text []byte) ([]Call, error) {
	type call struct {
		Name      string
		Arguments json.RawMessage
		Input     json.RawMessage
	}
	var given []struct {
		call
		Function *call
	}
	if err := json.Unmarshal(text, &given); err != nil {
		return nil, err
	}

	var list []Call
	for _, g := range given {
		c := g.call
		if g.Function != nil {
			c = *g.Function
		}
		if len(c.Arguments) == 0 {
			c.Arguments = c.Input
		}
		if c.Name == "" {
			return nil, errors.New("a call has no name")
		}
		arguments := []byte(c.Arguments)
		var inner string
		if json.Unmarshal(c.Arguments, &inner) == nil {
			arguments = []byte(inner)
		}
		list = append(list, Call{c.Name, arguments})
	}
	return list, nil
}

// canonical returns arguments in the form of RFC 8785 (JCS), so that it does not matter how a client's library has
// written them. What is no I-JSON (RFC 7493) stays as it is. Without a text, a call has no arguments: {}.
func canonical(arguments []byte) []byte {
	text := bytes.Trim(arguments, spaces)
	if len(text) == 0 {
		return []byte("{}")
	}
	if !utf8.Valid(text) || hasLoneSurrogate(text) {
		return arguments
	}

	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	form, err := appendCanonical(nil, d, 0)
	if err != nil {
		return arguments
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return arguments
	}
	return form
}

var errNotInteroperable = errors.New("not I-JSON")

// maxDepth bounds how deep values are nested.
const maxDepth = 1000

// appendCanonical appends the next value of a decoder.
func appendCanonical(b []byte, d *json.Decoder, depth int) ([]byte, error) {
	token, err := d.Token()
	switch {
	case err != nil:
		return nil, err
	case depth > maxDepth:
		return nil, errNotInteroperable
	}
	switch v := token.(type) {
	case json.Delim:
		if v == '{' {
			return appendObject(b, d, depth)
		}
		return appendArray(b, d, depth)
	case string:
		return appendText(b, v), nil
	case json.Number:
		return appendNumber(b, v.String())
	case bool:
		return strconv.AppendBool(b, v), nil
	}
	return append(b, "null"...), nil
}

func appendArray(b []byte, d *json.Decoder, depth int) (_ []byte, err error) {
	b = append(b, '[')
	for first := true; d.More(); first = false {
		if !first {
			b = append(b, ',')
		}
		if b, err = appendCanonical(b, d, depth+1); err != nil {
			return nil, err
		}
	}
	_, err = d.Token()
	return append(b, ']'), err
}

// appendObject appends an object, whose members are sorted by the UTF-16 of their names.
func appendObject(b []byte, d *json.Decoder, depth int) ([]byte, error) {
	type member struct {
		order []uint16
		name  string
		value []byte
	}
	var members []member
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if !ok {
			return nil, errNotInteroperable
		}
		value, err := appendCanonical(nil, d, depth+1)
		if err != nil {
			return nil, err
		}
		members = append(members, member{utf16.Encode([]rune(name)), name, value})
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}

	slices.SortFunc(members, func(a, b member) int { return slices.CompareFunc(a.order, b.order, cmp.Compare[uint16]) })
	b = append(b, '{')
	for i, m := range members {
		if i > 0 {
			if members[i-1].name == m.name {
				return nil, errNotInteroperable
			}
			b = append(b, ',')
		}
		b = append(append(appendText(b, m.name), ':'), m.value...)
	}
	return append(b, '}'), nil
}

// appendText appends a string as JSON.stringify of ECMAScript writes it.
func appendText(b []byte, s string) []byte {
	const short = "\b\f\n\r\t\"\\"
	b = append(b, '"')
	for i := range len(s) {
		c := s[i]
		at := strings.IndexByte(short, c)
		switch {
		case at >= 0:
			b = append(b, '\\', `bfnrt"\`[at])
		case c < ' ':
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// maxSafe is the largest integer that every implementation of JSON reads as it is.
const maxSafe = 1<<53 - 1

// appendNumber appends a number as ECMAScript writes it.
func appendNumber(b []byte, text string) ([]byte, error) {
	f, err := strconv.ParseFloat(text, 64)
	isInteger := !strings.ContainsAny(text, ".eE")
	if err != nil || math.IsInf(f, 0) || isInteger && math.Abs(f) > maxSafe {
		return nil, errNotInteroperable
	}
	if f == 0 {
		return append(b, '0'), nil // also -0
	}
	number, err := json.Marshal(f) // in ECMAScript's form
	return append(b, number...), err
}

// hasLoneSurrogate reports whether an escape in a JSON text is a half of a character, which Go would replace.
func hasLoneSurrogate(text []byte) bool {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		unit, ok := escapedUnit(text[i:])
		switch {
		case !ok:
			i++ // what is escaped is no backslash
		case !utf16.IsSurrogate(rune(unit)):
		default:
			low, ok := escapedUnit(text[min(i+6, len(text)):])
			if !ok || utf16.DecodeRune(rune(unit), rune(low)) == utf8.RuneError {
				return true
			}
			i += 6
		}
	}
	return false
}

// escapedUnit returns the UTF-16 unit of the escape that a text begins with, such as \u00e9.
func escapedUnit(text []byte) (unit uint64, ok bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	return unit, err == nil
}
