package server_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

func TestPaths(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	for _, tt := range []struct {
		method, path string
		status       int
		words        string
	}{
		{"GET", "/v1/models", 200, `"id":"gpt-4o"`},
		{"GET", "/models", 200, `"object":"list"`},
		{"GET", "/v1/models/", 200, `"object":"list"`},
		{"GET", "/v1/models/fake", 200, `"created":1700000000`},
		{"GET", "/v1/models/org%2Ffake", 200, `"id":"org/fake"`},
		{"GET", "/v1/models/org/fake", 200, `"id":"org/fake"`},
		{"GET", "/v1/models/absent", 404, "model_not_found"},
		{"HEAD", "/v1/models", 200, ""},
		{"OPTIONS", "/v1/chat/completions", 204, ""},
		{"GET", "/healthz", 200, "ok"},
		{"GET", "/health", 200, "ok"},
		{"GET", "/readyz", 200, "ready"},
		{"GET", "/", 200, "Ollama is running"},
		{"HEAD", "/", 200, ""},
		{"GET", "/api/version", 200, `{"version":"0.`},
		{"HEAD", "/api/tags", 200, ""},
		{"GET", "/api/nothing", 404, `{"error":"Unknown request URL`},
		{"GET", "/api/chat", 405, `{"error":"Not allowed`},
		{"DELETE", "/v1/completions", 405, "method_not_allowed"},
		{"GET", "/v1/../../etc/passwd", 404, "unknown_url"},
	} {
		req, _ := http.NewRequest(tt.method, hs.URL+tt.path, nil)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != tt.status || !strings.Contains(string(body), tt.words) {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, res.StatusCode, body)
		}
	}
}

func TestOrigins(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{
		Hosts:          []string{"localhost"},
		AllowedOrigins: []string{"https://app.example", "chrome-extension://*"},
	})

	for _, tt := range []struct {
		name, host, origin string
		status             int
	}{
		{"a program", "", "", 200},
		{"localhost", "localhost:8080", "", 200},
		{"IPv6 loopback", "[::1]:8080", "", 200},
		{"a name that was rebound", "evil.example", "", 403},
		{"our own page", "localhost:8080", "http://localhost:8080", 200},
		{"an allowed page", "", "https://app.example", 200},
		{"any other page", "", "https://evil.example", 403},
		{"a page of no origin", "", "null", 403},
		{"a program of web pages", "", "app://obsidian.md", 200},
		{"Tauri's", "", "tauri://localhost", 200},
		{"an editor's view", "", "vscode-webview://0abc", 200},
		{"an editor's file", "", "vscode-file://vscode-app", 200},
		{"a file's", "", "file://", 200},
		{"a site that is named like a program", "", "https://app.evil.example", 403},
		{"an allowed kind", "", "chrome-extension://abc", 200},
		{"a kind that is not allowed", "", "moz-extension://abc", 403},
	} {
		req, _ := http.NewRequest("GET", hs.URL+"/v1/models", nil)
		if tt.host != "" {
			req.Host = tt.host
		}
		if tt.origin != "" {
			req.Header.Set("Origin", tt.origin)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != tt.status {
			t.Errorf("%s: got %d, want %d", tt.name, res.StatusCode, tt.status)
		}
	}
}

// TestPreflight answers a browser that asks whether a page may send its key.
func TestPreflight(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{AllowedOrigins: []string{"http://localhost:5173"}})
	for origin, status := range map[string]int{"http://localhost:5173": 204, "http://localhost:9": 403} {
		req, err := http.NewRequest(http.MethodOptions, hs.URL+"/v1/chat/completions", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", origin)
		req.Header.Set("Access-Control-Request-Method", "POST")
		req.Header.Set("Access-Control-Request-Headers", "authorization,content-type,x-stainless-os")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()

		h := res.Header
		if res.StatusCode != status {
			t.Errorf("%s: %d", origin, res.StatusCode)
		}
		if status == 204 && (h.Get("Access-Control-Allow-Origin") != origin ||
			!strings.Contains(h.Get("Access-Control-Allow-Headers"), "authorization") ||
			!strings.Contains(h.Get("Access-Control-Allow-Headers"), "x-stainless-os") ||
			strings.Count(h.Get("Access-Control-Expose-Headers"), "x-ignored-fields") != 1 ||
			!strings.Contains(h.Get("Access-Control-Expose-Headers"), "x-prompt-changed")) {
			t.Errorf("%s: %v", origin, h)
		}
	}
}

func TestSilentStreamsGetComments(t *testing.T) {
	gate := make(chan struct{})
	hs, _ := servertest.Start(
		t,
		enginetest.Options{BeforeDecode: func(*engine.Batch) error { <-gate; return nil }},
		server.Options{Heartbeat: time.Millisecond},
	)
	res, err := http.Post(
		hs.URL+"/v1/chat/completions",
		"application/json",
		strings.NewReader(`{"model":"fake","stream":true,"max_tokens":2,`+servertest.Hello+`}`),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	if !lines.Scan() || lines.Text() != ": ping" {
		t.Errorf("the first line is %q", lines.Text())
	}

	close(gate)
	last := ""
	for lines.Scan() {
		if lines.Text() != "" {
			last = lines.Text()
		}
	}

	if last != "data: [DONE]" {
		t.Errorf("the last line is %q", last)
	}
}

// deadlines is a response writer that remembers the deadlines it was given.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

// TestWriteDeadlines sets a deadline for every write, also after the handler has written the last: net/http
// flushes it.
func TestWriteDeadlines(t *testing.T) {
	_, s := servertest.Start(t, enginetest.Options{Next: enginetest.Say("Hi")}, server.Options{})
	for path, body := range map[string]string{
		"/v1/chat/completions": `{"model":"fake","stream":true,` + servertest.Hello + `}`,
		"/v1/completions":      `{"model":"fake","prompt":"p\n"}`,
	} {
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		s.Handler().ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(body)))
		if n := len(w.set); n < 3 || w.set[0].IsZero() || w.set[n-1].Before(w.set[0]) {
			t.Errorf("%s: %d deadlines: %v", path, n, w.set)
		}
	}
}

