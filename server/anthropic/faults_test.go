package anthropic_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/pool"
	"serve/server"
	"serve/server/servertest"
)

// TestBadRequests gets an error in Anthropic's form for each.
func TestBadRequests(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{MaxBody: 1 << 20})
	hello := func(fields string) string { return body(servertest.Hello + `,` + fields) }
	user := func(block string) string { return dialog(`{"role":"user","content":[` + block + `]}`) }
	assistant := func(block string) string { return dialog(`{"role":"assistant","content":[` + block + `]}`) }
	tool := func(fields string) string { return hello(`"tools":[{` + fields + `}]`) }

	for name, tt := range map[string]struct {
		body   string
		status int
		kind   string
		words  string
	}{
		"no JSON":         {`{"model"`, 400, "invalid_request_error", "could not parse"},
		"no model":        {`{"max_tokens":1,` + servertest.Hello + `}`, 400, "invalid_request_error", "'model'"},
		"no max_tokens":   {`{"model":"fake",` + servertest.Hello + `}`, 400, "invalid_request_error", "'max_tokens'"},
		"no messages":     {`{"model":"fake","max_tokens":1}`, 400, "invalid_request_error", "'messages'"},
		"empty messages":  {dialog(``), 400, "invalid_request_error", "empty array"},
		"nothing to read": {dialog(`{"role":"system","content":""}`), 400, "invalid_request_error", "empty array"},
		"unknown model": {`{"model":"x","max_tokens":1,` + servertest.Hello + `}`, 404, "not_found_error",
			"Served models: fake"},
		"a body too large":     {`{"model":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "request_too_large", "too large"},
		"an unknown field":     {hello(`"colour":"red"`), 400, "invalid_request_error", "'colour'"},
		"max_tokens 0":         {hello(`"max_tokens":0`), 400, "invalid_request_error", ">= 1"},
		"temperature too high": {hello(`"temperature":1.5`), 400, "invalid_request_error", "<= 1"},
		"top_p a string":       {hello(`"top_p":"x"`), 400, "invalid_request_error", "a decimal"},
		"top_k negative":       {hello(`"top_k":-1`), 400, "invalid_request_error", ">= 0"},
		"a stop too long": {hello(`"stop_sequences":["` + strings.Repeat("x", 1025) + `"]`), 400,
			"invalid_request_error", "1024"},
		"a stop a string":       {hello(`"stop_sequences":"x"`), 400, "invalid_request_error", "an array"},
		"a container":           {hello(`"container":"c"`), 400, "invalid_request_error", "Containers"},
		"an MCP server":         {hello(`"mcp_servers":[{"url":"u"}]`), 400, "invalid_request_error", "no other servers"},
		"a compaction":          {hello(`"compaction":{}`), 400, "invalid_request_error", "shorten"},
		"a thread":              {hello(`"thread":{}`), 400, "invalid_request_error", "not stored"},
		"a service tier":        {hello(`"service_tier":"flex"`), 400, "invalid_request_error", "standard_only"},
		"thinking a string":     {hello(`"thinking":"on"`), 400, "invalid_request_error", "an object"},
		"thinking unlike":       {hello(`"thinking":{"type":"deep"}`), 400, "invalid_request_error", "adaptive"},
		"thinking without size": {hello(`"thinking":{"type":"enabled"}`), 400, "invalid_request_error", "budget_tokens"},
		"unknown display": {hello(`"thinking":{"type":"adaptive","display":"x"}`), 400, "invalid_request_error",
			"omitted"},
		"unknown effort": {hello(`"output_config":{"effort":"huge"}`), 400, "invalid_request_error", "xhigh"},
		"a format unlike": {hello(`"output_config":{"format":{"type":"xml"}}`), 400, "invalid_request_error",
			"json_schema"},
		"a format of nothing": {hello(`"output_format":{"type":"json_schema"}`), 400, "invalid_request_error", "schema"},
		"a schema of nothing": {hello(`"output_config":{"format":{"type":"json_schema","schema":false}}`), 400,
			"invalid_request_error", "no value"},

		"a role unlike":        {dialog(`{"role":"king","content":"x"}`), 400, "invalid_request_error", "assistant"},
		"no content":           {dialog(`{"role":"user"}`), 400, "invalid_request_error", "messages[0].content"},
		"a block unlike":       {user(`{"type":"video"}`), 400, "invalid_request_error", "'video'"},
		"a block without type": {user(`{"text":"x"}`), 400, "invalid_request_error", "messages[0].content[0].type"},
		"a text without text":  {user(`{"type":"text"}`), 400, "invalid_request_error", "messages[0].content[0].text"},
		"an unseen image":      {user(tinyImage + pixel + `"}}`), 400, "invalid_request_error", "does not accept images"},
		"no image":             {user(`{"type":"image"}`), 400, "invalid_request_error", "source"},
		"an image of a file": {user(`{"type":"image","source":{"type":"file","file_id":"f"}}`), 400,
			"invalid_request_error", "File uploads are not supported"},
		"an image of TIFF": {user(`{"type":"image","source":{"type":"base64","media_type":"image/tiff",` +
			`"data":""}}`), 400, "invalid_request_error", "image/webp"},
		"an image changed": {user(`{"type":"image","transformations":{},"source":{}}`), 400, "invalid_request_error",
			"transformations"},
		"a PDF": {
			user(`{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":""}}`),
			400, "invalid_request_error", "PDF",
		},
		"citations": {
			user(`{"type":"document","citations":{"enabled":true},"source":{"type":"text","data":"x"}}`),
			400, "invalid_request_error", "citations.enabled",
		},
		"a result of nothing":  {user(`{"type":"tool_result","content":"x"}`), 400, "invalid_request_error", "tool_use_id"},
		"an assistant's image": {assistant(tinyImage + pixel + `"}}`), 400, "invalid_request_error", "'image'"},
		"a call without id": {assistant(`{"type":"tool_use","name":"f","input":{}}`), 400, "invalid_request_error",
			"content[0].id"},
		"a call without name": {assistant(`{"type":"tool_use","id":"1","input":{}}`), 400, "invalid_request_error",
			"content[0].name"},
		"a call with a string": {assistant(`{"type":"tool_use","id":"1","name":"f","input":"x"}`), 400,
			"invalid_request_error", "an object"},
		"thinking of nothing": {assistant(`{"type":"thinking","signature":""}`), 400, "invalid_request_error",
			"content[0].thinking"},
		"a server's tool": {tool(`"type":"web_search_20250305","name":"web_search"`), 400, "invalid_request_error",
			"web_search_20250305"},
		"a tool's name": {tool(`"name":"a b","input_schema":{"type":"object"}`), 400, "invalid_request_error",
			"letters"},
		"a tool without schema": {tool(`"name":"f"`), 400, "invalid_request_error", "input_schema"},
		"a tool's bad schema": {tool(`"name":"f","input_schema":{"type":"objekt"}`), 400, "invalid_request_error",
			"objekt"},
		"a tool's schema text": {tool(`"name":"f","input_schema":"x"`), 400, "invalid_request_error", "an object"},
		"two tools of a name": {
			tool(`"name":"f","input_schema":{"type":"object"}},{"name":"f","input_schema":{"type":"object"}`),
			400, "invalid_request_error", "two tools",
		},
		"a choice without tools": {hello(`"tool_choice":{"type":"any"}`), 400, "invalid_request_error", "requires 'tools'"},
		"a choice of no tool": {hello(twoTools + `,"tool_choice":{"type":"tool","name":"h"}`), 400,
			"invalid_request_error", "no tool 'h'"},
		"a choice unlike": {hello(twoTools + `,"tool_choice":{"type":"maybe"}`), 400, "invalid_request_error", "none"},
		"a prompt too long": {
			dialog(`{"role":"user","content":"` + strings.Repeat("x", 300) + `"}`),
			400, "invalid_request_error", "prompt is too long: 307 tokens > 255 maximum",
		},
	} {
		t.Run(name, func(t *testing.T) {
			res, text := servertest.Post(t, hs, messages, tt.body)
			f := readFault(t, res, text)
			if res.StatusCode != tt.status || f.Error.Type != tt.kind || !strings.Contains(f.Error.Message, tt.words) {
				t.Errorf("got %d %s, want %d %s %q", res.StatusCode, text, tt.status, tt.kind, tt.words)
			}
		})
	}
}

