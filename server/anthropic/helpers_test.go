package anthropic_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/anthropic"
	"serve/server/servertest"
	"serve/testfiles"
)

const (
	messages = "/v1/messages"
	count    = "/v1/messages/count_tokens"
)

// scripted parses what the fake says: (thinking), then text, then calls as <name {input}>.
func scripted(text string, _ bool) (enginetest.Message, error) {
	var m enginetest.Message
	if thought, ok := strings.CutPrefix(text, "("); ok {
		m.Reasoning, text, _ = strings.Cut(thought, ")")
	}
	content, rest, called := strings.Cut(text, "<")
	m.Content = content
	for called {
		var call string
		call, rest, _ = strings.Cut(rest, ">")
		if name, arguments, ok := strings.Cut(call, " "); ok {
			m.ToolCalls = append(m.ToolCalls, enginetest.ToolCall{Name: name, Arguments: arguments})
		}
		_, rest, called = strings.Cut(rest, "<")
	}
	return m, nil
}

// start starts a server whose model says a text, and records what it is asked.
func start(t testing.TB, says string) (*httptest.Server, *servertest.Recorder) {
	t.Helper()
	hs, s := servertest.Start(t, enginetest.Options{
		Limits: engine.Limits{Context: 4096, Batch: 512, Cells: 16384},
		Next:   enginetest.Say(says),
		Parse:  scripted,
		Vision: true,
	}, server.Options{})

	r := servertest.Record(s)
	r.Rewrite = func(rendered *engine.Rendered) {
		// The fake begins to say its text after the first newline.
		rendered.Prompt = strings.ReplaceAll(strings.TrimSuffix(rendered.Prompt, "\n"), "\n", " ") + "\n"
	}
	return hs, r
}

// body writes a request with the given fields.
func body(fields string) string {
	if strings.Contains(fields, `"max_tokens":`) {
		return `{"model":"fake",` + fields + `}`
	}
	return `{"model":"fake","max_tokens":60,` + fields + `}`
}

// dialog writes a request with the given messages.
func dialog(messages string) string { return body(`"messages":[` + messages + `]`) }

// pixel is a PNG file of two pixels.
var pixel = base64.StdEncoding.EncodeToString(servertest.PNG(2, 1))

// changing is what differs from run to run in an answer.
var changing = regexp.MustCompile(`(msg_|toolu_|req_)[0-9a-f]{24}`)

// mark is the mark of an image in a prompt.
var mark = regexp.MustCompile(`image-[0-9a-f]{24}`)

// golden compares a text with a golden file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	got = changing.ReplaceAllString(got, "${1}0")
	testfiles.Golden(t, name, got, *anthropic.Update)
}

// event is an event of a stream.
type event struct {
	name string
	data map[string]any
}

// events splits a stream. Every event must have the name that its data has as type.
func events(t testing.TB, stream string) (list []event) {
	t.Helper()
	for _, text := range strings.Split(strings.TrimSuffix(stream, "\n\n"), "\n\n") {
		name, data, ok := strings.Cut(text, "\ndata: ")
		e := event{name: strings.TrimPrefix(name, "event: ")}
		if err := json.Unmarshal([]byte(data), &e.data); err != nil || !ok || e.data["type"] != e.name {
			t.Fatalf("%v: %s", err, text)
		}
		list = append(list, e)
	}
	return list
}

// joined joins deltas of one block, which come in as many as the reader is fast.
func joined(list []event) (short []event) {
	for _, e := range list {
		if n := len(short); n > 0 && e.name == "content_block_delta" && short[n-1].name == e.name {
			last, _ := short[n-1].data["delta"].(map[string]any)
			next, _ := e.data["delta"].(map[string]any)
			if last["type"] == next["type"] {
				for field, text := range next {
					if field != "type" {
						last[field] = last[field].(string) + text.(string)
					}
				}
				continue
			}
		}
		short = append(short, e)
	}
	return short
}

// write writes events again.
func write(t testing.TB, list []event) string {
	t.Helper()
	var b strings.Builder
	for _, e := range list {
		data, err := json.Marshal(e.data)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("event: " + e.name + "\ndata: " + string(data) + "\n\n")
	}
	return b.String()
}

// fault is an error response.
type fault struct {
	Type  string
	Error struct {
		Type    string
		Message string
	}
	RequestID string `json:"request_id"`
}

// readFault reads an error response, and checks its form.
func readFault(t testing.TB, res *http.Response, body string) fault {
	t.Helper()
	var f fault
	err := json.Unmarshal([]byte(body), &f)
	if err != nil || f.Type != "error" || f.Error.Type == "" || f.Error.Message == "" ||
		!strings.HasPrefix(f.RequestID, "req_") || f.RequestID != res.Header.Get("Request-Id") {
		t.Fatalf("%v: %d %s, request-id %q", err, res.StatusCode, body, res.Header.Get("Request-Id"))
	}
	return f
}
