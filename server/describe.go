package server

import (
	"net/http"

	"serve/fault"
	"serve/server/dialect"
	"serve/server/openapi"
	"serve/server/wire"
)

// describeRoute declares the endpoint that describes all of them.
func (s *Server) describeRoute() dialect.Route {
	return dialect.Route{
		Method:      http.MethodGet,
		Path:        "/openapi.json",
		Handle:      s.describe,
		Right:       dialect.RightList,
		Doc:         "All endpoints and the fields of their requests, as an OpenAPI document.",
		Unversioned: true,
	}
}

// describe answers GET /openapi.json.
func (s *Server) describe(w http.ResponseWriter, _ *http.Request) *fault.Error {
	return wire.WriteJSON(w, s.description)
}

// groups returns the endpoints of all APIs.
func (s *Server) groups() []openapi.Group {
	var groups []openapi.Group
	for _, a := range s.dialects {
		groups = append(groups, openapi.Group{Name: a.name, Routes: a.Routes()})
	}
	return append(groups, openapi.Group{Name: "operators", Routes: s.operators()})
}

// makeDescription makes what describe answers with.
func (s *Server) makeDescription() (err error) {
	s.description, err = openapi.Document(s.opts.Version, s.groups())
	return err
}
