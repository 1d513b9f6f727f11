package server

import (
	"errors"
	"net/http"
	"runtime/debug"
	"time"

	"serve/engine"
)

type modelBody struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func (m *Model) body(name string) modelBody {
	return modelBody{ID: name, Object: "model", Created: m.Created.Unix(), OwnedBy: "serve"}
}

// listModels answers GET /v1/models.
func (s *Server) listModels(w http.ResponseWriter, _ *http.Request) *Error {
	list := []modelBody{}
	for _, m := range s.opts.Models {
		list = append(list, m.body(m.ID))
		for _, alias := range m.Aliases {
			list = append(list, m.body(alias))
		}
	}
	return writeJSON(w, struct {
		Object string      `json:"object"`
		Data   []modelBody `json:"data"`
	}{"list", list})
}

// showModel answers GET /v1/models/{id}.
func (s *Server) showModel(w http.ResponseWriter, r *http.Request) *Error {
	name := r.PathValue("id")
	m, e := s.named(name)
	if e != nil {
		return e
	}
	return writeJSON(w, m.body(name))
}

// healthz says that the process answers.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) *Error {
	return writeJSON(w, map[string]string{"status": "ok"})
}

// readyz says whether a request would be answered: the engine of every model in
// memory runs, and its steps advance while it has work. A model that is not in
// memory is loaded when it is asked for.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) *Error {
	if s.draining.Load() {
		return toError(engine.ErrStopped, "")
	}
	for _, m := range s.opts.Models {
		e, ok := s.pool.loaded(m)
		if !ok {
			continue
		}
		stats := e.Stats()
		if stats.Stopped != nil || stats.Stalled(time.Now(), s.opts.Stall) {
			s.opts.Log.Error("a model is not ready", "model", m.ID, "steps", stats.Steps, "stopped", stats.Stopped)
			return toError(errors.Join(engine.ErrStopped, stats.Stopped), "")
		}
	}
	return writeJSON(w, map[string]string{"status": "ready"})
}

func stack() string { return string(debug.Stack()) }
