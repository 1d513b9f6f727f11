package ops_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"serve/server"
)

// TestPage gets the files of the page as a browser does.
func TestPage(t *testing.T) {
	script := strings.Repeat("let a = 1;\n", 100)
	files := fstest.MapFS{
		"index.html":        {Data: []byte("<!doctype html><title>serve</title>")},
		"assets/index-1.js": {Data: []byte(script)},
		".gitkeep":          {},
	}

	s, err := server.New(server.Options{Page: files, Hosts: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}

	get := func(path string, header ...string) *http.Response {
		t.Helper()
		return fetch(t, s, http.MethodGet, path, header...)
	}

	for _, path := range []string{"/", "/assets/index-1.js"} {
		res := get(path)
		h := res.Header
		if res.StatusCode != 200 || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") ||
			h.Get("X-Content-Type-Options") != "nosniff" || h.Get("ETag") == "" {
			t.Errorf("%s: %d %v", path, res.StatusCode, h)
		}
		if again := get(path, "If-None-Match", h.Get("ETag")); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s again: %d", path, again.StatusCode)
		}
	}

	h := get("/").Header
	if h.Get("Cache-Control") != "no-cache" ||
		!strings.HasPrefix(h.Get("Content-Type"), "text/html") {
		t.Errorf("index: %v", h)
	}

	res := get("/assets/index-1.js", "Accept-Encoding", "br, gzip")
	if !strings.Contains(res.Header.Get("Cache-Control"), "immutable") || res.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("script: %v", res.Header)
	}

	z, err := gzip.NewReader(res.Body)
	if err != nil {
		t.Fatal(err)
	}

	if b, err := io.ReadAll(z); err != nil || string(b) != script {
		t.Errorf("script: %d bytes, %v", len(b), err)
	}

	for _, path := range []string{"/assets/none.js", "/assets/../index.html", "/.gitkeep", "/assets/"} {
		if res := get(path); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
}

// TestNoPage says how to build what is not there.
func TestNoPage(t *testing.T) {
	s, err := server.New(server.Options{Hosts: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	res := fetch(t, s, http.MethodGet, "/")
	b, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusNotFound ||
		!strings.Contains(string(b), "make builds one") {
		t.Errorf("%d %s", res.StatusCode, b)
	}
}

// TestGreeting tells programs at / what they look for there.
func TestGreeting(t *testing.T) {
	s, err := server.New(server.Options{
		Hosts: []string{"*"},
		Page:  fstest.MapFS{"index.html": {Data: []byte("<!doctype html>")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for accept, want := range map[string]string{
		"*/*":                               "Ollama is running",
		"":                                  "Ollama is running",
		"application/json, text/plain, */*": "Ollama is running",
		"text/html":                         "<!doctype html>",
	} {
		res := fetch(t, s, http.MethodGet, "/", "Accept", accept)
		b, _ := io.ReadAll(res.Body)
		if res.StatusCode != 200 || string(b) != want || res.Header.Get("Vary") == "" {
			t.Errorf("%q: %d %s %v", accept, res.StatusCode, b, res.Header)
		}
		head := fetch(t, s, http.MethodHead, "/", "Accept", accept)
		if b, _ := io.ReadAll(head.Body); head.StatusCode != 200 || len(b) > 0 {
			t.Errorf("HEAD %q: %d %s", accept, head.StatusCode, b)
		}
	}
}

func fetch(t *testing.T, s *server.Server, method, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8") // as browsers do
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w.Result()
}
