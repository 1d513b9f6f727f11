package server

import (
	"net/http"
	"runtime/debug"
	"time"

	"serve/fault"
	"serve/pool"
)

type modelBody struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func newModelBody(m *pool.Model, name string) modelBody {
	return modelBody{ID: name, Object: "model", Created: m.Created.Unix(), OwnedBy: "serve"}
}

// listModels answers GET /v1/models.
func (s *Server) listModels(w http.ResponseWriter, _ *http.Request) *fault.Error {
	list := []modelBody{}
	for _, m := range s.opts.Models {
		list = append(list, newModelBody(m, m.ID))
		for _, alias := range m.Aliases {
			list = append(list, newModelBody(m, alias))
		}
	}
	return writeJSON(w, struct {
		Object string      `json:"object"`
		Data   []modelBody `json:"data"`
	}{"list", list})
}

// showModel answers GET /v1/models/{id}.
func (s *Server) showModel(w http.ResponseWriter, r *http.Request) *fault.Error {
	name := r.PathValue("id")
	m, e := s.named(name)
	if e != nil {
		return e
	}
	return writeJSON(w, newModelBody(m, name))
}

// healthz says that the process answers.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) *fault.Error {
	return writeJSON(w, map[string]string{"status": "ok"})
}

// What /readyz says of a model. One that is not in memory is loaded when it is asked
// for, and so is no reason to send requests elsewhere.
const (
	healthReady   = "ready"
	healthIdle    = "not loaded"
	healthStopped = "stopped"
	healthStalled = "stalled"
	healthFull    = "queue full"
	healthDevice  = "device missing" // loading it is tried again and again
)

// health says how a model is.
func (s *Server) health(m *pool.Model) string {
	e, ok := s.pool.Loaded(m)
	if !ok {
		if _, missing := s.pool.MissingDevice(m); missing {
			return healthDevice
		}
		return healthIdle
	}
	switch stats := e.Stats(); {
	case stats.Stopped != nil:
		return healthStopped
	case stats.Stalled(time.Now(), s.opts.Stall):
		return healthStalled
	case stats.Room == 0:
		return healthFull
	}
	return healthReady
}

// readyz says whether a request would be answered: the engine of every model in
// memory runs, its steps advance while it has work, and its queue has room. With
// ?model= it says so of one.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) *fault.Error {
	asked := s.opts.Models
	if name := r.URL.Query().Get("model"); name != "" {
		m, e := s.named(name)
		if e != nil {
			return e
		}
		asked = []*pool.Model{m}
	}
	status := struct {
		Status string            `json:"status"`
		Models map[string]string `json:"models"`
		// Why, where there is more to say than how.
		Reasons map[string]string `json:"reasons,omitempty"`
	}{healthReady, map[string]string{}, map[string]string{}}
	for _, m := range asked {
		health := s.health(m)
		status.Models[m.ID] = health
		if health != healthReady && health != healthIdle {
			status.Status = "not ready"
			if missing, ok := s.pool.MissingDevice(m); ok {
				status.Reasons[m.ID] = missing.Error()
			}
			s.opts.Log.Error("a model is not ready", "model", m.ID, "health", health)
		}
	}
	if s.draining.Load() {
		status.Status = "stopping"
	}
	if status.Status == healthReady {
		return writeJSON(w, status)
	}
	w.Header().Set("Retry-After", "5")
	return writeJSONAs(w, http.StatusServiceUnavailable, status)
}

func stack() string { return string(debug.Stack()) }
