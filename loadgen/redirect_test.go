package loadgen

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestRedirect follows none: the key does not go to another server, which would not be the one that is measured.
func TestRedirect(t *testing.T) {
	asked := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer other.Close()
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer hs.Close()

	c := Client{URL: hs.URL, Key: "secret", HTTP: NewHTTP(&http.Transport{})}
	_, err := c.Models(t.Context())
	var status *StatusError
	if !errors.As(err, &status) || status.Status != http.StatusTemporaryRedirect || asked != 0 {
		t.Errorf("got %v; the other server was asked %d times", err, asked)
	}
}
