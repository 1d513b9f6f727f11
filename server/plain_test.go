package server_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"serve/access"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// TestPlainHTTP answers requests without TLS of its proxies and of this machine, where a proxy's TLS is all that
// protects it. Others get what is open to everybody.
func TestPlainHTTP(t *testing.T) {
	k, secrets := newKeyed(t, access.NewKey{Name: "alice"})
	for _, only := range []bool{true, false} {
		_, s := servertest.Start(t, enginetest.Options{}, server.Options{
			Keys:             k.open(),
			Proxies:          []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
			PlainProxiesOnly: only,
		})
		for _, tt := range []struct {
			from, path string
			forwarded  string // for whom
			tls        bool
			refused    bool
		}{
			{"203.0.113.9:1", "/v1/models", "", false, only},
			{"203.0.113.9:1", "/v1/models", "10.0.0.7", false, only},
			{"203.0.113.9:1", "/v1/nothing", "", false, only},
			{"[::ffff:203.0.113.9]:1", "/v1/models", "", false, only},
			{"203.0.113.9:1", "/v1/models", "", true, false},
			{"203.0.113.9:1", "/healthz", "", false, false},
			{"10.0.0.7:1", "/v1/models", "203.0.113.9", false, false},
			{"10.0.0.7:1", "/v1/models", "", false, false},
			{"127.0.0.1:1", "/v1/models", "", false, false},
			{"[::1]:1", "/v1/models", "", false, false},
			{"@", "/v1/models", "", false, false},
		} {
			r := httptest.NewRequest(http.MethodGet, "http://localhost"+tt.path, nil)
			r.RemoteAddr = tt.from
			r.Header.Set("Authorization", "Bearer "+secrets["alice"])
			if tt.forwarded != "" {
				r.Header.Set("X-Forwarded-For", tt.forwarded)
			}
			if tt.tls {
				r.TLS = &tls.ConnectionState{}
			}
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			refused := w.Code == http.StatusForbidden && strings.Contains(w.Body.String(), "--trust-proxy")
			if refused != tt.refused {
				t.Errorf("only proxies is %v, %+v: %d %s", only, tt, w.Code, w.Body)
			}
		}
	}
}
