package server_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// TestQueueIsTold fills the queue and reads what those that come then are told, and
// what those in it were told in the end.
func TestQueueIsTold(t *testing.T) {
	gate := make(chan struct{})
	entered := make(chan struct{}, 1000)
	hs, s := servertest.StartEngine(t, enginetest.Options{
		Limits:       engine.Limits{Sequences: 1},
		BeforeDecode: func(*engine.Batch) error { entered <- struct{}{}; <-gate; return nil },
	}, engine.Options{MaxWaiting: 10}, server.Options{})

	const body = `{"model":"fake","prompt":"p","max_tokens":1}`
	var clients sync.WaitGroup
	var mu sync.Mutex
	positions := map[string]int{}
	join := func(key string, queued int) {
		clients.Go(func() {
			res, text := servertest.Ask(t, hs, "/v1/completions", body, "Authorization: Bearer "+key)
			if res.StatusCode != 200 {
				t.Errorf("%d %s", res.StatusCode, text)
			}
			if ms, err := strconv.Atoi(res.Header.Get("X-Queue-Wait-Ms")); err != nil || ms < 0 {
				t.Errorf("the wait is %q", res.Header.Get("X-Queue-Wait-Ms"))
			}
			mu.Lock()
			defer mu.Unlock()
			positions[key+res.Header.Get("X-Queue-Position")]++
		})
		for s.Engine.Stats().Queued < queued {
		}
	}

	join("a", 0)
	<-entered // it runs
	for i := range 8 {
		join("a", i+1)
	}

	refused := func(key, message string) {
		t.Helper()
		res, text := servertest.Ask(t, hs, "/v1/completions", body, "Authorization: Bearer "+key)
		if res.StatusCode != 429 || !strings.Contains(text, message) || !strings.Contains(text, "rate_limit_exceeded") ||
			res.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: %d %s, %v", key, res.StatusCode, text, res.Header)
		}
	}

	refused("a", "reached your limit of queued requests")
	join("b", 9)
	join("c", 10)
	refused("d", "queue is full")
	got := servertest.Scrape(t, hs.URL)
	if got["serve_refused_total fake share"] != 1 ||
		got["serve_refused_total fake full"] != 1 {
		t.Error("the refusals are not counted")
	}

	close(gate)
	clients.Wait()
	for i := range 8 {
		if positions["a"+strconv.Itoa(i)] == 0 {
			t.Errorf("nobody was told of position %d: %v", i, positions)
		}
	}

	if positions["b0"] != 1 || positions["c0"] != 1 {
		t.Errorf("others with nothing in the queue are not first: %v", positions)
	}
}

func TestTimeoutHeader(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	for _, bad := range []string{"soon", "0", "-1", "1.5", "86400001"} {
		res, text := servertest.Ask(
			t, hs, "/v1/chat/completions", `{"model":"fake",`+servertest.Hello+`}`, "X-Request-Timeout-Ms"+": "+bad,
		)
		if res.StatusCode != 400 || !strings.Contains(text, "X-Request-Timeout-Ms") {
			t.Errorf("%s: %d %s", bad, res.StatusCode, text)
		}
	}

	// The fake never ends by itself, and has a large context.
	endless, _ := servertest.Start(t, enginetest.Options{Limits: engine.Limits{
		Context:   1 << 24,
		Sequences: 1,
		Cells:     1 << 24,
	}}, server.Options{})

	for _, path := range []string{"/v1/chat/completions", "/v1/responses"} {
		body := `{"model":"fake",` + servertest.Hello + `}`
		if path == "/v1/responses" {
			body = `{"model":"fake","input":"Hello"}`
		}
		res, text := servertest.Ask(t, endless, path, body, "X-Request-Timeout-Ms: 20")
		if res.StatusCode != 504 || !strings.Contains(text, "deadline_exceeded") ||
			res.Header.Get("X-Should-Retry") != "false" {
			t.Errorf("%s: %d %s", path, res.StatusCode, text)
		}
	}

	res, text := servertest.Ask(
		t,
		endless,
		"/v1/chat/completions",
		`{"model":"fake","stream":true,`+servertest.Hello+`}`,
		"X-Request-Timeout-Ms: 300",
	)
	if res.StatusCode != 200 || !strings.Contains(text, `data: {"error":{`) ||
		!strings.Contains(text, "deadline_exceeded") {
		t.Errorf("a stream: %d, and ends with %s", res.StatusCode, text[max(0, len(text)-300):])
	}

	res, text = servertest.Ask(
		t,
		hs,
		"/v1/chat/completions",
		`{"model":"fake","max_tokens":3,`+servertest.Hello+`}`,
		"X-Request-Timeout-Ms: 60000",
	)
	if res.StatusCode != 200 {
		t.Errorf("in time: %d %s", res.StatusCode, text)
	}
}

// TestClients tells callers apart by their keys, and never keeps a key.
func TestClients(t *testing.T) {
	hs, s := servertest.Start(t, enginetest.Options{}, server.Options{})
	r := servertest.Record(s)
	seen := map[string]bool{}
	for _, header := range []string{
		"Authorization: Bearer sk-one", "Authorization: Bearer sk-two", "X-Api-Key: sk-three", "X-Other: none",
	} {
		servertest.Ask(t, hs, "/v1/completions", `{"model":"fake","prompt":"p","max_tokens":1}`, header)
		if strings.Contains(r.Last.Client, "sk-") || seen[r.Last.Client] {
			t.Errorf("%s: the client is %q", header, r.Last.Client)
		}
		seen[r.Last.Client] = true
	}
}
