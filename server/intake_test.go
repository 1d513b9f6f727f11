package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// begun sends the head of a request for a body of so many bytes and a part of it, and returns the connection.
func begun(t *testing.T, hs *httptest.Server, key string, length int, part string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", hs.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"+
		"Expect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", key, length)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("the server does not read the body: %q, %v", line, err)
	}
	io.WriteString(conn, part)
	return conn
}

// TestBodiesInFlight has clients keep back what they have announced: others are refused before they send anything, and
// get on when the first have gone.
func TestBodiesInFlight(t *testing.T) {
	const most = 1 << 20
	hs, s := servertest.Start(t, enginetest.Options{}, server.Options{MaxBody: most, BodyMemory: 4 * most, MaxReading: 10})
	const small = `{"model":"fake","prompt":"p","max_tokens":1}`
	ask := func(key, body string) (*http.Response, string) {
		return servertest.Ask(t, hs, "/v1/completions", body, "Authorization: Bearer "+key)
	}
	refused := func(key, body string, status int, words string) {
		t.Helper()
		res, text := ask(key, body)
		if res.StatusCode != status || !strings.Contains(text, words) || res.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: %d %s %v", key, res.StatusCode, text, res.Header)
		}
	}

	conns := []net.Conn{begun(t, hs, "a", most, "{"), begun(t, hs, "a", most, "{"), begun(t, hs, "a", most-1000, "{")}
	refused("a", small+strings.Repeat(" ", most/2), 429, "You have reached your limit of bytes of request bodies")
	conns = append(conns, begun(t, hs, "b", most-1000, "{"))
	refused("c", small+strings.Repeat(" ", 5000), 503, "The server has reached its limit of bytes of request bodies")
	if res, text := ask("c", small); res.StatusCode != 200 {
		t.Errorf("a small one: %d %s", res.StatusCode, text)
	}
	for _, conn := range conns {
		conn.Close()
	}
	for _, _, bytes := s.Bodies(); bytes > 0; _, _, bytes = s.Bodies() { // until the server has noticed
	}
	if res, text := ask("c", small+strings.Repeat(" ", most/2)); res.StatusCode != 200 {
		t.Errorf("when they have gone: %d %s", res.StatusCode, text)
	}

	// Places, whatever the size.
	for range 8 {
		begun(t, hs, "a", 10, "{")
	}
	refused("a", small, 429, "You have reached your limit of requests being read")
	if res, text := ask("b", small); res.StatusCode != 200 {
		t.Errorf("another client: %d %s", res.StatusCode, text)
	}
}

// TestGrowingBody sends a body of unknown length, which is refused where it has no more room.
func TestGrowingBody(t *testing.T) {
	const most = 1 << 20
	hs, s := servertest.Start(t, enginetest.Options{}, server.Options{MaxBody: most, BodyMemory: 4 * most})
	begun(t, hs, "a", most, "{")
	begun(t, hs, "b", most, "{")
	begun(t, hs, "c", most, "{")
	begun(t, hs, "d", most/2, "{")

	// The type of the reader hides its length.
	body := struct{ io.Reader }{strings.NewReader(`{"prompt":"` + strings.Repeat("a", 3*most/4) + `"}`)}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, hs.URL+"/v1/completions", body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := hs.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d", res.StatusCode)
	}
	if requests, _, bytes := s.Bodies(); requests != 4 || bytes != most*7/2 {
		t.Errorf("%d requests with %d bytes are left", requests, bytes)
	}
}

// TestLimitsOfBodies sends bodies that are too large for what could be in them.
func TestLimitsOfBodies(t *testing.T) {
	large := strings.Repeat(" ", 5<<20)
	for _, vision := range []bool{false, true} {
		hs, s := servertest.Start(t, enginetest.Options{Vision: vision}, server.Options{})
		if err := s.Preload(t.Context(), s.Model); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]int{
			"/v1/chat/completions": map[bool]int{false: 413, true: 200}[vision],
			"/v1/completions":      413,
		} {
			res, text := servertest.Post(t, hs, path,
				`{"model":"fake","max_tokens":1,"messages":[{"role":"user","content":"p"}]`+large+`}`)
			if res.StatusCode != want || want == 413 && !strings.Contains(text, "maximum 4194304 bytes") {
				t.Errorf("vision %v, %s: %d %.200s", vision, path, res.StatusCode, text)
			}
		}
	}
}

// TestModelFirst sends bodies with errors that are found only when they are decoded: a model that is not there, or has
// no place, is found before.
func TestModelFirst(t *testing.T) {
	gate := make(chan struct{})
	entered := make(chan struct{}, 1000)
	hs, s := servertest.StartEngine(t, enginetest.Options{
		Limits:       engine.Limits{Sequences: 1},
		BeforeDecode: func(*engine.Batch) error { entered <- struct{}{}; <-gate; return nil },
	}, engine.Options{MaxWaiting: 1}, server.Options{})

	paths := map[string]string{
		"/v1/completions":      `{"model":%q,"prompt":7}`,
		"/v1/chat/completions": `{"model":%q,"messages":7}`,
		"/v1/responses":        `{"model":%q,"input":7}`,
		"/v1/embeddings":       `{"model":%q,"input":{}}`,
		"/v1/messages":         `{"model":%q,"messages":7}`,
		"/api/chat":            `{"model":%q,"messages":7}`,
	}
	check := func(model string, want int) {
		t.Helper()
		for path, body := range paths {
			res, text := servertest.Ask(t, hs, path, fmt.Sprintf(body, model), "Anthropic-Version: 2023-06-01")
			busy := want == 429 && (res.StatusCode == 529 || res.StatusCode == 503)
			if res.StatusCode != want && !busy {
				t.Errorf("%s for %s: %d %s, want %d", path, model, res.StatusCode, text, want)
			}
		}
	}
	check("none", 404)
	check("fake", 400)

	done := make(chan struct{}, 2)
	work := func() {
		servertest.Post(t, hs, "/v1/completions", `{"model":"fake","prompt":"p","max_tokens":1}`)
		done <- struct{}{}
	}
	go work()
	<-entered
	go work()
	for s.Engine.Stats().Queued < 1 {
	}
	check("fake", 429)
	check("none", 404)
	close(gate)
	<-done
	<-done
}
