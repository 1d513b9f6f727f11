// Package server speaks OpenAI's HTTP API. It reads and checks every field of a
// request, asks an Engine, and writes what comes as JSON or as server-sent events.
package server

import (
	"context"
	"io/fs"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/trace"

	"serve/archive"
	"serve/pool"
	"serve/server/dialect"
	"serve/server/openai"
	"serve/server/ops"
	"serve/service"
)

// Options bound the server. Zero values take the defaults named.
type Options struct {
	Models         []*pool.Model
	MaxBody        int64         // bytes of a request body, 32 MiB
	Heartbeat      time.Duration // between comments on a silent stream, 15 s
	WriteStall     time.Duration // that a write may take before the client is taken for gone, 2 minutes
	Stall          time.Duration // without a step while work waits, after which /readyz says no, 2 minutes
	KeepAlive      time.Duration // after which an unused model is unloaded; 0 for when its memory is needed
	LoadWait       time.Duration // that a request waits for its model to be loaded, 5 minutes
	MaxWaiting     int           // requests that do so for one model, 512
	Hosts          []string      // names that the Host header may have besides loopback's; nil for any
	AllowedOrigins []string      // web pages that may call; "*" for all
	Log            *slog.Logger  // slog.Default()
	Tracer         trace.Tracer  // gets a span of every request that a model works for; nil for none
	Version        string        // that /status tells, as it does
	PID            int           // this process
	// ImageHosts are those that images may be fetched from, as host or host:port; none
	// by default. Images in data URLs need none.
	ImageHosts []string
	// ImageTransport opens the connections for that, http.DefaultTransport.
	ImageTransport http.RoundTripper
	// Archive keeps responses between requests; nil keeps none. The server does not close it.
	Archive *archive.Archive
	// Page has the files that browsers get at /, index.html and assets; nil for none.
	Page fs.FS
	// Moderator names the model that /moderations asks, a Llama Guard; empty for none.
	Moderator string
}

// Server answers HTTP requests with its models.
type Server struct {
	opts     Options
	pool     *pool.Pool
	service  *service.Service
	api      *openai.API
	ops      *ops.Ops
	draining atomic.Bool
	router   *gin.Engine

	// By the path of an endpoint: whose it is, and what traces call its work.
	dialects   map[string]dialect.Dialect
	operations map[string]string
}

// New returns a server. Its Handler does the work; Close ends what that started.
func New(o Options) (*Server, error) {
	setDefault(&o.MaxBody, 32<<20)
	setDefault(&o.Heartbeat, 15*time.Second)
	setDefault(&o.WriteStall, 2*time.Minute)
	setDefault(&o.Stall, 2*time.Minute)
	setDefault(&o.LoadWait, 5*time.Minute)
	setDefault(&o.MaxWaiting, 512)
	if o.Log == nil {
		o.Log = slog.Default()
	}

	s := &Server{
		opts:       o,
		pool:       pool.New(o.KeepAlive, o.MaxWaiting, o.Log),
		dialects:   map[string]dialect.Dialect{},
		operations: map[string]string{},
	}

	if err := s.assemble(); err != nil {
		return nil, err
	}
	s.router = s.routes()
	return s, nil
}

// assemble makes what the server is made of.
func (s *Server) assemble() (err error) {
	o := &s.opts
	s.service, err = service.New(service.Options{
		Pool:     s.pool,
		Models:   o.Models,
		LoadWait: o.LoadWait,
		Fetch:    newImageFetcher(o).fetch,
	})
	if err != nil {
		return err
	}

	s.api, err = openai.New(openai.Options{
		Service:   s.service,
		Stream:    s.stream,
		Archive:   o.Archive,
		Moderator: o.Moderator,
		Log:       o.Log,
	})
	if err != nil {
		return err
	}

	s.ops, err = ops.New(ops.Options{
		Service:  s.service,
		Pool:     s.pool,
		Stall:    o.Stall,
		Draining: s.draining.Load,
		Started:  time.Now(),
		Version:  o.Version,
		PID:      o.PID,
		Page:     o.Page,
		Log:      o.Log,
	})
	return err
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Preload loads a model into memory that is free, without unloading another. The
// error is a pool.NoRoomError if there is too little.
func (s *Server) Preload(ctx context.Context, m *pool.Model) error { return s.pool.Preload(ctx, m) }

// Close unloads all models and returns when their memory is free. What still
// runs is cancelled.
func (s *Server) Close() {
	s.api.Close()
	s.pool.Close()
}

// Wait returns when no response runs in the background any more, or ctx is done.
func (s *Server) Wait(ctx context.Context) { s.api.Wait(ctx) }

// Drain refuses new work from now on; what runs goes on.
func (s *Server) Drain() { s.draining.Store(true) }

// Stalled returns a model whose engine has had work for so long and made no step, if
// there is one: one that nothing in this process has mended.
func (s *Server) Stalled(d time.Duration) (model string, stalled bool) { return s.ops.Stalled(d) }
