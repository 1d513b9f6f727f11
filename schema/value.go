package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
)

// value is a JSON value of a schema document. Objects keep the order of their
// members: it is the order in which the model shall write them.
type value struct {
	kind    kind
	pointer string // where it stands in the document, as a JSON pointer
	keys    []string
	members map[string]*value
	items   []*value
	text    string // of a string
	number  *big.Rat
	raw     string // of a number, as it was written
	yes     bool
}

type kind byte

const (
	null kind = iota
	boolean
	number
	text
	array
	object
)

// Limits on a schema document.
const (
	maxBytes  = 1 << 20
	maxDepth  = 128
	maxValues = 100_000
)

// reader reads a document.
type reader struct {
	d      *json.Decoder
	values int
}

// read parses a document, keeping the order of members.
func read(document []byte) (*value, error) {
	if len(document) > maxBytes {
		return nil, fmt.Errorf("the schema is too large: %d bytes (maximum %d)", len(document), maxBytes)
	}
	r := &reader{d: json.NewDecoder(bytes.NewReader(document))}
	r.d.UseNumber()
	v, err := r.value("", 0)
	if err != nil {
		return nil, err
	}
	if _, err := r.d.Token(); err != io.EOF {
		return nil, errors.New("more than one JSON value")
	}
	return v, nil
}

func (r *reader) value(pointer string, depth int) (*value, error) {
	if r.values++; r.values > maxValues || depth > maxDepth {
		return nil, fmt.Errorf("the schema has more than %d values or %d levels", maxValues, maxDepth)
	}

	t, err := r.d.Token()
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}

	v := &value{pointer: pointer}
	switch t := t.(type) {
	case nil:
		v.kind = null
	case bool:
		v.kind = boolean
		v.yes = t
	case string:
		v.kind = text
		v.text = t
	case json.Number:
		v.kind = number
		v.raw = t.String()
		if v.number, err = rational(v.raw); err != nil {
			return nil, err
		}
	case json.Delim:
		if t == '{' {
			return v, r.object(v, depth)
		}
		return v, r.array(v, depth)
	}

	return v, nil
}

func (r *reader) object(v *value, depth int) error {
	v.kind = object
	v.members = map[string]*value{}
	for r.d.More() {
		t, err := r.d.Token()
		if err != nil {
			return fmt.Errorf("read schema: %w", err)
		}
		key, _ := t.(string)
		member, err := r.value(v.pointer+"/"+escapePointer(key), depth+1)
		if err != nil {
			return err
		}
		if _, twice := v.members[key]; !twice {
			v.keys = append(v.keys, key)
		}
		v.members[key] = member
	}
	_, err := r.d.Token()
	return err
}

func (r *reader) array(v *value, depth int) error {
	v.kind = array
	for r.d.More() {
		item, err := r.value(v.pointer+"/"+strconv.Itoa(len(v.items)), depth+1)
		if err != nil {
			return err
		}
		v.items = append(v.items, item)
	}
	_, err := r.d.Token()
	return err
}

func escapePointer(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}

func unescapePointer(part string) string {
	return strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
}

// maxExponent bounds numbers: exact arithmetic on 1e999999999 would never end.
const maxExponent = 400

func rational(s string) (*big.Rat, error) {
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		if n, err := strconv.Atoi(s[i+1:]); err != nil || n > maxExponent || n < -maxExponent {
			return nil, fmt.Errorf("the number %.40s is too large or too small", s)
		}
	}
	if len(s) > maxExponent {
		return nil, fmt.Errorf("the number %.40s… has too many digits", s)
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return nil, fmt.Errorf("the number %.40s cannot be read", s)
	}
	return r, nil
}

// marshal writes a value as compact JSON.
func (v *value) marshal() string {
	switch v.kind {
	case boolean:
		return strconv.FormatBool(v.yes)
	case number:
		if s, ok := decimal(v.number); ok {
			return s // 2.0 is 2
		}
		return v.raw
	case text:
		return quote(v.text)
	case array:
		parts := make([]string, len(v.items))
		for i, item := range v.items {
			parts[i] = item.marshal()
		}
		return "[" + strings.Join(parts, ",") + "]"

	case object:
		parts := make([]string, len(v.keys))
		for i, key := range v.keys {
			parts[i] = quote(key) + ":" + v.members[key].marshal()
		}
		return "{" + strings.Join(parts, ",") + "}"
	}

	return "null"
}

// quote writes a JSON string as models do: only what must be escaped is.
func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(s) != nil {
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// equal compares as JSON Schema does: 1 is 1.0, the order of members is nothing.
func (v *value) equal(w *value) bool {
	if v.kind != w.kind {
		return false
	}

	switch v.kind {
	case boolean:
		return v.yes == w.yes
	case number:
		return v.number.Cmp(w.number) == 0
	case text:
		return v.text == w.text
	case array:
		if len(v.items) != len(w.items) {
			return false
		}
		for i := range v.items {
			if !v.items[i].equal(w.items[i]) {
				return false
			}
		}

	case object:
		if len(v.members) != len(w.members) {
			return false
		}
		for key, m := range v.members {
			if o, ok := w.members[key]; !ok || !m.equal(o) {
				return false
			}
		}
	}

	return true
}
