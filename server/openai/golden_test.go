package openai_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"sync"
	"testing"

	"serve/engine/enginetest"
	"serve/server"
	"serve/server/openai"
	"serve/server/servertest"
	"serve/testfiles"
)

// changing is what differs from run to run in an answer.
var changing = regexp.MustCompile(
	`(chatcmpl-|cmpl-|resp_|conv_|msg_|fc_|fco_|rs_|call_|cmp_)[0-9a-f]{24}(?:_c[0-9a-f]{12})?|"(?:created|created_at|completed_at)": ?\d+|fp_[0-9a-f]{10}`,
)

func golden(t *testing.T, name, got string) {
	t.Helper()
	got = changing.ReplaceAllStringFunc(got, func(s string) string {
		if prefix, _, ok := strings.Cut(s, ":"); ok {
			return prefix + ":0"
		}
		prefix := s[:strings.LastIndexAny(s[:min(len(s), 9)], "-_")+1] // as the longest, chatcmpl-
		return prefix + "0"
	})
	testfiles.Golden(t, name, got, *openai.Update)
}

func TestGolden(t *testing.T) {
	says := enginetest.Options{Next: enginetest.Say("Hi \"\u20ac\"\n")}
	for name, tt := range map[string]struct{ path, body string }{
		"chat.json": {"/v1/chat/completions", `{"model":"fake",` + servertest.Hello + `}`},
		"chat_logprobs.json": {"/v1/chat/completions", `{"model":"fake",` + servertest.Hello +
			`,"logprobs":true,"top_logprobs":2,"max_tokens":4,"n":2}`},
		"completion.json": {"/v1/completions", `{"model":"gpt-4o","prompt":["a\n","b\n"],"n":2,"logprobs":1,` +
			`"max_tokens":3}`},
		"embedding.json":     {"/v1/embeddings", `{"model":"fake","input":["abc",[1,2]]}`},
		"embedding_64.json":  {"/v1/embeddings", `{"model":"fake","input":"abc","encoding_format":"base64"}`},
		"unknown_model.json": {"/v1/chat/completions", `{"model":"nope",` + servertest.Hello + `}`},
		"chat_stop.json":     {"/v1/chat/completions", `{"model":"fake",` + servertest.Hello + `,"stop":"\""}`},
		"chat_max_tokens.json": {"/v1/chat/completions", `{"model":"fake",` + servertest.Hello +
			`,"max_completion_tokens":2,"max_tokens":5}`},
	} {
		t.Run(name, func(t *testing.T) {
			hs, _ := servertest.Start(t, says, server.Options{})
			res, body := servertest.Post(t, hs, tt.path, tt.body)
			var indented bytes.Buffer
			if err := json.Indent(&indented, []byte(body), "", " "); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			golden(t, name, fmt.Sprintf("%d %s\n%s\n", res.StatusCode, res.Header.Get("Content-Type"), &indented))
		})
	}
}

// TestGoldenStreams compares whole streams. A stream's text comes in as many
// chunks as the reader is fast, so chunks that differ in their text alone are
// joined first.
func TestGoldenStreams(t *testing.T) {
	for name, tt := range map[string]struct{ path, body string }{
		"chat.sse": {"/v1/chat/completions", `{"model":"fake",` + servertest.Hello + `,"stream":true}`},
		"chat_usage.sse": {"/v1/chat/completions", `{"model":"fake",` + servertest.Hello +
			`,"stream":true,"stream_options":{"include_usage":true}}`},
		"chat_logprobs.sse": {"/v1/chat/completions", `{"model":"fake",` + servertest.Hello +
			`,"stream":true,"logprobs":true,"max_tokens":1}`},
		"completion.sse": {"/v1/completions", `{"model":"fake","prompt":"a\n","stream":true,` +
			`"stream_options":{"include_usage":true}}`},
	} {
		t.Run(name, func(t *testing.T) {
			hs, _ := servertest.Start(t, enginetest.Options{Next: enginetest.Say("Hi!")}, server.Options{})
			res, body := servertest.Post(t, hs, tt.path, tt.body)
			golden(t, name, fmt.Sprintf("%d %s\n%s", res.StatusCode, res.Header.Get("Content-Type"), joinText(body)))
		})
	}
}

