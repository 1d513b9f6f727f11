package replay

import (
	"bytes"
	"context"
	"crypto/fips140"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"serve/audit"
	"serve/dial"
	"serve/engine"
	"serve/engine/enginetest"
	"serve/flagset"
	"serve/hub"
	"serve/registry"
	"serve/server"
	"serve/server/servertest"
	"serve/service"
	"serve/terminal"
)

// place is a log with captures, and the key for them.
type place struct {
	t        *testing.T
	dir      string
	identity *age.X25519Identity
	keyFile  string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	if fips140.Enabled() {
		t.Skip("nothing is captured in FIPS 140-3 mode")
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	p := &place{t: t, dir: filepath.Join(t.TempDir(), "audit"), identity: identity}
	if _, err := audit.Init(p.dir); err != nil {
		t.Fatal(err)
	}
	p.keyFile = p.write(identity.String())
	return p
}

func (p *place) write(text string) string {
	p.t.Helper()
	name := filepath.Join(p.t.TempDir(), "key")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return name
}

// model is a fake that thinks, says something and calls a tool: letters by their number, but for one that turns.
func model(turned int) enginetest.Options {
	return enginetest.Options{
		Limits: engine.Limits{Context: 1 << 12, Sequences: 8, EmbedTokens: 1 << 10, Reproducible: true},
		Next: func(tokens []engine.Token) engine.Token {
			letter := engine.Token('a' + len(tokens)%26)
			if turned > 0 && len(tokens)%10 == turned {
				letter = 'Z'
			}
			return letter
		},
		Parse: func(text string, partial bool) (m enginetest.Message, err error) {
			m.Reasoning = text[:min(3, len(text))]
			m.Content = text[len(m.Reasoning):max(min(8, len(text)), len(m.Reasoning))]
			if rest := text[len(m.Reasoning)+len(m.Content):]; rest != "" {
				arguments := `{"said":"` + rest
				if !partial {
					arguments += `"}`
				}
				m.ToolCalls = []enginetest.ToolCall{{ID: "call_1", Name: "look", Arguments: arguments}}
			}
			return m, nil
		},
	}
}

// record runs a server with a log and captures, asks it, and returns the ids of the requests.
func (p *place) record(requests []request) (ids []string) {
	p.t.Helper()
	log, err := audit.Open(p.dir, audit.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		p.t.Fatal(err)
	}
	captures, err := audit.OpenCaptures(filepath.Join(p.dir, audit.CapturesFolder), []age.Recipient{p.identity.Recipient()}, false)
	if err != nil {
		p.t.Fatal(err)
	}
	start := audit.Event{Kind: audit.ServerStart, Detail: map[string]string{"version": "", "processor": "another"}}
	if err := log.Append(start.Record()); err != nil {
		p.t.Fatal(err)
	}
	hs, _ := servertest.Start(p.t, model(0), server.Options{Audit: log, Captures: captures, Library: files("5ha")})
	for _, r := range requests {
		res, text := servertest.Ask(p.t, hs, r.path, r.body, r.headers...)
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			p.t.Fatalf("%s: %d %s", r.path, res.StatusCode, text)
		}
		ids = append(ids, res.Header.Get("X-Request-Id"))
	}
	hs.Close()
	if err := log.Close(); err != nil {
		p.t.Fatal(err)
	}
	return ids
}

// files describes the model, by its hash.
func files(sum string) *servertest.Library {
	return &servertest.Library{Files: map[string]*service.Facts{"fake": {Name: "fake", SHA256: sum}}}
}

// replay runs the command, and returns what it said.
func (p *place) replay(hs *httptest.Server, id string, args ...string) (string, error) {
	p.t.Helper()
	var out bytes.Buffer
	lookup := func(string) string { return "" }
	t := terminal.New(&out, &out, lookup)
	c := &Replay{Terminal: t, Lookup: lookup, Dialer: func() *dial.Dialer {
		return &dial.Dialer{
			Terminal: t,
			Lookup:   lookup,
			Network:  func() (hub.Options, error) { return hub.Options{}, nil },
			Servers:  func() ([]registry.Server, error) { return []registry.Server{{PID: 1, URL: hs.URL}}, nil },
		}
	}}
	f := flagset.New()
	c.Declare(f)
	if err := f.Parse(append([]string{"--audit", p.dir, "--identity", p.keyFile}, args...)); err != nil {
		p.t.Fatal(err)
	}
	err := c.Run(context.Background(), id)
	return out.String(), err
}

// request is what is asked.
type request struct {
	path, body string
	headers    []string
}

const tools = `,"tools":[{"type":"function","function":{"name":"look","parameters":{"type":"object"}}}]`

