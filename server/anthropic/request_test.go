package anthropic_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// templateMessage is a message as chat templates get it.
type templateMessage struct {
	Role      string `json:"role"`
	Content   string `json:"content"`
	Reasoning string `json:"reasoning_content,omitempty"`
	Calls     []struct {
		ID       string `json:"id"`
		Function struct {
			Name      string `json:"name"`
			Arguments string `json:"arguments"`
		} `json:"function"`
	} `json:"tool_calls,omitempty"`
	CallID string `json:"tool_call_id,omitempty"`
}

// String writes a message in a line.
func (m templateMessage) String() string {
	var b strings.Builder
	b.WriteString(m.Role + ": " + m.Content)
	if m.Reasoning != "" {
		b.WriteString(" thinks " + m.Reasoning)
	}
	for _, c := range m.Calls {
		b.WriteString(" calls " + c.ID + " " + c.Function.Name + c.Function.Arguments)
	}
	if m.CallID != "" {
		b.WriteString(" for " + m.CallID)
	}
	return b.String()
}

// rendered returns the messages that the template got last.
func rendered(t *testing.T, r *servertest.Recorder) []string {
	t.Helper()
	var list []templateMessage
	if err := json.Unmarshal(r.Chats[len(r.Chats)-1].Messages, &list); err != nil {
		t.Fatal(err)
	}
	lines := make([]string, len(list))
	for i, m := range list {
		lines[i] = m.String()
	}
	return lines
}

const tinyImage = `{"type":"image","source":{"type":"base64","media_type":"image/png","data":"`

