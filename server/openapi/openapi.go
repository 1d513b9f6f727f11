// Package openapi describes the server's endpoints by what they declare: as an OpenAPI document for
// programs, and as tables for people.
package openapi

import (
	"cmp"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"serve/server/dialect"
	"serve/server/wire"
)

// Group is the endpoints of one API.
type Group struct {
	Name   string
	Routes []dialect.Route
}

// jsonType is the content type of requests, and of answers that declare none.
const jsonType = "application/json"

// The parts of a document that we use.
type (
	document struct {
		OpenAPI string              `json:"openapi"`
		Info    info                `json:"info"`
		Servers []server            `json:"servers"`
		Tags    []tag               `json:"tags"`
		Paths   map[string]pathItem `json:"paths"`
	}

	info struct {
		Title       string `json:"title"`
		Version     string `json:"version"`
		Description string `json:"description"`
	}

	server struct {
		URL string `json:"url"`
	}

	tag struct {
		Name string `json:"name"`
	}

	pathItem map[string]operation // by method, in lower case

	operation struct {
		ID          string              `json:"operationId"`
		Tags        []string            `json:"tags"`
		Summary     string              `json:"summary,omitempty"`
		Right       string              `json:"x-right"`
		Parameters  []parameter         `json:"parameters,omitempty"`
		RequestBody *body               `json:"requestBody,omitempty"`
		Responses   map[string]response `json:"responses"`
	}

	parameter struct {
		Name        string      `json:"name"`
		In          string      `json:"in"`
		Required    bool        `json:"required"`
		Description string      `json:"description,omitempty"`
		Policy      string      `json:"x-policy,omitempty"`
		Schema      wire.Schema `json:"schema"`
	}

	body struct {
		Required bool                 `json:"required"`
		Content  map[string]mediaType `json:"content"`
	}

	response struct {
		Description string               `json:"description"`
		Content     map[string]mediaType `json:"content,omitempty"`
	}

	mediaType struct {
		Schema wire.Schema `json:"schema,omitempty"`
	}
)

// about is the document's own description.
const about = "The endpoints of this server, generated from the declarations that it uses to read requests. " +
	"Paths work with and without /v1. In a body, null is the same as leaving a field out, and a field that is not " +
	"listed is an error; so is a parameter of the query that is not listed. x-right names the permission that an " +
	"endpoint needs. Response bodies are not described."

// Document returns the OpenAPI document, version 3.1, of a server of a version.
func Document(version string, groups []Group) ([]byte, error) {
	d := document{
		OpenAPI: "3.1.0",
		Info: info{
			Title:       "serve",
			Version:     cmp.Or(version, "unknown"),
			Description: about,
		},
		Servers: []server{{URL: "/"}},
		Paths:   map[string]pathItem{},
	}

	for _, g := range groups {
		d.Tags = append(d.Tags, tag{g.Name})
		for i := range g.Routes {
			r := &g.Routes[i]
			path, parameters := template(r)
			parameters = append(parameters, query(r)...)
			if d.Paths[path] == nil {
				d.Paths[path] = pathItem{}
			}
			method := strings.ToLower(r.Method)
			op := describe(g.Name, r, parameters)
			if other, there := d.Paths[path][method]; there {
				op = other.with(op)
			}
			d.Paths[path][method] = op
		}
	}

	return json.Marshal(d)
}

// with returns an operation of two APIs, which have the same place. A request is in one or the other.
func (op operation) with(other operation) operation {
	op.Tags = append(slices.Clone(op.Tags), other.Tags...)
	if other.Summary != op.Summary {
		op.Summary += " " + other.Summary
	}
	for contentType := range other.Responses["200"].Content {
		op.Responses["200"].Content[contentType] = mediaType{}
	}

	for _, p := range other.Parameters {
		if !slices.ContainsFunc(op.Parameters, func(q parameter) bool { return q.In == p.In && q.Name == p.Name }) {
			op.Parameters = append(op.Parameters, p)
		}
	}

	switch {
	case op.RequestBody == nil:
		op.RequestBody = other.RequestBody
	case other.RequestBody != nil:
		one := op.RequestBody.Content[jsonType].Schema
		two := other.RequestBody.Content[jsonType].Schema
		op.RequestBody.Content[jsonType] = mediaType{Schema: wire.AnyOf(one, two)}
	}
	return op
}

func describe(group string, r *dialect.Route, parameters []parameter) operation {
	op := operation{
		ID:         operationID(r),
		Tags:       []string{group},
		Summary:    r.Doc,
		Right:      r.Right.String(),
		Parameters: parameters,
		Responses: map[string]response{
			"200":     {Description: "The answer.", Content: map[string]mediaType{}},
			"default": {Description: "An error, in the API's format."},
		},
	}

	produces := r.Produces
	if len(produces) == 0 {
		produces = []string{jsonType}
	}
	for _, contentType := range produces {
		op.Responses["200"].Content[contentType] = mediaType{}
	}

	if r.Fields != nil {
		op.RequestBody = &body{
			Required: true,
			Content:  map[string]mediaType{cmp.Or(r.Consumes, jsonType): {Schema: Request(r.Fields)}},
		}
	}
	return op
}

// Request returns the schema of a request's body.
func Request(fields []wire.Description) wire.Schema {
	properties := map[string]wire.Schema{}
	var required []string
	for _, f := range fields {
		property := wire.Schema{"description": f.Doc, "x-policy": f.Policy.String()}
		for name, value := range f.Schema {
			property[name] = value
		}
		properties[f.Name] = property
		if f.Required {
			required = append(required, f.Name)
		}
	}
	return wire.Closed(properties, required...)
}

// parameterName matches a parameter of a route's path.
var parameterName = regexp.MustCompile(`[:*](\w+)`)

// Path returns a route's documented path, with parameters in braces.
func Path(r *dialect.Route) string {
	path := parameterName.ReplaceAllString(r.Path, "{$1}")
	if r.Unversioned {
		return path
	}
	return "/v1" + path
}

// template returns a route's path and the parameters in it.
func template(r *dialect.Route) (path string, parameters []parameter) {
	for _, found := range parameterName.FindAllStringSubmatch(r.Path, -1) {
		parameters = append(parameters, parameter{
			Name:     found[1],
			In:       "path",
			Required: true,
			Schema:   wire.String,
		})
	}
	return Path(r), parameters
}

// query returns the parameters of a route's query.
func query(r *dialect.Route) (parameters []parameter) {
	for _, d := range r.Query {
		parameters = append(parameters, parameter{
			Name:        d.Name,
			In:          "query",
			Required:    d.Required,
			Description: d.Doc,
			Policy:      d.Policy.String(),
			Schema:      d.Schema,
		})
	}
	return parameters
}

// notInID matches what separates the words of a path.
var notInID = regexp.MustCompile(`\W+`)

// operationID returns a name that no other endpoint has: its method and path.
func operationID(r *dialect.Route) string {
	words := append([]string{strings.ToLower(r.Method)}, notInID.Split(Path(r), -1)...)
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	return strings.Join(words, "_")
}
