// Package ops contains the endpoints for operators (health, status and metrics) and the web page.
// It does not depend on any API.
package ops

import (
	"io/fs"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"serve/fault"
	"serve/pool"
	"serve/server/dialect"
	"serve/service"
)

// Options configure the endpoints.
type Options struct {
	Service  *service.Service
	Pool     *pool.Pool
	Stall    time.Duration // how long an engine with work may make no step before its model is not ready
	Draining func() bool   // reports whether new work is refused
	Started  time.Time
	Version  string
	PID      int
	Page     fs.FS // index.html and assets; nil for none
	Log      *slog.Logger
	// Greeting is the answer at / to programs, which do not ask for HTML.
	Greeting string
}

// Ops are the endpoints.
type Ops struct {
	opts    Options
	metrics *metrics
	page    *page
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
	get := func(path string, h dialect.Handler) dialect.Route {
		return dialect.Route{Method: http.MethodGet, Path: path, Handle: h}
	}
	return []dialect.Route{
		get("/", o.root),
		get("/icon.svg", o.page.answer),
		get("/assets/:file", o.page.answer),
		get("/healthz", o.healthz),
		get("/health", o.healthz),
		get("/readyz", o.readyz),
		get("/status", o.status),
		get("/metrics", o.metrics.answer),
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