var textChunk = regexp.MustCompile(`("content"|"text"):"([^"]*)"(.*"finish_reason":null.*)`)

func joinText(stream string) string {
	var out []string
	for _, event := range strings.SplitAfter(stream, "\n\n") {
		m := textChunk.FindStringSubmatch(event)
		if n := len(out); n > 0 && m != nil {
			if last := textChunk.FindStringSubmatch(out[n-1]); last != nil && last[2] != "" && m[2] != "" {
				out[n-1] = strings.Replace(out[n-1], `"`+last[2]+`"`, `"`+last[2]+m[2]+`"`, 1)
				continue
			}
		}
		out = append(out, event)
	}
	return strings.Join(out, "")
}

// TestStreamOrder checks what the SDKs rely on, in streams of several choices.
func TestStreamOrder(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	_, body := servertest.Post(
		t,
		hs,
		"/v1/chat/completions",
		`{"model":"fake",`+servertest.Hello+`,"stream":true,"n":3,"max_tokens":20,"stream_options":{"include_usage":true}}`,
	)
	var id string
	state := map[int]string{}
	text := map[int]string{}
	highest := -1
	usages := 0
	done := false
	for _, event := range strings.Split(strings.TrimSpace(body), "\n\n") {
		data := strings.TrimPrefix(event, "data: ")
		if data == "[DONE]" {
			done = true
			continue
		}
		if done {
			t.Error("a chunk after [DONE]")
		}
		var c struct {
			ID      string
			Object  string
			Choices []struct {
				Index int
				Delta struct {
					Role    *string
					Content *string
				}
				FinishReason *string `json:"finish_reason"`
			}
			Usage *struct {
				CompletionTokens int `json:"completion_tokens"`
			}
		}
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		if id == "" {
			id = c.ID
		}
		if c.ID != id || c.Object != "chat.completion.chunk" {
			t.Errorf("id %q, object %q", c.ID, c.Object)
		}
		if c.Usage != nil {
			usages++
			if len(c.Choices) != 0 || c.Usage.CompletionTokens != 60 {
				t.Errorf("usage chunk %s", data)
			}
			continue
		}
		choice := c.Choices[0]
		if choice.Index > highest+1 {
			t.Errorf("choice %d comes before %d", choice.Index, highest+1)
		}
		highest = max(highest, choice.Index)
		switch state[choice.Index] {
		case "":
			if choice.Delta.Role == nil || *choice.Delta.Role != "assistant" {
				t.Errorf("choice %d begins with %s", choice.Index, data)
			}
			state[choice.Index] = "open"
		case "open":
			if choice.Delta.Role != nil {
				t.Error("the role comes twice")
			}
			if choice.Delta.Content != nil {
				text[choice.Index] += *choice.Delta.Content
			}
			if choice.FinishReason != nil {
				state[choice.Index] = *choice.FinishReason
			}
		default:
			t.Errorf("a chunk after the end of choice %d: %s", choice.Index, data)
		}
	}

	if !done || usages != 1 || len(state) != 3 || state[2] != "length" || len(text[1]) != 20 {
		t.Errorf("done %v, %d usages, states %v, texts %v", done, usages, state, text)
	}
}

