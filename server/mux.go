package server

import (
	"net/http"
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
		u.Path = canonical(u.Path)
		u.RawPath = canonical(u.RawPath)
		routed := r.WithContext(r.Context())
		routed.URL = &u
		s.router.ServeHTTP(w, routed)
	})
}

// canonical normalizes paths: clients' base URLs come with and without /v1, and with and without
// a trailing slash.
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
	r.UseRawPath = true
	r.UnescapePathValues = true
	r.RedirectTrailingSlash = false
	r.HandleMethodNotAllowed = true
	r.Use(s.identify, s.recovered, s.guardOrigin)
	r.NoRoute(func(c *gin.Context) { s.fail(c, wire.UnknownPath(c.Request)) })
	r.NoMethod(func(c *gin.Context) {
		if c.Request.Method == http.MethodOptions {
			c.Writer.WriteHeader(http.StatusNoContent)
			return
		}
		s.fail(c, fault.New(fault.MethodNotAllowed, "", "Not allowed: %s %s. Allowed: %s.",
			c.Request.Method, c.Request.URL.Path, c.Writer.Header().Get("Allow")))
	})

	for _, route := range s.ops.Routes() {
		s.mount(r, s.api, route)
	}

	for _, d := range []dialect.Dialect{s.api, s.ollama} {
		for _, route := range d.Routes() {
			s.mount(r, d, route)
		}
	}

	return r
}

// mount registers a route. The dialect writes its errors.
func (s *Server) mount(r *gin.Engine, d dialect.Dialect, route dialect.Route) {
	s.dialects[route.Path] = d
	if route.Operation != "" {
		s.operations[route.Path] = route.Operation
	}

	var chain []gin.HandlerFunc
	if route.Work {
		chain = append(chain, s.limitWork, s.limitTime)
	}
	chain = append(chain, s.answered(route.Handle))
	r.Handle(route.Method, route.Path, chain...)
	if route.Method == http.MethodGet {
		r.HEAD(route.Path, chain...)
	}
}

// answered adapts a handler to gin.
func (s *Server) answered(h dialect.Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		for _, p := range c.Params {
			c.Request.SetPathValue(p.Key, strings.TrimPrefix(p.Value, "/"))
		}
		if e := h(c.Writer, c.Request); e != nil {
			s.fail(c, e)
		}
	}
}

// dialectOf returns the dialect of the requested endpoint. For unknown paths it is OpenAI's, except below
// a folder that is another's.
func (s *Server) dialectOf(c *gin.Context) dialect.Dialect {
	if d, ok := s.dialects[c.FullPath()]; ok {
		return d
	}
	if strings.HasPrefix(c.Request.URL.Path, ollamaFolder) {
		return s.ollama
	}
	return s.api
}

// ollamaFolder is that of all paths of Ollama's API.
const ollamaFolder = "/api/"

// fail writes an error response. Nothing may have been written before.
func (s *Server) fail(c *gin.Context, e *fault.Error) { s.dialectOf(c).Fail(c.Writer, e) }
