package main

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"serve/models/testmodel"
)

// openapi compiles a schema of OpenAI's own document, which lies beside some
// checkouts.
func openapi(t *testing.T) func(name, body string) {
	t.Helper()
	const path = "../../../shared/data/openai-openapi.json"
	f, err := os.Open(path)
	if err != nil {
		t.Skip("OpenAI's document does not lie beside this checkout: ", err)
	}
	defer f.Close()
	document, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}

	document = nullable(document)
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("openai.json", document); err != nil {
		t.Fatal(err)
	}

	known := map[string]*jsonschema.Schema{}
	return func(name, body string) {
		t.Helper()
		s := known[name]
		if s == nil {
			if s, err = c.Compile("openai.json#/components/schemas/" + name); err != nil {
				t.Fatal(err)
			}
			known[name] = s
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, body)
		}
		dropNulls(v)
		if err := s.Validate(v); err != nil {
			t.Errorf("%s: %v\n%s", name, err, body)
		}
	}
}

// dropNulls removes the usage of a response that has not ended, and the user if none was given. The document's
// schemas leave them out; OpenAI's service and the document's examples have null, and clients made after the
// Open Responses specification want the fields.
func dropNulls(v any) {
	object, ok := v.(map[string]any)
	if !ok {
		return
	}
	for _, name := range []string{"usage", "user"} {
		if value, given := object[name]; given && value == nil {
			delete(object, name)
		}
	}
	dropNulls(object["response"])
}

// nullable says in JSON Schema's words what the document says in OpenAPI's.
func nullable(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = nullable(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = nullable(v[key])
		}
		delete(v, "$recursiveAnchor") // of another draft
		if v["nullable"] == true {
			delete(v, "nullable")
			return map[string]any{"anyOf": []any{v, map[string]any{"type": "null"}}}
		}
	}
	return v
}

// TestOpenAPI validates what every endpoint answers, whole and in pieces, against
// OpenAI's own document.
func TestOpenAPI(t *testing.T) {
	valid := openapi(t)
	r := startServe(
		t,
		templated(t, "Qwen-Qwen2.5-7B-Instruct"),
		"--mmproj",
		projectorFile(t, testmodel.Projector(testmodel.MLP)),
		"--ctx-size",
		"4096",
		"--parallel",
		"2",
		"--data-dir",
		t.TempDir(),
	)
	const messages = `"messages":[{"role":"user","content":"How is the weather?"}],"max_completion_tokens":100`
	const tools = `"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object",` +
		`"properties":{"a":{"enum":[1,2]}},"required":["a"]}}}],"tool_choice":"required"`
	for _, tt := range []struct{ path, schema, chunk, body string }{
		{"/v1/chat/completions", "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse", messages},
		{"/v1/chat/completions", "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse", messages +
			`,"n":2,"logprobs":true,"top_logprobs":3`},
		{"/v1/chat/completions", "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse", messages + "," +
			tools},
		{"/v1/chat/completions", "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse", messages +
			`,"functions":[{"name":"f"}],"function_call":{"name":"f"}`},
		{"/v1/chat/completions", "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse", messages +
			`,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"enum":[{"a":1},null]}}}`},
		{"/v1/chat/completions", "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse",
			`"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"` + dot +
				`"}},{"type":"text","text":"What?"}]}],"max_completion_tokens":8`},
		{"/v1/responses", "Response", "ResponseStreamEvent", `"input":[{"role":"user",` +
			`"content":[{"type":"input_image","detail":"auto","image_url":"` + dot + `"},{"type":"input_text",` +
			`"text":"What?"}]}],"max_output_tokens":8`},
		// The document has no chunks of completions: it wants a reason in every one.
		{"/v1/completions", "CreateCompletionResponse", "", `"prompt":["a","b"],"n":2,"logprobs":2,"max_tokens":8`},
		{"/v1/responses", "Response", "ResponseStreamEvent", `"input":"How?","max_output_tokens":30,` +
			`"instructions":"be kind","metadata":{"a":"b"}`},
		{"/v1/responses", "Response", "ResponseStreamEvent", `"input":"How?","max_output_tokens":100,` +
			`"tools":[{"type":"function","name":"f","strict":true,"parameters":{"type":"object","properties":{},` +
			`"additionalProperties":false}}],"tool_choice":"required","parallel_tool_calls":false`},
		{"/v1/responses", "Response", "ResponseStreamEvent", `"max_output_tokens":8,"input":[{"role":"user","content":"` +
			strings.Repeat("word ", 300) + `"},{"role":"assistant","content":"Yes."},{"role":"user","content":"How?"}],` +
			`"context_management":[{"type":"compaction","compact_threshold":200}]`},
	} {
		status, body := r.post(t, tt.path, `{"model":"tiny","seed":1,`+tt.body+`}`)
		if status != 200 {
			t.Fatal(body)
		}
		valid(tt.schema, body)
		_, stream := r.post(t, tt.path, `{"model":"tiny","seed":1,"stream":true,`+tt.body+`}`)
		for event := range strings.SplitSeq(strings.TrimSpace(stream), "\n\n") {
			_, data, _ := strings.Cut("\n"+event, "\ndata: ")
			if data != "[DONE]" && data != "" && tt.chunk != "" {
				valid(tt.chunk, data)
			}
		}
	}

	_, kept := r.post(t, "/v1/responses", `{"model":"tiny","input":"How?","max_output_tokens":4,"background":true}`)
	valid("Response", kept)
	var response struct{ ID string }
	if err := json.Unmarshal([]byte(kept), &response); err != nil {
		t.Fatal(err)
	}

	_, cancelled := r.post(t, "/v1/responses/"+response.ID+"/cancel", "")
	valid("Response", cancelled)
	_, items := r.send(t, http.MethodGet, "/v1/responses/"+response.ID+"/input_items", "")
	valid("ResponseItemList", items)
	_, counted := r.post(t, "/v1/responses/input_tokens", `{"model":"tiny","input":"How?"}`)
	valid("TokenCountsResource", counted)

	_, chat := r.post(t, "/v1/conversations", `{"metadata":{"a":"b"},"items":[{"role":"user","content":"How?"},`+
		`{"type":"function_call","call_id":"1","name":"f","arguments":"{}"}]}`)
	valid("ConversationResource", chat)
	var conversation struct{ ID string }
	if err := json.Unmarshal([]byte(chat), &conversation); err != nil {
		t.Fatal(err)
	}
	_, items = r.send(t, http.MethodGet, "/v1/conversations/"+conversation.ID+"/items", "")
	valid("ConversationItemList", items)
	_, deleted := r.send(t, http.MethodDelete, "/v1/conversations/"+conversation.ID, "")
	valid("DeletedConversationResource", deleted)
	_, embeddings := r.post(t, "/v1/embeddings", `{"model":"tiny","input":["a","b"]}`)
	valid("CreateEmbeddingResponse", embeddings)
	for _, bad := range []string{`{"model":"absent","messages":[]}`, `{"model":"tiny","messages":[{"role":"user",` +
		`"content":"x"}],"temperature":9}`} {
		_, body := r.post(t, "/v1/chat/completions", bad)
		var e struct{ Error json.RawMessage }
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Fatal(err)
		}
		valid("ErrorResponse", body)
		valid("Error", string(e.Error))
	}
}
