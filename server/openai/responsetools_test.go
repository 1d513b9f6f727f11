package openai_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
	"serve/server/wire"
)

// outputItem is an item of a response.
type outputItem struct {
	Type, ID, Status, Name, Namespace, Execution, Input string
	Arguments                                           json.RawMessage
	Encrypted                                           string `json:"encrypted_content"`
	CallID                                              string `json:"call_id"`
	Content                                             []struct {
		Text     string
		LogProbs []struct {
			Token string
			Top   []struct{ Token string } `json:"top_logprobs"`
		}
	}
}

// itemsOf returns the output of a request, whole and streamed: both must be the same, but for ids.
func itemsOf(t *testing.T, hs *httptest.Server, fields string) ([]outputItem, http.Header) {
	t.Helper()
	var both [2][]outputItem
	var header http.Header
	for i, stream := range []string{"false", "true"} {
		res, body := servertest.Post(t, hs, "/v1/responses", `{"model":"fake","stream":`+stream+`,`+fields+`}`)
		if res.StatusCode != http.StatusOK {
			t.Fatal(body)
		}
		if at := strings.LastIndex(body, "data: "); at >= 0 {
			var event struct{ Response json.RawMessage }
			if err := json.Unmarshal([]byte(body[at+len("data: "):]), &event); err != nil {
				t.Fatal(err)
			}
			body = string(event.Response)
		}
		var r struct{ Output []outputItem }
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			t.Fatal(err, body)
		}
		both[i] = r.Output
		header = res.Header
	}

	kinds := func(list []outputItem) (all []string) {
		for _, item := range list {
			all = append(all, item.Type+item.Name+item.Input+string(item.Arguments))
		}
		return all
	}
	if !slices.Equal(kinds(both[0]), kinds(both[1])) {
		t.Errorf("whole %v, streamed %v", both[0], both[1])
	}
	return both[0], header
}

// TestCustomTools calls tools that take a text, with and without a format.
func TestCustomTools(t *testing.T) {
	patch, err := os.ReadFile("../../lark/testdata/patch.lark")
	if err != nil {
		t.Fatal(err)
	}
	agents := string(wire.AppendString([]byte(`{"type":"grammar","syntax":"lark","definition":`), string(patch))) + "}"

	const line = `{"type":"grammar","syntax":"lark","definition":"start: \"a\" LF\n%import common.LF"}`
	for _, tt := range []struct {
		format   string
		enforced bool
	}{
		{`{"type":"text"}`, true},
		{line, true},
		{agents, true},
		{`{"type":"grammar","syntax":"regex","definition":"a\\n|b"}`, true},
		{`{"type":"grammar","syntax":"lark","definition":"start: \"(\" start? \")\""}`, false},
		{`{"type":"grammar","syntax":"regex","definition":"a(?=b)"}`, false},
	} {
		var seen json.RawMessage
		hs, _ := servertest.Start(t, enginetest.Options{
			Next:        sayLast(`<patch {"input":"a\n"}>`),
			Parse:       scripted,
			RenderError: func(m []byte) error { seen = m; return nil },
			Limits:      engine.Limits{Context: 4096},
		}, server.Options{})

		tools := `"tools":[{"type":"custom","name":"patch","description":"Edits.","format":` + tt.format +
			`},{"type":"web_search"}]`
		items, header := itemsOf(t, hs, `"input":"x",`+tools)
		if len(items) != 1 || items[0].Type != "custom_tool_call" || items[0].Name != "patch" || items[0].Input != "a\n" ||
			!strings.HasPrefix(items[0].ID, "ctc_") || items[0].CallID == "" || items[0].Arguments != nil {
			t.Errorf("%s: %+v", tt.format, items)
		}
		got := header.Get("X-Schema-Not-Enforced")
		if (got == "") != tt.enforced ||
			got != "" && !strings.HasPrefix(got, "tools[0].format") {
			t.Errorf("%s: not enforced is %q", tt.format, got)
		}
		if got := header.Get("X-Tools-Not-Offered"); got != "web_search" {
			t.Errorf("not offered is %q", got)
		}

		// The call and its result come back.
		_, _ = itemsOf(t, hs, tools+`,"tool_choice":{"type":"custom","name":"patch"},"input":[{"role":"user","content":"x"},
			{"type":"custom_tool_call","id":"ctc_1","call_id":"c1","name":"patch","input":"say \"a\"\n"},
			{"type":"custom_tool_call_output","call_id":"c1","output":"done"}]`)
		var messages []templateMessage
		if err := json.Unmarshal(seen, &messages); err != nil {
			t.Fatal(err)
		}
		last := messages[len(messages)-1]
		calls := string(messages[len(messages)-2].ToolCalls)
		if !strings.Contains(calls, `"{\"input\":\"say \\\"a\\\"\\n\"}"`) ||
			last.Role != "tool" || last.Content != "done" || last.ToolCallID != "c1" {
			t.Errorf("the template sees %s", seen)
		}
	}
}

