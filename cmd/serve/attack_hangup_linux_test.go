package main

import (
	"context"
	"io"
	"math"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// When what is computed after a hang-up is measured, and how much of it is nobody's: the clock counts in 10 ms, and
// the runtimes of several processes wake up.
const (
	hangUpGrace = 100 * time.Millisecond
	hangUpTime  = time.Second
	hangUpNoise = 50 * time.Millisecond
)

// hangUps are requests of which something is left to be computed when their clients hang up.
func hangUps() [][2]string {
	words := strings.Repeat("word ", 700)
	return [][2]string{
		{"a long answer", chatWith(`"max_tokens":1000,"ignore_eos":true`, "hello")},
		{"a streamed answer", chatWith(`"stream":true,"max_tokens":1000,"ignore_eos":true`, "hello")},
		{"eight answers", chatWith(`"n":8,"max_tokens":1000,"ignore_eos":true`, words)},
		{"a long prompt", chatWith(`"max_tokens":1`, words)},
	}
}

// TestHangUps measures the CPU time that all processes of a server take after clients have hung up, in the middle of
// the answer and before it. make attack runs it: on a machine with other work, it says nothing.
func TestHangUps(t *testing.T) {
	if os.Getenv("ATTACK") == "" {
		t.Skip("ATTACK is not set; make attack does so")
	}
	a := startAttacked(t)
	// What follows a whole answer is nobody's, too: compute threads wait for work by spinning for a while. What the
	// start has left to do ends.
	idle := time.Duration(math.MaxInt64)
	for range 10 {
		abandon(t, a.url+"/v1/chat/completions", chatWith(`"max_tokens":8`, "hello"), time.Minute)
		time.Sleep(hangUpGrace)
		idle = min(idle, a.idle())
	}
	t.Logf("in the %s after a whole answer, the processes take %s", hangUpTime, idle)

	for _, request := range hangUps() {
		name := request[0]
		for _, after := range []time.Duration{5 * time.Millisecond, 50 * time.Millisecond, 250 * time.Millisecond} {
			before := a.cost().cpu
			status := abandon(t, a.url+"/v1/chat/completions", request[1], after)
			time.Sleep(hangUpGrace)
			took := a.cost().cpu - before
			left := a.idle()
			t.Logf("%-20s %8s: status %3d, %s of CPU until then, %s afterwards", name, after, status, took, left)
			if left > idle+hangUpNoise {
				t.Errorf("%s, left after %s: %s of CPU is spent for nobody", name, after, left)
			}
		}
	}
}

// idle returns the CPU time that all processes take while nobody asks anything.
func (a *attacked) idle() time.Duration {
	before := a.cost().cpu
	time.Sleep(hangUpTime)
	return a.cost().cpu - before
}

// abandon sends a request and hangs up after a time, and returns the status if there was one by then.
func abandon(t *testing.T, url, body string, after time.Duration) (status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), after)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}