// TestUnknownPaths answers in the form of the API that was meant.
func TestUnknownPaths(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	for _, tt := range []struct {
		path    string
		headers []string
		status  int
		ours    bool
	}{
		{"/v1/messages/batches", nil, 404, true},
		{"/v1/nothing", []string{"Anthropic-Version: 2023-06-01"}, 404, true},
		{"/v1/models", []string{"Anthropic-Version: 2023-06-01"}, 405, true},
		{"/v1/nothing", nil, 404, false},
		{"/v1/messages-of-others", nil, 404, false},
		{"/v1/models", nil, 405, false},
	} {
		res, text := servertest.Ask(t, hs, tt.path, `{}`, tt.headers...)
		if res.StatusCode != tt.status || strings.HasPrefix(text, `{"type":"error"`) != tt.ours {
			t.Errorf("%s %v: %d %s", tt.path, tt.headers, res.StatusCode, text)
		}
		if tt.ours {
			readFault(t, res, text)
		}
		if theirs := res.Header.Get("Openai-Version") != ""; theirs == tt.ours {
			t.Errorf("%s %v: headers %v", tt.path, tt.headers, res.Header)
		}
	}
}

// get asks for models.
func get(t *testing.T, url string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var b strings.Builder
	if err := res.Write(&b); err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(b.String(), "\r\n\r\n")
	return res.StatusCode, text
}

