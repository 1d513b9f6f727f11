package server

import "serve/server/dialect"

// Declared is an endpoint as the mux has it.
type Declared struct {
	Method string
	Path   string
	API    string // of the dialect that answers
	Route  dialect.Route
}

// Declared returns all endpoints, those of several dialects in one place each.
func (s *Server) Declared() []Declared {
	var list []Declared
	for at, here := range s.endpoints {
		for _, e := range here {
			name := ""
			if a, ok := e.dialect.(api); ok {
				name = a.name
			}
			list = append(list, Declared{at.method, at.path, name, e.Route})
		}
	}
	return list
}
