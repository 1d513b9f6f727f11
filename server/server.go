// Package server speaks OpenAI's HTTP API. It reads and checks every field of a
// request, asks an Engine, and writes what comes as JSON or as server-sent events.
package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/trace"

	"serve/archive"
	"serve/engine"
	"serve/fault"
	"serve/pool"
)

// fingerprint tells apart what could answer differently: another engine, another file.
func fingerprint(m *pool.Lease) string {
	f := m.Engine.Model()
	sum := sha256.Sum256(fmt.Appendf(nil, "%s|%s|%s|%s|%d|%d", f.Build, m.ID, f.Architecture, f.Quantization, f.Size, f.Parameters))
	return "fp_" + hex.EncodeToString(sum[:5])
}

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
	byName   map[string]*pool.Model
	pool     *pool.Pool
	router   *gin.Engine
	draining atomic.Bool
	started  time.Time

	background background
	metrics    *metrics
	images     *imageFetcher
	page       *page
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
	s := &Server{opts: o, started: time.Now(), byName: map[string]*pool.Model{}, pool: pool.New(o.KeepAlive, o.MaxWaiting, o.Log)}
	for _, m := range o.Models {
		for _, name := range append([]string{m.ID}, m.Aliases...) {
			if other, taken := s.byName[name]; taken && other != m {
				return nil, fmt.Errorf("two models are called %q", name)
			}
			s.byName[name] = m
		}
	}
	if _, ok := s.byName[o.Moderator]; o.Moderator != "" && !ok {
		return nil, fmt.Errorf("the model named for moderation, %q, is not among those served", o.Moderator)
	}
	page, err := newPage(o.Page)
	if err != nil {
		return nil, err
	}
	s.metrics, s.images, s.page = newMetrics(s), newImageFetcher(&o), page
	s.router = s.routes()
	return s, nil
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
	s.background.stop()
	s.pool.Close()
}

// Wait returns when no response runs in the background any more, or ctx is done.
func (s *Server) Wait(ctx context.Context) { s.background.wait(ctx) }

// Drain refuses new work from now on; what runs goes on.
func (s *Server) Drain() { s.draining.Store(true) }

// Handler returns the whole API.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path, r.URL.RawPath = canonical(r.URL.Path), canonical(r.URL.RawPath)
		s.router.ServeHTTP(w, r)
	})
}

// canonical makes one path of the forms that clients' base URLs come in: with
// /v1 and without, with a slash at the end and without.
func canonical(path string) string {
	path = strings.TrimPrefix(path, "/v1")
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	return path
}

func (s *Server) routes() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.UseRawPath, r.UnescapePathValues = true, true
	r.RedirectTrailingSlash = false
	r.HandleMethodNotAllowed = true
	r.Use(s.identify, s.recovered, s.guardOrigin)
	r.NoRoute(func(c *gin.Context) { writeError(c.Writer, unknownURL(c.Request)) })
	r.NoMethod(func(c *gin.Context) {
		if c.Request.Method == http.MethodOptions {
			c.Writer.WriteHeader(http.StatusNoContent)
			return
		}
		writeError(c.Writer, fault.New(fault.MethodNotAllowed, "", "Not allowed: %s %s. Allowed: %s.",
			c.Request.Method, c.Request.URL.Path, c.Writer.Header().Get("Allow")))
	})
	get := func(path string, h handler) {
		r.GET(path, answered(h))
		r.HEAD(path, answered(h))
	}
	get("/", s.page.answer)
	get("/icon.svg", s.page.answer)
	get("/assets/:file", s.page.answer)
	get("/healthz", s.healthz)
	get("/health", s.healthz)
	get("/readyz", s.readyz)
	get("/status", s.status)
	get("/metrics", s.metrics.answer)
	get("/models", s.listModels)
	get("/models/*id", s.showModel) // a name may have slashes, escaped or not
	post := func(path string, h handler) { r.POST(path, s.limitWork, limitTime, answered(h)) }
	post("/chat/completions", s.chat)
	post("/completions", s.completions)
	post("/embeddings", s.embeddings)
	post("/responses", s.responses)
	post("/responses/input_tokens", s.countInput)
	get("/responses/:id", s.showResponse)
	get("/responses/:id/input_items", s.listInput)
	r.DELETE("/responses/:id", answered(s.deleteResponse))
	r.POST("/responses/:id/cancel", answered(s.cancelResponse))
	post("/moderations", s.moderations)
	post("/rerank", s.rerank)
	post("/tokenize", s.tokenize)
	post("/detokenize", s.detokenize)
	return r
}

// unknownURL says that nothing is there.
func unknownURL(r *http.Request) *fault.Error {
	return fault.New(fault.UnknownPath, "", "Unknown request URL: %s %s.", r.Method, r.URL.Path)
}

// handler answers a request, or returns what to answer instead. It must not
// return an error after it has written.
type handler func(http.ResponseWriter, *http.Request) *fault.Error

