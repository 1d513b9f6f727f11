package wire

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"

	"serve/fault"
	"serve/steps"
)

// Notes say how a request is decoded, and collect the fields that had no effect. The zero value decodes
// strictly; a nil pointer is one whose notes nobody reads.
type Notes struct {
	// Lenient accepts unknown fields at the top level of a request. Those inside its fields are always
	// accepted: clients put theirs there, and the newest ones of an API.
	Lenient bool
	// Defaults are fields that the request has unless its body has them: those in its path.
	Defaults map[string]json.RawMessage
	// Budget is what reading the request may cost; nil for no limit.
	Budget *steps.Budget
	// File returns a stored file that the request names; nil if none is stored.
	File func(id string) (name string, content []byte, e *fault.Error)

	// Ended returns an error if the request is not worth reading any further; nil if that is not known. It is called
	// for each value.
	Ended func() *fault.Error

	ignored []string
	seen    map[string]bool // without the indexes
}

// Value returns a value that belongs to the request, although its body does not contain it.
func (n *Notes) Value(name string, raw json.RawMessage) Value { return Value{name, raw, n} }

// Budget returns what reading the value's request may cost still; nil for no limit.
func (v Value) Budget() *steps.Budget {
	if v.notes == nil {
		return nil
	}
	return v.notes.Budget
}

// Containing returns another value in the place of v, of the same request.
func (v Value) Containing(raw json.RawMessage) Value { return Value{v.Name, raw, v.notes} }

// Ignored returns the unknown fields, in the order in which they were found. Of elements of a list that
// have the same unknown field it has the first.
func (n *Notes) Ignored() []string { return n.ignored }

// indexes matches the indexes in a field's name.
var indexes = regexp.MustCompile(`\[[0-9]+\]`)

// Ignore notes a field that has no effect.
func (n *Notes) Ignore(name string) {
	if n == nil {
		return
	}
	key := indexes.ReplaceAllString(name, "")
	if n.seen[key] {
		return
	}

	if n.seen == nil {
		n.seen = map[string]bool{}
	}
	n.seen[key] = true
	n.ignored = append(n.ignored, name)
}

// File returns the stored file whose ID is the value. The last result is false if no files are stored.
func (v Value) File() (name string, content []byte, e *fault.Error, stored bool) {
	if v.notes == nil || v.notes.File == nil {
		return "", nil, nil, false
	}
	id, e := v.Text()
	if e != nil {
		return "", nil, e, true
	}
	name, content, e = v.notes.File(id)
	if e != nil && e.Field == "" {
		e.Field = v.Name
	}
	return name, content, e, true
}

// Ignore notes that the value has no effect.
func (v Value) Ignore() { v.notes.Ignore(v.Name) }

// Others notes the fields of an object that are not known, in order of name.
func Others(object map[string]Value, known ...string) {
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(known, name) {
			object[name].Ignore()
		}
	}
}
