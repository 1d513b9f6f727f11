package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// traced serves a fake and returns its spans, by name, when the server has closed.
func traced(t *testing.T, use func(url string)) map[string]tracetest.SpanStub {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	hs, s := servertest.Start(t, enginetest.Options{}, server.Options{Tracer: provider.Tracer("test")})
	use(hs.URL)
	hs.Close()
	s.Wait(t.Context())
	spans := map[string]tracetest.SpanStub{}
	for _, span := range exporter.GetSpans() {
		spans[span.Name] = span
	}
	return spans
}

func attributesOf(s tracetest.SpanStub) map[attribute.Key]string {
	list := map[attribute.Key]string{}
	for _, a := range s.Attributes {
		list[a.Key] = a.Value.String()
	}
	return list
}

// TestTrace reads the spans of a chat: who is whose child, how they follow each other, what
// they tell, and that they tell nothing else.
func TestTrace(t *testing.T) {
	const parent = "4bf92f3577b34da6a3ce929d0e0e4736"
	spans := traced(t, func(url string) {
		req, err := http.NewRequestWithContext(
			t.Context(),
			http.MethodPost,
			url+"/v1/chat/completions",
			strings.NewReader(
				`{"model":"gpt-4o","max_tokens":3,"temperature":0,"seed":7,"n":2,"messages":[{"role":"user","content":"SECRET"}]}`,
			),
		)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer SECRET")
		req.Header.Set("Traceparent", "00-"+parent+"-00f067aa0ba902b7-01")
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		res.Body.Close()
		for _, path := range []string{"/metrics", "/readyz", "/v1/models"} {
			if res, err := http.Get(url + path); err == nil {
				res.Body.Close()
			}
		}
	})

	server := spans["POST /chat/completions"]
	chat := spans["chat fake"]
	if len(spans) != 5 || server.SpanKind != trace.SpanKindServer || server.SpanContext.TraceID().String() != parent {
		t.Fatalf("%d spans; %+v", len(spans), server)
	}

	if chat.Parent.SpanID() != server.SpanContext.SpanID() {
		t.Error("the model's work is not the request's")
	}

	at := chat.StartTime
	for _, name := range []string{"queue", "prefill", "decode"} {
		s := spans[name]
		if s.Parent.SpanID() != chat.SpanContext.SpanID() || !s.StartTime.Equal(at) || s.EndTime.Before(s.StartTime) {
			t.Errorf("%s: %v to %v, where what came before ended at %v", name, s.StartTime, s.EndTime, at)
		}
		at = s.EndTime
	}

	if !chat.EndTime.Equal(at) {
		t.Errorf("it ends at %v, its last part at %v", chat.EndTime, at)
	}

	got := attributesOf(chat)
	for key, want := range map[attribute.Key]string{
		"gen_ai.operation.name": "chat", "gen_ai.request.model": "fake", "gen_ai.request.max_tokens": "3",
		"gen_ai.request.seed":         "7",
		"gen_ai.request.choice.count": "2", "gen_ai.usage.output_tokens": "6",
		"gen_ai.response.finish_reasons": `["length","length"]`,
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}

	if status := attributesOf(server)["http.response.status_code"]; status != "200" {
		t.Errorf("status %s", status)
	}

	if all := fmt.Sprintf("%+v", spans); strings.Contains(all, "SECRET") {
		t.Errorf("a span tells what was said, or by whom: %s", all)
	}
}

func TestTraceOfOthers(t *testing.T) {
	spans := traced(t, func(url string) {
		for path, body := range map[string]string{
			"/v1/embeddings":  `{"model":"fake","input":"text"}`,
			"/v1/responses":   `{"model":"fake","input":"Hello","max_output_tokens":2}`,
			"/v1/completions": `{"model":"none","prompt":"p"}`,
		} {
			res, err := http.Post(url+path, "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
		}
	})

	for name, want := range map[string]map[attribute.Key]string{
		"embeddings fake":   {"gen_ai.operation.name": "embeddings", "gen_ai.usage.input_tokens": "4"},
		"chat fake":         {"gen_ai.operation.name": "chat", "gen_ai.usage.output_tokens": "2"},
		"POST /completions": {"http.response.status_code": "404"},
	} {
		got := attributesOf(spans[name])
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%s: %s is %q, want %q", name, key, got[key], value)
			}
		}
	}

	// And three of a chat's parts, and two of requests that a model worked for.
	if len(spans) != 8 {
		t.Errorf("%d kinds of spans", len(spans))
	}
}
