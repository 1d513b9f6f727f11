// Package ops is what those who run the server ask it: is it well, what is it doing, how much has
// it done; and the page for browsers. It knows no API.
package ops

import (
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"serve/pool"
	"serve/server/dialect"
	"serve/service"
)

// Options are what Ops are made of.
type Options struct {
	Service  *service.Service
	Pool     *pool.Pool
	Stall    time.Duration // without a step while work waits, after which a model is not ready
	Draining func() bool   // whether new work is refused
	Started  time.Time
	Version  string
	PID      int
	Page     fs.FS // index.html and assets; nil for none
	Log      *slog.Logger
}

// Ops are the endpoints.
type Ops struct {
	opts    Options
	metrics *metrics
	page    *page
}

// New returns the endpoints. It fails if the page cannot be read.
func New(options Options) (*Ops, error) {
	page, err := newPage(options.Page)
	if err != nil {
		return nil, err
	}
	o := &Ops{opts: options, page: page}
	o.metrics = newMetrics(o)
	return o, nil
}

// Routes are the endpoints' places.
func (o *Ops) Routes() []dialect.Route {
	get := func(path string, h dialect.Handler) dialect.Route {
		return dialect.Route{Method: http.MethodGet, Path: path, Handle: h}
	}
	return []dialect.Route{
		get("/", o.page.answer),
		get("/icon.svg", o.page.answer),
		get("/assets/:file", o.page.answer),
		get("/healthz", o.healthz),
		get("/health", o.healthz),
		get("/readyz", o.readyz),
		get("/status", o.status),
		get("/metrics", o.metrics.answer),
	}
}
