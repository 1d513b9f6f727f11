package ollama_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// object decodes an answer.
func object(t *testing.T, body string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return v
}

// TestMetrics wants every measure of an answer, of which none may be zero.
func TestMetrics(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Next: say("Hi!")}, server.Options{})
	for path, body := range map[string]string{
		"/api/chat":     `{"model":"fake","stream":false,` + hello + `}`,
		"/api/generate": `{"model":"fake","stream":false,"prompt":"x"}`,
	} {
		_, text := servertest.Post(t, hs, path, body)
		answer := object(t, text)
		for _, name := range []string{"total", "load", "prompt_eval", "eval"} {
			if n, _ := answer[name+"_duration"].(float64); n < 1 {
				t.Errorf("%s: %s_duration is %v", path, name, n)
			}
		}
		at, err := time.Parse(time.RFC3339Nano, answer["created_at"].(string))
		if err != nil ||
			time.Since(at) > time.Minute {
			t.Errorf("%s: created at %v, %v", path, at, err)
		}
	}
}

// TestErrorInStream says in a line of its own what went wrong after the first one.
func TestErrorInStream(t *testing.T) {
	var mu sync.Mutex
	steps := 0
	hs, _ := servertest.Start(t, enginetest.Options{
		BeforeDecode: func(*engine.Batch) error {
			mu.Lock()
			defer mu.Unlock()
			if steps++; steps > 3 {
				return fmt.Errorf("%w: no more", engine.ErrFatal)
			}
			return nil
		},
	}, server.Options{})
	res, body := servertest.Post(t, hs, "/api/chat", `{"model":"fake",`+hello+`}`)
	lines := strings.Split(strings.TrimSpace(body), "\n")
	last := object(t, lines[len(lines)-1])
	if res.StatusCode != 200 || len(lines) < 2 || last["error"] == nil || len(last) != 1 {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

// TestNoPings sends nothing that is no line while a model is silent.
func TestNoPings(t *testing.T) {
	gate := make(chan struct{})
	hs, _ := servertest.Start(t, enginetest.Options{
		Next:         say("Hi!"),
		BeforeDecode: func(*engine.Batch) error { <-gate; return nil },
	}, server.Options{Heartbeat: time.Millisecond})

	time.AfterFunc(20*time.Millisecond, func() { close(gate) })
	res, err := http.Post(hs.URL+"/api/chat", "application/json", strings.NewReader(`{"model":"fake",`+hello+`}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		object(t, lines.Text())
	}
}

// TestOptions passes every option on to the engine.
func TestOptions(t *testing.T) {
	hs, s := servertest.Start(t, enginetest.Options{Next: say("Hi!")}, server.Options{})
	recorder := servertest.Record(s)
	_, body := servertest.Post(t, hs, "/api/chat", `{"model":"fake","stream":false,`+hello+`,"options":{
		"temperature":1,"top_k":7.0,"top_p":0.5,"min_p":0.25,"typical_p":0.75,"repeat_last_n":-1,
		"repeat_penalty":1.5,"presence_penalty":0.5,"frequency_penalty":-0.5,"seed":42,"num_predict":9.9,
		"mirostat":2,"mirostat_tau":4,"mirostat_eta":0.5,"stop":["a","b"],"num_ctx":null,"num_keep":4,
		"num_batch":8,"num_gpu":-1,"main_gpu":0,"num_thread":2,"use_mmap":true,"use_mlock":false,"numa":false,
		"low_vram":false,"vocab_only":false,"draft_num_predict":4,"f16_kv":true,"penalize_newline":true}}`)
	if strings.Contains(body, "error") {
		t.Fatal(body)
	}

	got := recorder.Last
	want := engine.DefaultSampling()
	want.Temperature = 1
	want.TopK = 7
	want.TopP = 0.5
	want.MinP = 0.25
	want.TypicalP = 0.75
	want.RepeatLastN = 256 // the context
	want.RepeatPenalty = 1.5
	want.PresencePenalty = 0.5
	want.FrequencyPenalty = -0.5
	want.Seed = 42
	want.Mirostat = 2
	want.MirostatTau = 4
	want.MirostatEta = 0.5
	if fmt.Sprintf("%+v", got.Sampling) != fmt.Sprintf("%+v", want) {
		t.Errorf("sampling\n%+v, want\n%+v", got.Sampling, want)
	}
	if got.MaxTokens != 9 || strings.Join(got.Stop, ",") != "a,b" {
		t.Errorf("at most %d tokens, stop at %v", got.MaxTokens, got.Stop)
	}

	servertest.Post(t, hs, "/api/chat", `{"model":"fake","stream":false,`+hello+`,"options":{"num_predict":-2,"seed":-1}}`)
	got = recorder.Last
	if s := got.Sampling; s.Temperature != 0.8 || s.TopK != 40 || s.TopP != 0.9 || s.MinP != 0 || got.MaxTokens != 0 {
		t.Errorf("the defaults are %+v, %d tokens", s, got.MaxTokens)
	}
}

// TestThink turns reasoning off, and passes an effort on.
func TestThink(t *testing.T) {
	hs, s := servertest.Start(t, enginetest.Options{Next: say("Hi!")}, server.Options{})
	recorder := servertest.Record(s)
	s.Engine.Model().ChatTemplate = "{{ enable_thinking }}"
	for think, want := range map[string]struct {
		no     bool
		effort string
	}{
		"null":   {},
		"true":   {},
		"false":  {no: true},
		`"low"`:  {effort: `"low"`},
		`"high"`: {effort: `"high"`},
	} {
		_, body := servertest.Post(t, hs, "/api/chat", `{"model":"fake","stream":false,`+hello+`,"think":`+think+`}`)
		if strings.Contains(body, "error") {
			t.Fatal(body)
		}
		chat := recorder.Chats[len(recorder.Chats)-1]
		if effort := string(chat.TemplateArgs["reasoning_effort"]); chat.NoThinking != want.no || effort != want.effort {
			t.Errorf("%s: no thinking %v, effort %s", think, chat.NoThinking, effort)
		}
	}
}

// TestToolHistory gives calls ids, and finds the call that each result belongs to.
func TestToolHistory(t *testing.T) {
	hs, s := servertest.Start(t, enginetest.Options{Next: say("Hi!")}, server.Options{})
	recorder := servertest.Record(s)
	_, body := servertest.Post(t, hs, "/api/chat", `{"model":"fake","stream":false,"messages":[
		{"role":"user","content":"?"},
		{"role":"assistant","thinking":"hm","tool_calls":[
			{"function":{"name":"f","arguments":{"z": 1, "a": 2}}},
			{"id":"mine","function":{"index":1,"name":"g"}},
			{"function":{"name":"f","arguments":{}}}]},
		{"role":"tool","content":"second","tool_call_id":"mine"},
		{"role":"tool","content":"first","tool_name":"f"},
		{"role":"tool","content":"third","tool_name":"f"},
		{"role":"tool","content":"of none","tool_name":"h","prefix":7}]}`)
	if strings.Contains(body, "error") {
		t.Fatal(body)
	}
	want := `[{"role":"user","content":"?"},{"role":"assistant","content":"","reasoning_content":"hm","tool_calls":[` +
		`{"id":"call_00000001","type":"function","function":{"name":"f","arguments":"{\"z\":1,\"a\":2}"}},` +
		`{"id":"mine","type":"function","function":{"name":"g","arguments":"{}"}},` +
		`{"id":"call_00000003","type":"function","function":{"name":"f","arguments":"{}"}}]},` +
		`{"role":"tool","content":"first","tool_call_id":"call_00000001","name":"f"},` +
		`{"role":"tool","content":"second","tool_call_id":"mine","name":"g"},` +
		`{"role":"tool","content":"third","tool_call_id":"call_00000003","name":"f"},` +
		`{"role":"tool","content":"of none","tool_call_id":"h"}]`
	if got := string(recorder.Chats[len(recorder.Chats)-1].Messages); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}

	for _, calls := range []string{
		`[{"function":{"name":"f","arguments":"{}"}}]`, // a string
		`[{"name":"f"}]`,
		`{}`,
	} {
		res, body := servertest.Post(t, hs, "/api/chat",
			`{"model":"fake","messages":[{"role":"assistant","tool_calls":`+calls+`}]}`)
		if res.StatusCode != 400 {
			t.Errorf("%s: %d %s", calls, res.StatusCode, body)
		}
	}
}

// TestTruncate leaves the oldest messages out when that is asked for, with the results of calls that are
// gone, and says how many.
func TestTruncate(t *testing.T) {
	hs, s := servertest.Start(t, enginetest.Options{Next: say("Hi!")}, server.Options{})
	recorder := servertest.Record(s)
	long := strings.Repeat("x", 60)
	conversation := `"messages":[{"role":"system","content":"stay"},{"role":"user","content":"` + long + `"},
		{"role":"assistant","content":"` + long + `","tool_calls":[{"function":{"name":"f"}}]},
		{"role":"tool","content":"` + long + `"},{"role":"assistant","content":"` + long + `"},{"role":"user",
		"content":"last"}]`
	for _, tt := range []struct {
		fields  string
		status  int
		dropped string
		roles   string
	}{
		{``, 400, "", ""},
		{`,"truncate":false`, 400, "", ""},
		{`,"truncate":true`, 200, "3", "system assistant user"}, // a quarter of 256 is left for the answer
		{`,"truncate":true,"options":{"num_predict":8}`, 200, "1", "system assistant tool assistant user"},
		{`,"truncate":true,"options":{"num_predict":230}`, 200, "4", "system user"},
	} {
		res, body := servertest.Post(t, hs, "/api/chat", `{"model":"fake","stream":false,`+conversation+tt.fields+`}`)
		if res.StatusCode != tt.status || res.Header.Get("X-Truncated-Messages") != tt.dropped {
			t.Errorf("%s: %d %v %s", tt.fields, res.StatusCode, res.Header, body)
			continue
		}
		if tt.status != 200 {
			continue
		}
		var messages []struct{ Role string }
		if err := json.Unmarshal(recorder.Chats[len(recorder.Chats)-1].Messages, &messages); err != nil {
			t.Fatal(err)
		}
		var roles []string
		for _, m := range messages {
			roles = append(roles, m.Role)
		}
		if got := strings.Join(roles, " "); got != tt.roles {
			t.Errorf("%s: kept %s", tt.fields, got)
		}
	}

	alone := `"messages":[{"role":"user","content":"` + strings.Repeat("x", 300) + `"}],"truncate":true`
	if res, body := servertest.Post(t, hs, "/api/chat", `{"model":"fake",`+alone+`}`); res.StatusCode != 400 {
		t.Errorf("one message that is too long: %d %s", res.StatusCode, body)
	}
}

// TestKeepAlive shows in /api/ps until when a model stays, and unloads it.
func TestKeepAlive(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Next: say("Hi!")}, server.Options{Library: newLibrary()})
	ask := func(keepAlive string) map[string]any {
		t.Helper()
		_, body := servertest.Post(t, hs, "/api/chat", `{"model":"fake","stream":false,`+hello+keepAlive+`}`)
		if strings.Contains(body, "error") {
			t.Fatal(body)
		}
		return running(t, hs.URL)
	}

	for keepAlive, want := range map[string]time.Duration{
		``:                     200 * 365 * 24 * time.Hour, // the server's own is none
		`,"keep_alive":"10m"`:  10 * time.Minute,
		`,"keep_alive":90`:     90 * time.Second,
		`,"keep_alive":1.5`:    1500 * time.Millisecond,
		`,"keep_alive":-1`:     200 * 365 * 24 * time.Hour,
		`,"keep_alive":"-1s"`:  200 * 365 * 24 * time.Hour,
		`,"keep_alive":1e300`:  200 * 365 * 24 * time.Hour,
		`,"keep_alive":"300s"`: 5 * time.Minute,
	} {
		// Without the field a model keeps what an earlier request has said.
		servertest.Post(t, hs, "/api/generate", `{"model":"fake","keep_alive":-1}`)
		entry := ask(keepAlive)
		expires, err := time.Parse(time.RFC3339Nano, entry["expires_at"].(string))
		if left := time.Until(expires); err != nil || left > want && want < time.Hour || left < want-time.Second {
			t.Errorf("%s: expires at %v, in %v: %v", keepAlive, entry["expires_at"], left, err)
		}
		if entry["size"].(float64) != 3<<20+900<<10 || entry["size_vram"].(float64) != 3<<20 ||
			entry["context_length"].(float64) != 256 || len(entry["digest"].(string)) != 64 {
			t.Errorf("%v", entry)
		}
	}

	servertest.Post(t, hs, "/api/generate", `{"model":"fake","keep_alive":0}`)
	waitFor(t, func() bool { return running(t, hs.URL) == nil })
}

// TestPsOfTenants does not tell a tenant when another has used a model.
func TestPsOfTenants(t *testing.T) {
	s, end := servertest.Unconnected(t, enginetest.Options{Next: say("Hi!")}, engine.Options{}, server.Options{})
	hs := httptest.NewServer(servertest.Tenants(s.Handler()))
	t.Cleanup(func() {
		hs.Close()
		end()
	})
	servertest.Ask(t, hs, "/api/chat", `{"model":"fake","stream":false,"keep_alive":"10m",`+hello+`}`)
	for tenant, tells := range map[string]bool{"": true, "A": false} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/api/ps", nil)
		r.Header.Set(servertest.TenantHeader, tenant)
		servertest.Tenants(s.Handler()).ServeHTTP(w, r)
		expires, _ := object(t, w.Body.String())["models"].([]any)[0].(map[string]any)["expires_at"].(string)
		at, err := time.Parse(time.RFC3339Nano, expires)
		if err != nil || time.Until(at) < time.Hour != tells {
			t.Errorf("%q: %v, %v", tenant, expires, err)
		}
	}
}

// waitFor waits until something has come true.
func waitFor(t *testing.T, true_ func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !true_(); {
		if time.Now().After(deadline) {
			t.Fatal("it has not come true")
		}
	}
}

// running returns the only entry of /api/ps, or nil.
func running(t *testing.T, url string) map[string]any {
	t.Helper()
	res, err := http.Get(url + "/api/ps")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var list struct{ Models []map[string]any }
	if err := json.NewDecoder(res.Body).Decode(&list); err != nil || len(list.Models) > 1 {
		t.Fatal(err, list)
	}
	if len(list.Models) == 0 {
		return nil
	}
	return list.Models[0]
}

// TestBusy says in Ollama's words that the queue is full.
func TestBusy(t *testing.T) {
	gate := make(chan struct{})
	hs, _ := servertest.StartEngine(t, enginetest.Options{
		Limits:       engine.Limits{Sequences: 1},
		BeforeDecode: func(*engine.Batch) error { <-gate; return nil },
	}, engine.Options{MaxWaiting: 1}, server.Options{})

	// One answers, one waits, and the rest are refused.
	const body = `{"model":"fake","options":{"num_predict":1},` + hello + `}`
	type result struct {
		status int
		retry  string
		text   string
	}
	results := make(chan result)
	for range 4 {
		go func() {
			res, text := servertest.Ask(t, hs, "/api/chat", body)
			results <- result{res.StatusCode, res.Header.Get("Retry-After"), text}
		}()
	}

	first := <-results
	close(gate)
	if first.status != 503 || first.retry == "" ||
		!strings.HasPrefix(first.text, `{"error":"server busy, please try again.  maximum pending requests exceeded`) {
		t.Errorf("%+v", first)
	}
	for range 3 {
		<-results
	}
}

// TestCopilot tells VS Code's client the name that it asked for.
func TestCopilot(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{Library: newLibrary()})
	_, body := servertest.Ask(t, hs, "/api/show", `{"model":"gpt-4o:latest"}`, "User-Agent: GitHubCopilotChat/0.30")
	info := object(t, body)["model_info"].(map[string]any)
	if info["general.basename"] != "gpt-4o:latest" || info["llama.context_length"].(float64) != 131072 {
		t.Errorf("%v", info)
	}
}

// TestNotAnEncoder says of an encoder that it does not write, and of no model that it embeds too much.
func TestNotAnEncoder(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Embeds: true}, server.Options{})
	for path, body := range map[string]string{
		"chat":     `{"model":"fake",` + hello + `}`,
		"generate": `{"model":"fake","prompt":"x"}`,
	} {
		res, text := servertest.Post(t, hs, "/api/"+path, body)
		if want := `{"error":"\"fake\" does not support ` + path + `"}`; res.StatusCode != 400 || text != want {
			t.Errorf("%d %s", res.StatusCode, text)
		}
	}
}

// TestLongNames keeps the header short, whatever is in a request.
func TestLongNames(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Next: say("Hi!")}, server.Options{})
	var fields strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&fields, `,"%d%s\r\nSet-Cookie: a=b":1`, i, strings.Repeat("é", 500))
	}
	res, body := servertest.Post(t, hs, "/api/chat", `{"model":"fake",`+hello+fields.String()+`}`)
	named := res.Header["X-Ignored-Fields"]
	if last := named[len(named)-1]; res.StatusCode != 200 || len(strings.Join(named, "")) > 5000 ||
		!strings.HasPrefix(last, "and 99") || res.Header.Get("Set-Cookie") != "" {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, body)
	}
}

