package server_test

import (
	"net/http"
	"strings"
	"testing"

	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
	"serve/service"
)

// TestManage lets programs of this machine and the server's own page manage models. Nobody else may: not
// those behind a proxy, and no page of another site, whether its origin is allowed or not.
func TestManage(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{
		Library:        &servertest.Library{Files: map[string]*service.Facts{"fake": {Name: "fake"}}},
		AllowedOrigins: []string{"*"},
	})
	address := strings.TrimPrefix(hs.URL, "http://")
	manage := []struct {
		method, path, body string
	}{
		{"POST", "/api/pull", `{"model":"none"}`},
		{"POST", "/api/copy", `{"source":"fake","destination":"other"}`},
		{"DELETE", "/api/delete", `{"model":"none"}`},
		{"POST", "/api/create", `{}`},
		{"POST", "/api/generate", `{"model":"fake","keep_alive":0}`},
		{"POST", "/api/chat", `{"model":"fake","keep_alive":0}`},
	}

	for _, tt := range []struct {
		name, header, value, host string
		may                       bool
	}{
		{name: "a program", may: true},
		{name: "the server's page", header: "Origin", value: hs.URL, may: true},
		{name: "an editor's view", header: "Origin", value: "vscode-webview://0abc", may: true},
		{name: "an allowed extension", header: "Origin", value: "chrome-extension://abc", may: true},
		{name: "an allowed page", header: "Origin", value: "https://app.example"},
		{name: "a page at another port", header: "Origin", value: "http://127.0.0.1:1"},
		{name: "a page of no origin", header: "Origin", value: "null"},
		{name: "a name that was rebound", header: "Origin", value: "http://evil.example", host: "evil.example"},
		{name: "a proxy", header: "X-Forwarded-For", value: "203.0.113.7"},
	} {
		for _, m := range manage {
			req, err := http.NewRequest(m.method, hs.URL+m.path, strings.NewReader(m.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Host = address
			if tt.host != "" {
				req.Host = tt.host
			}
			if tt.header != "" {
				req.Header.Set(tt.header, tt.value)
			}

			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if refused := res.StatusCode == http.StatusForbidden; refused == tt.may {
				t.Errorf("%s, %s %s: %d", tt.name, m.method, m.path, res.StatusCode)
			}
		}
	}
}
