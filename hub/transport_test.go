package hub

import (
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"serve/egress"
)

// TestTransportOfHTTP2 speaks HTTP/1.1 with a host that would rather speak HTTP/2, as the Hub does.
func TestTransportOfHTTP2(t *testing.T) {
	hs := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto)
	}))
	hs.EnableHTTP2 = true
	hs.StartTLS()
	defer hs.Close()

	made, err := Transport(Options{}, egress.NewWay("test", "to test").Allow("the test", hs.URL))
	if err != nil {
		t.Fatal(err)
	}
	transport := made.(*http.Transport)
	transport.TLSClientConfig.RootCAs = x509.NewCertPool()
	transport.TLSClientConfig.RootCAs.AddCert(hs.Certificate())
	res, err := (&http.Client{Transport: transport}).Get(hs.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || string(text) != "HTTP/1.1" {
		t.Errorf("got %q, %v", text, err)
	}
}