func TestBadRequests(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{MaxBody: 1 << 20})
	chat := func(fields string) string { return `{"model":"fake",` + servertest.Hello + `,` + fields + `}` }
	long := strings.Repeat("x", 300)
	tests := []struct {
		name, path, body   string
		status             int
		code, param, words string
	}{
		{"no JSON", "/v1/chat/completions", `{"model"`, 400, "", "", "could not parse"},
		{"empty body", "/v1/chat/completions", ``, 400, "", "", "empty"},
		{"an array", "/v1/chat/completions", `[1]`, 400, "", "", "must be a JSON object"},
		{"two objects", "/v1/chat/completions", `{} {}`, 400, "", "", "could not parse"},
		{"invalid UTF-8", "/v1/chat/completions", "{\"model\":\"\xff\"}", 400, "", "", "UTF-8"},
		{
			"too large",
			"/v1/chat/completions",
			`{"model":"` + strings.Repeat("x", 1<<20) + `"}`,
			413,
			"request_too_large",
			"",
			"maximum 1048576",
		},
		{
			"no model",
			"/v1/chat/completions",
			`{` + servertest.Hello + `}`,
			400,
			"missing_required_parameter",
			"model",
			"model",
		},
		{
			"model null",
			"/v1/chat/completions",
			`{"model":null,` + servertest.Hello + `}`,
			400,
			"missing_required_parameter",
			"model",
			"model",
		},
		{
			"model a number",
			"/v1/chat/completions",
			`{"model":1,` + servertest.Hello + `}`,
			400,
			"invalid_type",
			"model",
			"expected a string, but got an integer",
		},
		{
			"unknown model",
			"/v1/chat/completions",
			`{"model":"x",` + servertest.Hello + `}`,
			404,
			"model_not_found",
			"model",
			"Served models: fake",
		},
		{
			"no messages",
			"/v1/chat/completions",
			`{"model":"fake"}`,
			400,
			"missing_required_parameter",
			"messages",
			"messages",
		},
		{
			"empty messages",
			"/v1/chat/completions",
			`{"model":"fake","messages":[]}`,
			400,
			"empty_array",
			"messages",
			"empty array",
		},
		{
			"messages a string",
			"/v1/chat/completions",
			`{"model":"fake","messages":"hi"}`,
			400,
			"invalid_type",
			"messages",
			"expected an array",
		},
		{
			"a message a string",
			"/v1/chat/completions",
			`{"model":"fake","messages":["hi"]}`,
			400,
			"invalid_type",
			"messages[0]",
			"expected an object",
		},
		{
			"no role",
			"/v1/chat/completions",
			`{"model":"fake","messages":[{"content":"x"}]}`,
			400,
			"missing_required_parameter",
			"messages[0].role",
			"role",
		},
		{
			"unknown role",
			"/v1/chat/completions",
			`{"model":"fake","messages":[{"role":"king","content":"x"}]}`,
			400,
			"invalid_value",
			"messages[0].role",
			"developer",
		},
		{
			"no content",
			"/v1/chat/completions",
			`{"model":"fake","messages":[{"role":"user"}]}`,
			400,
			"missing_required_parameter",
			"messages[0].content",
			"content",
		},
		{
			"content a number",
			"/v1/chat/completions",
			`{"model":"fake","messages":[{"role":"user","content":7}]}`,
			400,
			"invalid_type",
			"messages[0].content",
			"content parts",
		},
		{
			"an image",
			"/v1/chat/completions",
			`{"model":"fake","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}`,
			400,
			"unsupported_parameter",
			"messages[0].content[0].image_url.url",
			"does not accept images",
		},
		{
			"a tool message without id",
			"/v1/chat/completions",
			`{"model":"fake","messages":[{"role":"tool","content":"x"}]}`,
			400,
			"missing_required_parameter",
			"messages[0].tool_call_id",
			"tool_call_id",
		},
		{"unknown field", "/v1/chat/completions", chat(`"colour":"red"`), 400, "unknown_parameter", "colour", "colour"},
		{
			"temperature too high",
			"/v1/chat/completions",
			chat(`"temperature":2.5`),
			400,
			"decimal_above_max_value",
			"temperature",
			"<= 2, but got 2.5",
		},
		{
			"temperature negative",
			"/v1/chat/completions",
			chat(`"temperature":-0.1`),
			400,
			"decimal_below_min_value",
			"temperature",
			">= 0",
		},
		{
			"temperature a string",
			"/v1/chat/completions",
			chat(`"temperature":"hot"`),
			400,
			"invalid_type",
			"temperature",
			"expected a decimal, but got a string",
		},
		{
			"temperature beyond floats",
			"/v1/chat/completions",
			chat(`"temperature":1e999`),
			400,
			"decimal_above_max_value",
			"temperature",
			"1e999",
		},
		{"top_p too high", "/v1/chat/completions", chat(`"top_p":1.1`), 400, "decimal_above_max_value", "top_p", "top_p"},
		{
			"max_tokens 0",
			"/v1/chat/completions",
			chat(`"max_tokens":0`),
			400,
			"integer_below_min_value",
			"max_tokens",
			">= 1",
		},
		{
			"max_tokens a fraction",
			"/v1/chat/completions",
			chat(`"max_tokens":1.5`),
			400,
			"invalid_type",
			"max_tokens",
			"expected an integer, but got a decimal",
		},
		{
			"max_tokens huge",
			"/v1/chat/completions",
			chat(`"max_tokens":99999999999999999999`),
			400,
			"integer_above_max_value",
			"max_tokens",
			"max_tokens",
		},
		{"n too high", "/v1/chat/completions", chat(`"n":129`), 400, "integer_above_max_value", "n", "128"},
		{
			"top_logprobs alone",
			"/v1/chat/completions",
			chat(`"top_logprobs":2`),
			400,
			"invalid_value",
			"top_logprobs",
			"logprobs",
		},
		{
			"top_logprobs too high",
			"/v1/chat/completions",
			chat(`"logprobs":true,"top_logprobs":21`),
			400,
			"integer_above_max_value",
			"top_logprobs",
			"20",
		},
		{
			"logit_bias with a word",
			"/v1/chat/completions",
			chat(`"logit_bias":{"the":1}`),
			400,
			"invalid_value",
			"logit_bias",
			"not a token ID",
		},
		{
			"logit_bias too high",
			"/v1/chat/completions",
			chat(`"logit_bias":{"5":101}`),
			400,
			"decimal_above_max_value",
			"logit_bias.5",
			"100",
		},
		{"stop a number", "/v1/chat/completions", chat(`"stop":1`), 400, "invalid_type", "stop", "array of strings"},
		{"stop of numbers", "/v1/chat/completions", chat(`"stop":["a",1]`), 400, "invalid_type", "stop[1]", "string"},
		{"stream a string", "/v1/chat/completions", chat(`"stream":"yes"`), 400, "invalid_type", "stream", "boolean"},
		{
			"stream_options without stream",
			"/v1/chat/completions",
			chat(`"stream_options":{"include_usage":true}`),
			400,
			"invalid_value",
			"stream_options",
			"stream",
		},
		{
			"a tool without a function",
			"/v1/chat/completions",
			chat(`"tools":[{"type":"function"}]`),
			400,
			"missing_required_parameter",
			"tools[0].function",
			"function",
		},
		{
			"a custom tool",
			"/v1/chat/completions",
			chat(`"tools":[{"type":"custom","custom":{"name":"a b"}}]`),
			400,
			"invalid_value",
			"tools[0].custom.name",
			"letters",
		},
		{
			"a function's name",
			"/v1/chat/completions",
			chat(`"tools":[{"type":"function","function":{"name":"a b"}}]`),
			400,
			"invalid_value",
			"tools[0].function.name",
			"letters",
		},
		{
			"two functions of a name",
			"/v1/chat/completions",
			chat(
				`"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}},{"type":"function",` +
					`"function":{"name":"f","parameters":{"type":"object"}}}]`,
			),
			400,
			"invalid_value",
			"tools[1].function.name",
			"two functions",
		},
		{
			"parameters of text",
			"/v1/chat/completions",
			chat(`"tools":[{"type":"function","function":{"name":"f","parameters":"x"}}]`),
			400,
			"invalid_type",
			"tools[0].function.parameters",
			"an object",
		},
		{
			"parameters that are no schema",
			"/v1/chat/completions",
			chat(`"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"objekt"}}}]`),
			400,
			"invalid_json_schema",
			"tools[0].function.parameters",
			"objekt",
		},
		{
			"strict parameters that cannot be enforced",
			"/v1/chat/completions",
			chat(
				`"tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object",` +
					`"properties":{"a":{"type":"array","uniqueItems":true}}}}}]`,
			),
			400,
			"invalid_json_schema",
			"tools[0].function.parameters",
			"/properties/a/uniqueItems",
		},
		{
			"a choice without tools",
			"/v1/chat/completions",
			chat(`"tool_choice":"required"`),
			400,
			"invalid_value",
			"tool_choice",
			"requires",
		},
		{
			"a choice of no tool",
			"/v1/chat/completions",
			chat(
				`"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],` +
					`"tool_choice":{"type":"function","function":{"name":"g"}}`,
			),
			400,
			"invalid_value",
			"tool_choice",
			"no tool",
		},
		{
			"a choice of no word",
			"/v1/chat/completions",
			chat(`"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":"maybe"`),
			400,
			"invalid_value",
			"tool_choice",
			"maybe",
		},
		{
			"tools and functions",
			"/v1/chat/completions",
			chat(
				`"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"functions":[{"name":"g"}]`,
			),
			400,
			"invalid_value",
			"functions",
			"Only one",
		},
		{
			"a format of its own",
			"/v1/chat/completions",
			chat(`"response_format":{"type":"xml"}`),
			400,
			"invalid_value",
			"response_format.type",
			"json_schema",
		},
		{
			"a schema without a name",
			"/v1/chat/completions",
			chat(`"response_format":{"type":"json_schema","json_schema":{"schema":{}}}`),
			400,
			"missing_required_parameter",
			"response_format.json_schema.name",
			"name",
		},
		{
			"a schema that leads nowhere",
			"/v1/chat/completions",
			chat(`"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"$ref":"#/x"}}}`),
			400,
			"invalid_json_schema",
			"response_format.json_schema.schema",
			"",
		},
		{
			"a schema of nothing",
			"/v1/chat/completions",
			chat(`"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":false}}`),
			400,
			"invalid_json_schema",
			"response_format.json_schema.schema",
			"no value",
		},
		{
			"a strict schema that cannot be enforced",
			"/v1/chat/completions",
			chat(
				`"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":{"type":"object",` +
					`"if":{}}}}`,
			),
			400,
			"invalid_json_schema",
			"response_format.json_schema.schema",
			"/if",
		},
		{"audio", "/v1/chat/completions", chat(`"modalities":["audio"]`), 400, "unsupported_parameter", "modalities", "text"},
		{
			"web search",
			"/v1/chat/completions",
			chat(`"web_search_options":{}`),
			400,
			"unsupported_parameter",
			"web_search_options",
			"never",
		},
		{
			"unknown effort",
			"/v1/chat/completions",
			chat(`"reasoning_effort":"huge"`),
			400,
			"invalid_value",
			"reasoning_effort",
			"minimal",
		},
		{
			"too long",
			"/v1/chat/completions",
			`{"model":"fake","messages":[{"role":"user","content":"` + long + `"}]}`,
			400,
			"context_length_exceeded",
			"messages",
			"'messages' has 307 tokens, but the model's context has room for 255",
		},
		{
			"too long a prompt",
			"/v1/completions",
			`{"model":"fake","prompt":"` + long + `"}`,
			400,
			"context_length_exceeded",
			"prompt",
			"'prompt' has 300 tokens",
		},
		{"no prompt", "/v1/completions", `{"model":"fake"}`, 400, "missing_required_parameter", "prompt", "prompt"},
		{"empty prompt", "/v1/completions", `{"model":"fake","prompt":""}`, 400, "invalid_value", "prompt", "empty"},
		{"empty prompts", "/v1/completions", `{"model":"fake","prompt":[]}`, 400, "empty_array", "prompt", "empty"},
		{"mixed prompts", "/v1/completions", `{"model":"fake","prompt":["a",1]}`, 400, "invalid_type", "prompt[1]", "string"},
		{"unknown token", "/v1/completions", `{"model":"fake","prompt":[1,99999]}`, 400, "invalid_value", "prompt", "99999"},
		{
			"logprobs too high",
			"/v1/completions",
			`{"model":"fake","prompt":"a","logprobs":6}`,
			400,
			"integer_above_max_value",
			"logprobs",
			"5",
		},
		{"no input", "/v1/embeddings", `{"model":"fake"}`, 400, "missing_required_parameter", "input", "input"},
		{"empty input", "/v1/embeddings", `{"model":"fake","input":""}`, 400, "invalid_value", "input", "empty"},
		{"empty inputs", "/v1/embeddings", `{"model":"fake","input":[]}`, 400, "empty_array", "input", "empty"},
		{
			"an empty input of two",
			"/v1/embeddings",
			`{"model":"fake","input":["a",""]}`,
			400,
			"invalid_value",
			"input[1]",
			"empty",
		},
		{
			"too long an input",
			"/v1/embeddings",
			`{"model":"fake","input":"` + long + `"}`,
			400,
			"context_length_exceeded",
			"input",
			"'input' has 300 tokens, but the model's context has room for 64",
		},
		{
			"dimensions",
			"/v1/embeddings",
			`{"model":"fake","input":"a","dimensions":2}`,
			400,
			"unsupported_parameter",
			"dimensions",
			"3 dimensions",
		},
		{
			"format",
			"/v1/embeddings",
			`{"model":"fake","input":"a","encoding_format":"hex"}`,
			400,
			"invalid_value",
			"encoding_format",
			"base64",
		},
		{"unknown path", "/v1/nothing", `{}`, 404, "unknown_url", "", "/nothing"},
		{"wrong method", "/v1/models", `{}`, 405, "method_not_allowed", "", "GET"},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res, body := servertest.Post(t, hs, tt.path, tt.body)
			var e struct {
				Error *struct {
					Message, Type string
					Param, Code   *string
				}
			}
			if err := json.Unmarshal([]byte(body), &e); err != nil || e.Error == nil {
				t.Fatalf("%d %s", res.StatusCode, body)
			}
			text := func(s *string) string {
				if s == nil {
					return ""
				}
				return *s
			}
			if res.StatusCode != tt.status || text(e.Error.Code) != tt.code || text(e.Error.Param) != tt.param ||
				!strings.Contains(e.Error.Message, tt.words) {
				t.Errorf("got %d, %s, want %d, code %q, param %q, words %q",
					res.StatusCode, body, tt.status, tt.code, tt.param, tt.words)
			}
			if e.Error.Type != "invalid_request_error" || !strings.HasPrefix(res.Header.Get("X-Request-Id"), "req_") {
				t.Errorf("type %q, request id %q", e.Error.Type, res.Header.Get("X-Request-Id"))
			}
		})
	}
}

