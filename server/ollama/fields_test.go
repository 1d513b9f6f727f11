package ollama

import (
	"testing"

	"serve/server/dialect"
	"serve/server/dialect/dialecttest"
	"serve/server/openapi"
	"serve/testfiles"
)

// optionsRoute has the options as if they were an endpoint's fields.
var optionsRoute = dialect.Route{
	Method:      "options",
	Path:        "of every endpoint",
	Right:       dialect.RightUse,
	Doc:         "Options.",
	Fields:      optionFields.Describe(),
	Unversioned: true,
}

// TestDocumentedFields writes the tables of fields in docs/ollama.md of their declarations.
func TestDocumentedFields(t *testing.T) {
	text := openapi.Fields(append(new(API).Routes(), optionsRoute), nil)
	testfiles.Section(t, "../../docs/ollama.md", "ollama", text, *Update)
}

// TestDeclarations sends values of every type to each field, and compares what becomes of them with
// what is declared.
func TestDeclarations(t *testing.T) {
	dialecttest.CheckRoutes(t, append(new(API).Routes(), optionsRoute))
}

// TestNamed names what is ignored though it could change the answer, and nothing else.
func TestNamed(t *testing.T) {
	for name, want := range map[string][]string{
		`{"shift":true,"width":0,"unknown":1,"nothing":null}`:      {"shift", "unknown"},
		`{"options":{"num_gpu":1,"tfs_z":1,"f16_kv":false,"x":2}}`: {"options.f16_kv", "options.x"},
	} {
		req := newRequest()
		e := generateTable.Decode([]byte(name), req, &req.notes)
		got := req.notes.Ignored()
		if e != nil || len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("%s: %v, %v", name, got, e)
		}
	}
}
