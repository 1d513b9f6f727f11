package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"serve/access"
	"serve/audit"
	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
	"serve/service"
)

// logged is an audit log in a folder, in whose place a test can stand.
type logged struct {
	*audit.Log
	dir string

	mu     sync.Mutex
	before func(*audit.Record) error // is called before a record is written, and may fail it
	state  audit.State               // if it fails
}

func newLogged(t testing.TB) *logged {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	if _, err := audit.Init(dir); err != nil {
		t.Fatal(err)
	}
	l, err := audit.Open(dir, audit.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &logged{Log: l, dir: dir}
}

// Append implements audit.Recorder.
func (l *logged) Append(r *audit.Record) error {
	l.mu.Lock()
	before := l.before
	l.mu.Unlock()
	if before != nil {
		if err := before(r); err != nil {
			return err
		}
	}
	return l.Log.Append(r)
}

// State implements audit.Recorder.
func (l *logged) State() audit.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.Failing != nil {
		return l.state
	}
	return l.Log.State()
}

func (l *logged) check(f func(*audit.Record) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = f
}

// records returns those of the log, which is closed.
func (l *logged) records(t testing.TB) (list []*audit.Record) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for r, err := range audit.Records(l.dir) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	report, err := audit.Verify(l.dir, audit.VerifyOptions{})
	if err != nil || len(report.Problems) > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	return list
}

// watchedWriter is what a client has got so far.
type watchedWriter struct {
	header http.Header
	mu     sync.Mutex
	status int
	body   bytes.Buffer
}

func (w *watchedWriter) Header() http.Header { return w.header }

func (w *watchedWriter) WriteHeader(status int) { w.status = status }

func (w *watchedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.body.Write(p)
}

func (w *watchedWriter) Flush() {}

func (w *watchedWriter) got() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.body.String()
}

// asked are requests in each API, whole and as a stream, and what the end of the answer is. Without an end it is whole.
var asked = []struct {
	name, path, body, end string
}{
	{"chat", "/v1/chat/completions", `{"model":"fake","max_tokens":5,"temperature":0.5,` + servertest.Hello + `}`, ""},
	{"chat stream", "/v1/chat/completions", `{"model":"fake","stream":true,"max_tokens":5,` + servertest.Hello + `}`, "[DONE]"},
	{"completion", "/v1/completions", `{"model":"fake","max_tokens":5,"prompt":["a","b"],"n":2}`, ""},
	{"completion stream", "/v1/completions", `{"model":"fake","max_tokens":5,"prompt":"a","stream":true}`, "[DONE]"},
	{"response", "/v1/responses", `{"model":"fake","max_output_tokens":16,"input":"Hello"}`, ""},
	{"response stream", "/v1/responses", `{"model":"fake","stream":true,"max_output_tokens":16,"input":"Hello"}`,
		"response.incomplete"},
	{"message", "/v1/messages", `{"model":"fake","max_tokens":5,` + servertest.Hello + `}`, ""},
	{"message stream", "/v1/messages", `{"model":"fake","stream":true,"max_tokens":5,` + servertest.Hello + `}`, "message_stop"},
	{"ollama chat", "/api/chat", `{"model":"fake","stream":false,"options":{"num_predict":5},` + servertest.Hello + `}`, ""},
	{"ollama stream", "/api/chat", `{"model":"fake","options":{"num_predict":5},` + servertest.Hello + `}`, `"done":true`},
	{"embedding", "/v1/embeddings", `{"model":"fake","input":["a","b"]}`, ""},
}

var endless = enginetest.Options{
	Limits: engine.Limits{Context: 1 << 12, Sequences: 8, EmbedTokens: 1 << 10},
	Next:   func([]engine.Token) engine.Token { return 'a' },
}

