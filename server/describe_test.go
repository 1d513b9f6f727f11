package server

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"serve/server/dialect/dialecttest"
	"serve/server/openapi"
	"serve/testfiles"
)

// update is set to write the documents anew.
var update = flag.Bool("update", false, "write the golden files anew")

// TestEndpoints writes the list of endpoints in docs/compatibility.md of what they declare.
func TestEndpoints(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	groups := s.groups()
	for _, g := range groups {
		dialecttest.CheckRoutes(t, g.Routes)
	}
	testfiles.Section(t, "../docs/compatibility.md", "endpoints", openapi.Endpoints(groups), *update)
	testfiles.Section(t, "../docs/compatibility.md", "queries", openapi.Queries(groups), *update)
}

// description is what is checked of an OpenAPI document.
type description struct {
	OpenAPI string
	Info    struct{ Title, Version string }
	Tags    []struct{ Name string }
	Paths   map[string]map[string]struct {
		OperationID string
		Tags        []string
		Summary     string
		Right       string `json:"x-right"`
		Parameters  []struct {
			Name, In string
			Required bool
			Schema   json.RawMessage
		}
		RequestBody *struct {
			Content map[string]struct{ Schema json.RawMessage }
		}
		Responses map[string]struct{ Description string }
	}
}

// TestDescription checks /openapi.json against the rules of OpenAPI 3.1, and that it has all endpoints.
func TestDescription(t *testing.T) {
	s, err := New(Options{Version: "v1", Hosts: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	var d description
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %v", w.Code, err)
	}
	if d.OpenAPI != "3.1.0" || d.Info.Title == "" || d.Info.Version != "v1" {
		t.Errorf("the head is %+v", d)
	}

	for _, g := range s.groups() {
		for i := range g.Routes {
			r := &g.Routes[i]
			if _, there := d.Paths[openapi.Path(r)][strings.ToLower(r.Method)]; !there {
				t.Errorf("%s %s is not described", r.Method, r.Path)
			}
		}
	}
	checkOperations(t, &d)
}

func checkOperations(t *testing.T, d *description) {
	t.Helper()

	parameter := regexp.MustCompile(`{(\w+)}`)
	ids := map[string]bool{}
	for path, operations := range d.Paths {
		for method, op := range operations {
			name := method + " " + path
			if op.OperationID == "" || ids[op.OperationID] {
				t.Errorf("%s: the id %q is not unique", name, op.OperationID)
			}
			ids[op.OperationID] = true

			var want, got []string
			for _, found := range parameter.FindAllStringSubmatch(path, -1) {
				want = append(want, found[1])
			}
			for _, p := range op.Parameters {
				inPath := p.In == "path"
				if !inPath && p.In != "query" || inPath != p.Required || len(p.Schema) == 0 {
					t.Errorf("%s: a parameter is %+v", name, p)
				}
				if inPath {
					got = append(got, p.Name)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: the parameters are %q", name, got)
			}

			if op.Summary == "" || op.Right == "" || len(op.Tags) == 0 || len(op.Responses) == 0 {
				t.Errorf("%s: %+v", name, op)
			}
			for status, r := range op.Responses {
				if r.Description == "" {
					t.Errorf("%s: the response %s has no description", name, status)
				}
			}
			if op.RequestBody != nil {
				if len(op.RequestBody.Content) != 1 {
					t.Errorf("%s: the body has %d types", name, len(op.RequestBody.Content))
				}
				for _, content := range op.RequestBody.Content {
					checkSchema(t, name, content.Schema)
				}
			}
		}
	}
}

// checkSchema compiles the schema of a body, and holds requests against it.
func checkSchema(t *testing.T, name string, schema json.RawMessage) {
	t.Helper()

	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("urn:body", document); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	compiled, err := c.Compile("urn:body")
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}

	if err := compiled.Validate(map[string]any{"no such field": fmt.Sprint(1)}); err == nil {
		t.Errorf("%s: a field that there is not is valid", name)
	}
}
