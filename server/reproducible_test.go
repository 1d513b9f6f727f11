package server_test

import (
	"net/http"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// TestReproducibleHeader asks for reproducible answers by the header: answers say that they are, and with which seed
// they were drawn; a server that cannot refuses.
func TestReproducibleHeader(t *testing.T) {
	const header = "X-Serve-Reproducible"
	able, _ := servertest.Start(t, enginetest.Options{Limits: engine.Limits{Reproducible: true}}, server.Options{})
	unable, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	chat := `{"model":"fake","max_tokens":3,"seed":7,` + servertest.Hello + `}`

	for _, tt := range []struct {
		able   bool
		path   string
		body   string
		given  string
		status int
		said   string
	}{
		{true, "/v1/chat/completions", chat, "true", http.StatusOK, "seed=7"},
		{true, "/v1/messages", `{"model":"fake","max_tokens":3,` + servertest.Hello + `}`, "true", http.StatusOK, "seed="},
		{true, "/v1/chat/completions", strings.Replace(chat, "{", `{"stream":true,`, 1), "1", http.StatusOK, "seed=7"},
		{true, "/v1/chat/completions", chat, "false", http.StatusOK, ""},
		{true, "/v1/chat/completions", chat, "please", http.StatusBadRequest, ""},
		{false, "/v1/chat/completions", chat, "true", http.StatusBadRequest, ""},
		{false, "/v1/chat/completions", chat, "false", http.StatusOK, ""},
		{true, "/v1/embeddings", `{"model":"fake","input":"x"}`, "true", http.StatusBadRequest, ""},
	} {
		hs := unable
		if tt.able {
			hs = able
		}
		res, text := servertest.Ask(t, hs, tt.path, tt.body, header+": "+tt.given)
		if res.StatusCode != tt.status {
			t.Errorf("%s with %q where it is possible: %t: %d %s", tt.path, tt.given, tt.able, res.StatusCode, text)
		}
		said := res.Header.Get(header)
		if !strings.HasPrefix(said, tt.said) || said != "" && tt.said == "" {
			t.Errorf("%s with %q: the answer says %q", tt.path, tt.given, said)
		}
		if refused := strings.Contains(text, "reproducible"); !tt.able && refused != (tt.status != http.StatusOK) {
			t.Errorf("%s with %q: %s", tt.path, tt.given, text)
		}
	}
}

// TestSeedHeader gives a seed by the header, in an API without a field for it too.
func TestSeedHeader(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Limits: engine.Limits{Reproducible: true}}, server.Options{})
	for _, tt := range []struct {
		path, body, given string
		status            int
		said              string
	}{
		{"/v1/messages", `{"model":"fake","max_tokens":3,` + servertest.Hello + `}`, "7", http.StatusOK, "seed=7"},
		{"/v1/chat/completions", `{"model":"fake","max_tokens":3,"seed":8,` + servertest.Hello + `}`, "7", http.StatusOK, "seed=7"},
		{"/api/chat", `{"model":"fake","options":{"seed":8,"num_predict":3},` + servertest.Hello + `}`, "7", http.StatusOK, "seed=7"},
		{"/v1/messages", `{"model":"fake","max_tokens":3,` + servertest.Hello + `}`, "x", http.StatusBadRequest, ""},
	} {
		res, text := servertest.Ask(t, hs, tt.path, tt.body, "X-Serve-Reproducible: true", "X-Serve-Seed: "+tt.given)
		if said := res.Header.Get("X-Serve-Reproducible"); res.StatusCode != tt.status || said != tt.said {
			t.Errorf("%s with %q: %d %q, %s", tt.path, tt.given, res.StatusCode, said, text)
		}
	}
}
