package openai_test

import (
	"cmp"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"serve/engine/enginetest"
	"serve/server"
	"serve/server/openai"
	"serve/server/servertest"
	"serve/testfiles"
)

// openResponsesCase is a conversation over the Responses API, whose answers have the shapes of Open Responses.
type openResponsesCase struct {
	name    string // in the compliance suite of Open Responses
	ours    bool   // it is not in the suite
	path    string // by default /v1/responses
	model   string // JSON; by default the fake's name
	says    string // what the model says
	first   string // the fields of a request before; $id and $call stand for its ids in the other
	fields  string // of the request
	output  string // the types of the output's items
	status  string // by default completed
	events  string // that a stream has, beside those of every response
	refused string // what the error says, if there is one
	socket  bool   // the request is to open a WebSocket
	differs string // why the suite's case does not pass
}

const (
	weatherTool = `"tools":[{"type":"function","name":"get_weather","description":"Get the current weather for a ` +
		`location","parameters":{"type":"object","properties":{"location":{"type":"string"}},"required":["location"]}}]`
	weatherCall   = `<get_weather {"location":"San Francisco"}>`
	weatherEvents = "response.function_call_arguments.delta response.function_call_arguments.done"

	noSockets = "There is no WebSocket transport: the upgrade is refused with 405. The same requests work over HTTP."
	noHosted  = "Tools that OpenAI hosts are not offered to the model; the header `X-Tools-Not-Offered` names them."
)

