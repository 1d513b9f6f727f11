// Package server is the HTTP server: the mux, the middleware and the loop that streams answers.
// What a request means and how an answer is written is up to the dialects; see package dialect.
package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/trace"

	"serve/access"
	"serve/archive"
	"serve/audit"
	"serve/pool"
	"serve/quota"
	"serve/server/anthropic"
	"serve/server/ollama"
	"serve/server/openai"
	"serve/server/ops"
	"serve/service"
)

// Options configure the server. A zero value means the default given in the comment.
type Options struct {
	Models  []*pool.Model
	MaxBody int64 // maximum size of a request body in bytes, 32 MiB; 4 MiB where none has pictures
	// BodyMemory is the size of all bodies in memory, in bytes, 256 MiB; at least four times MaxBody.
	BodyMemory int64
	MaxReading int           // maximum number of requests that are being read, 1024
	Workers    int           // requests that are decoded at the same time, and rendered for each model; one per CPU
	MaxCPU     time.Duration // CPU time that the decoding of a request may take, 1 s
	Heartbeat  time.Duration // interval between pings on a silent stream, 15 s
	ReadStall  time.Duration // how long a client may send nothing of a body before it is considered gone, 30 s
	WriteStall time.Duration // how long a client may accept nothing of an answer, likewise, 2 minutes
	Stall      time.Duration // how long an engine with work may make no step before /readyz fails, 2 minutes
	KeepAlive  time.Duration // after which an unused model is unloaded; 0: only when its memory is needed
	LoadWait   time.Duration // how long a request waits for its model to load, 5 minutes
	MaxWaiting int           // maximum number of requests waiting for one model to load, 512
	// Hosts are the names by which clients may call the server, without a port, besides addresses and
	// localhost; *.example.com for all names below one, * for any.
	Hosts []string
	// Proxies are the addresses of proxies whose word is taken for whom a request comes from, and by TLS or not.
	Proxies        []netip.Prefix
	AllowedOrigins []string     // origins of web pages that may call the API; "*" for all
	Log            *slog.Logger // slog.Default()
	Tracer         trace.Tracer // records a span for every request that uses a model; nil for none
	Version        string       // reported by /status
	PID            int          // of this process, reported by /status
	// ImageHosts lists the hosts that images may be fetched from: a host, with https and its port, host:port, or
	// http://host:port. The default is none. Images in data URLs are always allowed.
	ImageHosts []string
	// PrivateImageHosts lets names in ImageHosts lead to addresses that are not public: of this machine, or of a
	// private network. Addresses in ImageHosts, and localhost, may be private in any case.
	PrivateImageHosts bool
	// ImageTransport is how connections to those hosts are opened, one of package egress in the way ImageWay. They
	// go through its proxy, if it has one for them.
	ImageTransport *http.Transport
	// Archive stores responses between requests; nil keeps recent ones in memory. The server does not
	// close it.
	Archive archive.Store
	// Files stores files and batches; nil refuses them. The server does not close it.
	Files *archive.Files
	// MaxFile is the maximum size of a file that a client stores, in bytes, 512 MiB.
	MaxFile int64
	// BatchLines is how many lines of batches are computed at the same time, 8.
	BatchLines int
	// Page contains the files served to browsers at /, index.html and assets; nil for none.
	Page fs.FS
	// Library manages the models that are stored on this machine, for clients of it; nil if they may only
	// use Models.
	Library service.Library
	// Moderator is the name of the Llama Guard model behind /moderations; empty for none.
	Moderator string
	// Keys are what clients need to be known by; nil for a server that anybody may use. The server does not close them.
	Keys *access.Keys
	// Tokens are those of an issuer by which clients may be known, too; nil for none. With them every client has to be.
	Tokens Tokens
	// PlainProxiesOnly refuses requests without TLS from other machines, except from Proxies.
	PlainProxiesOnly bool
	// Audit records requests and what is done to the server; nil for nobody. The server does not close it.
	Audit audit.Recorder
	// Captures keeps the texts of the requests that Audit has the end of; nil for none.
	Captures *audit.Captures
	// MetricNames are those that /metrics has besides serve's own: ops.NamesVLLM, or none.
	MetricNames string
	// LenientFields accepts unknown fields at the top level of requests, and names them in a header.
	LenientFields bool
}

// Tokens knows who has a token.
type Tokens interface {
	// Authenticate returns the principal of a token that has come from an address. Errors are as those of access.Keys.
	Authenticate(ctx context.Context, token, address string) (*access.Principal, error)
	// ByID returns the principal with an id as long as it has a token; nil if it has none any more.
	ByID(id string) *access.Principal
}

// Server answers HTTP requests with its models.
type Server struct {
	opts     Options
	pool     *pool.Pool
	service  *service.Service
	api      *openai.API
	ops      *ops.Ops
	bodies   *quota.Budget
	workers  *quota.Workers
	shares   *quota.Shares // of workers, these and the models'
	watched  watched
	draining atomic.Bool
	router   *gin.Engine

	description json.RawMessage // of all endpoints, as OpenAPI

	// dialects are asked in this order which of them a request speaks. The last one answers what
	// none does.
	dialects []api
	// endpoints have those of several dialects in one place, in the same order.
	endpoints map[place][]endpoint
}