func TestAcceptedFields(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	for _, fields := range []string{
		`"temperature":0,"top_p":1,"seed":-7,"user":"u","store":false,"metadata":{"a":"b"},"service_tier":"auto"`,
		`"service_tier":"scale"`, `"service_tier":"fast"`,
		`"temperature":null,"stop":null,"tools":null,"logprobs":null,"response_format":null,"stream":null,"n":null`,
		`"stop":["a","b","c","d","e"],"tool_choice":"none","tools":[],"parallel_tool_calls":true,` +
			`"response_format":{"type":"text"}`,
		`"top_k":40,"min_p":0.1,"repeat_penalty":1.1,"mirostat":2,"dry_multiplier":0.5,"dry_sequence_breakers":["\n"],` +
			`"xtc_probability":0.1`,
		`"logit_bias":{"5":-100,"6":100},"frequency_penalty":-2,"presence_penalty":2,"max_tokens":3.0,"modalities":["text"]`,
		`"reasoning_effort":"minimal","verbosity":"low","prediction":{"type":"content","content":"x"},` +
			`"prompt_cache_key":"k","safety_identifier":"s"`,
	} {
		res, body := servertest.Post(
			t, hs, "/v1/chat/completions", `{"model":"fake","max_completion_tokens":2,`+servertest.Hello+`,`+fields+`}`,
		)
		if res.StatusCode != 200 {
			t.Errorf("%s: %d %s", fields, res.StatusCode, body)
		}
	}
}

