package openai

import (
	"flag"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"serve/engine"
	"serve/server/dialect/dialecttest"
	"serve/server/openapi"
	"serve/testfiles"
)

// Update is set to write the golden files anew.
var Update = flag.Bool("update", false, "write the golden files anew")

// TestCompatibility writes the fields' tables in docs/compatibility.md of their declarations, and of the
// tests that send each field.
func TestCompatibility(t *testing.T) {
	tests := testTexts(t)
	for _, p := range engine.Parameters {
		for _, name := range append(p.Aliases, p.Name) {
			tests["TestSamplingReachesTheEngine"] += fmt.Sprintf("%q:", name) // it sends all of them
		}
	}

	text := openapi.Fields(new(API).Routes(), func(field string) []string {
		if shown := sending(tests, field); len(shown) > 0 {
			return shown
		}
		return []string{"TestDeclarations"}
	})
	testfiles.Section(t, "../../docs/compatibility.md", "openai", text, *Update)
}

// TestDeclarations sends values of every type to each field, and compares what becomes of them with
// what is declared.
func TestDeclarations(t *testing.T) { dialecttest.CheckRoutes(t, new(API).Routes()) }

var testFunction = regexp.MustCompile(`(?m)^func (Test\w+|Fuzz\w+)\(`)

// testTexts returns the text of every test of this API, by its name: functions of Go, and the
// programs of the other clients.
func testTexts(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	goTests := testfiles.Like(t, "*_test.go", "../*_test.go", "../*/*_test.go", "../../cmd/serve/*_test.go")
	for name, b := range goTests {
		if ofAnother(name) {
			continue
		}
		begins := testFunction.FindAllSubmatchIndex(b, -1)
		for i, at := range begins {
			end := len(b)
			if i+1 < len(begins) {
				end = begins[i+1][0]
			}
			test := string(b[at[2]:at[3]])
			if strings.Contains(name, "cmd/") {
				test += " of cmd" // names may be the same
			}
			texts[test] = string(b[at[0]:end])
		}
	}

	const programs = "../../cmd/serve/testdata/"
	for name, b := range testfiles.Like(t, programs+"node/*.mjs", programs+"python/*.py") {
		if ofAnother(name) {
			continue
		}
		texts[filepath.Base(name)] = string(b)
	}
	return texts
}

// ofAnother reports whether a test is of another API.
func ofAnother(path string) bool {
	return strings.Contains(path, "anthropic") || strings.Contains(path, "ollama")
}

// sending returns the tests in whose text a field is sent, in order.
func sending(tests map[string]string, field string) (names []string) {
	inJSON := regexp.MustCompile(`"` + regexp.QuoteMeta(field) + `"\s*:`)
	inScript := regexp.MustCompile(`\b` + regexp.QuoteMeta(field) + `\s*[:=]`)
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		sent := inJSON
		if strings.Contains(name, ".") {
			sent = inScript
		}
		if sent.MatchString(tests[name]) {
			names = append(names, name)
		}
	}
	return names
}