// TestModels lists the models in the form of the API that is spoken.
func TestModels(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	const version = "Anthropic-Version: 2023-06-01"
	ids := func(query string) string {
		t.Helper()
		status, text := get(t, hs.URL+"/v1/models"+query, version)
		var page struct {
			Data []struct {
				ID   string
				Type string
				At   time.Time `json:"created_at"`
			}
			More  bool    `json:"has_more"`
			First *string `json:"first_id"`
			Last  *string `json:"last_id"`
		}
		if err := json.Unmarshal([]byte(text), &page); err != nil || status != http.StatusOK {
			t.Fatalf("%v: %d %s", err, status, text)
		}
		var list []string
		for _, m := range page.Data {
			if m.Type != "model" || m.At.Unix() != 1700000000 {
				t.Errorf("a model %+v", m)
			}
			list = append(list, m.ID)
		}
		if n := len(list); n > 0 && (*page.First != list[0] || *page.Last != list[n-1]) || n == 0 && page.First != nil {
			t.Errorf("the ends of %s", text)
		}
		return fmt.Sprint(list, page.More)
	}

	for query, want := range map[string]string{
		"":                             "[fake gpt-4o org/fake] false",
		"?limit=2":                     "[fake gpt-4o] true",
		"?after_id=fake&limit=1":       "[gpt-4o] true",
		"?after_id=org/fake":           "[] false",
		"?before_id=org/fake&limit=1":  "[gpt-4o] true",
		"?before_id=gpt-4o&beta=true":  "[fake] false",
		"?before_id=org/fake&limit=99": "[fake gpt-4o] false",
	} {
		if got := ids(query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=1001", "?limit=x", "?after_id=x", "?before_id=x",
		"?after_id=fake&before_id=fake"} {
		status, text := get(t, hs.URL+"/v1/models"+query, version)
		if status != 400 ||
			!strings.Contains(text, "invalid_request_error") {
			t.Errorf("%s: %d %s", query, status, text)
		}
	}

	for _, tt := range []struct {
		path    string
		headers []string
		status  int
		words   string
	}{
		{"/v1/models/org/fake", []string{version}, 200, `"type":"model","id":"org/fake","display_name":"org/fake"`},
		{"/v1/models/x", []string{version}, 404, `"type":"not_found_error"`},
		{"/v1/models/org/fake", nil, 200, `"object":"model"`},
		{"/v1/models", nil, 200, `"object":"list"`},
		{"/v1/models/x", nil, 404, `"code":"model_not_found"`},
	} {
		if status, text := get(t, hs.URL+tt.path, tt.headers...); status != tt.status || !strings.Contains(text, tt.words) {
			t.Errorf("%s %v: %d %s", tt.path, tt.headers, status, text)
		}
	}
}

// TestBusy tells a client whose share of the queue is full from a full queue, and a model that is
// being loaded.
func TestBusy(t *testing.T) {
	for _, tt := range []struct {
		err        error
		status     int
		kind       string
		retryAfter string
		retry      string // x-should-retry
	}{
		{&engine.BusyError{Reason: engine.ErrShare, Retry: 3 * time.Second}, 429, "rate_limit_error", "3", ""},
		{&engine.BusyError{Reason: engine.ErrQueueFull, Retry: 9 * time.Second}, 529, "overloaded_error", "9", ""},
		{&engine.BusyError{Reason: engine.ErrWait}, 529, "overloaded_error", "1", ""},
		{pool.ErrLoading, 503, "overloaded_error", "15", ""},
		{engine.ErrCrashed, 500, "api_error", "", "false"},
		{context.DeadlineExceeded, 504, "timeout_error", "", "false"},
	} {
		hs, s := servertest.Start(t, enginetest.Options{}, server.Options{})
		load := s.Model.Load
		s.Model.Load = func(ctx context.Context, shrink bool) (*pool.Instance, error) {
			in, err := load(ctx, shrink)
			if err == nil {
				in.Engine = refusing{in.Engine, tt.err}
			}
			return in, err
		}

		res, text := servertest.Post(t, hs, messages, body(servertest.Hello))
		f := readFault(t, res, text)
		if res.StatusCode != tt.status || f.Error.Type != tt.kind ||
			res.Header.Get("Retry-After") != tt.retryAfter || res.Header.Get("X-Should-Retry") != tt.retry {
			t.Errorf("%v: %d %v %s", tt.err, res.StatusCode, res.Header, text)
		}
	}
}

// refusing is an engine that refuses all requests.
type refusing struct {
	pool.Engine
	err error
}

// Admits implements pool.Engine.
func (r refusing) Admits(context.Context, engine.Caller) error { return r.err }

// TestBrowsers lets pages of an allowed origin send what Anthropic's client sends, and read what it
// reads.
func TestBrowsers(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{AllowedOrigins: []string{"https://app.example"}})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, hs.URL+messages, nil)
	if err != nil {
		t.Fatal(err)
	}
	const asked = "anthropic-dangerous-direct-browser-access,anthropic-version,x-api-key"
	req.Header.Set("Origin", "https://app.example")
	req.Header.Set("Access-Control-Request-Method", "POST")
	req.Header.Set("Access-Control-Request-Headers", asked)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	exposed := res.Header.Get("Access-Control-Expose-Headers")
	if res.StatusCode != http.StatusNoContent || res.Header.Get("Access-Control-Allow-Origin") != "https://app.example" ||
		!strings.Contains(res.Header.Get("Access-Control-Allow-Headers"), asked) ||
		!strings.Contains(exposed, "request-id") || !strings.Contains(exposed, "openai-processing-ms") {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}

	res, text := servertest.Ask(t, hs, messages, body(servertest.Hello), "Origin: https://evil.example")
	if f := readFault(t, res, text); res.StatusCode != http.StatusForbidden || f.Error.Type != "permission_error" {
		t.Errorf("%d %s", res.StatusCode, text)
	}
}

