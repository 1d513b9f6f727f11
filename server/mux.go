package server

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"serve/fault"
	"serve/server/dialect"
	"serve/server/wire"
)

// Handler returns all that the server answers.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The URL is the caller's: another is routed.
		u := *r.URL
		u.Path = canonical(u.Path)
		u.RawPath = canonical(u.RawPath)
		routed := r.WithContext(r.Context())
		routed.URL = &u
		s.router.ServeHTTP(w, routed)
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

	for _, d := range []dialect.Dialect{s.api} {
		for _, route := range d.Routes() {
			s.mount(r, d, route)
		}
	}

	return r
}

// mount adds a route, whose errors a dialect writes.
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

// answered makes a handler of gin's of ours.
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

// dialectOf is whose endpoint a request is for; what is none is answered in OpenAI's words.
func (s *Server) dialectOf(c *gin.Context) dialect.Dialect {
	if d, ok := s.dialects[c.FullPath()]; ok {
		return d
	}
	return s.api
}

// fail answers with an error. It must come before any other write.
func (s *Server) fail(c *gin.Context, e *fault.Error) { s.dialectOf(c).Fail(c.Writer, e) }