// TestCustomToolEvents compares the events of a call with its input.
func TestCustomToolEvents(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{
		Next:  sayLast(`<patch {"input":"a \"b\"\n"}>`),
		Parse: scripted,
	}, server.Options{})
	_, body := servertest.Post(t, hs, "/v1/responses",
		`{"model":"fake","stream":true,"input":"x","tools":[{"type":"custom","name":"patch"}]}`)
	deltas := ""
	done := ""
	for _, line := range strings.Split(body, "\n") {
		data, ok := strings.CutPrefix(line, "data: ")
		var e struct{ Type, Delta, Input string }
		if !ok || json.Unmarshal([]byte(data), &e) != nil {
			continue
		}
		switch e.Type {
		case "response.custom_tool_call_input.delta":
			deltas += e.Delta
		case "response.custom_tool_call_input.done":
			done = e.Input
		}
	}

	if deltas != "a \"b\"\n" || done != deltas || strings.Contains(body, "function_call") {
		t.Errorf("%q, %q: %s", deltas, done, body)
	}
}

// TestNamespaces unfolds the tools of namespaces, and folds calls of them.
func TestNamespaces(t *testing.T) {
	var seen []templateMessage
	hs, _ := servertest.Start(t, enginetest.Options{
		Next:        sayLast(`<mcp__test.shout {"text":"a"}><mcp__test.patch {"input":"b"}><shout {}>`),
		Parse:       scripted,
		RenderError: func(m []byte) error { return json.Unmarshal(m, &seen) },
		Limits:      engine.Limits{Context: 4096},
	}, server.Options{})

	long := strings.Repeat("x", 128)
	items, header := itemsOf(t, hs, `"input":[{"role":"user","content":"x"},
		{"type":"function_call","call_id":"c1","namespace":"mcp__test","name":"shout","arguments":"{}"},
		{"type":"function_call_output","call_id":"c1","output":"A"}],
		"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","namespace":"mcp__test",
		"name":"shout"},
			{"type":"custom","namespace":"mcp__test","name":"patch"},{"type":"function","name":"shout"},{"type":"mcp",
		"server_label":"x"}]},
		"tools":[{"type":"function","name":"shout"},{"type":"function","name":"`+long+`"},
		{"type":"namespace","name":"mcp__test","description":"Of a test.","tools":[
			{"type":"function","name":"shout","parameters":{"type":"object"},"defer_loading":true},
			{"type":"custom","name":"patch"},{"type":"namespace","name":"n","tools":[]}]}]`)
	var got []string
	for _, item := range items {
		got = append(got, item.Type+" "+item.Namespace+" "+item.Name)
	}
	const want = "function_call mcp__test shout,custom_tool_call mcp__test patch,function_call  shout"
	if strings.Join(got, ",") != want {
		t.Errorf("called are %v", got)
	}
	if h := header.Values("X-Tools-Not-Offered"); !slices.Equal(h, []string{"namespace"}) {
		t.Errorf("not offered are %v", h)
	}
	if !strings.Contains(string(seen[1].ToolCalls), `"mcp__test.shout"`) {
		t.Errorf("the template sees %+v", seen)
	}
}