// New returns a server. The caller must close it.
func New(o Options) (*Server, error) {
	setDefault(&o.MaxBody, 32<<20)
	setDefault(&o.BodyMemory, 256<<20)
	o.BodyMemory = max(o.BodyMemory, 4*o.MaxBody)
	setDefault(&o.MaxReading, 1024)
	setDefault(&o.Workers, runtime.GOMAXPROCS(0))
	setDefault(&o.MaxCPU, time.Second)
	setDefault(&o.Heartbeat, 15*time.Second)
	setDefault(&o.ReadStall, 30*time.Second)
	setDefault(&o.WriteStall, 2*time.Minute)
	setDefault(&o.Stall, 2*time.Minute)
	setDefault(&o.LoadWait, 5*time.Minute)
	setDefault(&o.MaxWaiting, 512)
	setDefault(&o.MaxFile, 512<<20)
	setDefault(&o.BatchLines, 8)
	if o.Log == nil {
		o.Log = slog.Default()
	}

	if err := checkOrigins(&o); err != nil {
		return nil, err
	}
	shares := new(quota.Shares)
	s := &Server{
		opts:      o,
		pool:      pool.New(o.KeepAlive, o.MaxWaiting, o.Log),
		bodies:    quota.NewBudget(quota.Limits{Readers: o.MaxReading, Bytes: o.BodyMemory}),
		workers:   quota.NewWorkers(o.Workers, o.MaxCPU, shares),
		shares:    shares,
		endpoints: map[place][]endpoint{},
	}

	if err := s.assemble(); err != nil {
		return nil, err
	}
	if o.Keys != nil {
		o.Keys.OnLeave(s.service.Forget)
	}
	if a, ok := o.Archive.(*archive.Archive); ok {
		a.LimitClients(s.mostStored)
	}
	s.watch()
	s.router = s.routes()
	if err := s.makeDescription(); err != nil {
		return nil, fmt.Errorf("describe the endpoints: %w", err)
	}
	return s, nil
}

// mostStored returns how many bytes a client may have stored, by its key; 0 for no limit of its own.
func (s *Server) mostStored(client string) int64 {
	id, isKey := strings.CutPrefix(client, clientKey)
	if !isKey {
		return 0
	}
	p := s.byID(id)
	if p == nil {
		return 0
	}
	return int64(p.Account().Limits().BytesStored)
}

// assemble creates the server's parts.
func (s *Server) assemble() (err error) {
	o := &s.opts
	fetcher, err := newImageFetcher(o)
	if err != nil {
		return err
	}
	s.service, err = service.New(service.Options{
		Pool:     s.pool,
		Models:   o.Models,
		LoadWait: o.LoadWait,
		Fetch:    fetcher.fetch,
		Library:  o.Library,
		Workers:  o.Workers,
		Shares:   s.shares,
	})
	if err != nil {
		return err
	}

	s.api, err = openai.New(openai.Options{
		Service:    s.service,
		Stream:     s.stream,
		Perform:    func(w http.ResponseWriter, r *http.Request) { s.Handler().ServeHTTP(w, r) },
		Archive:    o.Archive,
		Files:      o.Files,
		MaxFile:    o.MaxFile,
		MaxBody:    o.MaxBody,
		BatchLines: o.BatchLines,
		Moderator:  o.Moderator,
		Lenient:    o.LenientFields,
		Log:        o.Log,
	})
	if err != nil {
		return err
	}

	messages := anthropic.New(anthropic.Options{Service: s.service, Stream: s.stream, Lenient: o.LenientFields})
	lines := ollama.New(ollama.Options{Service: s.service, Pool: s.pool, Stream: s.stream})
	s.dialects = []api{{"Anthropic", messages}, {"Ollama", lines}, {"OpenAI", s.api}}

	s.ops, err = ops.New(s.operations())
	return err
}

// operations returns what the endpoints for operators are made from.
func (s *Server) operations() ops.Options {
	o := &s.opts
	describe := ops.Options{
		Greeting:  ollama.Greeting,
		Service:   s.service,
		Pool:      s.pool,
		Keys:      o.Keys,
		KeyClient: clientKey,
		Stall:     o.Stall,
		Draining:  s.draining.Load,
		Started:   time.Now(),
		Version:   o.Version,
		PID:       o.PID,
		Page:      o.Page,
		Log:       o.Log,

		MetricNames: o.MetricNames,
	}
	if o.Audit != nil {
		describe.Audit = s.auditState
		describe.Review, _ = o.Audit.(audit.Reviewer)
	}
	return describe
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Preload loads a model into free memory, without unloading another model. The error is a
// pool.NoRoomError if there is not enough.
func (s *Server) Preload(ctx context.Context, m *pool.Model) error { return s.pool.Preload(ctx, m) }

// Resume goes on with the batches that an earlier process has left.
func (s *Server) Resume() error {
	if err := s.api.Resume(); err != nil {
		return fmt.Errorf("resume the batches: %w", err)
	}
	return nil
}

// Close cancels everything that still runs, unloads all models and returns when their memory is
// free.
func (s *Server) Close() {
	s.api.Close()
	s.pool.Close()
	s.endWatch()
}

// Wait returns when no background response and no line of a batch is running, or when ctx is done.
func (s *Server) Wait(ctx context.Context) { s.api.Wait(ctx) }

// Drain makes the server refuse new work; running requests continue. Batches begin no more lines.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.api.Drain()
}

// Stalled returns a model whose engine has had work for at least d without making a step, if
// there is one.
func (s *Server) Stalled(d time.Duration) (model string, stalled bool) { return s.ops.Stalled(d) }
