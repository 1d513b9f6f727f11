package server_test

import (
	"bufio"
	"crypto/fips140"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"serve/audit"
	"serve/server"
	"serve/server/servertest"
)

// captured are captures in a folder.
type captured struct {
	*audit.Captures
	dir      string
	identity age.Identity
}

func newCaptured(t testing.TB, continues bool) *captured {
	t.Helper()
	if fips140.Enabled() {
		t.Skip("nothing is captured in FIPS 140-3 mode")
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "captures")
	c, err := audit.OpenCaptures(dir, []age.Recipient{identity.Recipient()}, continues)
	if err != nil {
		t.Fatal(err)
	}
	return &captured{Captures: c, dir: dir, identity: identity}
}

// names lists the files of the folder.
func (c *captured) names(t testing.TB) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
		names = append(names, e.Name())
	}
	return names
}

// read decrypts the capture of a record.
func (c *captured) read(t testing.TB, r *audit.Record) (path, request string, status int, answer string) {
	t.Helper()
	f, err := audit.OpenCapture(c.dir, r.Capture, c.identity)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	messages := bufio.NewReader(f)
	req, err := http.ReadRequest(messages)
	if err != nil {
		t.Fatal(err)
	}
	asked, err := io.ReadAll(req.Body)
	if err != nil || req.Header.Get("Authorization") != "" {
		t.Fatalf("%v, %v", err, req.Header)
	}
	res, err := http.ReadResponse(messages, req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(messages); err != nil || len(rest) > 0 {
		t.Fatalf("%q, %v behind the messages", rest, err)
	}
	return req.RequestURI, string(asked), res.StatusCode, string(said)
}

// TestCaptured captures requests in each API: what a client has sent and received, to the last byte.
func TestCaptured(t *testing.T) {
	log := newLogged(t)
	captures := newCaptured(t, false)
	_, s := servertest.Start(t, endless, server.Options{Audit: log, Captures: captures.Captures})
	type exchange struct{ name, path, body, got string }
	exchanges := map[string]exchange{}
	for _, tt := range asked {
		w := newWatched()
		askWatched(s.Handler(), w, tt.path, tt.body, "sk-secret")
		if w.status != 200 {
			t.Fatalf("%s: %d %s", tt.name, w.status, w.got())
		}
		exchanges[w.header.Get("X-Request-Id")] = exchange{tt.name, tt.path, tt.body, w.got()}
	}
	// More than is held as a whole; and what is refused before a model begins, and when it was to begin.
	large := newWatched()
	many := `{"model":"fake","input":[` + strings.TrimSuffix(strings.Repeat(`"\u0061",`, 2000), ",") + `]}`
	askWatched(s.Handler(), large, "/v1/embeddings", many, "sk-secret")
	exchanges[large.header.Get("X-Request-Id")] = exchange{"large", "/v1/embeddings", many, large.got()}
	ask(s.Handler(), "POST", "/v1/chat/completions", `{"model":"fake","messages":[]}`)
	ask(s.Handler(), "POST", "/v1/chat/completions", `{"model":"other",`+servertest.Hello+`}`)

	ends := 0
	for _, r := range log.records(t) {
		if r.Kind != audit.RequestEnd {
			if r.Capture != nil {
				t.Errorf("%s has a capture", r.Kind)
			}
			continue
		}
		ends++
		want := exchanges[r.ID]
		path, request, status, answer := captures.read(t, r)
		if !strings.HasSuffix(path, want.path) || request != want.body || status != 200 || answer != want.got {
			t.Errorf("%s: %s %s: %d %s\nnot %s", want.name, path, request, status, answer, want.got)
		}
	}
	if names := captures.names(t); ends != len(exchanges) || len(names) != ends {
		t.Errorf("%d ends and %d captures of %d answers: %q", ends, len(names), len(exchanges), names)
	}
}

// TestCapturedInBackground captures the response that is stored, and not the one that its client gets at once.
func TestCapturedInBackground(t *testing.T) {
	log := newLogged(t)
	captures := newCaptured(t, false)
	_, s := servertest.Start(t, endless, server.Options{Audit: log, Captures: captures.Captures})
	o := ask(s.Handler(), "POST", "/v1/responses", `{"model":"fake","background":true,"max_output_tokens":16,"input":"Hello"}`)
	var queued, stored struct{ ID, Status string }
	if err := json.Unmarshal([]byte(o.body), &queued); err != nil || o.status != 200 {
		t.Fatalf("%d %s", o.status, o.body)
	}
	s.Wait(t.Context())
	for _, r := range log.records(t) {
		if r.Kind != audit.RequestEnd {
			continue
		}
		_, _, status, answer := captures.read(t, r)
		if err := json.Unmarshal([]byte(answer), &stored); err != nil || status != 200 || stored.ID != queued.ID ||
			stored.Status != "incomplete" || !strings.Contains(answer, "aaaa") {
			t.Errorf("%d %s", status, answer)
		}
		return
	}
	t.Error("the response has no end")
}

// TestUncaptured answers nothing that cannot be captured, or says what is missing, as the operator wants it.
func TestUncaptured(t *testing.T) {
	for _, continues := range []bool{false, true} {
		log := newLogged(t)
		captures := newCaptured(t, continues)
		_, s := servertest.Start(t, endless, server.Options{Audit: log, Captures: captures.Captures})
		w := newWatched()
		log.check(func(r *audit.Record) error {
			if r.Kind == audit.RequestBegin { // the capture has begun, and cannot become durable
				return os.RemoveAll(captures.dir)
			}
			return nil
		})
		askWatched(s.Handler(), w, asked[0].path, asked[0].body, "none")
		log.check(nil)
		again := ask(s.Handler(), "POST", asked[0].path, asked[0].body)
		ready := ask(s.Handler(), "GET", "/readyz", "")
		if continues {
			if w.status != 200 || again.status != 200 || ready.status != 200 || !strings.Contains(ready.body, "audit") {
				t.Errorf("it goes on: %d, %d, %d %s", w.status, again.status, ready.status, ready.body)
			}
		} else if w.status != 503 || again.status != 503 || ready.status != 503 || strings.Contains(w.got(), "aaaaa") {
			t.Errorf("it refuses: %d %s, %d, %d", w.status, w.got(), again.status, ready.status)
		}

		ends := 0
		for _, r := range log.records(t) {
			if r.Kind != audit.RequestEnd {
				continue
			}
			ends++
			if r.Capture == nil || r.Capture.Missing == "" || (r.Error != "") == continues {
				t.Errorf("%+v, %q", r.Capture, r.Error)
			}
		}
		if ends == 0 {
			t.Error("nothing was recorded")
		}
	}
}
