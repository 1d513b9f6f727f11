package ollama_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// BenchmarkRequest compares what a request costs by this API and by OpenAI's, over the fake model.
func BenchmarkRequest(b *testing.B) {
	answer := strings.Repeat("word ", 40)
	for _, bm := range []struct{ name, path, body string }{
		{"openai/whole", "/v1/chat/completions", `{"model":"fake",` + hello + `}`},
		{"ollama/whole", "/api/chat", `{"model":"fake","stream":false,` + hello + `}`},
		{"openai/stream", "/v1/chat/completions", `{"model":"fake","stream":true,` + hello + `}`},
		{"ollama/stream", "/api/chat", `{"model":"fake",` + hello + `}`},
	} {
		b.Run(bm.name, func(b *testing.B) {
			hs, _ := servertest.Start(b, enginetest.Options{
				Next:   say(answer),
				Limits: engine.Limits{Context: 512, Sequences: 4},
			}, server.Options{})
			b.ReportAllocs()
			for b.Loop() {
				res, err := http.Post(hs.URL+bm.path, "application/json", strings.NewReader(bm.body))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, res.Body); err != nil {
					b.Fatal(err)
				}
				res.Body.Close()
			}
		})
	}
}
