package openai_test

import (
	"encoding/json"
	"fmt"
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
	Role       string
	Content    string
	Reasoning  string          `json:"reasoning_content"`
	ToolCalls  json.RawMessage `json:"tool_calls"`
	ToolCallID string          `json:"tool_call_id"`
}

// scripted parses what the fake says: text, then calls as <name {arguments}>.
func scripted(text string, partial bool) (enginetest.Message, error) {
	var m enginetest.Message
	content, rest, called := strings.Cut(text, "<")
	m.Content = content
	for called {
		var call string
		call, rest, _ = strings.Cut(rest, ">")
		name, arguments, ok := strings.Cut(call, " ")
		if ok {
			m.ToolCalls = append(m.ToolCalls, enginetest.ToolCall{
				ID:        "call_" + name,
				Name:      name,
				Arguments: arguments,
			})
		}
		_, rest, called = strings.Cut(rest, "<")
	}
	return m, nil
}

const twoTools = `"tools":[{"type":"function","function":{"name":"f","description":"d",` +
	`"parameters":{"type":"object"}}},{"type":"function","function":{"name":"g"}}]`

// TestToolCalls compares whole answers and streams with what OpenAI sends.
func TestToolCalls(t *testing.T) {
	for name, tt := range map[string]struct{ says, fields string }{
		"tools":       {`<f {"a":1}>`, twoTools},
		"tools_two":   {`Well. <f {"a":1}><g {}>`, twoTools},
		"tools_named": {`<f {}>`, twoTools + `,"tool_choice":{"type":"function","function":{"name":"f"}}`},
		"tools_allowed": {`<g {}>`, twoTools + `,"tool_choice":{"type":"allowed_tools",` +
			`"allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"g"}}]}}`},
		"tools_not":      {`No.`, twoTools + `,"tool_choice":"auto","parallel_tool_calls":false`},
		"tools_cut":      {`<f {"a":"aaaaaaaa`, twoTools + `,"max_tokens":12`},
		"function":       {`<f {"a":1}>`, `"functions":[{"name":"f","parameters":{"type":"object"}}],"function_call":"auto"`},
		"function_named": {`<f {"a":1}>`, `"functions":[{"name":"f"}],"function_call":{"name":"f"}`},
	} {
		t.Run(name, func(t *testing.T) {
			for ending, stream := range map[string]string{".json": "false", ".sse": "true"} {
				hs, _ := servertest.Start(t, enginetest.Options{
					Next:  enginetest.Say(tt.says),
					Parse: scripted,
				}, server.Options{})
				res, body := servertest.Post(
					t, hs, "/v1/chat/completions", `{"model":"fake",`+servertest.Hello+`,`+tt.fields+`,"stream":`+stream+`}`,
				)
				golden(
					t,
					name+ending,
					fmt.Sprintf("%d %s\n%s", res.StatusCode, res.Header.Get("Content-Type"), joinArguments(joinText(body))),
				)
			}
		})
	}
}

// joinArguments joins chunks that differ in their arguments alone, since they come
// in as many as the reader is fast.
func joinArguments(stream string) string {
	var out []string
	const begin, end = `"arguments":"`, `"}`
	split := func(event string) (head, text, tail string, ok bool) {
		if !strings.Contains(event, `"delta"`) || strings.Contains(event, `"name"`) {
			return "", "", "", false
		}
		head, rest, ok := strings.Cut(event, begin)
		if !ok {
			return "", "", "", false
		}
		i := strings.LastIndex(rest, end+"}")
		if j := strings.Index(rest, `"}},"logprobs"`); j >= 0 {
			i = j
		} else if j := strings.Index(rest, `"}}]},"logprobs"`); j >= 0 {
			i = j
		}
		if i < 0 {
			return "", "", "", false
		}
		return head, rest[:i], rest[i:], true
	}

	for _, event := range strings.SplitAfter(stream, "\n\n") {
		head, text, tail, ok := split(event)
		if n := len(out); ok && n > 0 {
			if h, before, _, again := split(out[n-1]); again && h == head {
				out[n-1] = head + begin + before + text + tail
				continue
			}
		}
		out = append(out, event)
	}

	return strings.Join(out, "")
}