// TestBlocks sends every type of content block, and compares what becomes of it.
func TestBlocks(t *testing.T) {
	for name, tt := range map[string]struct {
		fields  string
		want    []string // the images' marks are written <image>
		ignored string   // in the header
	}{
		"a string": {`"messages":[{"role":"user","content":"a"}]`, []string{"user: a"}, ""},
		"texts": {
			`"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b","citations":null}]}]`,
			[]string{"user: a\nb"}, "",
		},
		"system": {
			`"system":[{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}},{"type":"text","text":"b"}],
			"messages":[{"role":"user","content":"c"}]`,
			[]string{"system: a\nb", "user: c"}, "",
		},
		"system in the middle": {
			`"messages":[{"role":"user","content":"a"},{"role":"system","content":[{"type":"text","text":"b"}]},
			{"role":"assistant","content":"c"},{"role":"system","content":"d"},{"role":"user","content":"e"}]`,
			[]string{"user: a", "system: b", "assistant: c", "system: d", "user: e"}, "",
		},
		"an image": {
			`"messages":[{"role":"user","content":[{"type":"text","text":"a"},` + tinyImage + pixel +
				`"}},{"type":"text","text":"b"}]}]`,
			[]string{"user: a<image>b"}, "",
		},
		"an image by URL": {
			`"messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"data:image/png;base64,` +
				pixel + `"}}]}]`,
			[]string{"user: <image>"}, "",
		},
		"documents": {
			`"messages":[{"role":"user","content":[
			{"type":"document","title":"T","context":"C","citations":{"enabled":false},
			"source":{"type":"text","media_type":"text/plain","data":"D"}},
			{"type":"document","source":{"type":"content","content":[{"type":"text","text":"E"},` + tinyImage + pixel + `"}}]}},
			{"type":"document","source":{"type":"content","content":"F"}}]}]`,
			[]string{"user: <document>\n<title>T</title>\n<context>C</context>\nD\n</document>\n" +
				"<document>\nE<image>\n</document>\n<document>\nF\n</document>"}, "",
		},
		"a search result": {
			`"messages":[{"role":"user","content":[{"type":"search_result","title":"T","source":"S","citations":{},
			"content":[{"type":"text","text":"a"}]}]}]`,
			[]string{"user: <search_result>\n<title>T</title>\n<source>S</source>\na\n</search_result>"}, "",
		},
		"calls and results": {
			`"messages":[{"role":"user","content":"a"},
			{"role":"assistant","content":[{"type":"text","text":"b"},
			{"type":"tool_use","id":"1","name":"f","input":{"x": 1},"caller":{"type":"direct"}},
			{"type":"tool_use","id":"2","name":"g"}]},
			{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"c","is_error":true},
			{"type":"tool_result","tool_use_id":"2"},{"type":"text","text":"d"}]}]`,
			[]string{"user: a", `assistant: b calls 1 f{"x": 1} calls 2 g{}`, "tool: c for 1", "tool:  for 2", "user: d"}, "",
		},
		"a result after text": {
			`"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"tool_result","tool_use_id":"1",` +
				`"content":"b"}]}]`,
			[]string{"user: a", "tool: b for 1"}, "",
		},
		"a result with an image": {
			`"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":[
			{"type":"text","text":"a"},` + tinyImage + pixel + `"}},{"type":"tool_reference","tool_name":"f"}]}]}]`,
			[]string{"tool: a<image>The tool f can be called. for 1"}, "",
		},
		"thinking": {
			`"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[
			{"type":"thinking","thinking":"b","signature":""},{"type":"redacted_thinking","data":"x"},
			{"type":"thinking","thinking":"","signature":"thinking:aGlkZGVu"},{"type":"thinking","thinking":"",
		"signature":"Eo8BCk"},
			{"type":"text","text":"c"}]},{"role":"user","content":"d"}]`,
			[]string{"user: a", "assistant: c thinks b\nhidden\n", "user: d"}, "",
		},
		"tools of Anthropic's servers": {
			`"messages":[{"role":"assistant","content":[{"type":"server_tool_use","id":"1","name":"web_search","input":{}},
			{"type":"web_search_tool_result","tool_use_id":"1","content":[]},{"type":"text","text":"a"}]},
			{"role":"user","content":[{"type":"container_upload","file_id":"f"}]}]`,
			[]string{"assistant: a", "user: "}, "messages[0].content[0], messages[0].content[1], messages[1].content[0]",
		},
		"a compaction": {
			`"messages":[{"role":"assistant","content":[{"type":"compaction","content":"so ` +
				`far"}]},{"role":"user","content":"a"}]`,
			[]string{"assistant: so far", "user: a"}, "",
		},
		"fields of others": {
			`"messages":[{"role":"user","name":"n","content":[{"type":"text","text":"a","colour":1,"age":2}]}],
			"thinking":{"type":"adaptive","mood":"good"}`,
			[]string{"user: a"},
			"messages[0].name, messages[0].content[0].age, messages[0].content[0].colour, thinking.mood",
		},
		"Claude Code's billing": {
			`"system":[{"type":"text","text":"x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli; cch=a1b2c;\ncch=kept;"}],
			"messages":[{"role":"user","content":"x-anthropic-billing-header: cch=kept;"}]`,
			[]string{
				"system: x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli; cch=00000;\ncch=kept;",
				"user: x-anthropic-billing-header: cch=kept;",
			}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			hs, r := start(t, "ok")
			res, text := servertest.Post(t, hs, messages, body(tt.fields))
			if res.StatusCode != http.StatusOK {
				t.Fatalf("%d %s", res.StatusCode, text)
			}

			got := mark.ReplaceAllString(strings.Join(rendered(t, r), "\n---\n"), "<image>")
			if want := strings.Join(tt.want, "\n---\n"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if ignored := strings.Join(res.Header.Values("X-Ignored-Fields"), ", "); ignored != tt.ignored {
				t.Errorf("ignored %q, want %q", ignored, tt.ignored)
			}
		})
	}
}

// TestPrefill goes on from the beginning of an answer.
func TestPrefill(t *testing.T) {
	hs, r := start(t, "lo")
	_, text := servertest.Post(
		t, hs, messages, dialog(`{"role":"user","content":"a"},{"role":"assistant","content":"Hel"}`),
	)
	if !r.Chats[0].Continue || r.Last.Begun != "Hel" || !strings.Contains(text, `"text":"lo"`) {
		t.Errorf("continues %v from %q: %s", r.Chats[0].Continue, r.Last.Begun, text)
	}
}

