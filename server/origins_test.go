package server

import (
	"strings"
	"testing"
)

// TestCheckOrigins checks that origins which can never match are refused.
func TestCheckOrigins(t *testing.T) {
	good := Options{
		AllowedOrigins: []string{"*", "null", "http://localhost:5173", "https://app.example", "chrome-extension://*"},
	}
	if err := checkOrigins(&good); err != nil {
		t.Error(err)
	}

	for _, origin := range []string{"", "foo", "localhost:5173", "http://localhost:5173/", "https://a/b", "http://"} {
		err := checkOrigins(&Options{AllowedOrigins: []string{origin}})
		if err == nil || !strings.Contains(err.Error(), "--allow-origin") {
			t.Errorf("origin %q: %v", origin, err)
		}
	}
}
