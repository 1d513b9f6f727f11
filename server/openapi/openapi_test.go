package openapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"serve/server/dialect"
	"serve/server/wire"
)

type request struct{ name string }

var table = wire.Table[request]{
	{
		Name:     "name",
		Required: true,
		Type:     wire.StringOf(func(r *request) *string { return &r.name }),
		Doc:      "A name.",
	},
	{Name: "audio", Type: wire.Refuse[request]("There is none.", `"off"`)},
}

// TestSharedPlace describes an endpoint that two APIs have.
func TestSharedPlace(t *testing.T) {
	routes := func(doc string, parameters ...string) []dialect.Route {
		return []dialect.Route{{
			Method: http.MethodPost,
			Path:   "/a/:id",
			Doc:    doc,
			Fields: table.Describe(),
			Query:  table.Pick(parameters...).Describe(),
		}}
	}
	groups := []Group{
		{"One", routes("The first.", "audio")},
		{"Two", routes("The second.", "audio", "name")},
	}
	b, err := Document("", groups)
	if err != nil {
		t.Fatal(err)
	}

	var d struct {
		Paths map[string]map[string]struct {
			Tags        []string
			Summary     string
			Parameters  []struct{ Name, In, Description string }
			RequestBody struct {
				Content map[string]struct {
					Schema struct{ AnyOf []json.RawMessage }
				}
			}
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	op := d.Paths["/v1/a/{id}"]["post"]
	if len(op.Tags) != 2 || op.Summary != "The first. The second." {
		t.Errorf("got %+v", op)
	}
	const parameters = "[{id path } {audio query There is none.} {name query A name.}]"
	if got := fmt.Sprint(op.Parameters); got != parameters {
		t.Errorf("the parameters are %s", got)
	}
	if n := len(op.RequestBody.Content[jsonType].Schema.AnyOf); n != 2 {
		t.Errorf("there are %d schemas of bodies", n)
	}
}

// TestQueryTable looks at the table of parameters: what all endpoints have stands there once.
func TestQueryTable(t *testing.T) {
	routes := dialect.WithQuery([]dialect.Route{
		{Method: http.MethodGet, Path: "/a", Query: table.Pick("audio").Describe()},
		{Method: http.MethodPost, Path: "/b", Unversioned: true},
	}, table.Pick("name").Describe())
	want := "| endpoint | parameter | | values | description |\n|---|---|---|---|---|\n" +
		"| all of One's | `name` | honored | string, required | A name. |\n" +
		"| `GET /v1/a` | `audio` | refused | `\"off\"` | There is none. |\n"
	if got := Queries([]Group{{"One", routes}, {Name: "None"}}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestFieldTable looks at the table of two endpoints with the same fields.
func TestFieldTable(t *testing.T) {
	fields := table.Describe()
	got := Fields([]dialect.Route{
		{Method: http.MethodPost, Path: "/a", Fields: fields},
		{Method: http.MethodPost, Path: "/b", Fields: fields, Unversioned: true},
		{Method: http.MethodGet, Path: "/c"},
	}, func(field string) []string { return []string{"Test" + field, "b", "c"} })

	for _, want := range []string{
		"### POST /v1/a\n",
		"| `audio` | refused | `\"off\"` | There is none. | Testaudio, b |\n",
		"| `name` | honored | string, required | A name. | Testname, b |\n",
		"`POST /b` takes the same fields.",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
}