func TestLateErrorsAreEvents(t *testing.T) {
	var once sync.Once
	hs, s := servertest.Start(t, enginetest.Options{BeforeDecode: func(b *engine.Batch) error {
		var err error
		if b.Positions[0] > 20 {
			once.Do(func() { err = engine.ErrFatal })
		}
		return err
	}}, server.Options{})

	_, body := servertest.Post(
		t, hs, "/v1/chat/completions", `{"model":"fake","stream":true,"max_tokens":50,`+servertest.Hello+`}`,
	)
	events := strings.Split(strings.TrimSpace(body), "\n\n")
	last := events[len(events)-1]
	if !strings.HasPrefix(last, `data: {"error":{"message":`) || !strings.Contains(last, "model_unavailable") {
		t.Errorf("the last event is %s", last)
	}

	if strings.Contains(body, "[DONE]") {
		t.Error("a stream that failed says [DONE]")
	}

	res, body := servertest.Post(t, hs, "/v1/chat/completions", `{"model":"fake",`+servertest.Hello+`}`)
	if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("after the engine's end: %d %s", res.StatusCode, body)
	}

	if res, err := http.Get(hs.URL + "/readyz"); err != nil || res.StatusCode != 503 {
		t.Errorf("readyz: %v, %v", res, err)
	}

	if res, err := http.Get(hs.URL + "/healthz"); err != nil || res.StatusCode != 200 {
		t.Errorf("healthz: %v, %v", res, err)
	}

	_ = s
}

func TestDrain(t *testing.T) {
	hs, s := servertest.Start(t, enginetest.Options{}, server.Options{})
	s.Drain()
	res, body := servertest.Post(t, hs, "/v1/completions", `{"model":"fake","prompt":"p"}`)
	if res.StatusCode != 503 || !strings.Contains(body, "model_unavailable") {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
	if res, err := http.Get(hs.URL + "/readyz"); err != nil || res.StatusCode != 503 {
		t.Errorf("readyz: %v, %v", res, err)
	}
}

// TestClientsThatVanish: their requests leave the engine, which goes on.
func TestClientsThatVanish(t *testing.T) {
	hs, s := servertest.Start(t, enginetest.Options{Limits: engine.Limits{
		Sequences: 2,
		Context:   1 << 16,
	}}, server.Options{})

	for i := range 20 {
		ctx, cancel := context.WithCancel(context.Background())
		body := `{"model":"fake","stream":true,` + servertest.Hello + `}` // endless
		req, _ := http.NewRequestWithContext(ctx, "POST", hs.URL+"/v1/chat/completions", strings.NewReader(body))
		if i%2 == 0 {
			go cancel() // somewhere before the answer
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Read(make([]byte, 64))
			cancel()
			res.Body.Close()
		}
		cancel()
	}

	res, body := servertest.Post(t, hs, "/v1/completions", `{"model":"fake","prompt":"p","max_tokens":5}`)
	if res.StatusCode != 200 {
		t.Errorf("got %d %s", res.StatusCode, body)
	}

	for s.Engine.Stats().Running > 0 {
		res, _ := servertest.Post(t, hs, "/v1/completions", `{"model":"fake","prompt":"p","max_tokens":1}`)
		if res.StatusCode != 200 {
			t.Fatal(res.Status)
		}
	}
}

// TestNothingSecretIsLogged sends words in every field that could reach a log.
func TestNothingSecretIsLogged(t *testing.T) {
	var log lockedBuffer
	hs, _ := servertest.Start(
		t,
		enginetest.Options{},
		server.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))},
	)
	for _, body := range []string{
		`{"model":"fake","max_tokens":2,"messages":[{"role":"user","content":"hushhush"}],"user":"hushhush",` +
			`"stop":"hushhush"}`,
		`{"model":"hushhush","messages":[{"role":"user","content":"hushhush"}]}`,
		`{"model":"fake","messages":"hushhush"}`,
		`{"model":"fake","hushhush":1}`,
	} {
		for _, query := range []string{"api-version=hushhush", "key=hushhush", "hushhush=hushhush", "hushhush;%zz"} {
			req, _ := http.NewRequest("POST", hs.URL+"/v1/chat/completions?"+query, strings.NewReader(body))
			req.Header.Set("Authorization", "Bearer hushhush")
			if res, err := http.DefaultClient.Do(req); err == nil {
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		}
	}

	hs.Close()
	if text := log.String(); strings.Contains(text, "hushhush") || !strings.Contains(text, "status=200") {
		t.Errorf("the log is\n%s", text)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