// askWatched asks with a key, and returns what the client got.
func askWatched(h http.Handler, w *watchedWriter, path, body, key string) {
	r := httptest.NewRequest(http.MethodPost, "http://localhost"+path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Client-Request-Id", "mine\n{}")
	defer func() {
		err, ok := recover().(error)
		if ok && !errors.Is(err, http.ErrAbortHandler) {
			panic(err)
		}
	}()
	h.ServeHTTP(w, r)
}

func newWatched() *watchedWriter { return &watchedWriter{header: http.Header{}, status: 200} }

// TestAudited records requests in each API. When a model begins the log says so, and before a client has the last byte of
// its answer the log has the end.
func TestAudited(t *testing.T) {
	log := newLogged(t)
	k, secrets := newKeyed(t, access.NewKey{Name: "alice", Tenant: "ward"})
	_, s := servertest.Start(t, endless, server.Options{Keys: k.open(), Audit: log})
	answers := map[string]string{}
	for _, tt := range asked {
		w := newWatched()
		var kinds []audit.Kind
		steps := s.Engine.Stats().Steps
		log.check(func(r *audit.Record) error {
			kinds = append(kinds, r.Kind)
			got := w.got()
			switch {
			case r.Kind == audit.RequestBegin && (got != "" || s.Engine.Stats().Steps != steps):
				t.Errorf("%s: something was computed before the log says that it begins", tt.name)
			case r.Kind == audit.RequestEnd && (tt.end == "" && got != "" || tt.end != "" && strings.Contains(got, tt.end)):
				t.Errorf("%s: the client has its answer before the log has it: %q", tt.name, got)
			}
			return nil
		})
		askWatched(s.Handler(), w, tt.path, tt.body, secrets["alice"])
		if w.status != 200 || !strings.Contains(w.got(), tt.end) {
			t.Fatalf("%s: %d %s", tt.name, w.status, w.got())
		}
		if !slices.Equal(kinds, []audit.Kind{audit.RequestBegin, audit.RequestEnd}) {
			t.Errorf("%s: %v", tt.name, kinds)
		}
		answers[w.header.Get("X-Request-Id")] = tt.name
	}

	ends := 0
	for _, r := range log.records(t) {
		if r.Kind != audit.RequestEnd {
			continue
		}
		ends++
		name := answers[r.ID]
		if name == "" || r.Who == nil || r.Who.Name != "alice" || r.Who.Tenant != "ward" || r.Address == "" ||
			r.ClientID != "mine\n{}" || r.Status != 200 || r.Route == "" || r.API == "" {
			t.Errorf("%s: %+v", name, r)
		}
		for _, w := range r.Work {
			generates := name != "embedding"
			if w.Model != "fake" || w.In == 0 || len(w.Prompts) == 0 || generates &&
				(w.Out == 0 || len(w.Finish) == 0 || len(w.Answers) == 0 || !bytes.Contains(w.Parameters, []byte("temperature"))) {
				t.Errorf("%s: %+v", name, w)
			}
		}
		if len(r.Work) == 0 || name == "completion" && (len(r.Work) != 2 || len(r.Work[0].Answers) != 2) {
			t.Errorf("%s: %d works", name, len(r.Work))
		}
	}
	if ends != len(asked) {
		t.Errorf("%d of %d requests have an end", ends, len(asked))
	}
	for text, as := range map[string]audit.Subject{
		"Hello": audit.OfMessage,
		"aaaaa": audit.OfAnswer,
		"a":     audit.OfPrompt,
	} {
		matches, err := audit.FindText(log.dir, []byte(text))
		if err != nil || !slices.ContainsFunc(matches, func(m audit.Match) bool { return m.As == as }) {
			t.Errorf("%q is not found as %s: %v, %v", text, as, matches, err)
		}
	}
}

// TestUnrecorded answers nothing that cannot be recorded, in the form of each API.
func TestUnrecorded(t *testing.T) {
	log := newLogged(t)
	_, s := servertest.Start(t, endless, server.Options{Audit: log})
	full := errors.New("no space left on device")
	for _, tt := range asked {
		// The log fails when the request begins, when it ends, and before it comes.
		for _, when := range []audit.Kind{audit.RequestBegin, audit.RequestEnd, ""} {
			log.check(func(r *audit.Record) error {
				if r.Kind == when {
					return full
				}
				return nil
			})
			log.mu.Lock()
			log.state = audit.State{}
			if when == "" {
				log.state.Failing = full
			}
			log.mu.Unlock()
			for s.Engine.Stats().Running > 0 { // the answer before, which was endless
				runtime.Gosched()
			}

			w := newWatched()
			steps := s.Engine.Stats().Steps
			askWatched(s.Handler(), w, tt.path, tt.body, "none")
			if when != audit.RequestEnd && s.Engine.Stats().Steps != steps {
				t.Errorf("%s, %s: something was computed", tt.name, when)
			}
			streamed := when == audit.RequestEnd && tt.end != ""
			if !streamed && w.status != 503 || streamed && w.status != 200 {
				t.Errorf("%s, %s: status %d", tt.name, when, w.status)
			}
			if got := w.got(); !strings.Contains(got, "audit log") || tt.end != "" && strings.Contains(got, tt.end) {
				t.Errorf("%s, %s: %s", tt.name, when, got)
			}
			if !streamed && !json.Valid([]byte(w.got())) {
				t.Errorf("%s, %s: %s", tt.name, when, w.got())
			}
		}
	}
	if o := ask(s.Handler(), "GET", "/v1/models", ""); o.status != 200 {
		t.Errorf("a list, which is not recorded: %d", o.status)
	}
	if o := ask(s.Handler(), "GET", "/readyz", ""); o.status != 503 || !strings.Contains(o.body, "audit") {
		t.Errorf("readyz: %d %s", o.status, o.body)
	}
	log.mu.Lock()
	log.state.Continues = true
	log.mu.Unlock()
	if o := ask(s.Handler(), "GET", "/readyz", ""); o.status != 200 || !strings.Contains(o.body, "audit") {
		t.Errorf("readyz, where work goes on: %d %s", o.status, o.body)
	}
	if o := ask(s.Handler(), "GET", "/status", ""); !strings.Contains(o.body, "no space left on device") {
		t.Errorf("status: %s", o.body)
	}
}

// TestRefusalsAreRecorded records requests that are refused, and what administrators do.
func TestRefusalsAreRecorded(t *testing.T) {
	log := newLogged(t)
	k, secrets := newKeyed(t, access.NewKey{Name: "alice"}, access.NewKey{Name: "root", Scopes: access.Admin})
	keys := k.open()
	_, s := servertest.Start(t, endless, server.Options{
		Keys:    keys,
		Audit:   log,
		Library: &servertest.Library{Files: map[string]*service.Facts{"fake": {Name: "fake", SHA256: "5ha"}, "old": {Name: "old"}}},
	})
	h := s.Handler()
	alice := "Authorization: Bearer " + secrets["alice"]
	root := "Authorization: Bearer " + secrets["root"]
	for range 1000 {
		ask(h, "GET", "/metrics", "", "Authorization: Bearer wrong")
	}
	ask(h, "POST", "/api/copy", `{"source":"fake","destination":"other"}`, alice) // 403
	ask(h, "POST", "/v1/chat/completions", `{"model":"fake"}`, alice)             // 400
	ask(h, "POST", "/v1/chat/completions", `{"model":"fake","max_tokens":1,`+servertest.Hello+`}`, alice)
	ask(h, "POST", "/api/copy", `{"source":"fake","destination":"other"}`, root)
	ask(h, "DELETE", "/api/delete", `{"model":"old"}`, root)
	if _, err := access.Revoke(k.path, "alice"); err != nil {
		t.Fatal(err)
	}
	for {
		if o := ask(h, "GET", "/v1/models", "", alice); o.status == 401 {
			break
		}
	}

	var got []string
	counted := int64(0)
	for _, r := range log.records(t) {
		counted += r.Count
		got = append(got, fmt.Sprint(r.Kind, " ", r.Status, " ", r.Object, " ", r.Error))
		if r.Kind == audit.RequestEnd && r.Work[0].SHA256 != "5ha" {
			t.Errorf("the model's hash: %+v", r.Work)
		}
	}
	if n := len(got); n > 100 {
		t.Errorf("%d records of 1,000 wrong keys", n)
	}
	for _, want := range []string{
		"request 401  unauthenticated",
		"request 403  missing_scope",
		"request 400  missing_field",
		"request.begin 0  ",
		"request.end 200  ",
		"model.named 0 fake ",
		"model.deleted 0 old ",
		"key.revoked 0 " + keyID(t, k, "alice") + " ",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is not recorded: %q", want, got)
		}
	}
	if counted < 900 {
		t.Errorf("%d refusals were counted", counted)
	}
}

