package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/kernels"
	"serve/pool"
)

var update = flag.Bool("update", false, "write the golden files anew")

// start serves a fake model called "fake", also known as "gpt-4o" and "org/fake".
func start(t testing.TB, fo enginetest.Options, so Options) (*httptest.Server, *Server) {
	t.Helper()
	return startEngine(t, fo, engine.Options{}, so)
}

func startEngine(t testing.TB, fo enginetest.Options, eo engine.Options, so Options) (*httptest.Server, *Server) {
	t.Helper()
	fo.Limits.RollsBack = true
	fake := enginetest.New(fo)
	e := engine.New(fake, eo)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Run(ctx)
	}()

	so.Models = append([]*pool.Model{{
		ID:      "fake",
		Aliases: []string{"gpt-4o", "org/fake"},
		Created: time.Unix(1700000000, 0),
		Load:    ready(e),
	}}, so.Models...)

	if so.Log == nil {
		so.Log = slog.New(slog.DiscardHandler)
	}

	s, err := New(so)
	if err != nil {
		t.Fatal(err)
	}

	hs := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		hs.Close()
		s.Close()
		cancel()
		<-done
		for _, f := range fake.Faults() {
			t.Error("fault:", f)
		}
	})

	return hs, s
}

// ready is the load of a model that is there already.
func ready(e pool.Engine) pool.LoadFunc {
	return func(context.Context, bool) (*pool.Instance, error) {
		done := make(chan struct{})
		taken := []pool.DeviceMemory{{
			Device:  "CUDA0",
			Planned: 3 << 20,
		}, {
			Device:  "host",
			Planned: 900 << 10,
			Taken:   1 << 20,
		}}
		return &pool.Instance{
			Engine: e,
			Done:   done,
			Stop:   sync.OnceFunc(func() { close(done) }),
			Kernels: kernels.Choice{
				Name:    "abacus",
				Refused: map[string]kernels.Refusal{"slide rule": {}},
			},
			Process: func() pool.Process { return pool.Process{ID: 1, Resident: 1 << 20} },
			Devices: []pool.Device{{Name: "CUDA0", Description: "a GPU"}},
			Memory:  func() []pool.DeviceMemory { return taken },
		}, nil
	}
}

// usage is OpenAI's count of tokens, as far as tests look.
type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