// FuzzRequests: any body gets a JSON answer of 200 or 4xx, and lines of JSON.
func FuzzRequests(f *testing.F) {
	library := newLibrary() // of what is in memory already
	clear(library.Hub)
	delete(library.Files, "stored:Q8_0")
	hs, _ := servertest.Start(f, enginetest.Options{Next: say("ok"), Parse: split},
		server.Options{MaxBody: 1 << 16, Library: library})
	paths := []string{
		"/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show", "/api/copy", "/api/pull",
	}
	f.Add(
		0,
		`{"model":"fake",`+hello+`,`+weather+`,"think":false,"keep_alive":"5m","options":{"stop":["a"],"num_predict":3}}`,
	)
	f.Add(
		0,
		`{"model":"fake","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{}}}]},`+
			`{"role":"tool","tool_name":"f"}],"truncate":true}`,
	)
	f.Add(1, `{"model":"fake","prompt":"x","suffix":"y","raw":true,"context":[1,2],"stream":false,`+schema+`}`)
	f.Add(1, `{"model":"fake","prompt":"x","images":["`+pixel+`"],"logprobs":true,"top_logprobs":3}`)
	f.Add(2, `{"model":"fake","input":["a","b"],"dimensions":3,"truncate":true}`)
	f.Add(3, `{"model":"fake","prompt":"a"}`)
	f.Add(4, `{"name":"fake","verbose":true}`)
	f.Add(5, `{"source":"fake","destination":"x/y:z"}`)
	f.Add(6, `{"model":"hf.co/org/repo:Q4_K_M","insecure":true}`)
	f.Fuzz(func(t *testing.T, which int, body string) {
		if which < 0 {
			which = -(which + 1)
		}

		res, text := servertest.Post(t, hs, paths[which%len(paths)], body)
		if res.StatusCode != 200 && res.StatusCode/100 != 4 {
			t.Errorf("%d %s", res.StatusCode, text)
		}

		for line := range strings.Lines(text) {
			if !json.Valid([]byte(line)) {
				t.Errorf("no JSON: %s", line)
			}
		}
	})
}
