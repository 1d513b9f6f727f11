package server

import (
	"strings"
	"testing"
)

// TestCheckSources checks that hosts and origins which can never match are refused.
func TestCheckSources(t *testing.T) {
	good := Options{
		ImageHosts:     []string{"images.example.com", "example.com:8443", "127.0.0.1", "[::1]:80"},
		AllowedOrigins: []string{"*", "null", "http://localhost:5173", "https://app.example", "chrome-extension://*"},
	}
	if err := checkSources(&good); err != nil {
		t.Error(err)
	}

	for _, host := range []string{"", "http://a", "a/b", "user@a", "a?b"} {
		err := checkSources(&Options{ImageHosts: []string{host}})
		if err == nil || !strings.Contains(err.Error(), "--image-host") {
			t.Errorf("host %q: %v", host, err)
		}
	}
	for _, origin := range []string{"", "foo", "localhost:5173", "http://localhost:5173/", "https://a/b", "http://"} {
		err := checkSources(&Options{AllowedOrigins: []string{origin}})
		if err == nil || !strings.Contains(err.Error(), "--allow-origin") {
			t.Errorf("origin %q: %v", origin, err)
		}
	}
}
