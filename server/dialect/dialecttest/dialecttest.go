// Package dialecttest checks what a dialect declares of its endpoints: that the declaration of each
// field is true. Tests of dialects call it, so that a new field needs no test of its own for this.
package dialecttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"serve/fault"
	"serve/server/dialect"
	"serve/server/wire"
)

// CheckRoutes checks that each route is documented, and each of its fields by what becomes of values
// of every type.
func CheckRoutes(t *testing.T, routes []dialect.Route) {
	t.Helper()

	seen := map[string]bool{}
	for _, r := range routes {
		name := r.Method + " " + r.Path
		if seen[name] {
			t.Errorf("%s is declared twice", name)
		}
		seen[name] = true
		if r.Right.String() == "" {
			t.Errorf("%s declares no right", name)
		}
		checkSentence(t, name, r.Doc)
		checkFields(t, name, r.Fields)
		checkFields(t, name+"?", r.Query)
	}
}

func checkFields(t *testing.T, endpoint string, fields []wire.Description) {
	t.Helper()

	seen := map[string]bool{}
	for _, f := range fields {
		name := endpoint + ": " + f.Name
		if seen[f.Name] {
			t.Errorf("%s is declared twice", name)
		}
		seen[f.Name] = true
		checkSentence(t, name, f.Doc)
		checkField(t, name, f)
	}
}

// checkSentence checks what is said for people.
func checkSentence(t *testing.T, name, doc string) {
	t.Helper()
	if !strings.HasSuffix(doc, ".") || strings.ContainsAny(doc, "|\n") {
		t.Errorf("%s: %q is not a sentence that fits into a table", name, doc)
	}
}

// common are values of every type, which are tried of each field.
var common = []string{
	`true`, `false`, `3`, `-987654321`, `1e300`, `0.5`, `"probe"`, `"auto"`, `""`,
	`{}`, `{"probe":1}`, `[]`, `["probe"]`, `[1]`, `[{}]`,
}

// checkField tries values and compares what becomes of them with the declaration.
func checkField(t *testing.T, name string, f wire.Description) {
	t.Helper()

	valid := compile(t, name, f.Schema)
	taken := 0       // values that are no error
	kept := 0        // of those, the ones that change the request
	unsupported := 0 // values that are refused by name
	for _, raw := range append(probes(f.Schema), common...) {
		changed, e := f.Try(json.RawMessage(raw))
		if (e == nil) != valid(raw) {
			t.Errorf("%s: the schema says %v of %s, the decoder %v", name, valid(raw), raw, e)
		}

		switch {
		case e == nil:
			taken++
			if changed {
				kept++
			}
		case !strings.HasPrefix(e.Field, f.Name):
			t.Errorf("%s: the error for %s is about %q", name, raw, e.Field)
		case e.Kind == fault.Unsupported:
			unsupported++
		}
	}

	switch f.Policy {
	case wire.PolicyHonored:
		if kept == 0 {
			t.Errorf("%s is declared as honored, and no value has an effect; give the schema examples", name)
		}
	case wire.PolicyIgnored:
		if kept > 0 || taken == 0 {
			t.Errorf("%s is declared as ignored; %d values were taken, %d have an effect", name, taken, kept)
		}
	case wire.PolicyRefused:
		if kept > 0 || unsupported == 0 {
			t.Errorf("%s is declared as refused; %d values were, %d have an effect", name, unsupported, kept)
		}
	}
}

// probes returns values that a schema is about: its examples, its words, and both sides of its bounds.
func probes(s wire.Schema) (list []string) {
	examples, _ := s["examples"].([]json.RawMessage)
	harmless, _ := s["enum"].([]json.RawMessage)
	for _, raw := range append(examples, harmless...) {
		list = append(list, string(raw))
	}

	words, _ := s["enum"].([]string)
	for _, word := range words {
		list = append(list, fmt.Sprintf("%q", word))
	}

	for _, bound := range []string{"minimum", "maximum"} {
		switch n := s[bound].(type) {
		case float64:
			list = append(list, fmt.Sprint(n), fmt.Sprint(n-1), fmt.Sprint(n+1))
		case int64:
			list = append(list, fmt.Sprint(n))
			if n > -1<<40 && n < 1<<40 {
				list = append(list, fmt.Sprint(n-1), fmt.Sprint(n+1))
			}
		}
	}
	return list
}

// compile returns a function that validates values by a schema.
func compile(t *testing.T, name string, s wire.Schema) (valid func(raw string) bool) {
	t.Helper()

	text, err := json.Marshal(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}

	const address = "urn:field"
	c := jsonschema.NewCompiler()
	if err := c.AddResource(address, document); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	compiled, err := c.Compile(address)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}

	return func(raw string) bool {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(raw))
		return err == nil && compiled.Validate(v) == nil
	}
}
