package server

import (
	"context"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"serve/access"
	"serve/certs"
	"serve/fault"
	"serve/server/dialect"
	"serve/server/wire"
	"serve/service"
)

// scopes are those of which a key needs one to have a right. A right that is not here cannot be had.
var scopes = map[dialect.Right]access.Scope{
	dialect.RightUse:    access.Inference,
	dialect.RightList:   access.Models | access.Inference | access.Admin,
	dialect.RightStatus: access.Metrics | access.Admin,
	dialect.RightManage: access.Admin,
	dialect.RightAny:    access.Inference | access.Models | access.Metrics | access.Admin,
}

// guardRight refuses clients that lack the right that an endpoint needs, before anything of the request is read.
// Without keys, programs of this machine manage models, nobody else does, and everybody has all other rights.
func (s *Server) guardRight(c *gin.Context) {
	x := exchangeOf(c)
	e := s.admit(c)
	if e != nil {
		s.fail(c, e)
		c.Abort()
		return
	}
	if x.call.Principal == nil {
		return
	}

	// What runs for a key ends with it.
	ctx, cancel := context.WithCancelCause(c.Request.Context())
	defer cancel(nil)
	known := x.call.Principal.Context()
	body, _ := c.Request.Body.(*pacedBody)
	stop := context.AfterFunc(known, func() {
		cancel(context.Cause(known))
		if body != nil {
			body.end(service.Fault(context.Cause(known), ""))
		}
	})
	defer stop()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
}

// admit says whether a request may be answered, and for whom.
func (s *Server) admit(c *gin.Context) *fault.Error {
	x := exchangeOf(c)
	right := x.endpoint.Right
	if !s.isGuarded() {
		if right == dialect.RightManage {
			return service.RequireManager(c.Request.Context())
		}
		return nil
	}

	// A browser asks without a key whether it may send one.
	if c.Request.Method == http.MethodOptions {
		return nil
	}
	x.call.Guarded = true
	x.call.Manages = false
	principal, e := s.identity(c.Request, x.call)
	if right == dialect.RightNone && x.endpoint.Handle != nil {
		x.become(principal) // it may see more
		return nil
	}
	if e != nil {
		return e
	}
	x.become(principal)

	// Whoever has a key may know that a path is not there.
	if x.endpoint.Handle == nil {
		return nil
	}
	if e := x.call.Require(scopes[right]); e != nil {
		return e
	}
	if !x.endpoint.Work {
		return nil
	}
	use, err := principal.Account().Begin()
	if err != nil {
		return service.Fault(err, "")
	}
	x.call.Use = use
	return nil
}

// isGuarded reports whether clients have to be known.
func (s *Server) isGuarded() bool {
	return s.opts.Tokens != nil || s.opts.Keys != nil && s.opts.Keys.Required()
}

// become makes a principal the caller; nil is nobody.
func (x *exchange) become(p *access.Principal) {
	if p == nil {
		return
	}
	x.call.Principal = p
	x.call.Client = clientKey + p.ID
	x.call.Tenant = p.Tenant
	x.call.Manages = p.May(access.Admin)
}

// keyInURL is what is said of a key in a URL.
const keyInURL = "An API key in a URL is not accepted, because URLs are logged on the way: send it in an " +
	"Authorization header, and revoke the key."

// guardQuery refuses parameters of the query that the endpoint does not declare, and values that they do not have.
func (s *Server) guardQuery(c *gin.Context) {
	x := exchangeOf(c)
	ignored, e := checkQuery(c.Request.URL.RawQuery, &x.endpoint)
	if e != nil {
		s.fail(c, e)
		c.Abort()
		return
	}
	wire.AddList(c.Writer.Header(), dialect.IgnoredHeader, ignored)
}

// checkQuery checks a query by the declaration of an endpoint. Names that it takes without knowing them are ignored.
func checkQuery(query string, of *endpoint) (ignored []string, e *fault.Error) {
	switch {
	case query == "" || of.AnyQuery:
		return nil, nil
	case inQuery(query):
		return nil, fault.New(fault.InvalidValue, "", keyInURL)
	}
	return wire.CheckQuery(query, of.Query, of.dialect.Lenient())
}