// TestToolHistory reads the calls and answers of earlier turns, by their new names
// and their old ones.
func TestToolHistory(t *testing.T) {
	var seen []templateMessage
	hs, _ := servertest.Start(t, enginetest.Options{
		Next:        enginetest.Say("ok"),
		RenderError: func(messages []byte) error { seen = nil; return json.Unmarshal(messages, &seen) },
	}, server.Options{})

	res, body := servertest.Post(t, hs, "/v1/chat/completions", `{"model":"fake","messages":[{"role":"user","content":"a"},
		{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},
		{"id":"2","function":{"name":"g"}}]},
		{"role":"tool","tool_call_id":"1","content":"x"},{"role":"tool","tool_call_id":"2","content":[{"type":"text",
		"text":"y"}]},
		{"role":"assistant","content":null,"function_call":{"name":"h","arguments":""}},{"role":"function","name":"h",
		"content":"z"}]}`)

	if res.StatusCode != 200 {
		t.Fatal(body)
	}

	if len(seen) != 6 ||
		string(
			seen[1].ToolCalls,
		) != `[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"2",`+
			`"type":"function","function":{"name":"g","arguments":"{}"}}]` ||
		seen[3].Content != "y" || !strings.Contains(string(seen[4].ToolCalls), `"id":"h"`) || seen[5].Role != "tool" ||
		seen[5].ToolCallID != "h" {
		t.Errorf("the template sees %+v", seen)
	}

	for _, bad := range []string{
		`{"role":"assistant","tool_calls":[{"type":"function","function":{"name":"f"}}]}`,
		`{"role":"assistant","tool_calls":[{"id":"1","type":"custom","custom":{}}]}`,
		`{"role":"tool","content":"x"}`, `{"role":"function","content":"x"}`,
	} {
		res, body := servertest.Post(t, hs, "/v1/chat/completions", `{"model":"fake","messages":[`+bad+`]}`)
		if res.StatusCode != 400 {
			t.Errorf("%s: %d %s", bad, res.StatusCode, body)
		}
	}
}

// TestAnswersAreValidated lets the fake, which no grammar holds, break its promise.
func TestAnswersAreValidated(t *testing.T) {
	const format = `"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object",` +
		`"required":["a"],"properties":{"a":{"type":"array","uniqueItems":true}}}}}`
	for says, valid := range map[string]bool{`{"a":[1,2]}`: true, `{"a":[1,1]}`: false, `secret`: false} {
		hs, _ := servertest.Start(t, enginetest.Options{Next: func(tokens []engine.Token) engine.Token {
			// What is said follows the last line of the prompt.
			said := 0
			for i := len(tokens) - 1; tokens[i] != '\n'; i-- {
				said++
			}
			if said < len(says) {
				return engine.Token(says[said])
			}
			return enginetest.EOS
		}}, server.Options{})

		res, body := servertest.Post(t, hs, "/v1/chat/completions", `{"model":"fake",`+servertest.Hello+`,`+format+`}`)
		if valid != (res.StatusCode == 200) ||
			!valid &&
				(!strings.Contains(body, "schema_violation") || res.Header.Get("X-Should-Retry") != "false" ||
					strings.Contains(body, "secret")) {
			t.Errorf("%s: %d %s", says, res.StatusCode, body)
		}
		if valid && res.Header.Get("X-Schema-Not-Enforced") != "response_format.json_schema /properties/a/uniqueItems" {
			t.Errorf("the header says %q", res.Header.Get("X-Schema-Not-Enforced"))
		}

		_, body = servertest.Post(
			t, hs, "/v1/chat/completions", `{"model":"fake",`+servertest.Hello+`,`+format+`,"stream":true}`,
		)
		if valid == strings.Contains(body, "schema_violation") || valid != strings.Contains(body, `"finish_reason":"stop"`) {
			t.Errorf("%s streamed: %s", says, body)
		}
	}
}

