package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"serve/steps"
)

// value is a JSON value of a schema document. Objects keep the order of their
// members: it is the order in which the model shall write them.
type value struct {
	kind    kind
	id      int    // its number in the document
	parent  *value // nil for the document itself
	name    string // its key or index in the parent
	keys    []string
	members map[string]*value
	items   []*value
	text    string // of a string
	target  *value // of a string that is a reference: what it means, if that is known
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
	d        *json.Decoder
	budget   *steps.Budget
	values   int
	maxDepth int
	most     int // values
}

// read parses a schema, keeping the order of members.
func read(document []byte, budget *steps.Budget) (*value, error) {
	if len(document) > maxBytes {
		return nil, fmt.Errorf("the schema is too large: %d bytes (maximum %d)", len(document), maxBytes)
	}
	r := &reader{budget: budget, maxDepth: maxDepth, most: maxValues}
	return r.read(document)
}

// readInstance parses a JSON text of any size.
func readInstance(text []byte, budget *steps.Budget) (*value, error) {
	r := &reader{budget: budget, maxDepth: math.MaxInt, most: math.MaxInt}
	return r.read(text)
}

func (r *reader) read(document []byte) (*value, error) {
	r.d = json.NewDecoder(bytes.NewReader(document))
	r.d.UseNumber()
	v, err := r.value(nil, "", 0)
	if err != nil {
		return nil, err
	}
	if _, err := r.d.Token(); err != io.EOF {
		return nil, errors.New("more than one JSON value")
	}
	return v, nil
}

func (r *reader) value(parent *value, name string, depth int) (*value, error) {
	if r.values++; r.values > r.most || depth > r.maxDepth {
		return nil, fmt.Errorf("the schema has more than %d values or %d levels", r.most, r.maxDepth)
	}
	if err := r.budget.Spend(4); err != nil {
		return nil, err
	}

	t, err := r.d.Token()
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}

	v := &value{
		id:     r.values,
		parent: parent,
		name:   name,
	}
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
		member, err := r.value(v, key, depth+1)
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
		item, err := r.value(v, strconv.Itoa(len(v.items)), depth+1)
		if err != nil {
			return err
		}
		v.items = append(v.items, item)
	}
	_, err := r.d.Token()
	return err
}

// pointer is where a value stands in the document, as a JSON pointer.
func (v *value) pointer() string {
	var names []string
	for ; v.parent != nil; v = v.parent {
		names = append(names, escapePointer(v.name))
	}
	slices.Reverse(names)
	var b strings.Builder
	for _, name := range names {
		b.WriteByte('/')
		b.WriteString(name)
	}
	return b.String()
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
func (v *value) marshal() string { return string(v.append(nil, false)) }

// canonical is the same text for values that are equal as JSON Schema has it: 1 is 1.0, and the order of members is
// nothing.
func (v *value) canonical() string { return string(v.append(nil, true)) }

func (v *value) append(b []byte, canonical bool) []byte {
	switch v.kind {
	case boolean:
		return strconv.AppendBool(b, v.yes)
	case number:
		if canonical {
			return append(b, v.number.RatString()...)
		}
		if s, ok := decimal(v.number); ok {
			return append(b, s...) // 2.0 is 2
		}
		return append(b, v.raw...)
	case text:
		return append(b, quote(v.text)...)
	case array:
		b = append(b, '[')
		for i, item := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.append(b, canonical)
		}
		return append(b, ']')

	case object:
		keys := v.keys
		if canonical {
			keys = slices.Sorted(slices.Values(keys))
		}
		b = append(b, '{')
		for i, key := range keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(b, quote(key)...), ':')
			b = v.members[key].append(b, canonical)
		}
		return append(b, '}')
	}

	return append(b, "null"...)
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