func TestMessagesReachTheTemplate(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	hs, _ := servertest.Start(t, enginetest.Options{RenderError: func(messages []byte) error {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, string(messages))
		if strings.Count(string(messages), `"system"`) > 1 || strings.Contains(string(messages), "unspeakable") {
			return errors.New("only one system message, and first")
		}
		return nil
	}}, server.Options{})

	res, body := servertest.Post(t, hs, "/v1/chat/completions", `{"model":"fake","max_tokens":1,"messages":[
		{"role":"system","content":"one"},{"role":"developer","content":[{"type":"text","text":"two"},{"type":"text",
		"text":"three"}]},
		{"role":"user","content":"a","name":"Ann"},{"role":"user","content":"b"},
		{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f",
		"arguments":"{}"}}]},
		{"role":"tool","tool_call_id":"1","content":"c"}]}`)

	if res.StatusCode != 200 {
		t.Fatal(body)
	}

	last := seen[len(seen)-1]
	var merged []templateMessage
	if err := json.Unmarshal([]byte(last), &merged); err != nil {
		t.Fatal(err)
	}

	if len(merged) != 5 || merged[0].Content != "one\n\ntwo\nthree" || merged[1].Content != "a" ||
		merged[4].ToolCallID != "1" {
		t.Errorf("merged into %s", last)
	}
	if got := res.Header.Get("X-Prompt-Changed"); got != "system-moved" {
		t.Errorf("the header says %q", got)
	}

	res, body = servertest.Post(
		t, hs, "/v1/chat/completions", `{"model":"fake","messages":[{"role":"user","content":"unspeakable"}]}`,
	)
	if res.StatusCode != 400 {
		t.Errorf("what cannot be rendered in any form: %d %s", res.StatusCode, body)
	}
}

