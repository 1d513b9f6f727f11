package anthropic

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"serve/fault"
	"serve/server/wire"
	"serve/testfiles"
)

// row finds the rows of tables that begin with a name or a number.
var row = regexp.MustCompile("(?m)^\\| `?(\\w+)`? \\| `?(\\w+)`? \\|")

// rows returns the first two columns of the table below a heading.
func rows(t *testing.T, heading string) map[string]string {
	t.Helper()
	const path = "../../docs/anthropic.md"
	text := string(testfiles.Like(t, path)[path])
	_, text, _ = strings.Cut(text, "\n## "+heading+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	found := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		if _, twice := found[m[1]]; twice {
			t.Errorf("%s is there twice", m[1])
		}
		found[m[1]] = m[2]
	}
	delete(found, "field")
	delete(found, "status")
	return found
}

// probes are values of all types that fields have.
var probes = []string{
	`true`, `3`, `0.5`, `"probe"`, `"auto"`, `["probe"]`, `[{"name":"f","input_schema":{}}]`, `{"type":"any"}`, `{"type":"disabled"}`,
	`{"effort":"low"}`, `{"type":"json_schema","schema":{}}`, `[{"role":"user","content":"x"}]`,
}

// policy finds out what becomes of a field.
func policy(t *testing.T, name string) string {
	t.Helper()
	refused := 0
	taken := 0
	for _, raw := range probes {
		var before, after request
		e := fields[name](&after, wire.Value{Name: name, Raw: []byte(raw)})
		switch {
		case e == nil && !reflect.DeepEqual(before, after):
			return "honored"
		case e == nil:
			taken++
		case e.Kind == fault.Unsupported:
			refused++
		}
	}
	switch {
	case refused == len(probes):
		return "refused"
	case taken == 0:
		t.Errorf("%s takes none of the probes", name)
	}
	return "ignored"
}

// TestDocumentedFields compares the table of fields with what becomes of them.
func TestDocumentedFields(t *testing.T) {
	documented := rows(t, "Fields")
	for name := range fields {
		if got := policy(t, name); documented[name] != got {
			t.Errorf("%s is %s, and documented as %q", name, got, documented[name])
		}
	}
	if len(documented) != len(fields) {
		t.Errorf("the fields are %q, documented are %q",
			slices.Sorted(maps.Keys(fields)), slices.Sorted(maps.Keys(documented)))
	}
}

// TestDocumentedErrors compares the table of errors with the statuses that there are.
func TestDocumentedErrors(t *testing.T) {
	documented := rows(t, "Errors")
	for kind, f := range failures {
		status := strconv.Itoa(f.status)
		if kind == fault.Canceled || kind == fault.MethodNotAllowed {
			continue // nobody reads the one, and the other says all itself
		}
		if documented[status] != f.kind {
			t.Errorf("%s is a %s, and documented as %q", status, f.kind, documented[status])
		}
	}
}
