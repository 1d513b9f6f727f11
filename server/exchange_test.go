package server

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/netip"
	"testing"
)

// TestProxyThatTellsNothing does not take a proxy's requests for those of a program of this machine.
func TestProxyThatTellsNothing(t *testing.T) {
	behind := &Server{opts: Options{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}}
	for _, tt := range []struct {
		server  *Server
		header  http.Header
		manages bool
	}{
		{new(Server), http.Header{}, true},
		{new(Server), http.Header{"X-Forwarded-For": {""}}, false},
		{behind, http.Header{}, false},
	} {
		r := &http.Request{Header: tt.header, RemoteAddr: "127.0.0.1:4711"}
		if call := tt.server.callOf(r); call.Manages != tt.manages {
			t.Errorf("%v of %v: manages %v", tt.header, tt.server.opts.Proxies, call.Manages)
		}
	}
}

// TestCertificates makes the client of a verified certificate a client and a tenant of its own.
func TestCertificates(t *testing.T) {
	chain := []*x509.Certificate{{DNSNames: []string{"Ward-3.example"}}}
	r := &http.Request{Header: http.Header{"Authorization": {"Bearer made up"}}, RemoteAddr: "192.0.2.1:4711"}
	const ward = "certificate ward-3.example"
	for _, tt := range []struct {
		state          *tls.ConnectionState
		client, tenant string
	}{
		{&tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{chain}}, ward, ward},
		{&tls.ConnectionState{PeerCertificates: chain}, client(r), ""},
		{nil, client(r), ""},
	} {
		r.TLS = tt.state
		if call := (&Server{}).callOf(r); call.Client != tt.client || call.Tenant != tt.tenant || call.Manages {
			t.Errorf("%+v: %q of %q, manages %v", tt.state, call.Client, call.Tenant, call.Manages)
		}
	}
}