func TestEmbeddingFormats(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	read := func(format string) (raw json.RawMessage) {
		_, body := servertest.Post(t, hs, "/v1/embeddings", `{"model":"fake","input":"abc","encoding_format":"`+format+`"}`)
		var out struct {
			Data []struct{ Embedding json.RawMessage }
		}
		if err := json.Unmarshal([]byte(body), &out); err != nil {
			t.Fatal(err)
		}
		return out.Data[0].Embedding
	}

	var floats []float32
	var text string
	if err := errors.Join(json.Unmarshal(read("float"), &floats), json.Unmarshal(read("base64"), &text)); err != nil {
		t.Fatal(err)
	}

	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != 4*len(floats) {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}

	for i, f := range floats {
		if got := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])); got != f {
			t.Errorf("float %d is %g in one and %g in the other", i, f, got)
		}
	}
}

// FuzzRequests: any body gets a JSON answer of 200 or 4xx.
func FuzzRequests(f *testing.F) {
	hs, _ := servertest.Start(f, enginetest.Options{Next: enginetest.Say("ok")}, server.Options{MaxBody: 1 << 16})
	f.Add(0, `{"model":"fake",`+servertest.Hello+`,"stop":["a"],"logit_bias":{"5":1},"stream_options":{},"stream":false}`)
	f.Add(1, `{"model":"fake","prompt":[[1,2],[3]],"max_tokens":2}`)
	f.Add(2, `{"model":"fake","input":["a","b"],"dimensions":3}`)
	f.Add(0, `{"model":"fake","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}`)
	paths := []string{"/v1/chat/completions", "/v1/completions", "/v1/embeddings"}
	f.Fuzz(func(t *testing.T, which int, body string) {
		if which < 0 {
			which = -(which + 1)
		}
		res, text := servertest.Post(t, hs, paths[which%3], body)
		if res.StatusCode != 200 && res.StatusCode/100 != 4 {
			t.Errorf("%d %s", res.StatusCode, text)
		}
		if strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") && !json.Valid([]byte(text)) {
			t.Errorf("no JSON: %s", text)
		}
	})
}

// TestFirstUnknownName names the same field of several that are wrong, every time.
func TestFirstUnknownName(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	for fields, param := range map[string]string{
		`"logit_bias":{"9":900,"7":700,"8":800,"6":600}`: "logit_bias.6",
	} {
		for range 10 {
			_, body := servertest.Post(t, hs, "/v1/chat/completions", `{"model":"fake",`+servertest.Hello+`,`+fields+`}`)
			if !strings.Contains(body, `"param":"`+param+`"`) {
				t.Fatalf("%s: %s", fields, body)
			}
		}
	}
}