// TestStreamsFail ends a stream that fails with an event that says so.
func TestStreamsFail(t *testing.T) {
	hs, _ := start(t, `{"a":1`) // the fake holds to no grammar
	fields := servertest.Hello + `,"output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}}`
	_, stream := servertest.Post(t, hs, messages, body(fields+`,"stream":true`))
	list := events(t, stream)
	last := list[len(list)-1]
	failure, _ := last.data["error"].(map[string]any)
	if last.name != "error" || failure["type"] != "api_error" ||
		!strings.HasPrefix(last.data["request_id"].(string), "req_") {
		t.Errorf("it ends with %v", last)
	}

	res, text := servertest.Post(t, hs, messages, body(fields))
	if f := readFault(t, res, text); res.StatusCode != 500 || res.Header.Get("X-Should-Retry") != "false" {
		t.Errorf("whole: %d %+v", res.StatusCode, f)
	}
}

// TestPings keeps a silent stream awake, in a form that the clients skip.
func TestPings(t *testing.T) {
	pinged := make(chan struct{})
	hs, _ := servertest.Start(t, enginetest.Options{
		Next: enginetest.Say("Hi"),
		BeforeDecode: func(*engine.Batch) error {
			<-pinged
			return nil
		},
	}, server.Options{Heartbeat: time.Millisecond})

	res, err := http.Post(hs.URL+messages, "application/json", strings.NewReader(body(servertest.Hello+`,"stream":true`)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()

	const ping = "event: ping"
	var text strings.Builder
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if lines.Text() == ping && strings.Count(text.String(), ping) == 1 {
			close(pinged)
		}
	}

	list := events(t, text.String())
	if list[0].name != "message_start" || list[1].name != "ping" || len(list[1].data) != 1 ||
		list[len(list)-1].name != "message_stop" {
		t.Errorf("got %s", text.String())
	}
}
