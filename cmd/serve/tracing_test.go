package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// TestTraces has a collector take the spans of a request, over OTLP's own wire.
func TestTraces(t *testing.T) {
	var mu sync.Mutex
	spans := map[string]int{}
	service := ""
	c := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			if z, zerr := gzip.NewReader(bytes.NewReader(body)); zerr == nil {
				body, err = io.ReadAll(z)
			}
		}
		var batch collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &batch) != nil {
			t.Errorf("%s: %d bytes, %v", r.URL.Path, len(body), err)
		}
		if bytes.Contains(body, []byte("Whatever")) {
			t.Error("a span has a prompt in it")
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range batch.ResourceSpans {
			for _, a := range rs.Resource.Attributes {
				if a.Key == "service.name" {
					service = a.Value.GetStringValue()
				}
			}
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					spans[s.Name]++
				}
			}
		}
	}))

	defer c.Close()
	r := startServe(t, modelFile(t), "--ctx-size", "128", "--otlp-endpoint", c.URL)
	if status, body := r.post(t, "/v1/completions", `{"model":"tiny","prompt":"Whatever","max_tokens":3}`); status != 200 {
		t.Fatal(body)
	}

	r.stop()
	r.done <- <-r.done // by then all are there
	mu.Lock()
	defer mu.Unlock()
	for _, name := range []string{"POST /completions", "text_completion tiny", "queue", "prefill", "decode"} {
		if spans[name] != 1 {
			t.Errorf("%d spans %s", spans[name], name)
		}
	}

	if service != "serve" {
		t.Errorf("the service is %q", service)
	}
}

func TestTracesAreRefused(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--otlp-endpoint localhost:4318", "such as http://"},
		{"--otlp-endpoint http://localhost:4318 --offline", "contradict"},
	} {
		code, _, said := command(nil, append(strings.Fields(c.args), "--port", "0", modelFile(t))...)
		if code != exitUsage || !strings.Contains(said, c.want) {
			t.Errorf("%s: %d %s", c.args, code, said)
		}
	}
}
