package server_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// query sends a request, with a header "name: value" if it is not empty, and returns the status, the answer, and what
// was ignored.
func query(t *testing.T, method, url, body, header string) (status int, answer, ignored string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if name, value, there := strings.Cut(header, ": "); there {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text), strings.Join(res.Header.Values("X-Ignored-Fields"), " ")
}

// TestQueries sends parameters that endpoints declare, and others, to each API: they are refused by name, also where
// nothing is read from a query, and nothing else is done.
func TestQueries(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	const (
		chat    = `{"model":"fake","messages":[{"role":"user","content":"x"}],"max_tokens":4}`
		version = "anthropic-version: 2023-06-01"
		key     = "An API key in a URL is not accepted"
	)

	for _, tt := range []struct {
		method, path string
		body         string
		header       string
		status       int
		want         string // a part of the answer or of the header with what is ignored
	}{
		{"GET", "/v1/models?api-version=preview&client_version=0.171.0", "", "", 200, `"fake"`},
		{"GET", "/v1/models?limit=3", "", "", 400, `"param":"limit","code":"unknown_parameter"`},
		{"HEAD", "/v1/models?limit=3", "", "", 400, ""},
		{"GET", "/v1/models/fake?x=1", "", "", 400, `"param":"x"`},
		{"GET", "/v1/models?key=secret", "", "", 400, key},
		{"GET", "/v1/models?limit=3&beta=true", "", version, 200, `"has_more":false`},
		{"GET", "/v1/models?limit=3&order=asc", "", version, 400, "Unknown parameter: 'order'"},
		{"GET", "/v1/models?limit=3&limit=4", "", version, 400, "Invalid 'limit'"},
		{"POST", "/v1/messages?beta=true", chat, "", 200, `"role":"assistant"`},
		{"POST", "/v1/messages?beta=yes", chat, "", 400, "Invalid type for 'beta'"},
		{"POST", "/v1/messages?stream=true", chat, "", 400, "Unknown parameter: 'stream'"},
		{"POST", "/v1/chat/completions?api-version=2024-10-21", chat, "", 200, `"role":"assistant"`},
		{"POST", "/openai/deployments/fake/chat/completions?api-version=2024-10-21", chat, "", 200, `"assistant"`},
		{"POST", "/v1/chat/completions?temperature=0", chat, "", 400, `"param":"temperature"`},
		{"POST", "/v1/chat/completions?api_key=secret", chat, "", 400, key},
		{"POST", "/v1/responses?beta=true", `{"model":"fake","input":"x"}`, "", 200, `"output"`},
		{"GET", "/v1/conversations/conv_1/items?limit=101", "", "", 400, `"code":"integer_above_max_value"`},
		{"GET", "/v1/responses/resp_1?stream=true", "", "", 400, `"code":"unsupported_parameter"`},
		{"GET", "/v1/responses/resp_1?stream=false&starting_after=3&include[]=a&include[]=b", "", "", 404, "resp_1"},
		{"DELETE", "/v1/responses/resp_1?force=true", "", "", 400, `"param":"force"`},
		{"GET", "/tokenizer_info?model=fake", "", "", 200, "tokenizer_class"},
		{"GET", "/tokenizer_info?name=fake", "", "", 400, `"param":"name"`},
		{"GET", "/api/tags?x=1&y=2", "", "", 200, "x y"},
		{"POST", "/api/chat?x=1", `{"model":"fake","messages":[],"unknown":1}`, "", 200, "x unknown"},
		{"GET", "/api/tags?key=secret", "", "", 400, key},
		{"GET", "/readyz?model=fake", "", "", 200, `"fake"`},
		{"GET", "/readyz?models=fake", "", "", 400, "Unknown parameter: 'models'"},
		{"GET", "/metrics?name[]=up", "", "", 400, "Unknown parameter: 'name'"},
		{"GET", "/status?verbose", "", "", 400, "Unknown parameter: 'verbose'"},
		{"GET", "/openapi.json?v=%zz", "", "", 400, "query cannot be read"},
		{"GET", "/healthz?probe=17", "", "", 200, ""},
		{"GET", "/?from=bookmark", "", "", 200, ""},
	} {
		status, text, ignored := query(t, tt.method, hs.URL+tt.path, tt.body, tt.header)
		text += ignored
		if status != tt.status || !strings.Contains(text, tt.want) || strings.Contains(text, "secret") {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, status, text)
		}
	}
}

// TestLenientQueries names parameters that are not declared in a header, and refuses wrong values of others still.
func TestLenientQueries(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{LenientFields: true})
	for path, want := range map[string]string{
		"/v1/models?b=1&a=2&api-version=1": "200 a b",
		"/v1/models":                       "200 ",
		"/readyz?models=fake":              "200 models",
		"/v1/files?limit=x&a=1":            "400 ",
		"/v1/models?access_token=secret":   "400 ",
	} {
		status, _, ignored := query(t, http.MethodGet, hs.URL+path, "", "")
		if got := fmt.Sprint(status, " ", ignored); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