func post(t testing.TB, hs *httptest.Server, path, body string) (*http.Response, string) {
	t.Helper()
	res, err := http.Post(hs.URL+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

// changing is what differs from run to run in an answer.
var changing = regexp.MustCompile(`(chatcmpl-|cmpl-|resp_|msg_|fc_|rs_)[0-9a-f]{24}|"(?:created|created_at|completed_at)": ?\d+|fp_[0-9a-f]{10}`)

func golden(t *testing.T, name, got string) {
	t.Helper()
	got = changing.ReplaceAllStringFunc(got, func(s string) string {
		if prefix, _, ok := strings.Cut(s, ":"); ok {
			return prefix + ":0"
		}
		return strings.TrimRight(s, "0123456789abcdef") + "0"
	})
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

const hello = `"messages":[{"role":"user","content":"Hello"}]`

func TestGolden(t *testing.T) {
	says := enginetest.Options{Next: enginetest.Say("Hi \"\u20ac\"\n")}
	for name, tt := range map[string]struct{ path, body string }{
		"chat.json":            {"/v1/chat/completions", `{"model":"fake",` + hello + `}`},
		"chat_logprobs.json":   {"/v1/chat/completions", `{"model":"fake",` + hello + `,"logprobs":true,"top_logprobs":2,"max_tokens":4,"n":2}`},
		"completion.json":      {"/v1/completions", `{"model":"gpt-4o","prompt":["a\n","b\n"],"n":2,"logprobs":1,"max_tokens":3}`},
		"embedding.json":       {"/v1/embeddings", `{"model":"fake","input":["abc",[1,2]]}`},
		"embedding_64.json":    {"/v1/embeddings", `{"model":"fake","input":"abc","encoding_format":"base64"}`},
		"unknown_model.json":   {"/v1/chat/completions", `{"model":"nope",` + hello + `}`},
		"chat_stop.json":       {"/v1/chat/completions", `{"model":"fake",` + hello + `,"stop":"\""}`},
		"chat_max_tokens.json": {"/v1/chat/completions", `{"model":"fake",` + hello + `,"max_completion_tokens":2,"max_tokens":5}`},
	} {
		t.Run(name, func(t *testing.T) {
			hs, _ := start(t, says, Options{})
			res, body := post(t, hs, tt.path, tt.body)
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
		"chat.sse":          {"/v1/chat/completions", `{"model":"fake",` + hello + `,"stream":true}`},
		"chat_usage.sse":    {"/v1/chat/completions", `{"model":"fake",` + hello + `,"stream":true,"stream_options":{"include_usage":true}}`},
		"chat_logprobs.sse": {"/v1/chat/completions", `{"model":"fake",` + hello + `,"stream":true,"logprobs":true,"max_tokens":1}`},
		"completion.sse":    {"/v1/completions", `{"model":"fake","prompt":"a\n","stream":true,"stream_options":{"include_usage":true}}`},
	} {
		t.Run(name, func(t *testing.T) {
			hs, _ := start(t, enginetest.Options{Next: enginetest.Say("Hi!")}, Options{})
			res, body := post(t, hs, tt.path, tt.body)
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
	hs, _ := start(t, enginetest.Options{}, Options{})
	_, body := post(t, hs, "/v1/chat/completions", `{"model":"fake",`+hello+`,"stream":true,"n":3,"max_tokens":20,"stream_options":{"include_usage":true}}`)
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
	hs, _ := start(t, enginetest.Options{}, Options{MaxBody: 1 << 20})
	chat := func(fields string) string { return `{"model":"fake",` + hello + `,` + fields + `}` }
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
		{"too large", "/v1/chat/completions", `{"model":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "request_too_large", "", "larger than 1048576"},
		{"no model", "/v1/chat/completions", `{` + hello + `}`, 400, "missing_required_parameter", "model", "model"},
		{"model null", "/v1/chat/completions", `{"model":null,` + hello + `}`, 400, "missing_required_parameter", "model", "model"},
		{"model a number", "/v1/chat/completions", `{"model":1,` + hello + `}`, 400, "invalid_type", "model", "expected a string, but got an integer"},
		{"unknown model", "/v1/chat/completions", `{"model":"x",` + hello + `}`, 404, "model_not_found", "model", "Served: fake"},
		{"no messages", "/v1/chat/completions", `{"model":"fake"}`, 400, "missing_required_parameter", "messages", "messages"},
		{"empty messages", "/v1/chat/completions", `{"model":"fake","messages":[]}`, 400, "empty_array", "messages", "empty array"},
		{"messages a string", "/v1/chat/completions", `{"model":"fake","messages":"hi"}`, 400, "invalid_type", "messages", "expected an array"},
		{"a message a string", "/v1/chat/completions", `{"model":"fake","messages":["hi"]}`, 400, "invalid_type", "messages[0]", "expected an object"},
		{"no role", "/v1/chat/completions", `{"model":"fake","messages":[{"content":"x"}]}`, 400, "missing_required_parameter", "messages[0].role", "role"},
		{"unknown role", "/v1/chat/completions", `{"model":"fake","messages":[{"role":"king","content":"x"}]}`, 400, "invalid_value", "messages[0].role", "developer"},
		{"no content", "/v1/chat/completions", `{"model":"fake","messages":[{"role":"user"}]}`, 400, "missing_required_parameter", "messages[0].content", "content"},
		{"content a number", "/v1/chat/completions", `{"model":"fake","messages":[{"role":"user","content":7}]}`, 400, "invalid_type", "messages[0].content", "content parts"},
		{"an image", "/v1/chat/completions", `{"model":"fake","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}`, 400, "unsupported_parameter", "messages[0].content[0].image_url.url", "does not see images"},
		{"an unknown message field", "/v1/chat/completions", `{"model":"fake","messages":[{"role":"user","content":"x","colour":1}]}`, 400, "unknown_parameter", "messages[0].colour", "colour"},
		{"a tool message without id", "/v1/chat/completions", `{"model":"fake","messages":[{"role":"tool","content":"x"}]}`, 400, "missing_required_parameter", "messages[0].tool_call_id", "tool_call_id"},
		{"unknown field", "/v1/chat/completions", chat(`"colour":"red"`), 400, "unknown_parameter", "colour", "colour"},
		{"temperature too high", "/v1/chat/completions", chat(`"temperature":2.5`), 400, "decimal_above_max_value", "temperature", "<= 2, but got 2.5"},
		{"temperature negative", "/v1/chat/completions", chat(`"temperature":-0.1`), 400, "decimal_below_min_value", "temperature", ">= 0"},
		{"temperature a string", "/v1/chat/completions", chat(`"temperature":"hot"`), 400, "invalid_type", "temperature", "expected a decimal, but got a string"},
		{"temperature beyond floats", "/v1/chat/completions", chat(`"temperature":1e999`), 400, "decimal_above_max_value", "temperature", "1e999"},
		{"top_p too high", "/v1/chat/completions", chat(`"top_p":1.1`), 400, "decimal_above_max_value", "top_p", "top_p"},
		{"max_tokens 0", "/v1/chat/completions", chat(`"max_tokens":0`), 400, "integer_below_min_value", "max_tokens", ">= 1"},
		{"max_tokens a fraction", "/v1/chat/completions", chat(`"max_tokens":1.5`), 400, "invalid_type", "max_tokens", "expected an integer, but got a decimal"},
		{"max_tokens huge", "/v1/chat/completions", chat(`"max_tokens":99999999999999999999`), 400, "integer_above_max_value", "max_tokens", "max_tokens"},
		{"n too high", "/v1/chat/completions", chat(`"n":129`), 400, "integer_above_max_value", "n", "128"},
		{"top_logprobs alone", "/v1/chat/completions", chat(`"top_logprobs":2`), 400, "invalid_value", "top_logprobs", "logprobs"},
		{"top_logprobs too high", "/v1/chat/completions", chat(`"logprobs":true,"top_logprobs":21`), 400, "integer_above_max_value", "top_logprobs", "20"},
		{"logit_bias with a word", "/v1/chat/completions", chat(`"logit_bias":{"the":1}`), 400, "invalid_value", "logit_bias", "not a token id"},
		{"logit_bias too high", "/v1/chat/completions", chat(`"logit_bias":{"5":101}`), 400, "decimal_above_max_value", "logit_bias.5", "100"},
		{"stop a number", "/v1/chat/completions", chat(`"stop":1`), 400, "invalid_type", "stop", "array of strings"},
		{"stop of numbers", "/v1/chat/completions", chat(`"stop":["a",1]`), 400, "invalid_type", "stop[1]", "string"},
		{"stream a string", "/v1/chat/completions", chat(`"stream":"yes"`), 400, "invalid_type", "stream", "boolean"},
		{"stream_options without stream", "/v1/chat/completions", chat(`"stream_options":{"include_usage":true}`), 400, "invalid_value", "stream_options", "stream"},
		{"unknown stream option", "/v1/chat/completions", chat(`"stream":true,"stream_options":{"x":1}`), 400, "unknown_parameter", "stream_options.x", "x"},
		{"a tool without a function", "/v1/chat/completions", chat(`"tools":[{"type":"function"}]`), 400, "missing_required_parameter", "tools[0].function", "function"},
		{"a custom tool", "/v1/chat/completions", chat(`"tools":[{"type":"custom","custom":{"name":"x"}}]`), 400, "unsupported_parameter", "tools[0].type", "custom"},
		{"a function's name", "/v1/chat/completions", chat(`"tools":[{"type":"function","function":{"name":"a b"}}]`), 400, "invalid_value", "tools[0].function.name", "letters"},
		{"two functions of a name", "/v1/chat/completions", chat(`"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}},{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]`), 400, "invalid_value", "tools[1].function.name", "two functions"},
		{"parameters of text", "/v1/chat/completions", chat(`"tools":[{"type":"function","function":{"name":"f","parameters":"x"}}]`), 400, "invalid_type", "tools[0].function.parameters", "an object"},
		{"parameters that are no schema", "/v1/chat/completions", chat(`"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"objekt"}}}]`), 400, "invalid_json_schema", "tools[0].function.parameters", "objekt"},
		{"strict parameters that cannot be enforced", "/v1/chat/completions", chat(`"tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object","properties":{"a":{"type":"array","uniqueItems":true}}}}}]`), 400, "invalid_json_schema", "tools[0].function.parameters", "/properties/a/uniqueItems"},
		{"a choice without tools", "/v1/chat/completions", chat(`"tool_choice":"required"`), 400, "invalid_value", "tool_choice", "needs"},
		{"a choice of no tool", "/v1/chat/completions", chat(`"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":{"type":"function","function":{"name":"g"}}`), 400, "invalid_value", "tool_choice", "no tool"},
		{"a choice of no word", "/v1/chat/completions", chat(`"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":"maybe"`), 400, "invalid_value", "tool_choice", "maybe"},
		{"tools and functions", "/v1/chat/completions", chat(`"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"functions":[{"name":"g"}]`), 400, "invalid_value", "functions", "Only one"},
		{"a format of its own", "/v1/chat/completions", chat(`"response_format":{"type":"xml"}`), 400, "invalid_value", "response_format.type", "json_schema"},
		{"a schema without a name", "/v1/chat/completions", chat(`"response_format":{"type":"json_schema","json_schema":{"schema":{}}}`), 400, "missing_required_parameter", "response_format.json_schema.name", "name"},
		{"a schema that leads nowhere", "/v1/chat/completions", chat(`"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"$ref":"#/x"}}}`), 400, "invalid_json_schema", "response_format.json_schema.schema", ""},
		{"a schema of nothing", "/v1/chat/completions", chat(`"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":false}}`), 400, "invalid_json_schema", "response_format.json_schema.schema", "no value"},
		{"a strict schema that cannot be enforced", "/v1/chat/completions", chat(`"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":{"type":"object","if":{}}}}`), 400, "invalid_json_schema", "response_format.json_schema.schema", "/if"},
		{"audio", "/v1/chat/completions", chat(`"modalities":["audio"]`), 400, "unsupported_parameter", "modalities", "text"},
		{"web search", "/v1/chat/completions", chat(`"web_search_options":{}`), 400, "unsupported_parameter", "web_search_options", "never"},
		{"unknown effort", "/v1/chat/completions", chat(`"reasoning_effort":"huge"`), 400, "invalid_value", "reasoning_effort", "minimal"},
		{"too long", "/v1/chat/completions", `{"model":"fake","messages":[{"role":"user","content":"` + long + `"}]}`, 400, "context_length_exceeded", "messages", "255 tokens of messages, but yours has 307"},
		{"too long a prompt", "/v1/completions", `{"model":"fake","prompt":"` + long + `"}`, 400, "context_length_exceeded", "prompt", "but yours has 300"},
		{"no prompt", "/v1/completions", `{"model":"fake"}`, 400, "missing_required_parameter", "prompt", "prompt"},
		{"empty prompt", "/v1/completions", `{"model":"fake","prompt":""}`, 400, "invalid_value", "prompt", "empty"},
		{"empty prompts", "/v1/completions", `{"model":"fake","prompt":[]}`, 400, "empty_array", "prompt", "empty"},
		{"mixed prompts", "/v1/completions", `{"model":"fake","prompt":["a",1]}`, 400, "invalid_type", "prompt[1]", "string"},
		{"unknown token", "/v1/completions", `{"model":"fake","prompt":[1,99999]}`, 400, "invalid_value", "prompt", "99999"},
		{"logprobs too high", "/v1/completions", `{"model":"fake","prompt":"a","logprobs":6}`, 400, "integer_above_max_value", "logprobs", "5"},
		{"no input", "/v1/embeddings", `{"model":"fake"}`, 400, "missing_required_parameter", "input", "input"},
		{"empty input", "/v1/embeddings", `{"model":"fake","input":""}`, 400, "invalid_value", "input", "empty"},
		{"empty inputs", "/v1/embeddings", `{"model":"fake","input":[]}`, 400, "empty_array", "input", "empty"},
		{"an empty input of two", "/v1/embeddings", `{"model":"fake","input":["a",""]}`, 400, "invalid_value", "input[1]", "empty"},
		{"too long an input", "/v1/embeddings", `{"model":"fake","input":"` + long + `"}`, 400, "context_length_exceeded", "input", "64 tokens of input, but yours has 300"},
		{"dimensions", "/v1/embeddings", `{"model":"fake","input":"a","dimensions":2}`, 400, "unsupported_parameter", "dimensions", "3 dimensions"},
		{"format", "/v1/embeddings", `{"model":"fake","input":"a","encoding_format":"hex"}`, 400, "invalid_value", "encoding_format", "base64"},
		{"unknown path", "/v1/nothing", `{}`, 404, "unknown_url", "", "/nothing"},
		{"wrong method", "/v1/models", `{}`, 405, "method_not_allowed", "", "GET"},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res, body := post(t, hs, tt.path, tt.body)
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
			if res.StatusCode != tt.status || text(e.Error.Code) != tt.code || text(e.Error.Param) != tt.param || !strings.Contains(e.Error.Message, tt.words) {
				t.Errorf("got %d, %s, want %d, code %q, param %q, words %q", res.StatusCode, body, tt.status, tt.code, tt.param, tt.words)
			}
			if e.Error.Type != "invalid_request_error" || !strings.HasPrefix(res.Header.Get("X-Request-Id"), "req_") {
				t.Errorf("type %q, request id %q", e.Error.Type, res.Header.Get("X-Request-Id"))
			}
		})
	}
}

func TestAcceptedFields(t *testing.T) {
	hs, _ := start(t, enginetest.Options{}, Options{})
	for _, fields := range []string{
		`"temperature":0,"top_p":1,"seed":-7,"user":"u","store":false,"metadata":{"a":"b"},"service_tier":"auto"`,
		`"service_tier":"scale"`, `"service_tier":"fast"`,
		`"temperature":null,"stop":null,"tools":null,"logprobs":null,"response_format":null,"stream":null,"n":null`,
		`"stop":["a","b","c","d","e"],"tool_choice":"none","tools":[],"parallel_tool_calls":true,"response_format":{"type":"text"}`,
		`"top_k":40,"min_p":0.1,"repeat_penalty":1.1,"mirostat":2,"dry_multiplier":0.5,"dry_sequence_breakers":["\n"],"xtc_probability":0.1`,
		`"logit_bias":{"5":-100,"6":100},"frequency_penalty":-2,"presence_penalty":2,"max_tokens":3.0,"modalities":["text"]`,
		`"reasoning_effort":"minimal","verbosity":"low","prediction":{"type":"content","content":"x"},"prompt_cache_key":"k","safety_identifier":"s"`,
	} {
		res, body := post(t, hs, "/v1/chat/completions", `{"model":"fake","max_completion_tokens":2,`+hello+`,`+fields+`}`)
		if res.StatusCode != 200 {
			t.Errorf("%s: %d %s", fields, res.StatusCode, body)
		}
	}
}

func TestMessagesReachTheTemplate(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	hs, _ := start(t, enginetest.Options{RenderError: func(messages []byte) error {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, string(messages))
		if strings.Count(string(messages), `"system"`) > 1 || strings.Contains(string(messages), "unspeakable") {
			return errors.New("only one system message, and first")
		}
		return nil
	}}, Options{})

	res, body := post(t, hs, "/v1/chat/completions", `{"model":"fake","max_tokens":1,"messages":[
		{"role":"system","content":"one"},{"role":"developer","content":[{"type":"text","text":"two"},{"type":"text","text":"three"}]},
		{"role":"user","content":"a","name":"Ann"},{"role":"user","content":"b"},
		{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},
		{"role":"tool","tool_call_id":"1","content":"c"}]}`)

	if res.StatusCode != 200 {
		t.Fatal(body)
	}

	if len(seen) != 2 {
		t.Fatalf("rendered %d times: %v", len(seen), seen)
	}

	var merged []templateMessage
	if err := json.Unmarshal([]byte(seen[1]), &merged); err != nil {
		t.Fatal(err)
	}

	if len(merged) != 4 || merged[0].Content != "one\n\ntwo\nthree" || merged[1].Content != "a\n\nb" || merged[3].ToolCallID != "1" {
		t.Errorf("merged into %s", seen[1])
	}

	if res, body := post(t, hs, "/v1/chat/completions", `{"model":"fake","messages":[{"role":"user","content":"unspeakable"}]}`); res.StatusCode != 400 {
		t.Errorf("what cannot be rendered in any form: %d %s", res.StatusCode, body)
	}
}

func TestPaths(t *testing.T) {
	hs, _ := start(t, enginetest.Options{}, Options{})
	for _, tt := range []struct {
		method, path string
		status       int
		words        string
	}{
		{"GET", "/v1/models", 200, `"id":"gpt-4o"`},
		{"GET", "/models", 200, `"object":"list"`},
		{"GET", "/v1/models/", 200, `"object":"list"`},
		{"GET", "/v1/models/fake", 200, `"created":1700000000`},
		{"GET", "/v1/models/org%2Ffake", 200, `"id":"org/fake"`},
		{"GET", "/v1/models/org/fake", 200, `"id":"org/fake"`},
		{"GET", "/v1/models/absent", 404, "model_not_found"},
		{"HEAD", "/v1/models", 200, ""},
		{"OPTIONS", "/v1/chat/completions", 204, ""},
		{"GET", "/healthz", 200, "ok"},
		{"GET", "/health", 200, "ok"},
		{"GET", "/readyz", 200, "ready"},
		{"GET", "/", 404, "unknown_url"},
		{"DELETE", "/v1/completions", 405, "method_not_allowed"},
		{"GET", "/v1/../../etc/passwd", 404, "unknown_url"},
	} {
		req, _ := http.NewRequest(tt.method, hs.URL+tt.path, nil)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != tt.status || !strings.Contains(string(body), tt.words) {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, res.StatusCode, body)
		}
	}
}

func TestEmbeddingFormats(t *testing.T) {
	hs, _ := start(t, enginetest.Options{}, Options{})
	read := func(format string) (raw json.RawMessage) {
		_, body := post(t, hs, "/v1/embeddings", `{"model":"fake","input":"abc","encoding_format":"`+format+`"}`)
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

func TestOrigins(t *testing.T) {
	hs, _ := start(t, enginetest.Options{}, Options{
		Hosts:          []string{"localhost"},
		AllowedOrigins: []string{"https://app.example"},
	})

	for _, tt := range []struct {
		name, host, origin string
		status             int
	}{
		{"a program", "", "", 200},
		{"localhost", "localhost:8080", "", 200},
		{"IPv6 loopback", "[::1]:8080", "", 200},
		{"a name that was rebound", "evil.example", "", 403},
		{"our own page", "localhost:8080", "http://localhost:8080", 200},
		{"an allowed page", "", "https://app.example", 200},
		{"any other page", "", "https://evil.example", 403},
		{"a page of no origin", "", "null", 403},
	} {
		req, _ := http.NewRequest("GET", hs.URL+"/v1/models", nil)
		if tt.host != "" {
			req.Host = tt.host
		}
		if tt.origin != "" {
			req.Header.Set("Origin", tt.origin)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != tt.status {
			t.Errorf("%s: got %d, want %d", tt.name, res.StatusCode, tt.status)
		}
	}
}

func TestSilentStreamsGetComments(t *testing.T) {
	gate := make(chan struct{})
	hs, _ := start(t, enginetest.Options{BeforeDecode: func(*engine.Batch) error { <-gate; return nil }}, Options{Heartbeat: time.Millisecond})
	res, err := http.Post(hs.URL+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"fake","stream":true,"max_tokens":2,`+hello+`}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	if !lines.Scan() || lines.Text() != ": ping" {
		t.Errorf("the first line is %q", lines.Text())
	}
	close(gate)
	last := ""
	for lines.Scan() {
		if lines.Text() != "" {
			last = lines.Text()
		}
	}
	if last != "data: [DONE]" {
		t.Errorf("the last line is %q", last)
	}
}

// deadlines is a response writer that remembers the deadlines it was given.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

func TestWriteDeadlinesEndWithTheStream(t *testing.T) {
	_, s := start(t, enginetest.Options{Next: enginetest.Say("Hi")}, Options{})
	for path, body := range map[string]string{
		"/v1/chat/completions": `{"model":"fake","stream":true,` + hello + `}`,
		"/v1/completions":      `{"model":"fake","stream":true,"prompt":"p\n"}`,
	} {
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		s.Handler().ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(body)))
		if n := len(w.set); n < 2 || w.set[0].IsZero() || !w.set[n-1].IsZero() {
			t.Errorf("%s: %d deadlines, the last is %v", path, n, w.set)
		}
	}
}

func TestLateErrorsAreEvents(t *testing.T) {
	var once sync.Once
	hs, s := start(t, enginetest.Options{BeforeDecode: func(b *engine.Batch) error {
		var err error
		if b.Positions[0] > 20 {
			once.Do(func() { err = engine.ErrFatal })
		}
		return err
	}}, Options{})

	_, body := post(t, hs, "/v1/chat/completions", `{"model":"fake","stream":true,"max_tokens":50,`+hello+`}`)
	events := strings.Split(strings.TrimSpace(body), "\n\n")
	last := events[len(events)-1]
	if !strings.HasPrefix(last, `data: {"error":{"message":`) || !strings.Contains(last, "model_unavailable") {
		t.Errorf("the last event is %s", last)
	}

	if strings.Contains(body, "[DONE]") {
		t.Error("a stream that failed says [DONE]")
	}

	res, body := post(t, hs, "/v1/chat/completions", `{"model":"fake",`+hello+`}`)
	if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("after the engine's end: %d %s", res.StatusCode, body)
	}

	if res, err := http.Get(hs.URL + "/readyz"); err != nil || res.StatusCode != 503 {
		t.Errorf("readyz: %v, %v", res, err)
	}

	if res, err := http.Get(hs.URL + "/healthz"); err != nil || res.StatusCode != 200 {
		t.Errorf("healthz: %v, %v", res, err)
	}

	_ = s
}

func TestReadyNeedsSteps(t *testing.T) {
	gate := make(chan struct{})
	entered := make(chan struct{}, 1)
	hs, _ := start(t, enginetest.Options{BeforeDecode: func(*engine.Batch) error {
		select {
		case entered <- struct{}{}:
		default:
		}
		<-gate
		return nil
	}}, Options{Stall: time.Nanosecond})

	done := make(chan struct{})
	go func() {
		defer close(done)
		post(t, hs, "/v1/completions", `{"model":"fake","prompt":"p"}`)
	}()

	<-entered
	res, err := http.Get(hs.URL + "/readyz")
	if err != nil || res.StatusCode != 503 {
		t.Errorf("while a step hangs: %v, %v", res, err)
	}

	close(gate)
	<-done
	// The answer leaves the engine before the step that ended it is over.
	for range 1000 {
		if res, err = http.Get(hs.URL + "/readyz"); err != nil || res.StatusCode == 200 {
			break
		}
	}

	if err != nil || res.StatusCode != 200 {
		t.Errorf("after it: %v, %v", res, err)
	}
}

// full is an engine whose queue has no room.
type full struct{ pool.Engine }

func (f full) Stats() engine.Stats {
	s := f.Engine.Stats()
	s.Room = 0
	return s
}

// TestReadyByModel asks for all models, and for each.
func TestReadyByModel(t *testing.T) {
	hs, s := start(t, enginetest.Options{}, Options{})
	ready := func(query string) (int, string) {
		t.Helper()
		res, err := http.Get(hs.URL + "/readyz" + query)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}

	check := func(query string, status int, want string) {
		t.Helper()
		if got, body := ready(query); got != status || !strings.Contains(body, want) {
			t.Errorf("%q: %d %s, want %d %s", query, got, body, status, want)
		}
	}

	check("", 200, `{"status":"ready","models":{"fake":"not loaded"}}`)
	check("?model=gpt-4o", 200, `"fake":"not loaded"`) // an alias
	check("?model=nope", 404, "model_not_found")
	m := s.opts.Models[0]
	load := m.Load
	m.Load = func(ctx context.Context, shrink bool) (*pool.Instance, error) {
		in, err := load(ctx, shrink)
		if err == nil {
			in.Engine = full{in.Engine}
		}
		return in, err
	}

	post(t, hs, "/v1/completions", `{"model":"fake","prompt":"p","max_tokens":1}`)
	check("", 503, `{"status":"not ready","models":{"fake":"queue full"}}`)
	s.Drain()
	check("?model=fake", 503, `"status":"stopping"`)
}

func TestDrain(t *testing.T) {
	hs, s := start(t, enginetest.Options{}, Options{})
	s.Drain()
	res, body := post(t, hs, "/v1/completions", `{"model":"fake","prompt":"p"}`)
	if res.StatusCode != 503 || !strings.Contains(body, "model_unavailable") {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
	if res, err := http.Get(hs.URL + "/readyz"); err != nil || res.StatusCode != 503 {
		t.Errorf("readyz: %v, %v", res, err)
	}
}

// TestClientsThatVanish: their requests leave the engine, which goes on.
func TestClientsThatVanish(t *testing.T) {
	hs, s := start(t, enginetest.Options{Limits: engine.Limits{
		Sequences: 2,
		Context:   1 << 16,
	}}, Options{})

	for i := range 20 {
		ctx, cancel := context.WithCancel(context.Background())
		body := `{"model":"fake","stream":true,` + hello + `}` // endless
		req, _ := http.NewRequestWithContext(ctx, "POST", hs.URL+"/v1/chat/completions", strings.NewReader(body))
		if i%2 == 0 {
			go cancel() // somewhere before the answer
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Read(make([]byte, 64))
			cancel()
			res.Body.Close()
		}
		cancel()
	}

	res, body := post(t, hs, "/v1/completions", `{"model":"fake","prompt":"p","max_tokens":5}`)
	if res.StatusCode != 200 {
		t.Errorf("got %d %s", res.StatusCode, body)
	}

	e, ok := s.pool.Loaded(s.opts.Models[0])
	if !ok {
		t.Fatal("the model is not in memory")
	}

	for e.Stats().Running > 0 {
		res, _ := post(t, hs, "/v1/completions", `{"model":"fake","prompt":"p","max_tokens":1}`)
		if res.StatusCode != 200 {
			t.Fatal(res.Status)
		}
	}
}

// TestNothingSecretIsLogged sends words in every field that could reach a log.
func TestNothingSecretIsLogged(t *testing.T) {
	var log lockedBuffer
	hs, _ := start(t, enginetest.Options{}, Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	for _, body := range []string{
		`{"model":"fake","max_tokens":2,"messages":[{"role":"user","content":"hushhush"}],"user":"hushhush","stop":"hushhush"}`,
		`{"model":"hushhush","messages":[{"role":"user","content":"hushhush"}]}`,
		`{"model":"fake","messages":"hushhush"}`,
		`{"model":"fake","hushhush":1}`,
	} {
		req, _ := http.NewRequest("POST", hs.URL+"/v1/chat/completions?key=hushhush", strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer hushhush")
		if res, err := http.DefaultClient.Do(req); err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	hs.Close()
	if text := log.String(); strings.Contains(text, "hushhush") || !strings.Contains(text, "status=200") {
		t.Errorf("the log is\n%s", text)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// FuzzRequests: any body gets a JSON answer of 200 or 4xx.
func FuzzRequests(f *testing.F) {
	hs, _ := start(f, enginetest.Options{Next: enginetest.Say("ok")}, Options{MaxBody: 1 << 16})
	f.Add(0, `{"model":"fake",`+hello+`,"stop":["a"],"logit_bias":{"5":1},"stream_options":{},"stream":false}`)
	f.Add(1, `{"model":"fake","prompt":[[1,2],[3]],"max_tokens":2}`)
	f.Add(2, `{"model":"fake","input":["a","b"],"dimensions":3}`)
	f.Add(0, `{"model":"fake","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}`)
	paths := []string{"/v1/chat/completions", "/v1/completions", "/v1/embeddings"}
	f.Fuzz(func(t *testing.T, which int, body string) {
		if which < 0 {
			which = -(which + 1)
		}
		res, text := post(t, hs, paths[which%3], body)
		if res.StatusCode != 200 && res.StatusCode/100 != 4 {
			t.Errorf("%d %s", res.StatusCode, text)
		}
		if strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") && !json.Valid([]byte(text)) {
			t.Errorf("no JSON: %s", text)
		}
	})
}