// openResponsesCases are after the compliance suite of Open Responses in its two versions of 2026.
var openResponsesCases = []openResponsesCase{
	{
		name:   "basic-response",
		says:   "Hello to you.",
		fields: `"input":[{"type":"message","role":"user","content":"Say hello in exactly 3 words."}]`,
		output: "message",
	},
	{
		name:   "streaming-response",
		says:   "1 2 3 4 5",
		fields: `"input":[{"type":"message","role":"user","content":"Count from 1 to 5."}]`,
		output: "message",
		events: "response.content_part.added response.output_text.delta response.output_text.done response.content_part.done",
	},
	{
		name: "system-prompt",
		says: "Ahoy!",
		fields: `"input":[{"type":"message","role":"system","content":"You are a pirate."},` +
			`{"type":"message","role":"user","content":"Say hello."}]`,
		output: "message",
	},
	{
		name:   "tool-calling",
		says:   weatherCall,
		fields: `"input":[{"type":"message","role":"user","content":"What's the weather like?"}],` + weatherTool,
		output: "function_call",
	},
	{
		name:   "tool-calling-streaming",
		says:   weatherCall,
		fields: `"input":[{"type":"message","role":"user","content":"What's the weather like?"}],` + weatherTool,
		output: "function_call",
		events: weatherEvents,
	},
	{
		name: "function-call-roundtrip",
		says: weatherCall,
		first: `"input":"Use the weather tool.","tool_choice":{"type":"function","name":"get_weather"},` +
			weatherTool,
		fields: `"previous_response_id":"$id","input":[{"type":"function_call_output","call_id":"$call",` +
			`"output":"64 degrees and clear"}],` + weatherTool,
		output: "function_call",
	},
	{
		name: "image-input",
		fields: `"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"What do you see?"},` +
			`{"type":"input_image","image_url":"$image"}]}]`,
		output: "message",
	},
	{
		name: "file-input",
		fields: `"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"Read the title."},` +
			`{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0xLjE="}]}]`,
		refused: "PDF",
		differs: "PDF files are not read: they are refused with an error that names them. Files of text are.",
	},
	{
		name: "multi-turn",
		says: "Alice.",
		fields: `"input":[{"type":"message","role":"user","content":"My name is Alice."},` +
			`{"type":"message","role":"assistant","content":"Hello Alice!"},` +
			`{"type":"message","role":"user","content":"What is my name?"}]`,
		output: "message",
	},
	{
		name: "assistant-phase",
		says: "Four.",
		fields: `"input":[{"type":"message","role":"user","content":"Two and two?"},` +
			`{"type":"message","role":"assistant","phase":"commentary","content":"I am checking."},` +
			`{"type":"message","role":"assistant","phase":"final_answer",` +
			`"content":[{"type":"output_text","text":"Four.","annotations":[]}]},` +
			`{"type":"message","role":"user","content":"Again?"}]`,
		output: "message",
	},
	{
		name:   "previous-response-id",
		says:   "papaya",
		first:  `"input":"Remember this code word: papaya."`,
		fields: `"previous_response_id":"$id","input":"What code word did I ask you to remember?"`,
		output: "message",
	},
	{
		name: "compact-response",
		path: "/v1/responses/compact",
		says: "Launch on Tuesday.",
		fields: `"prompt_cache_key":"test","input":[` +
			`{"type":"message","role":"user","content":"We agreed to launch on Tuesday."},` +
			`{"type":"message","role":"assistant","content":"Understood."}]`,
		output: "message compaction",
	},
	{
		name:    "compact-missing-model",
		path:    "/v1/responses/compact",
		model:   "null",
		fields:  `"input":[{"type":"message","role":"user","content":"Compact this."}]`,
		refused: `"param":"model"`,
	},
	{
		name: "file-search",
		says: "Nothing.",
		fields: `"input":"Search.","tools":[{"type":"file_search","vector_store_ids":["vs_1"]}],` +
			`"include":["file_search_call.results"]`,
		output:  "message",
		differs: noHosted,
	},
	{
		name: "offline-web-search",
		says: "Nothing.",
		fields: `"input":"Find it.","tools":[{"type":"web_search","external_web_access":false}],` +
			`"include":["web_search_call.action.sources"]`,
		output:  "message",
		differs: noHosted,
	},
	{name: "websocket-response", socket: true, differs: noSockets},
	{name: "websocket-sequential-responses", socket: true, differs: noSockets},
	{name: "websocket-continuation", socket: true, differs: noSockets},
	{name: "websocket-reconnect-store-false-recovery", socket: true, differs: noSockets},
	{name: "websocket-previous-response-not-found", socket: true, differs: noSockets},
	{name: "websocket-failed-continuation-evicts-cache", socket: true, differs: noSockets},
	{name: "websocket-compact-new-chain", socket: true, differs: noSockets},

	{
		name:   "a cut answer",
		ours:   true,
		says:   "Hello there",
		fields: `"input":"Hello","max_output_tokens":5`,
		output: "message",
		status: "incomplete",
	},
	{
		name:   "log-probabilities",
		ours:   true,
		says:   "ok",
		fields: `"input":"Hello","top_logprobs":2,"include":["message.output_text.logprobs"]`,
		output: "message",
	},
	{
		name: "every setting",
		ours: true,
		says: "ok",
		fields: `"input":"Hello","instructions":"Be kind.","metadata":{"a":"b"},"temperature":0.7,"top_p":0.5,` +
			`"presence_penalty":1,"frequency_penalty":1,"user":"u","safety_identifier":"s","prompt_cache_key":"k",` +
			`"service_tier":"flex","truncation":"auto","store":false,"max_tool_calls":3,"parallel_tool_calls":false,` +
			`"reasoning":{"effort":"low"},"text":{"verbosity":"low"}`,
		output: "message",
	},
	{
		name:   "a schema",
		ours:   true,
		says:   `{}`,
		fields: `"input":"Hello","text":{"format":{"type":"json_schema","name":"a","schema":{"type":"object"}}}`,
		output: "message",
	},
	{
		name: "allowed tools",
		ours: true,
		says: weatherCall,
		fields: `"input":"Hello","tool_choice":{"type":"allowed_tools","mode":"required",` +
			`"tools":[{"type":"function","name":"get_weather"}]},` + weatherTool,
		output: "function_call",
	},
	{
		name:    "streamed reasoning",
		ours:    true,
		says:    "{think}said",
		fields:  `"input":"Hello"`,
		output:  "reasoning message",
		events:  "response.reasoning_text.delta response.reasoning_text.done",
		differs: "The events of reasoning are named as OpenAI's clients know them: `response.reasoning_text.delta`.",
	},
}

// reasoned parses what scripted does, after reasoning in braces.
func reasoned(text string, partial bool) (enginetest.Message, error) {
	if partial && strings.HasPrefix("{think", text) {
		return enginetest.Message{}, nil // it may still begin with reasoning
	}

	var thought string
	if rest, ok := strings.CutPrefix(text, "{think"); ok {
		_, text, _ = strings.Cut(rest, "}")
		thought = "why"
	}
	m, err := scripted(text, partial)
	m.Reasoning = thought
	return m, err
}

// TestOpenResponses compares the answers to each case with the shapes of Open Responses, streamed and whole.
func TestOpenResponses(t *testing.T) {
	for _, tt := range openResponsesCases {
		for _, stream := range []bool{false, true} {
			if stream && tt.path != "" {
				continue // is not streamed
			}
			t.Run(fmt.Sprintf("%s/stream=%v", tt.name, stream), func(t *testing.T) {
				fake := enginetest.Options{Next: sayLast(tt.says), Parse: reasoned, Limits: seer.Limits}
				if strings.Contains(tt.fields, "$image") {
					fake = seer
				}
				hs, _ := servertest.Start(t, fake, server.Options{})
				if tt.socket {
					refusesSocket(t, hs)
					return
				}
				tt.check(t, hs, stream)
			})
		}
	}
}