// TestToolSearch lets the client search for tools, and offers what it has found.
func TestToolSearch(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{
		Next:   sayLast(`<tool_search {"query":"loud"}>`),
		Parse:  scripted,
		Limits: engine.Limits{Context: 4096},
	}, server.Options{})
	const search = `"tools":[{"type":"tool_search","execution":"client","description":"Finds.",` +
		`"parameters":{"type":"object"}}]`
	items, _ := itemsOf(t, hs, `"input":"x",`+search)
	if len(items) != 1 || items[0].Type != "tool_search_call" || items[0].Execution != "client" ||
		string(items[0].Arguments) != `{"query":"loud"}` || items[0].CallID == "" {
		t.Errorf("%+v", items)
	}

	hs, _ = servertest.Start(t, enginetest.Options{
		Next:   sayLast(`<ns.shout {}>`),
		Parse:  scripted,
		Limits: engine.Limits{Context: 4096},
	}, server.Options{})
	found := `{"type":"tool_search_output","call_id":"c1","execution":"client","tools":[
		{"type":"namespace","name":"ns","tools":[{"type":"function","name":"shout","defer_loading":true}]}]}`
	items, _ = itemsOf(t, hs, `"input":[{"role":"user","content":"x"},
		{"type":"tool_search_call","call_id":"c1","execution":"client",
		"arguments":{"query":"loud"}},`+found+`,`+found+`],`+search)
	if len(items) != 1 || items[0].Type != "function_call" || items[0].Namespace != "ns" || items[0].Name != "shout" {
		t.Errorf("%+v", items)
	}

	_, header := itemsOf(t, hs, `"input":"x","tools":[{"type":"tool_search"}],"tool_choice":{"type":"web_search_preview"}`)
	if got := header.Values("X-Tools-Not-Offered"); !slices.Equal(got, []string{"tool_search", "web_search_preview"}) {
		t.Errorf("not offered are %v", got)
	}
}

// TestForeignItems reads histories with the items of hosted tools: as text, or not at all and named.
func TestForeignItems(t *testing.T) {
	var seen []templateMessage
	hs, _ := servertest.Start(t, enginetest.Options{
		Next:        sayLast("ok"),
		RenderError: func(m []byte) error { return json.Unmarshal(m, &seen) },
		Limits:      engine.Limits{Context: 4096},
	}, server.Options{})

	for _, tt := range []struct {
		item  string
		call  string // part of the call that the model sees
		tells string // the result that it sees
	}{
		{`{"type":"local_shell_call","call_id":"c","action":{"type":"exec","command":["ls"]}}`,
			`"local_shell","arguments":"{\"type\":\"exec\"`, ""},
		{`{"type":"local_shell_call_output","id":"c","output":"a.txt"}`, "", "a.txt"},
		{`{"type":"shell_call","call_id":"c","action":{"commands":["ls"]}}`, `"shell"`, ""},
		{`{"type":"shell_call_output","call_id":"c","output":[{"stdout": "a"}]}`, "", `[{"stdout":"a"}]`},
		{`{"type":"apply_patch_call","call_id":"c","operation":{"type":"delete_file","path":"a"}}`, `"apply_patch"`, ""},
		{`{"type":"apply_patch_call_output","call_id":"c","output":"gone"}`, "", "gone"},
		{`{"type":"code_interpreter_call","id":"c","code":"1+1","outputs":[{"type":"logs","logs":"2"}]}`,
			`{\"code\":\"1+1\"}`, `[{"type":"logs","logs":"2"}]`},
		{`{"type":"mcp_call","id":"c","server_label":"s","name":"f","arguments":"{\"a\":1}","output":"3"}`,
			`"s.f","arguments":"{\"a\":1}"`, "3"},
		{`{"type":"mcp_call","id":"c","server_label":"s","name":"f","arguments":"{}","error":"no"}`, `"s.f"`, "no"},
	} {
		res, body := servertest.Post(
			t, hs, "/v1/responses", `{"model":"fake","input":[{"role":"user","content":"x"},`+tt.item+`]}`,
		)
		if res.StatusCode != http.StatusOK || res.Header.Get("X-Items-Not-Read") != "" {
			t.Errorf("%s: %d %s", tt.item, res.StatusCode, body)
			continue
		}
		result := ""
		if last := seen[len(seen)-1]; last.Role == "tool" {
			result = last.Content
		}
		if !strings.Contains(string(seen[1].ToolCalls), tt.call) || result != tt.tells {
			t.Errorf("%s: %+v", tt.item, seen)
		}
	}

	for _, kind := range []string{"web_search_call", "file_search_call", "image_generation_call", "computer_call",
		"computer_call_output", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response", "compaction",
		"something_new"} {
		res, body := servertest.Post(t, hs, "/v1/responses",
			`{"model":"fake","input":[{"role":"user","content":"x"},{"type":"`+kind+`","id":"1","encrypted_content":"gAAAA"}]}`)
		if res.StatusCode != http.StatusOK || res.Header.Get("X-Items-Not-Read") != kind || len(seen) != 1 {
			t.Errorf("%s: %d %s", kind, res.StatusCode, body)
		}
	}
}

