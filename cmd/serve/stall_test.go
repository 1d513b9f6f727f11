package main

import (
	"net/http"
	"strings"
	"testing"
)

// TestStallTimeoutReachesReadyz sets a timeout that every step exceeds, so that /readyz calls a busy
// model stalled. The engine runs in this process, where nothing restarts it.
func TestStallTimeoutReachesReadyz(t *testing.T) {
	r := startServe(t, modelFile(t), "--isolate=false", "--stall-timeout", "1ns", "--ctx-size", "1024", "--parallel", "1")
	done := make(chan struct{})
	go func() {
		defer close(done)
		const body = `{"model":"tiny","prompt":"the","max_tokens":900,"ignore_eos":true}`
		res, err := http.Post(r.url+"/v1/completions", "application/json", strings.NewReader(body))
		if err == nil {
			res.Body.Close()
		}
	}()

	for {
		status, body := r.send(t, http.MethodGet, "/readyz", "")
		if status == http.StatusServiceUnavailable && strings.Contains(body, `"stalled"`) {
			break
		}
		select {
		case <-done:
			t.Fatal("a busy model was never stalled")
		default:
		}
	}
	r.stop()
	<-done
}