// answered makes a handler of gin's of ours.
func answered(h handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		for _, p := range c.Params {
			c.Request.SetPathValue(p.Key, strings.TrimPrefix(p.Value, "/"))
		}
		if e := h(c.Writer, c.Request); e != nil {
			writeError(c.Writer, e)
		}
	}
}

// identify gives every request an id and logs how it ended: never what it said.
func (s *Server) identify(c *gin.Context) {
	x := begin(c)
	h := c.Writer.Header()
	h.Set("X-Request-Id", x.id)
	h.Set("Openai-Version", "2020-10-01")
	c.Request = x.span(s.opts.Tracer, c.Request, c.FullPath())
	c.Next()
	took := time.Since(x.start)
	x.endSpan(c.Request.Context(), c.Writer.Status())
	s.metrics.request(c.FullPath(), c.Request.Method, c.Writer.Status(), took)
	level := slog.LevelInfo
	if c.Request.Method != http.MethodPost && c.Writer.Status() < 400 {
		level = slog.LevelDebug // probes, scrapes and the page come every few seconds, for ever
	}
	s.opts.Log.Log(c.Request.Context(), level, "request", "id", x.id, "method", c.Request.Method, "path", c.FullPath(),
		"status", c.Writer.Status(), "bytes", c.Writer.Size(), "took", took.Round(time.Millisecond))
}

// recovered turns a panic, a broken invariant of ours, into a 500 and a log line.
func (s *Server) recovered(c *gin.Context) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.opts.Log.Error("panic", "path", c.FullPath(), "panic", p, "stack", stack())
			if !c.Writer.Written() {
				writeError(c.Writer, toFault(fmt.Errorf("internal error"), ""))
			}
		}
	}()
	c.Next()
}

// guardOrigin keeps web pages out. A page elsewhere that names our address
// brings its own Origin; one whose name was rebound to us brings its own Host.
func (s *Server) guardOrigin(c *gin.Context) {
	host := hostName(c.Request.Host)
	if s.opts.Hosts != nil && !isLoopback(host) && !slices.Contains(s.opts.Hosts, host) {
		writeError(c.Writer, fault.New(fault.UnknownHost, "", "The server does not answer for the host %q.", host))
		c.Abort()
		return
	}
	origin := c.Request.Header.Get("Origin")
	if origin == "" {
		return
	}
	h := c.Writer.Header()
	if slices.Contains(s.opts.AllowedOrigins, origin) || slices.Contains(s.opts.AllowedOrigins, "*") {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS")
		h.Set("Access-Control-Allow-Headers", "authorization, content-type, "+c.Request.Header.Get("Access-Control-Request-Headers"))
		h.Set("Access-Control-Expose-Headers", "x-request-id, openai-processing-ms, x-queue-position, x-queue-wait-ms, x-queue-expected-ms, retry-after, x-schema-not-enforced, x-tools-not-offered")
		h.Add("Vary", "Origin")
		return
	}
	if u, err := url.Parse(origin); err != nil || u.Host != c.Request.Host {
		writeError(c.Writer, fault.New(fault.OriginNotAllowed, "",
			"Pages of %s may not use this server; start it with --allow-origin to let them.", origin))
		c.Abort()
	}
}

func hostName(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// limitWork bounds the body, and refuses work while the server stops.
func (s *Server) limitWork(c *gin.Context) {
	if s.draining.Load() {
		writeError(c.Writer, toFault(engine.ErrStopped, ""))
		c.Abort()
		return
	}
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, s.opts.MaxBody)
}

// named finds a model by a name that a request gives.
func (s *Server) named(name string) (*pool.Model, *fault.Error) {
	if m, ok := s.byName[name]; ok {
		return m, nil
	}
	have := make([]string, len(s.opts.Models))
	for i, m := range s.opts.Models {
		have[i] = m.ID
	}
	return nil, fault.New(fault.ModelNotFound, "model",
		"The model '%s' does not exist here. Served: %s.", name, strings.Join(have, ", "))
}

// worker is model for what is to be queued: what would be refused costs no more than this.
func (s *Server) worker(r *http.Request, name string, t engine.Tier) (*pool.Lease, *fault.Error) {
	l, e := s.model(r, name)
	if e != nil {
		return nil, e
	}
	by := caller(r.Context())
	by.Tier = t
	if err := l.Engine.Admits(r.Context(), by); err != nil {
		l.Release()
		return nil, toFault(err, "")
	}
	return l, nil
}

// model finds a request's model and brings it into memory. The caller releases it.
func (s *Server) model(r *http.Request, name string) (*pool.Lease, *fault.Error) {
	m, e := s.named(name)
	if e != nil {
		return nil, e
	}
	l, err := s.pool.Acquire(r.Context(), m, s.opts.LoadWait)
	if err != nil {
		return nil, toFault(err, "model")
	}
	return l, nil
}
