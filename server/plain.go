package server

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/gin-gonic/gin"

	"serve/fault"
	"serve/server/dialect"
	"serve/service"
)

// plainKey marks the context of a request that has come over a network without encryption.
type plainKey struct{}

// markPlain marks a request that other machines than its proxies have sent without encryption, if none may. It is
// called before the request says what its proxies tell of it.
func (s *Server) markPlain(r *http.Request) *http.Request {
	if !s.opts.PlainProxiesOnly || r.TLS != nil || service.CallOf(r.Context()).Yields || s.isProxy(r) {
		return r
	}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || at.Addr().Unmap().IsLoopback() {
		return r // of this machine; a UNIX socket has no address
	}
	return r.WithContext(context.WithValue(r.Context(), plainKey{}, true))
}

// guardPlain refuses requests that networks on the way could read. What is open to everybody says nothing that they
// could not ask themselves.
func (s *Server) guardPlain(c *gin.Context) {
	e := &exchangeOf(c).endpoint
	isOpen := e.Right == dialect.RightNone && e.Handle != nil
	if c.Request.Context().Value(plainKey{}) == nil || isOpen {
		return
	}
	s.fail(c, fault.New(fault.Forbidden, "", "The server takes requests without TLS from its proxy alone "+
		"(--trust-proxy). If you have sent an API key, networks could read it: ask the proxy, and rotate the key."))
	c.Abort()
}
