package wire

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"

	"serve/fault"
)

// Bodies are checked once, by json.Valid. What follows takes parts of them apart without another check, without
// copies, and without memory for anything but what is asked for. Of JSON that is not valid it returns anything, or
// that there is none.

// space returns where the next thing that is not white space begins.
func space(b []byte, at int) int {
	for at < len(b) && (b[at] == ' ' || b[at] == '\n' || b[at] == '\r' || b[at] == '\t') {
		at++
	}
	return at
}

// skipString returns where a string ends that begins at at; len(b) if it does not end.
func skipString(b []byte, at int) int {
	quote := -1 // the next quotation mark
	for at++; at < len(b); {
		if quote < at {
			i := bytes.IndexByte(b[at:], '"')
			if i < 0 {
				return len(b)
			}
			quote = at + i
		}
		i := bytes.IndexByte(b[at:quote], '\\')
		if i < 0 {
			return quote + 1
		}
		at += i + 2
	}
	return len(b)
}

// skip returns where a value ends that begins at at; len(b) if it does not end.
func skip(b []byte, at int) int {
	depth := 0
	for at < len(b) {
		switch b[at] {
		case '"':
			at = skipString(b, at)
		case '[', '{':
			depth++
			at++
			continue
		case ']', '}':
			depth--
			at++
		case ',', ':', ' ', '\n', '\r', '\t':
			at++
			continue
		default:
			at = max(at+1, skipWord(b, at)) // a control character is part of no word, and no end either
		}
		if depth <= 0 {
			return at
		}
	}
	return len(b)
}

// skipWord returns where a number or a word ends.
func skipWord(b []byte, at int) int {
	for at < len(b) && b[at] > ' ' && b[at] != ',' && b[at] != ']' && b[at] != '}' && b[at] != ':' {
		at++
	}
	return at
}

// elements calls f for each element of an array, until it returns false. It reports whether it is an array.
func elements(b []byte, f func(raw json.RawMessage) bool) bool {
	at := space(b, 0)
	if at == len(b) || b[at] != '[' {
		return false
	}

	at = space(b, at+1)
	for at < len(b) && b[at] != ']' {
		end := skip(b, at)
		if end <= at || !f(json.RawMessage(b[at:end:end])) {
			return true
		}
		if at = space(b, end); at < len(b) && b[at] == ',' {
			at = space(b, at+1)
		}
	}
	return true
}

// members calls f for each member of an object, in order, until it returns false. It reports whether it is an object.
func members(b []byte, f func(name string, raw json.RawMessage) bool) bool {
	at := space(b, 0)
	if at == len(b) || b[at] != '{' {
		return false
	}

	at = space(b, at+1)
	for at < len(b) && b[at] == '"' {
		end := skipString(b, at)
		name, ok := unquote(b[at:end])
		at = space(b, end)
		if !ok || at == len(b) || b[at] != ':' {
			return true
		}
		at = space(b, at+1)
		end = skip(b, at)
		if end <= at || !f(name, json.RawMessage(b[at:end:end])) {
			return true
		}
		if at = space(b, end); at < len(b) && b[at] == ',' {
			at = space(b, at+1)
		}
	}
	return true
}

// unquote returns the text of a JSON string.
func unquote(b []byte) (text string, ok bool) {
	if len(b) < 2 || b[0] != '"' {
		return "", false
	}
	if inner := b[1 : len(b)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), true
	}
	return text, json.Unmarshal(b, &text) == nil
}

// maxValues is the maximum number of values in a body: each takes memory while it is read, however short it is.
const maxValues = 1 << 20

// count counts the values in JSON, without the names in objects.
func count(b []byte) (n int) {
	for at := 0; at < len(b); at++ {
		switch b[at] {
		case '"':
			at = skipString(b, at) - 1
		case ',', '[', '{':
			n++
		}
	}
	return n + 1
}

// Member returns a string among the members of a body, without reading any of the others; empty if there is none.
func Member(body []byte, name string) (text string) {
	members(body, func(at string, raw json.RawMessage) bool {
		if at == name {
			text, _ = unquote(raw)
		}
		return true // the last one counts
	})
	return text
}

// Has reports whether a body has a member that is not null.
func Has(body []byte, name string) (has bool) {
	members(body, func(at string, raw json.RawMessage) bool {
		if at == name {
			has = !IsNull(raw)
		}
		return true
	})
	return has
}

// First returns the first byte of an array's first element; 0 if the array is empty.
func (v Value) First() (first byte) {
	elements(v.Raw, func(raw json.RawMessage) bool {
		first = raw[0]
		return false
	})
	return first
}

// MaxNumbers is the maximum length of an array of numbers.
const MaxNumbers = maxValues

// Numbers reads an array of integers from 0 on, at most limit of them.
func (v Value) Numbers(limit int) ([]int32, *fault.Error) {
	n, e := v.length(limit)
	if e != nil {
		return nil, e
	}

	list := make([]int32, 0, n)
	elements(v.Raw, func(raw json.RawMessage) bool {
		number, ok := digits(raw)
		if !ok {
			var other int64
			other, e = v.element(len(list), raw).Integer(0, math.MaxInt32)
			number = int32(other)
		}
		list = append(list, number)
		return e == nil
	})
	return list, e
}

// digits reads a number that is written with a few digits and nothing else.
func digits(raw []byte) (n int32, ok bool) {
	if len(raw) > 9 {
		return 0, false
	}
	for _, c := range raw {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int32(c-'0')
	}
	return n, true
}

// element returns an element of an array.
func (v Value) element(i int, raw json.RawMessage) Value {
	return Value{v.Name + "[" + strconv.Itoa(i) + "]", raw, v.notes}
}