var requests = []request{
	{path: "/v1/chat/completions", body: `{"model":"fake","max_tokens":12,"logprobs":true` + tools + `,` + servertest.Hello + `}`},
	{path: "/v1/chat/completions", body: `{"model":"fake","max_tokens":12,"n":2,"stream":true` + tools + `,` + servertest.Hello + `}`},
	{path: "/v1/completions", body: `{"model":"fake","max_tokens":12,"prompt":["a","b"]}`},
	{path: "/v1/completions", body: `{"model":"fake","max_tokens":12,"prompt":"a","stream":true,"logprobs":1}`},
	{path: "/v1/responses", body: `{"model":"fake","max_output_tokens":16,"input":"Hello"}`},
	{path: "/v1/responses", body: `{"model":"fake","max_output_tokens":16,"input":"Hello","stream":true}`},
	{path: "/v1/responses", body: `{"model":"fake","max_output_tokens":16,"input":"Hello","background":true}`},
	{path: "/v1/messages", body: `{"model":"fake","max_tokens":12,"tools":[{"name":"look","input_schema":{"type":"object"}}],` +
		servertest.Hello + `}`, headers: []string{"X-Serve-Reproducible: true", "anthropic-version: 2023-06-01"}},
	{path: "/v1/messages", body: `{"model":"fake","max_tokens":12,"stream":true,` + servertest.Hello + `}`},
	{path: "/api/chat", body: `{"model":"fake","options":{"num_predict":12}` + tools + `,` + servertest.Hello + `}`},
	{path: "/api/chat", body: `{"model":"fake","stream":false,"options":{"num_predict":12},` + servertest.Hello + `}`},
	{path: "/api/generate", body: `{"model":"fake","raw":true,"options":{"num_predict":12},"prompt":"a"}`},
	{path: "/v1/embeddings", body: `{"model":"fake","input":["a","b"]}`},
}

// TestReplay asks servers again in each API: the answers are the same, and of a model that says something else, they
// differ where it does.
func TestReplay(t *testing.T) {
	p := newPlace(t)
	ids := p.record(requests)
	same, _ := servertest.Start(t, model(0), server.Options{Library: files("5ha")})
	turned, _ := servertest.Start(t, model(6), server.Options{Library: files("5ha")})
	for i, r := range requests {
		name := r.path + " " + r.body
		said, err := p.replay(same, ids[i])
		if err != nil || !strings.Contains(said, "is the same, byte for byte") || strings.Contains(said, "(0 bytes") ||
			!strings.Contains(said, "the processor was another") {
			t.Errorf("%s: %v\n%s", name, err, said)
		}
		if r.path == "/v1/embeddings" {
			continue
		}
		said, err = p.replay(turned, ids[i])
		if !errors.Is(err, ErrDiffers) || !strings.Contains(said, "Z") {
			t.Errorf("%s, of another model: %v\n%s", name, err, said)
			continue
		}
		reproducible := len(r.headers) > 0
		if isTie := strings.Contains(err.Error(), "near-tie"); isTie == reproducible {
			t.Errorf("%s: %v", name, err)
		}
	}

	said, err := p.replay(turned, ids[2], "--json", "--url", turned.URL)
	if !errors.Is(err, ErrDiffers) || !strings.Contains(said, `"part": "choice 0 text"`) || strings.Contains(said, `"token": -1`) {
		t.Errorf("%v\n%s", err, said)
	}
}

// TestNotReplayed says why a request cannot be asked again.
func TestNotReplayed(t *testing.T) {
	p := newPlace(t)
	id := p.record(requests[:1])[0]
	hs, _ := servertest.Start(t, model(0), server.Options{Library: files("5ha")})
	changed, _ := servertest.Start(t, model(0), server.Options{Library: files("0ther")})
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}

	if _, err := p.replay(changed, id); !errors.Is(err, ErrModel) || !strings.Contains(err.Error(), "of fake is 0ther") {
		t.Errorf("a changed model: %v", err)
	}
	if _, err := p.replay(hs, id, "--identity", p.write(other.String())); !errors.Is(err, audit.ErrKey) {
		t.Errorf("another key: %v", err)
	}
	if _, err := p.replay(hs, "req_other"); err == nil {
		t.Error("there is no such request")
	}
	hs.Close()
	if _, err := p.replay(hs, id); err == nil || !strings.Contains(err.Error(), "no server") {
		t.Errorf("no server: %v", err)
	}

	names, err := filepath.Glob(filepath.Join(p.dir, audit.CapturesFolder, "*.age"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%q, %v", names, err)
	}
	file, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	file[len(file)-1] ^= 1
	if err := os.WriteFile(names[0], file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.replay(changed, id); !errors.Is(err, audit.ErrProof) {
		t.Errorf("a changed capture: %v", err)
	}
}

// TestTranscript refuses what is no exchange.
func TestTranscript(t *testing.T) {
	for text, ok := range map[string]bool{
		"POST /v1/x HTTP/1.1\r\nHost: serve\r\nContent-Length: 2\r\n\r\n{}": true,
		"POST /v1/x HTTP/1.1\r\nHost: serve\r\nContent-Length: 2\r\n\r\n{}" +
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n": true,
		"POST /v1/x HTTP/1.1\r\nHost: serve\r\nContent-Length: 2\r\n\r\n{}" +
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n": false,
		"POST /v1/x HTTP/1.1\r\nHost: serve\r\nContent-Length: 2\r\n\r\n{}" +
			"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore": false,
		"": false,
	} {
		got, err := ReadTranscript(strings.NewReader(text))
		if (err == nil) != ok || ok && (got.Path != "/v1/x" || string(got.Body) != "{}") {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	if _, err := ReadTranscript(io.MultiReader(strings.NewReader("POST "), broken{})); !errors.Is(err, audit.ErrProof) {
		t.Errorf("a capture that does not verify: %v", err)
	}
}

// broken is a capture that does not verify.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, audit.ErrProof }
