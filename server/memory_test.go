package server_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// repeated returns a body of about 1 MiB: a text between two others, again and again.
func repeated(before, text, after string) string {
	return before + strings.Repeat(text, 1<<20/len(text)) + after
}

// times is repeated with n texts.
func times(n int, before, text, after string) string { return before + strings.Repeat(text, n) + after }

// worst has bodies that become the most memory that their endpoints make of so many bytes.
var worst = map[string][]string{
	"/v1/completions": {
		repeated(`{"model":"fake","prompt":[`, `1,`, `1]}`),
		repeated(`{"model":"fake","prompt":[`, `[1],`, `[1]]}`),
		repeated(`{"model":"fake","prompt":[`, `"",`, `""]}`),
		repeated(`{"model":"fake","prompt":"`, `a`, `"}`),
		repeated(`{"model":"fake","prompt":"`, `\n`, `"}`),
		repeated(`{"model":"fake","prompt":"","logit_bias":{`, `"1":1,`, `"1":1}}`),
		repeated(`{"model":"fake","prompt":"","stop":[`, `"",`, `""]}`),
		repeated(`{"model":"fake","prompt":"",`, `"a":1,`, `"a":1}`),
	},
	"/v1/embeddings": {
		repeated(`{"model":"fake","input":[`, `1,`, `1]}`),
		repeated(`{"model":"fake","input":[`, `[1],`, `[1]]}`),
	},
	"/v1/chat/completions": {
		repeated(`{"model":"fake","messages":[`, `{"role":"user","content":""},`, `{"role":"user","content":"x"}]}`),
		repeated(`{"model":"fake","messages":[`, `{},`, `{}]}`),
		times(16000, `{"model":"fake","messages":[`, `{"role":"user","content":""},`, `{"role":"user","content":"x"}]}`),
		times(4000, `{"model":"fake","messages":[{"role":"user","content":[`, `{"type":"text","text":"<"},`,
			`{"type":"text","text":""}]}]}`),
		times(1000, `{"model":"fake","messages":[{"role":"user","content":"x"}],"tools":[`,
			`{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{},"b":{}}}}},`,
			`{"type":"function","function":{"name":"f"}}]}`),
		repeated(`{"model":"fake","messages":[{"role":"user","content":[`, `{"type":"text","text":""},`,
			`{"type":"text","text":""}]}]}`),
		repeated(`{"model":"fake","messages":[{"role":"user","content":"x"}],"tools":[`, `{},`, `{}]}`),
		repeated(`{"model":"fake","messages":[{"role":"user","content":"x"}],"tools":[`,
			`{"type":"function","function":{"name":"f"}},`, `{"type":"function","function":{"name":"f"}}]}`),
		repeated(`{"model":"fake","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":`+
			`{"name":"f","parameters":{"type":"object","enum":[`, `{},`, `{}]}}}]}`),
		repeated(`{"model":"fake","messages":[{"role":"user","content":"x"}],"chat_template_kwargs":{"a":[`, `[],`, `[]]}}`),
		repeated(`{"model":"fake","messages":[{"role":"user","content":"x"}],"metadata":{`, `"a":"",`, `"a":""}}`),
	},
	"/v1/responses": {
		times(16000, `{"model":"fake","input":[`, `{"role":"user","content":""},`, `{"role":"user","content":"x"}]}`),
		times(4000, `{"model":"fake","input":[`, `{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},`,
			`{"role":"user","content":"x"}]}`),
		repeated(`{"model":"fake","input":[`, `{"role":"user","content":""},`, `{"role":"user","content":"x"}]}`),
		repeated(`{"model":"fake","input":[`, `{},`, `{}]}`),
	},
	"/v1/messages": {
		repeated(`{"model":"fake","max_tokens":1,"messages":[`, `{"role":"user","content":""},`,
			`{"role":"user","content":"x"}]}`),
		repeated(`{"model":"fake","max_tokens":1,"messages":[`, `{},`, `{}]}`),
		times(16000, `{"model":"fake","max_tokens":1,"messages":[`, `{"role":"user","content":"<"},`,
			`{"role":"user","content":"x"}]}`),
	},
	"/api/chat": {
		repeated(`{"model":"fake","messages":[`, `{"role":"user","content":""},`, `{"role":"user","content":"x"}]}`),
	},
	"/api/generate": {
		repeated(`{"model":"fake","prompt":"x","context":[`, `1,`, `1]}`),
	},
	"/tokenize":   {times(1<<19, `{"model":"fake","prompt":"`, `a`, `"}`)},
	"/detokenize": {repeated(`{"model":"fake","tokens":[`, `1,`, `1]}`)},
	"/v1/rerank":  {repeated(`{"model":"fake","query":"q","documents":[`, `"",`, `""]}`)},
}

// TestMemoryOfBodies measures how much memory is allocated in all for bodies of 1 MiB or as many elements as there may
// be. What is in use at a time can only be a part of it.
func TestMemoryOfBodies(t *testing.T) {
	const limit = 64 // bytes for each of a body, of 1 MiB at least
	s, end := servertest.Unconnected(t, enginetest.Options{}, engine.Options{}, server.Options{})
	defer end()
	handler := s.Handler()

	for path, bodies := range worst {
		for i, body := range bodies {
			t.Run(fmt.Sprintf("%s %d", path, i), func(t *testing.T) {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
				r.Header.Set("Anthropic-Version", "2023-06-01")
				w := httptest.NewRecorder()
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				handler.ServeHTTP(w, r)
				runtime.ReadMemStats(&after)

				each := float64(after.TotalAlloc-before.TotalAlloc) / max(1<<20, float64(len(body)))
				t.Logf("%4.1f bytes for each of %d: %d, %.90s", each, len(body), w.Code, w.Body)
				if each > limit {
					t.Errorf("%.1f bytes for each of the body (maximum %d)", each, limit)
				}
				if w.Code >= 500 {
					t.Errorf("status %d: %s", w.Code, w.Body)
				}
			})
		}
	}
}
