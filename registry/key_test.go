package registry

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeyStays sends a key to its server, and not to another one that it redirects to.
func TestKeyStays(t *testing.T) {
	var got []string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = append(got, "other "+r.Header.Get("Authorization"))
	}))
	defer other.Close()
	own := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, "own "+r.Header.Get("Authorization"))
		if r.URL.Path == "/away" {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		}
	}))
	defer own.Close()

	u, err := ParseURL(own.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: Key{Secret: "secret"}.Transport(u, http.DefaultTransport)}
	for _, path := range []string{"/", "/away"} {
		req, err := http.NewRequest(http.MethodGet, own.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer none")
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	if want := "own Bearer secret,own Bearer secret,other "; strings.Join(got, ",") != want {
		t.Errorf("got %q", got)
	}
}

// TestPlainKey sends no key where others can read it, unless told.
func TestPlainKey(t *testing.T) {
	for address, may := range map[string]bool{
		"http://127.0.0.1:8080":    true,
		"http://localhost":         true,
		"http://[::1]:8080":        true,
		"https://example.com":      true,
		"http://example.com":       false,
		"http://192.0.2.1:8080":    false,
		"http://localhost.evil.io": false,
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if err := (Key{Secret: "secret"}).Check(u); (err == nil) != may || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", address, err)
		}
		for _, k := range []Key{{}, {Secret: "secret", Plain: true}} {
			if err := k.Check(u); err != nil {
				t.Errorf("%s: %v", address, err)
			}
		}
	}
}

// TestReadKey reads keys from a file and from the environment.
func TestReadKey(t *testing.T) {
	lookup := func(name string) string { return map[string]string{KeyVariable: "of-the-environment"}[name] }
	file := filepath.Join(t.TempDir(), "key")
	for text, want := range map[string]string{
		"sk-serve-1\n":            "sk-serve-1",
		"":                        "",
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
	u, err := ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	var status struct{ PID int }
	if err := Ask(t.Context(), u, Key{}, &status); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
	if err := Ask(t.Context(), u, Key{Secret: "secret"}, &status); err != nil || status.PID != 7 {
		t.Errorf("%+v, %v", status, err)
	}
}
