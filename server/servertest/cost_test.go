//go:build unix

package servertest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"serve/audit"
	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// dialects are the APIs whose cost is compared, and how each writes the same conversation: a system
// text, turns with a call and its result each, and tools.
var dialects = []struct {
	name string
	path string
	turn string // of the assistant and the tool, with two numbers
	tool string // with two numbers
	body string // with the turns and the tools
}{
	{
		name: "openai",
		path: "/v1/chat/completions",
		turn: `,{"role":"assistant","content":"I look.","tool_calls":[{"id":"call_%d","type":"function",` +
			`"function":{"name":"read_0","arguments":"{\"path\":\"a.txt\"}"}}]},` +
			`{"role":"tool","tool_call_id":"call_%d","content":"a line of a file"}`,
		tool: `{"type":"function","function":{"name":"read_%d","description":"Reads file %d.","parameters":` +
			parameters + `}}`,
		body: `{"model":"fake","max_completion_tokens":200,"messages":[{"role":"system","content":"Be brief."},` +
			`{"role":"user","content":"Look."}%s],"tools":[%s]`,
	},
	{
		name: "anthropic",
		path: "/v1/messages",
		turn: `,{"role":"assistant","content":[{"type":"text","text":"I look."},` +
			`{"type":"tool_use","id":"call_%d","name":"read_0","input":{"path":"a.txt"}}]},` +
			`{"role":"user","content":[{"type":"tool_result","tool_use_id":"call_%d","content":"a line of a file"}]}`,
		tool: `{"name":"read_%d","description":"Reads file %d.","input_schema":` + parameters + `}`,
		body: `{"model":"fake","max_tokens":200,"system":"Be brief.","messages":[` +
			`{"role":"user","content":"Look."}%s],"tools":[%s]`,
	},
}

const parameters = `{"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}`

// repeated writes something n times, with its number for each %d.
func repeated(n int, format, between string) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(format, i, i)
	}
	return strings.Join(list, between)
}

// BenchmarkDialects answers the same conversation in each API. The work of the model, which is a
// fake's, is the same, so what differs is the APIs' own.
func BenchmarkDialects(b *testing.B) {
	for _, stream := range []string{"false", "true"} {
		for _, d := range dialects {
			b.Run(d.name+"/stream="+stream, func(b *testing.B) {
				_, s := servertest.Start(b, enginetest.Options{
					Limits: engine.Limits{Context: 1 << 15, Batch: 1 << 12},
					Next:   func([]engine.Token) engine.Token { return 'a' },
				}, server.Options{})
				body := fmt.Sprintf(d.body, repeated(16, d.turn, ""), repeated(16, d.tool, ",")) + `,"stream":` + stream + `}`
				h := s.Handler()
				before := processorTime(b)
				for b.Loop() {
					w := httptest.NewRecorder()
					h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, d.path, strings.NewReader(body)))
					if w.Code != http.StatusOK {
						b.Fatal(w.Code, w.Body)
					}
				}
				b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// processorTime returns the time that the process has had of the processor. Other than the clock's it
// hardly depends on what else runs.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAudit answers with 128 tokens, with an audit log and without.
func BenchmarkAudit(b *testing.B) {
	for _, audited := range []bool{false, true} {
		b.Run(fmt.Sprintf("audit=%t", audited), func(b *testing.B) {
			var o server.Options
			if audited {
				dir := filepath.Join(b.TempDir(), "audit")
				if _, err := audit.Init(dir); err != nil {
					b.Fatal(err)
				}
				log, err := audit.Open(dir, audit.Options{})
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { log.Close() })
				o.Audit = log
			}
			_, s := servertest.Start(b, enginetest.Options{
				Limits: engine.Limits{Context: 1 << 12, Batch: 1 << 10, Sequences: 32},
				Next:   func([]engine.Token) engine.Token { return 'a' },
			}, o)
			body := `{"model":"fake","max_tokens":128,"stream":true,` + servertest.Hello + `}`
			h := s.Handler()
			before := processorTime(b)
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					w := httptest.NewRecorder()
					h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(body)))
					if w.Code != http.StatusOK {
						b.Error(w.Code, w.Body)
						return
					}
				}
			})
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}
