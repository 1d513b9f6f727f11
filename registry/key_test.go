package registry

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadKey reads keys from a file and from the environment.
func TestReadKey(t *testing.T) {
	lookup := func(name string) string { return map[string]string{KeyVariable: "of-the-environment"}[name] }
	file := filepath.Join(t.TempDir(), "key")
	for text, want := range map[string]string{
		"sk-serve-1\n":            "sk-serve-1",
		"":                        "error",
		" \n":                     "error",
		"a b":                     "error",
		"a\r\nX-Header: b":        "error",
		strings.Repeat("a", 5000): "error",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := ReadKey(file, lookup)
		if err != nil {
			k.Secret = "error"
		}
		if k.Secret != want {
			t.Errorf("%q: %q, %v", text, k.Secret, err)
		}
	}
	if k, err := ReadKey("", lookup); err != nil || k.Secret != "of-the-environment" || k.Or("x") != k {
		t.Errorf("%+v, %v", k, err)
	}
	if _, err := ReadKey(file+".none", lookup); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestAskWithoutKey says that a server wants a key.
func TestAskWithoutKey(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Write([]byte(`{"pid":7}`))
	}))
	defer server.Close()

	asked := Server{URL: server.URL}
	var status struct{ PID int }
	if err := Ask(t.Context(), &http.Transport{}, asked, Key{}, &status); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
	if err := Ask(t.Context(), &http.Transport{}, asked, Key{Secret: "secret"}, &status); err != nil || status.PID != 7 {
		t.Errorf("%+v, %v", status, err)
	}
}