// TestFieldsReachTheModel compares what the engine is asked with the fields of a request.
func TestFieldsReachTheModel(t *testing.T) {
	for name, tt := range map[string]struct {
		fields string
		right  func(engine.Chat, engine.Request) bool
	}{
		"sampling": {`"temperature":0.25,"top_p":0.5,"top_k":7`, func(_ engine.Chat, r engine.Request) bool {
			return r.Sampling.Temperature == 0.25 && r.Sampling.TopP == 0.5 && r.Sampling.TopK == 7
		}},
		"limits": {`"max_tokens":3,"stop_sequences":["x","y"]`, func(_ engine.Chat, r engine.Request) bool {
			return r.MaxTokens == 3 && r.Choices == 1 && strings.Join(r.Stop, ",") == "x,y"
		}},
		"effort": {`"output_config":{"effort":"low"},"thinking":{"type":"adaptive"}`, func(c engine.Chat,
			_ engine.Request) bool {
			return string(c.TemplateArgs["reasoning_effort"]) == `"low"` && !c.NoThinking
		}},
		"thinking between tools": {`"thinking":{"type":"between_tools"}`, func(c engine.Chat, _ engine.Request) bool {
			return c.TemplateArgs == nil && !c.NoThinking
		}},
		"thinking enabled": {`"thinking":{"type":"enabled","budget_tokens":2048}`, func(c engine.Chat,
			_ engine.Request) bool {
			return c.TemplateArgs == nil && !c.NoThinking
		}},
		"thinking disabled": {`"thinking":{"type":"disabled"},"output_config":{"effort":"max"}`,
			func(c engine.Chat, _ engine.Request) bool { return c.TemplateArgs == nil && c.NoThinking }},
		"a format": {`"output_config":{"format":{"type":"json_schema","schema":{"const":"ok"}}}`,
			func(c engine.Chat, r engine.Request) bool { return r.Sampling.Grammar.Text != "" && c.Schema != "" }},
		"a format of old": {`"output_format":{"type":"json_schema","schema":{"const":"ok"}}`,
			func(c engine.Chat, r engine.Request) bool { return r.Sampling.Grammar.Text != "" && c.Schema != "" }},
		"tools": {twoTools, func(c engine.Chat, _ engine.Request) bool {
			return names(c) == "f,g" && c.ToolChoice == "auto" && c.ParallelToolCalls
		}},
		"any tool": {twoTools + `,"tool_choice":{"type":"any","disable_parallel_tool_use":true}`,
			func(c engine.Chat, _ engine.Request) bool {
				return names(c) == "f,g" && c.ToolChoice == "required" && !c.ParallelToolCalls
			}},
		"one tool": {twoTools + `,"tool_choice":{"type":"tool","name":"g"}`, func(c engine.Chat, _ engine.Request) bool {
			return names(c) == "g" && c.ToolChoice == "required"
		}},
		"no tool": {twoTools + `,"tool_choice":{"type":"none"}`, func(c engine.Chat, _ engine.Request) bool {
			return c.ToolChoice == "none"
		}},
		"no tools": {`"tools":[],"tool_choice":{"type":"auto"}`, func(c engine.Chat, _ engine.Request) bool {
			return c.Tools == nil
		}},
		"examples of input": {`"tools":[{"name":"f","description":"d","input_schema":{"type":"object"},` +
			`"input_examples":[{"a":1}]}]`,
			func(c engine.Chat, _ engine.Request) bool {
				return strings.Contains(string(c.Tools), `d\n\nExamples of input: [{\"a\":1}]`)
			}},
		"tools that clients know": {`"tools":[{"type":"bash_20250124","name":"bash"},{"type":"memory_20250818",
		"name":"memory"},
			{"type":"text_editor_20250728","name":"str_replace_based_edit_tool","max_characters":100}]`,
			func(c engine.Chat, _ engine.Request) bool {
				return names(c) == "bash,memory,str_replace_based_edit_tool" && strings.Contains(string(c.Tools), "old_str")
			}},
	} {
		t.Run(name, func(t *testing.T) {
			hs, r := start(t, `"ok"`)
			res, text := servertest.Post(t, hs, messages, body(servertest.Hello+`,`+tt.fields))
			if res.StatusCode != http.StatusOK || !tt.right(r.Chats[len(r.Chats)-1], r.Last) {
				t.Errorf("%d %s: chat %+v, request %+v", res.StatusCode, text, r.Chats, r.Last)
			}
		})
	}
}

// names lists the tools of a chat.
func names(c engine.Chat) string {
	var list []struct{ Function struct{ Name string } }
	if err := json.Unmarshal(c.Tools, &list); err != nil {
		return err.Error()
	}
	var names []string
	for _, tool := range list {
		names = append(names, tool.Function.Name)
	}
	return strings.Join(names, ",")
}

// TestToolsChange offers the tools that are there at the end of a conversation.
func TestToolsChange(t *testing.T) {
	hs, r := start(t, "ok")
	res, text := servertest.Post(t, hs, messages, body(twoTools+`,"messages":[{"role":"user","content":"a"},
		{"role":"system","content":[
			{"type":"tool_addition","tool":{"type":"tool_definition","definition":{"name":"h",
		"input_schema":{"type":"object"}}}},
			{"type":"tool_addition","tool":{"type":"tool_reference","name":"g"}},
			{"type":"tool_addition","tool":{"type":"mcp_toolset_reference","server_name":"s"}},
			{"type":"tool_removal","tool":{"type":"tool_reference","name":"f"}}]}]`))
	if res.StatusCode != http.StatusOK || names(r.Chats[0]) != "g,h" || len(rendered(t, r)) != 1 {
		t.Errorf("%d %s: %s, %q", res.StatusCode, text, names(r.Chats[0]), rendered(t, r))
	}
}