// keyID returns the id of a key.
func keyID(t *testing.T, k *keyed, name string) string {
	t.Helper()
	list, err := access.List(k.path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		if list[i].Name == name {
			return list[i].ID
		}
	}
	t.Fatal("no key", name)
	return ""
}

// TestLargeAnswers holds the last byte of an answer back that is too large to be held as a whole.
func TestLargeAnswers(t *testing.T) {
	log := newLogged(t)
	_, s := servertest.Start(t, endless, server.Options{Audit: log})
	many := strings.TrimSuffix(strings.Repeat(`"a",`, 2000), ",")
	body := `{"model":"fake","input":[` + many + `]}`
	whole := ask(s.Handler(), "POST", "/v1/embeddings", body)
	if whole.status != 200 || len(whole.body) <= 64<<10 {
		t.Fatalf("%d, %d bytes: %.200s", whole.status, len(whole.body), whole.body)
	}
	w := newWatched()
	ends := 0
	log.check(func(r *audit.Record) error {
		if r.Kind == audit.RequestEnd {
			ends++
			if n := len(w.got()); n != len(whole.body)-1 {
				t.Errorf("%d of %d bytes were sent before the end was recorded", n, len(whole.body))
			}
			return io.ErrShortWrite
		}
		return nil
	})
	askWatched(s.Handler(), w, "/v1/embeddings", body, "none")
	if ends != 1 || len(w.got()) >= len(whole.body) {
		t.Errorf("%d ends, %d bytes", ends, len(w.got()))
	}
}