// TestStopsInFormats ends an answer by a schema at a client's stop string: it is what the client asked for.
func TestStopsInFormats(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Next: sayLast(`{"a":"x END"}`)}, server.Options{})
	for _, format := range []string{
		`{"type":"json_object"}`,
		`{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":{"type":"object","required":["a"],` +
			`"properties":{"a":{"type":"string"}}}}}`,
	} {
		res, body := servertest.Post(
			t,
			hs,
			"/v1/chat/completions",
			`{"model":"fake",`+servertest.Hello+`,"stop":"END","response_format":`+format+`}`,
		)
		if res.StatusCode != 200 || !strings.Contains(body, `"finish_reason":"stop"`) ||
			!strings.Contains(body, `{\"a\":\"x "`) {
			t.Errorf("%s: %d %s", format, res.StatusCode, body)
		}
	}
}

// TestObjectSchema holds a JSON object to a schema beside it, in llama.cpp's form.
func TestObjectSchema(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Next: sayLast(`{"a":1}`)}, server.Options{})
	for schema, want := range map[string]int{
		`{"type":"object","properties":{"a":{"type":"integer"}}}`: 200,
		`{"type":"object","properties":{"a":{"type":"string"}}}`:  500, // the fake has no grammar
		`{"type":"nonsense"}`: 400,
	} {
		res, body := servertest.Post(
			t,
			hs,
			"/v1/chat/completions",
			`{"model":"fake",`+servertest.Hello+`,"response_format":{"type":"json_object","schema":`+schema+`}}`,
		)
		if res.StatusCode != want {
			t.Errorf("%s: %d %s", schema, res.StatusCode, body)
		}
	}
}

// TestSchemaIsTold puts the schema into the system's message.
func TestSchemaIsTold(t *testing.T) {
	var seen []templateMessage
	hs, _ := servertest.Start(t, enginetest.Options{
		Next:        enginetest.Say("{}"),
		RenderError: func(m []byte) error { seen = nil; return json.Unmarshal(m, &seen) },
	}, server.Options{})
	ask := func(messages, format string) {
		t.Helper()
		res, body := servertest.Post(
			t,
			hs,
			"/v1/chat/completions",
			`{"model":"fake","max_tokens":2,"messages":[`+messages+`],"response_format":`+format+`}`,
		)
		if res.StatusCode >= 500 &&
			!strings.Contains(body, "schema_violation") {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	}
	ask(
		`{"role":"system","content":"Be kind."},{"role":"user","content":"a"}`,
		`{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object","title":"T1"}}}`,
	)
	if len(seen) != 2 || !strings.HasPrefix(seen[0].Content, "Be kind.\n\n") ||
		!strings.Contains(seen[0].Content, `"T1"`) {
		t.Errorf("told %+v", seen)
	}
	ask(`{"role":"user","content":"a"}`, `{"type":"json_object"}`)
	if len(seen) != 2 || seen[0].Role != "system" || !strings.Contains(seen[0].Content, "JSON object") {
		t.Errorf("told %+v", seen)
	}
}

// TestStrictCalls lets the model say what no grammar held it to.
func TestStrictCalls(t *testing.T) {
	const tool = `"tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object",` +
		`"properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}}}]`
	for says, good := range map[string]bool{`<f {"a":1}>`: true, `<f {"a":"x"}>`: false, `<f {}>`: false,
		`<other {}>`: true, `Well.`: true, `<f {"a":1}><f {"b":2}>`: false} {
		for _, stream := range []string{"false", "true"} {
			hs, _ := servertest.Start(t, enginetest.Options{
				Next:  enginetest.Say(says),
				Parse: scripted,
			}, server.Options{})
			res, body := servertest.Post(
				t, hs, "/v1/chat/completions", `{"model":"fake",`+servertest.Hello+`,`+tool+`,"stream":`+stream+`}`,
			)
			broken := strings.Contains(body, "schema_violation")
			if broken == good ||
				stream == "false" && (res.StatusCode == http.StatusOK) != good {
				t.Errorf("%s, stream %s: %d %s", says, stream, res.StatusCode, body)
			}
			if strings.Contains(body, `\"x\"`) && stream == "false" {
				t.Errorf("the error quotes the answer: %s", body)
			}
		}
	}
}
