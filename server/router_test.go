package server_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// TestFirstTokenLimit has a request wait for a model that is busy for longer than its first token may take.
func TestFirstTokenLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fo := enginetest.Options{
			Limits:       engine.Limits{Sequences: 1, Context: 4096, Cells: 4096, Batch: 64},
			BeforeDecode: func(*engine.Batch) error { time.Sleep(100 * time.Millisecond); return nil },
		}
		s, end := servertest.Unconnected(t, fo, engine.Options{}, server.Options{})
		defer end()
		ask := func(limit string) *httptest.ResponseRecorder {
			body := `{"model":"fake","prompt":"x","max_tokens":50,"ignore_eos":true}`
			req := httptest.NewRequest(http.MethodPost, "/v1/completions", strings.NewReader(body))
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("X-Llm-D-Slo-Ttft-Ms", limit)
			rec := httptest.NewRecorder()
			s.Handler().ServeHTTP(rec, req)
			return rec
		}

		done := make(chan int)
		go func() { done <- ask("1000").Code }()
		synctest.Wait()
		if rec := ask("1000"); rec.Code != http.StatusServiceUnavailable ||
			!strings.Contains(rec.Body.String(), "queue_wait_too_long") {
			t.Errorf("behind five seconds of work there is %d: %s", rec.Code, rec.Body)
		}
		if code := <-done; code != http.StatusOK {
			t.Errorf("the first request got %d", code)
		}
		for _, bad := range []string{"0", "-1", "soon", "1e3", "99999999999"} {
			if rec := ask(bad); rec.Code != http.StatusBadRequest {
				t.Errorf("%q: %d %s", bad, rec.Code, rec.Body)
			}
		}
	})
}

// TestFairnessID tells the clients of a router apart in the queue, and nobody else's: 127.0.0.1 is the router.
func TestFairnessID(t *testing.T) {
	for router, want := range map[string]int{"127.0.0.0/8": 3, "192.0.2.0/24": 1} {
		release := make(chan struct{})
		fo := enginetest.Options{
			Limits:       engine.Limits{Sequences: 1, Context: 4096, Cells: 4096, Batch: 64},
			BeforeDecode: func(*engine.Batch) error { <-release; return nil },
		}
		so := server.Options{Proxies: []netip.Prefix{netip.MustParsePrefix(router)}}
		hs, s := servertest.Start(t, fo, so)

		done := make(chan struct{})
		for i := range 4 {
			go func() {
				defer func() { done <- struct{}{} }()
				servertest.Ask(t, hs, "/v1/completions", `{"model":"fake","prompt":"x","max_tokens":1}`,
					"Content-Type: application/json", fmt.Sprintf("X-Llm-D-Inference-Fairness-Id: flow %d", i))
			}()
		}
		for s.Engine.Stats().Queued != 3 {
			runtime.Gosched()
		}
		if got := len(s.Engine.Waiting()); got != want {
			t.Errorf("with proxies at %s, %d clients wait: %v", router, got, s.Engine.Waiting())
		}
		close(release)
		for range 4 {
			<-done
		}
	}
}
