// Package ops contains the endpoints for operators (health, status and metrics) and the web page.
// It does not depend on any API.
package ops

import (
	"cmp"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"serve/access"
	"serve/audit"
	"serve/fault"
	"serve/pool"
	"serve/server/dialect"
	"serve/service"
)

// Options configure the endpoints.
type Options struct {
	Service  *service.Service
	Pool     *pool.Pool
	Keys     *access.Keys  // nil if anybody may use the server
	Stall    time.Duration // how long an engine with work may make no step before its model is not ready
	Draining func() bool   // reports whether new work is refused
	Started  time.Time
	Version  string
	PID      int
	Page     fs.FS // index.html and assets; nil for none
	// MetricNames are those that /metrics has besides serve's own: NamesVLLM, or none.
	MetricNames string
	Log         *slog.Logger
	// Audit says how the audit log is; nil for none.
	Audit func() audit.State
	// Review reads the end of the audit log; nil if nobody can.
	Review audit.Reviewer
	// KeyClient is what the name of a client with a key begins with in the queues of models; the key's id follows.
	KeyClient string
	// Greeting is the answer at / to programs, which do not ask for HTML.
	Greeting string
}

// Ops are the endpoints.
type Ops struct {
	opts    Options
	metrics *metrics
	page    *page
	reviews sync.Mutex // held by the request that reads the audit log
}

// New returns the endpoints. It returns an error if the page cannot be read.
func New(options Options) (*Ops, error) {
	page, err := newPage(options.Page)
	if err != nil {
		return nil, err
	}
	o := &Ops{opts: options, page: page}
	o.metrics = newMetrics(o)
	return o, nil
}

// Routes returns the routes of all endpoints.
func (o *Ops) Routes() []dialect.Route {
	routes := slices.Concat(o.pageRoutes(), o.stateRoutes(), o.keyRoutes(), []dialect.Route{o.auditRoute()})
	for i := range routes {
		routes[i].Method = cmp.Or(routes[i].Method, http.MethodGet)
		routes[i].Unversioned = true
	}
	return routes
}

func (o *Ops) pageRoutes() []dialect.Route {
	return []dialect.Route{
		{
			Path:     "/",
			Handle:   o.root,
			Right:    dialect.RightNone,
			AnyQuery: true,
			Doc:      "The web UI. Programs, which do not ask for HTML, get the greeting that Ollama's clients expect.",
			Produces: []string{"text/html", "text/plain"},
		},
		{
			Path:     "/icon.svg",
			Handle:   o.page.answer,
			Right:    dialect.RightNone,
			AnyQuery: true,
			Doc:      "The web UI's icon.",
			Produces: []string{"image/svg+xml"},
		},
		{
			Path:     "/assets/:file",
			Handle:   o.page.answer,
			Right:    dialect.RightNone,
			AnyQuery: true,
			Doc:      "A file that the web UI needs.",
			Produces: []string{"text/javascript", "text/css"},
		},
	}
}

// stateRoutes are the endpoints that say how the server is.
func (o *Ops) stateRoutes() []dialect.Route {
	return []dialect.Route{
		{
			Path:     "/healthz",
			Handle:   o.healthz,
			AnyHost:  true,
			AnyQuery: true,
			Right:    dialect.RightNone,
			Doc:      "Responds 200 while the process runs.",
		},
		{
			Path:     "/health",
			Handle:   o.healthz,
			AnyHost:  true,
			AnyQuery: true,
			Right:    dialect.RightNone,
			Doc:      "llama.cpp's name for the same endpoint.",
		},
		{
			Path:    "/readyz",
			Handle:  o.readyz,
			AnyHost: true,
			Right:   dialect.RightNone,
			Doc:     "Responds 200 if the server and every model in memory can accept requests.",
			Query:   readyQuery.Describe(),
		},
		{
			Path:   "/status",
			Handle: o.status,
			Right:  dialect.RightStatus,
			Doc:    "The models, devices and requests of this server.",
		},
		{
			Path:   "/catalog",
			Handle: o.catalog,
			Right:  dialect.RightStatus,
			Doc:    "The models that have a short name, the memory of this machine, and whether the client may download models.",
		},
		{
			Path:     "/metrics",
			Handle:   o.metrics.answer,
			Right:    dialect.RightStatus,
			Doc:      "Metrics in the Prometheus text format.",
			Produces: []string{"text/plain"},
		},
	}
}

// root answers GET /: the page to browsers, and the greeting to programs, which probe with it whether the
// server is one that they know.
func (o *Ops) root(w http.ResponseWriter, r *http.Request) *fault.Error {
	w.Header().Add("Vary", "Accept")
	if o.opts.Greeting == "" || strings.Contains(r.Header.Get("Accept"), "text/html") {
		return o.page.answer(w, r)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(o.opts.Greeting)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		w.Write([]byte(o.opts.Greeting))
	}
	return nil
}