// TestCompaction goes on from a summary.
func TestCompaction(t *testing.T) {
	var seen []templateMessage
	hs, _ := servertest.Start(t, enginetest.Options{
		Next:        sayLast("They said hello."),
		RenderError: func(m []byte) error { return json.Unmarshal(m, &seen) },
		Limits:      engine.Limits{Context: 4096},
	}, server.Options{})
	res, body := servertest.Post(
		t,
		hs,
		"/v1/responses/compact",
		`{"model":"fake","instructions":"Be `+
			`kind.","input":[{"role":"user","content":"Hello"},{"role":"assistant","content":"Hi"}]}`,
	)
	var got struct {
		Object string
		Output []json.RawMessage
		Usage  struct {
			Output int `json:"output_tokens"`
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(err, body)
	}
	if got.Object != "response.compaction" || len(got.Output) != 2 || got.Usage.Output == 0 ||
		!strings.Contains(string(got.Output[1]), `"type":"compaction"`) {
		t.Errorf("%s", body)
	}
	if last := seen[len(seen)-1]; last.Role != "user" || !strings.Contains(last.Content, "summary") ||
		seen[0].Content != "Be kind." {
		t.Errorf("the model reads %+v", seen)
	}

	items, err := json.Marshal(append(got.Output, json.RawMessage(`{"role":"user","content":"And now?"}`)))
	if err != nil {
		t.Fatal(err)
	}
	res, body = servertest.Post(t, hs, "/v1/responses", `{"model":"fake","input":`+string(items)+`}`)
	if res.StatusCode != http.StatusOK {
		t.Fatal(body)
	}
	all := ""
	for _, m := range seen {
		all += m.Role + ": " + m.Content + "\n"
	}
	if !strings.Contains(all, "Hello") ||
		!strings.Contains(all, "Summary of the conversation so far:\n\nThey said hello.") ||
		!strings.Contains(all, "And now?") || strings.Contains(all, "Hi\n") {
		t.Errorf("the model reads %s", all)
	}
}

// TestResponseLogprobs asks for log-probabilities in both ways.
func TestResponseLogprobs(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Next: sayLast("Hi"), Parse: scripted}, server.Options{})
	for fields, top := range map[string]int{
		`"include":["message.output_text.logprobs"]`: 0,
		`"top_logprobs":2`:                           2,
	} {
		items, _ := itemsOf(t, hs, `"input":"x",`+fields)
		probs := items[0].Content[0].LogProbs
		if len(probs) != 2 || probs[0].Token != "H" || probs[1].Token != "i" || len(probs[0].Top) != top {
			t.Errorf("%s: %+v", fields, items)
		}

		_, body := servertest.Post(t, hs, "/v1/responses", `{"model":"fake","input":"x","stream":true,`+fields+`}`)
		if n := strings.Count(body, `"token":"H","logprob"`); n < 4 { // a delta, and three times when it is done
			t.Errorf("%s: %d times: %s", fields, n, body)
		}
	}
}

// TestSealedReasoning sends reasoning back that the client cannot read.
func TestSealedReasoning(t *testing.T) {
	var seen []templateMessage
	hs, _ := servertest.Start(t, enginetest.Options{
		Next: sayLast("why|so"),
		Parse: func(text string, _ bool) (m enginetest.Message, err error) {
			m.Reasoning, m.Content, _ = strings.Cut(text, "|")
			return m, nil
		},
		RenderError: func(m []byte) error { return json.Unmarshal(m, &seen) },
	}, server.Options{})
	items, _ := itemsOf(t, hs, `"input":"x","store":false,"include":["reasoning.encrypted_content"]`)
	if len(items) < 1 || items[0].Type != "reasoning" || items[0].Encrypted == "" {
		t.Fatalf("%+v", items)
	}
	text := items[0].Content[0].Text
	res, body := servertest.Post(t, hs, "/v1/responses", `{"model":"fake","input":[{"role":"user","content":"x"},
		{"type":"reasoning","summary":[],"encrypted_content":"`+items[0].Encrypted+`"},{"role":"assistant","content":"so"}]}`)
	if res.StatusCode != http.StatusOK || seen[1].Reasoning != text {
		t.Errorf("%q: %+v %s", text, seen, body)
	}
}

