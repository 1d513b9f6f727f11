package server

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/pool"
	"serve/server/ops"
)

// ask posts with headers, "name: value" each.
func ask(t testing.TB, hs *httptest.Server, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, hs.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return &http.Response{}, ""
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res, string(text)
}

// TestQueueIsTold fills the queue and reads what those that come then are told, and
// what those in it were told in the end.
func TestQueueIsTold(t *testing.T) {
	gate := make(chan struct{})
	entered := make(chan struct{}, 1000)
	hs, s := startEngine(t, enginetest.Options{
		Limits:       engine.Limits{Sequences: 1},
		BeforeDecode: func(*engine.Batch) error { entered <- struct{}{}; <-gate; return nil },
	}, engine.Options{MaxWaiting: 10}, Options{})

	const body = `{"model":"fake","prompt":"p","max_tokens":1}`
	e, release := loaded(t, s)
	defer release()
	var clients sync.WaitGroup
	var mu sync.Mutex
	positions := map[string]int{}
	join := func(key string, queued int) {
		clients.Go(func() {
			res, text := ask(t, hs, "/v1/completions", body, "Authorization: Bearer "+key)
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
		for e.Stats().Queued < queued {
		}
	}

	join("a", 0)
	<-entered // it runs
	for i := range 8 {
		join("a", i+1)
	}

	refused := func(key, message string) {
		t.Helper()
		res, text := ask(t, hs, "/v1/completions", body, "Authorization: Bearer "+key)
		if res.StatusCode != 429 || !strings.Contains(text, message) || !strings.Contains(text, "rate_limit_exceeded") || res.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: %d %s, %v", key, res.StatusCode, text, res.Header)
		}
	}

	refused("a", "as many requests")
	join("b", 9)
	join("c", 10)
	refused("d", "queue is full")
	if got := scrape(t, hs.URL); got["serve_refused_total fake share"] != 1 || got["serve_refused_total fake full"] != 1 {
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

// loaded holds the fake in memory.
func loaded(t *testing.T, s *Server) (pool.Engine, func()) {
	t.Helper()
	m, e := s.service.Model(t.Context(), "fake")
	if e != nil {
		t.Fatal(e)
	}
	return m.Engine, m.Release
}

func TestTimeoutHeader(t *testing.T) {
	hs, _ := start(t, enginetest.Options{}, Options{})
	for _, bad := range []string{"soon", "0", "-1", "1.5", "86400001"} {
		res, text := ask(t, hs, "/v1/chat/completions", `{"model":"fake",`+hello+`}`, timeoutHeader+": "+bad)
		if res.StatusCode != 400 || !strings.Contains(text, timeoutHeader) {
			t.Errorf("%s: %d %s", bad, res.StatusCode, text)
		}
	}

	// The fake never ends by itself, and has a large context.
	endless, _ := start(t, enginetest.Options{Limits: engine.Limits{
		Context:   1 << 24,
		Sequences: 1,
		Cells:     1 << 24,
	}}, Options{})

	for _, path := range []string{"/v1/chat/completions", "/v1/responses"} {
		body := `{"model":"fake",` + hello + `}`
		if path == "/v1/responses" {
			body = `{"model":"fake","input":"Hello"}`
		}
		res, text := ask(t, endless, path, body, timeoutHeader+": 20")
		if res.StatusCode != 504 || !strings.Contains(text, "deadline_exceeded") || res.Header.Get("X-Should-Retry") != "false" {
			t.Errorf("%s: %d %s", path, res.StatusCode, text)
		}
	}

	res, text := ask(t, endless, "/v1/chat/completions", `{"model":"fake","stream":true,`+hello+`}`, timeoutHeader+": 20")
	if res.StatusCode != 200 || !strings.Contains(text, `data: {"error":{`) || !strings.Contains(text, "deadline_exceeded") {
		t.Errorf("a stream: %d, and ends with %s", res.StatusCode, text[max(0, len(text)-300):])
	}

	res, text = ask(t, hs, "/v1/chat/completions", `{"model":"fake","max_tokens":3,`+hello+`}`, timeoutHeader+": 60000")
	if res.StatusCode != 200 {
		t.Errorf("in time: %d %s", res.StatusCode, text)
	}
}

func TestServiceTier(t *testing.T) {
	hs, s := start(t, enginetest.Options{}, Options{})
	r := record(t, s)
	for _, c := range []struct {
		asked, told string
		tier        engine.Tier
	}{
		{"auto", "default", engine.TierDefault},
		{"default", "default", engine.TierDefault},
		{"scale", "default", engine.TierDefault},
		{"flex", "flex", engine.TierFlex},
		{"priority", "priority", engine.TierPriority},
		{"fast", "priority", engine.TierPriority},
	} {
		for path, body := range map[string]string{
			"/v1/chat/completions": `{"model":"fake","max_tokens":2,"service_tier":"` + c.asked + `",` + hello + `}`,
			"/v1/responses":        `{"model":"fake","max_output_tokens":2,"service_tier":"` + c.asked + `","input":"Hello"}`,
		} {
			_, text := ask(t, hs, path, body)
			var answer struct {
				Tier string `json:"service_tier"`
			}
			if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Tier != c.told || r.last.Tier != c.tier {
				t.Errorf("%s %s: told %q, the engine %d (%v)", path, c.asked, answer.Tier, r.last.Tier, err)
			}
		}
		_, text := ask(t, hs, "/v1/chat/completions", `{"model":"fake","max_tokens":2,"stream":true,"service_tier":"`+c.asked+`",`+hello+`}`)
		if chunks := strings.Count(text, `"id":`); chunks == 0 || strings.Count(text, `"service_tier":"`+c.told+`"`) != chunks {
			t.Errorf("%s, streamed: %s", c.asked, text)
		}
	}

	if res, text := ask(t, hs, "/v1/chat/completions", `{"model":"fake","service_tier":"best",`+hello+`}`); res.StatusCode != 400 {
		t.Errorf("a tier that is none: %d %s", res.StatusCode, text)
	}
}

// TestClients tells callers apart by their keys, and never keeps a key.
func TestClients(t *testing.T) {
	hs, s := start(t, enginetest.Options{}, Options{})
	r := record(t, s)
	seen := map[string]bool{}
	for _, header := range []string{"Authorization: Bearer sk-one", "Authorization: Bearer sk-two", "X-Other: none"} {
		ask(t, hs, "/v1/completions", `{"model":"fake","prompt":"p","max_tokens":1}`, header)
		if strings.Contains(r.last.Client, "sk-") || seen[r.last.Client] {
			t.Errorf("%s: the client is %q", header, r.last.Client)
		}
		seen[r.last.Client] = true
	}
}

// TestStatus compares /status with what was asked for.
func TestStatus(t *testing.T) {
	hs, _ := start(t, enginetest.Options{}, Options{Version: "1.2"})
	get := func() (st ops.Status) {
		t.Helper()
		res, err := http.Get(hs.URL + "/status")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&st); err != nil || len(st.Models) != 1 {
			t.Fatalf("%+v: %v", st, err)
		}
		return st
	}

	if st := get(); st.Version != "1.2" || st.Models[0].State != "not loaded" || st.Models[0].Process != 0 || len(st.Models[0].Aliases) != 2 {
		t.Errorf("before: %+v", st)
	}

	post(t, hs, "/v1/completions", `{"model":"fake","prompt":"p","max_tokens":1}`)
	if m := get().Models[0]; m.State != "ready" || m.Process != 1 || m.ResidentBytes != 1<<20 || m.Loads != 1 || m.Slots != 4 || m.Context != 256 || m.KVCells != 1024 {
		t.Errorf("after: %+v", m)
	} else if len(m.Memory) != 2 || m.Memory[1] != (pool.DeviceMemory{
		Device:  "host",
		Planned: 900 << 10,
		Taken:   1 << 20,
	}) {
		t.Errorf("memory: %+v", m.Memory)
	}
}
