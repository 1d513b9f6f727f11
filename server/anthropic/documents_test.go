package anthropic

import (
	"flag"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"serve/fault"
	"serve/server/dialect/dialecttest"
	"serve/server/openapi"
	"serve/testfiles"
)

// Update is set to write the golden files anew.
var Update = flag.Bool("update", false, "write the golden files anew")

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

// TestDocumentedFields writes the table of fields in docs/anthropic.md of their declarations.
func TestDocumentedFields(t *testing.T) {
	text := openapi.Fields(new(API).Routes(), nil)
	testfiles.Section(t, "../../docs/anthropic.md", "anthropic", text, *Update)
}

// TestDeclarations sends values of every type to each field, and compares what becomes of them with
// what is declared.
func TestDeclarations(t *testing.T) { dialecttest.CheckRoutes(t, new(API).Routes()) }

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
