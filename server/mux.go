package server

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"serve/fault"
	"serve/server/dialect"
	"serve/server/wire"
)

// Handler returns the server's HTTP handler.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The request belongs to the caller, so it is routed by a copy of its URL.
		u := *r.URL
		routed := r.WithContext(r.Context())
		routed.URL = &u
		routed = s.markPlain(routed)
		s.believe(routed)

		u.Path = canonical(u.Path)
		u.RawPath = canonical(u.RawPath)
		if path, name, ok := deployed(u.EscapedPath()); ok {
			routed.SetPathValue(wire.DeploymentValue, name)
			u.Path = path
			u.RawPath = ""
		}
		defer s.pace(w, routed)()
		s.router.ServeHTTP(w, routed)
	})
}

// canonical normalizes paths: clients' base URLs come with and without /v1, and with and without
// a trailing slash. Azure's begin with /openai.
func canonical(path string) string {
	if rest, ok := strings.CutPrefix(path, "/openai/v1/"); ok {
		path = "/v1/" + rest
	}
	if rest, ok := strings.CutPrefix(path, "/v1/"); ok && rest != "" && !strings.HasPrefix(rest, "v1/") {
		path = "/" + rest
	}
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	return path
}

// deployed splits an escaped path of Azure's older API, /openai/deployments/NAME/chat/completions.
func deployed(escaped string) (path, name string, ok bool) {
	rest, ok := strings.CutPrefix(escaped, "/openai/deployments/")
	if !ok {
		return "", "", false
	}
	first, path, ok := strings.Cut(rest, "/")
	name, err := url.PathUnescape(first)
	return "/" + path, name, ok && err == nil && name != ""
}

// An api is a dialect by its name in documents.
type api struct {
	name string
	dialect.Dialect
}

// operators returns the endpoints that belong to no API.
func (s *Server) operators() []dialect.Route { return append(s.ops.Routes(), s.describeRoute()) }

func (s *Server) routes() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.UseRawPath = true
	r.UnescapePathValues = true
	r.RedirectTrailingSlash = false
	r.HandleMethodNotAllowed = true
	r.Use(s.identify, s.audited, s.recovered, s.guardHost, s.guardOrigin, s.guardPlain, s.guardRight)
	r.NoRoute(func(c *gin.Context) { s.fail(c, wire.UnknownPath(c.Request)) })
	r.NoMethod(func(c *gin.Context) {
		if c.Request.Method == http.MethodOptions {
			c.Writer.WriteHeader(http.StatusNoContent)
			return
		}
		s.fail(c, fault.New(fault.MethodNotAllowed, "", "Not allowed: %s %s. Allowed: %s.",
			c.Request.Method, c.Request.URL.Path, c.Writer.Header().Get("Allow")))
	})

	for _, route := range s.operators() {
		s.add(api{"", s.fallback()}, route)
	}
	for _, a := range s.dialects {
		for _, route := range a.Routes() {
			s.add(a, route)
		}
	}

	work := []gin.HandlerFunc{
		s.guardQuery, s.limitWork, s.limitTime, s.readReproducible, s.readSeed, s.readRouter, s.answer,
	}
	for at := range s.endpoints {
		r.Handle(at.method, at.path, work...)
		if at.method == http.MethodGet {
			r.HEAD(at.path, work...)
		}
	}

	return r
}

// place is where an endpoint is.
type place struct {
	method string
	path   string
}

// endpoint is a route, and the dialect that answers it and writes its errors.
type endpoint struct {
	dialect.Route
	dialect dialect.Dialect
	api     string // the dialect's name in documents
}

// add adds a dialect's route to those of its place.
func (s *Server) add(a api, route dialect.Route) {
	at := place{route.Method, route.Path}
	s.endpoints[at] = append(s.endpoints[at], endpoint{route, a.Dialect, a.name})
}

// fallback returns the dialect that answers what no other speaks.
func (s *Server) fallback() dialect.Dialect { return s.dialects[len(s.dialects)-1] }

// endpointOf returns the endpoint that a request is for. That of an unknown path has no handler.
func (s *Server) endpointOf(c *gin.Context) endpoint {
	at := place{c.Request.Method, c.FullPath()}
	if at.method == http.MethodHead {
		at.method = http.MethodGet
	}

	here := s.endpoints[at]
	if len(here) == 0 {
		for _, d := range s.dialects {
			if d.Speaks(c.Request) {
				return endpoint{dialect: d}
			}
		}
		return endpoint{dialect: s.fallback()}
	}

	for _, e := range here {
		if len(here) == 1 || e.dialect.Speaks(c.Request) {
			return e
		}
	}
	return here[len(here)-1]
}

// answer calls the handler of a request's endpoint.
func (s *Server) answer(c *gin.Context) {
	for _, p := range c.Params {
		c.Request.SetPathValue(p.Key, strings.TrimPrefix(p.Value, "/"))
	}
	if e := exchangeOf(c).endpoint.Handle(c.Writer, c.Request); e != nil {
		s.fail(c, e)
	}
}

// fail writes an error response. Nothing may have been written before.
func (s *Server) fail(c *gin.Context, e *fault.Error) {
	if e.Kind == fault.Unauthenticated {
		c.Writer.Header().Set("WWW-Authenticate", "Bearer")
	}
	x := exchangeOf(c)
	x.failed = e
	x.endpoint.dialect.Fail(c.Writer, e)
}
