package openai

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"serve/fault"
	"serve/server/wire"
	"serve/testfiles"
)

// Update is set to write the golden files anew.
var Update = flag.Bool("update", false, "write the golden files anew")

// TestCompatibility writes docs/compatibility.md of the tables that the endpoints
// read their fields by, and of the tests that send each field. A field that no
// test sends is an error.
func TestCompatibility(t *testing.T) {
	tests := testTexts(t)
	var b strings.Builder
	b.WriteString("# Compatibility\n\nWritten by `go test ./server/openai -run Compatibility -update` of the tables that the endpoints read their fields by, and of\n" +
		"the tests. *honoured*: the field does what OpenAI, or llama.cpp and vLLM, say. *accepted*: its loss cannot be seen in the\n" +
		"answer. *refused*: it would change the answer, and is an error that names it. Any other field is refused as unknown.\n")
	section(t, &b, tests, "POST /v1/chat/completions", chatFields)
	section(t, &b, tests, "POST /v1/responses", responsesFields)
	section(t, &b, tests, "POST /v1/completions", completionFields)
	section(t, &b, tests, "POST /v1/embeddings", embeddingFields)
	section(t, &b, tests, "POST /v1/moderations", moderationFields)
	section(t, &b, tests, "POST /v1/rerank", rerankFields)
	section(t, &b, tests, "POST /tokenize", tokenizeFields)
	section(t, &b, tests, "POST /detokenize", detokenizeFields)
	const path = "../../docs/compatibility.md"
	if *Update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(path); err != nil || string(have) != b.String() {
		t.Errorf("%s is out of date (%v): go test ./server/openai -run Compatibility -update", path, err)
	}
}

// section writes one endpoint's table.
func section[T any](t *testing.T, b *strings.Builder, tests map[string]string, endpoint string, table wire.Fields[T]) {
	fmt.Fprintf(b, "\n## %s\n\n| field | | shown by |\n|---|---|---|\n", endpoint)
	for _, name := range slices.Sorted(maps.Keys(table)) {
		shown := sending(tests, name)
		if len(shown) == 0 {
			t.Errorf("%s: no test sends %q", endpoint, name)
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, policy(name, table[name]), strings.Join(shown[:min(2, len(shown))], ", "))
	}
}

// policy tells by what a setter does with values of every type what becomes of a
// field: one that is refused says so of each, one that is accepted keeps none.
func policy[T any](name string, set wire.Setter[T]) string {
	refusals := 0
	passed := 0
	kept := 0
	probes := []string{`true`, `987654`, `3`, `0.5`, `"probe"`, `{"probe":1}`, `{"97":1}`,
		`{"effort":"low"}`, `{"format":{"type":"json_object"}}`, `{}`, `["probe"]`, `[]`}
	for _, raw := range probes {
		var into, before T
		e := set(&into, wire.Value{Name: name, Raw: []byte(raw)})
		switch {
		case e == nil:
			passed++
			if !reflect.DeepEqual(into, before) {
				kept++
			}
		case e.Kind == fault.Unsupported:
			refusals++
		}
	}

	switch {
	case refusals == len(probes):
		return "refused"
	case passed > 0 && kept == 0:
		return "accepted"
	}

	return "honoured"
}

var testFunction = regexp.MustCompile(`(?m)^func (Test\w+|Fuzz\w+)\(`)

// testTexts returns the text of every test, by its name: functions of Go, and the
// programs of the other clients.
func testTexts(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for name, b := range testfiles.Like(t, "*_test.go", "../*_test.go", "../ops/*_test.go", "../../cmd/serve/*_test.go") {
		if strings.Contains(filepath.Base(name), "ollama") {
			continue // another API
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
	for name, b := range testfiles.Like(t, "../../cmd/serve/testdata/node/*.mjs", "../../cmd/serve/testdata/python/*.py") {
		if strings.Contains(filepath.Base(name), "ollama") {
			continue
		}
		texts[filepath.Base(name)] = string(b)
	}
	return texts
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
