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
	"serve/fault"
	"serve/server/dialect"
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
	stop := context.AfterFunc(known, func() { cancel(context.Cause(known)) })
	defer stop()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
}

// admit says whether a request may be answered, and for whom.
func (s *Server) admit(c *gin.Context) *fault.Error {
	x := exchangeOf(c)
	right := x.endpoint.Right
	if s.opts.Keys == nil || !s.opts.Keys.Required() {
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

// identity returns the principal of a request. One that the server makes itself is that of the key it is made for,
// which may have ended.
func (s *Server) identity(r *http.Request, call *service.Call) (*access.Principal, *fault.Error) {
	if call.Yields {
		id, _ := strings.CutPrefix(call.Client, clientKey)
		// What was begun for one tenant is not continued for another.
		if p := s.opts.Keys.ByID(id); p != nil && p.Tenant == call.Tenant {
			return p, nil
		}
		return nil, service.Fault(access.ErrEnded, "")
	}

	given := secrets(r.Header)
	switch {
	case inQuery(r.URL.RawQuery):
		return nil, fault.New(fault.Unauthenticated, "", "An API key in a URL is not accepted, because URLs are logged on "+
			"the way: send it in an Authorization header, and revoke the key.")
	case len(given) == 0:
		return nil, service.Anonymous()
	case len(given) > 1:
		return nil, fault.New(fault.Unauthenticated, "", "The request has two different API keys in its headers.")
	}
	p, err := s.opts.Keys.Authenticate(given[0], address(r))
	if err != nil {
		return nil, service.Fault(err, "")
	}
	return p, nil
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

// setLimits sets the headers that say what is left of a key's limits, as OpenAI does.
func (x *exchange) setLimits(h http.Header) {
	if x.call.Principal == nil {
		return
	}
	requests, tokens := x.call.Principal.Account().Windows()
	for _, of := range []struct {
		name string
		access.Window
	}{
		{"Requests", requests},
		{"Tokens", tokens},
	} {
		if of.Limit == 0 {
			continue
		}
		h.Set("X-Ratelimit-Limit-"+of.name, strconv.Itoa(of.Limit))
		h.Set("X-Ratelimit-Remaining-"+of.name, strconv.Itoa(of.Remaining))
		h.Set("X-Ratelimit-Reset-"+of.name, resetTime(of.Reset))
	}
}

// resetTime writes a duration as OpenAI does: 6m0s, 1s, 12ms.
func resetTime(d time.Duration) string {
	return (time.Duration(math.Ceil(float64(d)/float64(time.Millisecond))) * time.Millisecond).String()
}