// check sends a case's requests and looks at the answers.
func (tt *openResponsesCase) check(t *testing.T, hs *httptest.Server, stream bool) {
	fields := strings.ReplaceAll(tt.fields, "$image", dataURL(portray(t, "cat")))
	if tt.first != "" {
		first := tt.post(t, hs, tt.first)
		fields = strings.ReplaceAll(fields, "$id", first["id"].(string))
		call, _ := first["output"].([]any)[0].(map[string]any)["call_id"].(string)
		fields = strings.ReplaceAll(fields, "$call", call)
	}

	switch {
	case tt.refused != "":
		res, body := servertest.Post(t, hs, tt.where(), tt.body(fields))
		if res.StatusCode != http.StatusBadRequest || !strings.Contains(body, tt.refused) {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	case stream:
		_, body := servertest.Post(t, hs, tt.where(), tt.body(`"stream":true,`+fields))
		tt.settled(t, tt.streamed(t, body))
	default:
		tt.settled(t, tt.post(t, hs, fields))
	}
}

func (tt *openResponsesCase) where() string {
	return cmp.Or(tt.path, "/v1/responses")
}

func (tt *openResponsesCase) body(fields string) string {
	return `{"model":` + cmp.Or(tt.model, `"fake"`) + `,` + fields + `}`
}

// post returns the answer to a request.
func (tt *openResponsesCase) post(t *testing.T, hs *httptest.Server, fields string) map[string]any {
	t.Helper()
	res, body := servertest.Post(t, hs, tt.where(), tt.body(fields))
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	kind := "response"
	if tt.path != "" {
		kind = "compaction"
	}

	v := decodeExactly(t, body)
	for _, wrong := range violations(kind, v, kind) {
		t.Error(wrong)
	}
	object, ok := v.(map[string]any)
	if !ok {
		t.Fatal(body)
	}
	return object
}

// streamed looks at the events of a stream, and returns the response of the last one.
func (tt *openResponsesCase) streamed(t *testing.T, body string) (last map[string]any) {
	t.Helper()
	missing := append(strings.Fields(tt.events), "response.created", "response.in_progress",
		"response.output_item.added", "response.output_item.done")
	for event := range strings.SplitSeq(strings.TrimSpace(body), "\n\n") {
		name, data, ok := strings.Cut(event, "\ndata: ")
		if !ok {
			t.Fatalf("%q is no event", event)
		}
		v := decodeExactly(t, data)
		for _, wrong := range violations("event", v, "event") {
			t.Error(wrong)
		}
		object, _ := v.(map[string]any)
		kind, _ := object["type"].(string)
		if name != "event: "+kind {
			t.Errorf("the type of %q is %q", name, kind)
		}
		missing = slices.DeleteFunc(missing, func(s string) bool { return s == kind })
		last, _ = object["response"].(map[string]any)
	}
	if len(missing) > 0 {
		t.Errorf("no events %q in %s", missing, body)
	}
	return last
}

// settled looks at what a response has become.
func (tt *openResponsesCase) settled(t *testing.T, response map[string]any) {
	t.Helper()
	if tt.path == "" && response["status"] != cmp.Or(tt.status, "completed") {
		t.Errorf("the status is %v", response["status"])
	}

	var types []string
	items, _ := response["output"].([]any)
	for _, item := range items {
		types = append(types, fmt.Sprint(item.(map[string]any)["type"]))
	}
	if got := strings.Join(types, " "); got != tt.output {
		t.Errorf("the output has %q, want %q", got, tt.output)
	}
}

// refusesSocket asks for a WebSocket as clients do.
func refusesSocket(t *testing.T, hs *httptest.Server) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, hs.URL+"/v1/responses", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("status %d", res.StatusCode)
	}
}

// TestCompatibilityOpenResponses writes into docs/compatibility.md which cases pass and why others do not.
func TestCompatibilityOpenResponses(t *testing.T) {
	var text strings.Builder
	text.WriteString("| case | here |\n|---|---|\n")
	passed := 0
	taken := 0
	for _, tt := range openResponsesCases {
		if !tt.ours {
			taken++
		}
		switch {
		case tt.differs != "":
			fmt.Fprintf(&text, "| %s | %s |\n", tt.name, tt.differs)
		case !tt.ours:
			passed++
			fmt.Fprintf(&text, "| %s | passes |\n", tt.name)
		}
	}
	fmt.Fprintf(&text, "\n%d of %d cases of the suite pass.\n", passed, taken)
	testfiles.Section(t, "../../docs/compatibility.md", "open responses", text.String(), *openai.Update)
}