// TestAcceptedFields sends fields that have no effect.
func TestAcceptedFields(t *testing.T) {
	hs, _ := start(t, "ok")
	for _, fields := range []string{
		`"metadata":{"user_id":"u"},"cache_control":{"type":"ephemeral"},"service_tier":"auto","speed":"fast"`,
		`"context_management":{"edits":[]},"diagnostics":{},"inference_geo":"us","user_profile_id":"p","workspace_id":"w"`,
		`"betas":["a"],"fallbacks":[],"fallback_credit_token":"t","billing_policy":{},"mcp_servers":[],"container":null`,
		`"tools":null,"system":null,"stop_sequences":null,"temperature":null,"thinking":null,"output_config":null,` +
			`"stream":false`,
	} {
		res, text := servertest.Post(t, hs, messages, body(servertest.Hello+`,`+fields))
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", fields, res.StatusCode, text)
		}
	}
}

// TestKeys takes keys where each kind of client has them, any version, and none.
func TestKeys(t *testing.T) {
	hs, _ := start(t, "ok")
	for _, headers := range [][]string{
		nil,
		{"X-Api-Key: k", "Anthropic-Version: 2023-06-01", "Anthropic-Beta: a,b"},
		{"Authorization: Bearer k", "Anthropic-Version: 2026-10-21"},
	} {
		res, text := servertest.Ask(t, hs, messages, body(servertest.Hello), headers...)
		if res.StatusCode != http.StatusOK || res.Header.Get("Openai-Version") != "" ||
			!strings.HasPrefix(res.Header.Get("Request-Id"), "req_") {
			t.Errorf("%v: %d %v %s", headers, res.StatusCode, res.Header, text)
		}
	}
}

// TestCountTokens counts what the same message would have as its prompt, also if it is too long.
func TestCountTokens(t *testing.T) {
	hs, _ := start(t, "ok")
	counted := func(body string) int {
		t.Helper()
		res, text := servertest.Post(t, hs, count, body)
		var answer map[string]int
		if err := json.Unmarshal([]byte(text), &answer); err != nil || len(answer) != 1 || res.StatusCode != http.StatusOK {
			t.Fatalf("%v: %d %s", err, res.StatusCode, text)
		}
		return answer["input_tokens"]
	}

	plain := `"model":"fake","messages":[{"role":"user","content":"Hello"}]`
	short := counted(`{` + plain + `}`)
	if system := counted(`{"system":"Be brief.",` + plain + `}`); short == 0 || system <= short {
		t.Errorf("%d tokens, with a system text %d", short, system)
	}
	long := counted(`{"model":"fake","messages":[{"role":"user","content":"` + strings.Repeat("x", 5000) + `"}]}`)
	if long < 5000 {
		t.Errorf("a long prompt has %d tokens", long)
	}

	_, text := servertest.Post(t, hs, messages, `{"max_tokens":1,`+plain+`}`)
	var m struct {
		Usage struct {
			Input int `json:"input_tokens"`
		}
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil || m.Usage.Input != short {
		t.Errorf("%v: counted %d, used %s", err, short, text)
	}
}

// FuzzRequests: any body gets a JSON answer of 200 or 4xx.
func FuzzRequests(f *testing.F) {
	hs, _ := servertest.Start(f, enginetest.Options{Next: enginetest.Say("ok")}, server.Options{MaxBody: 1 << 16})
	for _, tt := range transcripts {
		f.Add(body(tt.fields))
	}

	f.Add(
		dialog(
			`{"role":"user","content":[{"type":"document","source":{"type":"content","content":[]}}]},{"role":"system",` +
				`"content":[]}`,
		),
	)

	f.Add(dialog(`{"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"thinking:x"}]}`))
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range []string{messages, count} {
			res, text := servertest.Post(t, hs, path, body)
			if res.StatusCode != 200 && res.StatusCode/100 != 4 {
				t.Errorf("%d %s", res.StatusCode, text)
			}
			if strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") && !json.Valid([]byte(text)) {
				t.Errorf("no JSON: %s", text)
			}
			if res.StatusCode != 200 {
				readFault(t, res, text)
			}
		}
	})
}
