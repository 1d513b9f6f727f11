package ops

import (
	"net/http"
	"slices"
	"time"

	"serve/access"
	"serve/fault"
	"serve/pool"
	"serve/server/wire"
	"serve/service"
)

// healthz answers GET /healthz: the process is alive.
func (o *Ops) healthz(w http.ResponseWriter, _ *http.Request) *fault.Error {
	return wire.WriteJSON(w, map[string]string{"status": "ok"})
}

// The states of a model in /readyz. A model that is not in memory is loaded on demand, so the
// server counts as ready.
const (
	healthReady    = "ready"
	healthIdle     = "not loaded"
	healthSleeping = "sleeping" // the same: unloaded after --keep-alive, so that its memory and its GPU are free
	healthStopped  = "stopped"
	healthStalled  = "stalled"
	healthFull     = "queue full"
	healthDevice   = "device missing" // loading is retried periodically
)

// health returns the state of a model.
func (o *Ops) health(m *pool.Model) string {
	e, ok := o.opts.Pool.Loaded(m)
	if !ok {
		if _, missing := o.opts.Pool.MissingDevice(m); missing {
			return healthDevice
		}
		if o.opts.Pool.Asleep(m) {
			return healthSleeping
		}
		return healthIdle
	}
	switch stats := e.Stats(); {
	case stats.Stopped != nil:
		return healthStopped
	case stats.Stalled(time.Now(), o.opts.Stall):
		return healthStalled
	case stats.Room == 0:
		return healthFull
	}
	return healthReady
}

// readyQuery are the parameters of GET /readyz.
var readyQuery = wire.Table[string]{{
	Name: "model",
	Type: wire.StringOf(func(name *string) *string { return name }),
	Doc:  "Name of the only model to check. A key needs the scope `metrics` for it.",
}}

// readiness is the answer to GET /readyz.
type readiness struct {
	Status  string            `json:"status"`
	Models  map[string]string `json:"models,omitempty"`
	Audit   string            `json:"audit,omitempty"`   // "failing": records cannot be written
	Reasons map[string]string `json:"reasons,omitempty"` // of the states of models that have one
}

// readyz answers GET /readyz: 200 if the engine of every model in memory is running, is not
// stalled, and has room in its queue. With ?model= it checks only that model. It names models only to those who may
// know what the server does.
func (o *Ops) readyz(w http.ResponseWriter, r *http.Request) *fault.Error {
	asked := o.opts.Service.All()
	var named []*pool.Model // to this client
	unknown := service.CallOf(r.Context()).Require(access.Metrics)
	if unknown == nil {
		named = o.opts.Service.Models(r.Context())
	}
	name := ""
	if e := readyQuery.Query(r.URL.RawQuery, &name); e != nil {
		return e
	}
	if name != "" {
		if unknown != nil {
			return unknown
		}
		m, e := o.opts.Service.Named(r.Context(), name)
		if e != nil {
			return e
		}
		asked = []*pool.Model{m}
	}

	status := readiness{
		Status:  healthReady,
		Models:  map[string]string{},
		Reasons: map[string]string{},
	}
	for _, m := range asked {
		health := o.health(m)
		told := slices.Contains(named, m)
		if told {
			status.Models[m.ID] = health
		}
		if health != healthReady && health != healthIdle && health != healthSleeping {
			status.Status = "not ready"
			if missing, ok := o.opts.Pool.MissingDevice(m); ok && told {
				status.Reasons[m.ID] = missing.Error()
			}
			o.opts.Log.Error("a model is not ready", "model", m.ID, "health", health)
		}
	}

	if o.isUnrecorded(&status) {
		status.Status = "not ready"
	}
	if o.opts.Draining() {
		status.Status = "stopping"
	}

	if status.Status == healthReady {
		return wire.WriteJSON(w, status)
	}

	w.Header().Set("Retry-After", "5")
	return wire.WriteJSONAs(w, http.StatusServiceUnavailable, status)
}

// isUnrecorded reports whether requests are refused because they cannot be recorded, and notes that records cannot.
func (o *Ops) isUnrecorded(status *readiness) bool {
	if o.opts.Audit == nil {
		return false
	}
	state := o.opts.Audit()
	if state.Failing != nil {
		status.Audit = "failing"
		o.opts.Log.Error("the audit log cannot be written", "error", state.Failing, "lost", state.Lost)
	}
	return state.Refuses()
}