// identity returns the principal of a request. One that the server makes itself is that of the key it is made for,
// which may have ended.
func (s *Server) identity(r *http.Request, call *service.Call) (*access.Principal, *fault.Error) {
	if call.Yields {
		id, _ := strings.CutPrefix(call.Client, clientKey)
		// What was begun for one tenant is not continued for another.
		if p := s.byID(id); p != nil && p.Tenant == call.Tenant {
			return p, nil
		}
		return nil, service.Fault(access.ErrEnded, "")
	}

	given := secrets(r.Header)
	switch {
	case inQuery(r.URL.RawQuery):
		return nil, fault.New(fault.Unauthenticated, "", keyInURL)
	case len(given) == 0:
		if p := s.certified(r); p != nil {
			return p, nil
		}
		return nil, service.Anonymous()
	case len(given) > 1:
		return nil, fault.New(fault.Unauthenticated, "", "The request has two different API keys in its headers.")
	}
	p, err := s.authenticate(r, given[0])
	if err != nil {
		return nil, service.Fault(err, "")
	}
	return p, nil
}

// authenticate returns the principal of a key, or of a token, which is told by its form.
func (s *Server) authenticate(r *http.Request, secret string) (*access.Principal, error) {
	isToken := s.opts.Tokens != nil && !strings.HasPrefix(secret, access.Prefix) && strings.Count(secret, ".") == 2
	if isToken || s.opts.Keys == nil {
		if s.opts.Tokens == nil {
			return nil, access.ErrUnknown
		}
		return s.opts.Tokens.Authenticate(r.Context(), secret, address(r))
	}
	return s.opts.Keys.Authenticate(secret, address(r))
}

// byID returns the principal with an id, for work that it has left behind; nil if there is none any more.
func (s *Server) byID(id string) (p *access.Principal) {
	if s.opts.Keys != nil {
		p = s.opts.Keys.ByID(id)
	}
	if p == nil && s.opts.Tokens != nil {
		p = s.opts.Tokens.ByID(id)
	}
	return p
}

// certified returns the principal of a client that has sent no secret, but is known by its certificate; nil if there is
// none.
func (s *Server) certified(r *http.Request) *access.Principal {
	name, ok := certs.Identity(r.TLS)
	if !ok || s.opts.Keys == nil {
		return nil
	}
	return s.opts.Keys.ByCertificate(name)
}

// keyHeaders are the headers besides Authorization that clients send keys in: Anthropic's, and those of Azure's API.
var keyHeaders = []string{"X-Api-Key", "Api-Key"}

// bearer is how Authorization has a key, in any case.
const bearer = "bearer "

// secrets returns the keys that a request brings, each once. A scheme that is not known counts as a wrong key.
func secrets(h http.Header) []string {
	var list []string
	for _, value := range h.Values("Authorization") {
		if len(value) >= len(bearer) && strings.EqualFold(value[:len(bearer)], bearer) {
			value = value[len(bearer):]
		}
		list = append(list, strings.TrimSpace(value))
	}
	for _, name := range keyHeaders {
		for _, value := range h.Values(name) {
			list = append(list, strings.TrimSpace(value))
		}
	}
	slices.Sort(list)
	isEmpty := func(s string) bool { return s == "" || strings.EqualFold(s, strings.TrimSpace(bearer)) }
	return slices.DeleteFunc(slices.Compact(list), isEmpty)
}

// queryNames are the names by which clients of other services send keys in a URL.
var queryNames = []string{"key", "api_key", "api-key", "apikey", "x-api-key", "access_token"}

// inQuery reports whether a query has a key.
func inQuery(query string) bool {
	for pair := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == ';' }) {
		name, _, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		if slices.Contains(queryNames, strings.ToLower(name)) {
			return true
		}
	}
	return false
}

// setLimits sets the headers that say what is left of a principal's limits: OpenAI's, and those of the API itself.
func (x *exchange) setLimits(h http.Header) {
	if x.call.Principal == nil {
		return
	}

	requests, tokens := x.call.Principal.Account().Windows()
	var windows []dialect.Window
	for _, of := range []struct {
		name string
		access.Window
	}{
		{"requests", requests},
		{"tokens", tokens},
	} {
		if of.Limit == 0 {
			continue
		}
		windows = append(windows, dialect.Window{
			Of:        of.name,
			Limit:     of.Limit,
			Remaining: of.Remaining,
			Reset:     of.Reset,
		})
		h.Set("X-Ratelimit-Limit-"+of.name, strconv.Itoa(of.Limit))
		h.Set("X-Ratelimit-Remaining-"+of.name, strconv.Itoa(of.Remaining))
		h.Set("X-Ratelimit-Reset-"+of.name, resetTime(of.Reset))
	}

	x.endpoint.dialect.Limits(h, windows)
}

// resetTime writes a duration as OpenAI does: 6m0s, 1s, 12ms.
func resetTime(d time.Duration) string {
	return (time.Duration(math.Ceil(float64(d)/float64(time.Millisecond))) * time.Millisecond).String()
}