// TestResponseWithoutInput goes on without an input, and refuses nothing at all.
func TestResponseWithoutInput(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Next: parrot, Limits: engine.Limits{Context: 1024}}, server.Options{})
	first := respond(t, hs, `"instructions":"Be kind."`)
	if first.text() != "[system]Be kind." {
		t.Errorf("%+v", first)
	}
	if got := respond(t, hs, `"input":[],"previous_response_id":"`+first.ID+`"`); got.text() == "" {
		t.Errorf("%+v", got)
	}
	for _, fields := range []string{``, `,"input":[]`, `,"input":[{"type":"web_search_call","id":"1"}]`} {
		res, body := servertest.Post(t, hs, "/v1/responses", `{"model":"fake"`+fields+`}`)
		if res.StatusCode != http.StatusBadRequest || !strings.Contains(body, `"param":"input"`) {
			t.Errorf("%s: %d %s", fields, res.StatusCode, body)
		}
	}
}

// TestIgnoredByResponses sends what cannot change an answer, and what comes back with it.
func TestIgnoredByResponses(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{
		Next:   sayLast("ok"),
		Limits: engine.Limits{Context: 4096},
	}, server.Options{})
	_, body := servertest.Post(t, hs, "/v1/responses", `{"model":"fake","input":"x",
		"client_metadata":{"session_id":"a"},"prompt_cache_options":{"mode":"auto"},"moderation":{},"background_options":{},
		"reasoning":{"context":"auto"},"truncation":"auto","max_tool_calls":3,"safety_identifier":"s","prompt_cache_key":"k",
		"presence_penalty":0.5,"frequency_penalty":0.25,"repetition_penalty":1.1,"tools":[{"type":"function","name":"f"}]}`)
	for _, part := range []string{`"truncation":"auto"`, `"max_tool_calls":3`, `"safety_identifier":"s"`,
		`"prompt_cache_key":"k"`,
		`"presence_penalty":0.5`, `"frequency_penalty":0.25`, `"strict":false`, `"description":null`, `"parameters":null`} {
		if !strings.Contains(body, part) {
			t.Errorf("%s is missing: %s", part, body)
		}
	}
}

// TestChatCustomTools calls custom tools in chat completions, and skips what is unknown.
func TestChatCustomTools(t *testing.T) {
	var seen []templateMessage
	hs, _ := servertest.Start(t, enginetest.Options{
		Next:        sayLast(`<patch {"input":"a\nb"}>`),
		Parse:       scripted,
		RenderError: func(m []byte) error { return json.Unmarshal(m, &seen) },
		Limits:      engine.Limits{Context: 4096},
	}, server.Options{})
	const request = `"tools":[{"type":"custom","custom":{"name":"patch","format":{"type":"grammar",
		"grammar":{"syntax":"regex","definition":"[a-z\\n]+"}}}},
		{"type":"retrieval"}],"tool_choice":{"type":"custom","custom":{"name":"patch"}},"messages":[{"role":"user",
		"content":"x"},
		{"role":"assistant","tool_calls":[{"id":"c1","type":"custom","custom":{"name":"patch","input":"q"}}]},
		{"role":"tool","tool_call_id":"c1","content":"done"}]`

	res, body := servertest.Post(t, hs, "/v1/chat/completions", `{"model":"fake",`+request+`}`)
	if !strings.Contains(body, `"type":"custom","custom":{"name":"patch","input":"a\nb"}`) ||
		strings.Contains(body, `"function"`) {
		t.Error(body)
	}
	if got := res.Header.Get("X-Tools-Not-Offered"); got != "retrieval" {
		t.Errorf("not offered is %q", got)
	}
	if !strings.Contains(string(seen[1].ToolCalls), `"{\"input\":\"q\"}"`) {
		t.Errorf("the template sees %+v", seen)
	}

	_, body = servertest.Post(t, hs, "/v1/chat/completions", `{"model":"fake","stream":true,`+request+`}`)
	input := ""
	for _, line := range strings.Split(body, "\n") {
		var chunk struct {
			Choices []struct {
				Delta struct {
					Calls []struct {
						Type   string
						Custom struct{ Name, Input string }
					} `json:"tool_calls"`
				}
			}
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok || json.Unmarshal([]byte(data), &chunk) != nil {
			continue
		}
		for _, choice := range chunk.Choices {
			for _, call := range choice.Delta.Calls {
				input += call.Custom.Input
			}
		}
	}
	if input != "a\nb" || !strings.Contains(body, `"type":"custom","custom":{"name":"patch","input":""}`) {
		t.Errorf("%q: %s", input, body)
	}
}
