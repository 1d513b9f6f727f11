package openai_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// TestTraps looks at raw streams for everything that official clients trip over: what
// each of them does then stands with the check.
func TestTraps(t *testing.T) {
	const usage = `,"stream_options":{"include_usage":true}`
	for name, tt := range map[string]struct {
		says, fields string
		choices      int
	}{
		"text":     {"Hello there, world.", ``, 1},
		"usage":    {"Hello there, world.", usage, 1},
		"choices":  {"Hello there, world.", `,"n":3` + usage, 3},
		"logprobs": {"Hello", `,"logprobs":true,"top_logprobs":2,"n":2`, 2},
		"cut":      {"Hello there, world.", `,"max_tokens":3` + usage, 1},
		"empty":    {"", usage, 1},
		"call":     {`<f {"a":1}>`, `,` + twoTools + usage, 1},
		"calls":    {`Well. <f {"a":1}><g {"b":[2]}><f {}>`, `,` + twoTools, 1},
		"function": {`<f {"a":1}>`, `,"functions":[{"name":"f","parameters":{"type":"object"}}]`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			hs, _ := servertest.Start(t, enginetest.Options{
				Next:  enginetest.Say(tt.says),
				Parse: scripted,
			}, server.Options{})
			res, body := servertest.Post(
				t, hs, "/v1/chat/completions", `{"model":"fake",`+servertest.Hello+tt.fields+`,"stream":true}`,
			)
			if res.Header.Get("Content-Type") != "text/event-stream" {
				t.Errorf("node and go read no chunks of %q", res.Header.Get("Content-Type"))
			}
			checkTraps(t, body, tt.choices, strings.Contains(tt.fields, "include_usage"))
		})
	}
}

type trapChunk struct {
	ID, Object, Model string
	Created           int64
	Fingerprint       string `json:"system_fingerprint"`
	Usage             json.RawMessage
	Choices           []struct {
		Index  *int
		Finish *string `json:"finish_reason"`
		Delta  struct {
			Role      *string
			ToolCalls []struct {
				Index    *int
				ID, Type *string
				Function struct{ Name, Arguments *string }
			} `json:"tool_calls"`
		}
	}
}

func checkTraps(t *testing.T, body string, choices int, wantsUsage bool) {
	t.Helper()
	if strings.Contains(body, "\r") {
		t.Error("go reads no events of a stream with carriage returns")
	}

	if !strings.HasSuffix(body, "\n\ndata: [DONE]\n\n") {
		t.Error("python and go lose a last event without an empty line")
	}

	var first trapChunk
	var usages, lastChoices int
	roles := map[int]bool{}
	ended := map[int]bool{}
	arguments := map[int]string{}
	open := -1
	events := strings.Split(strings.TrimSuffix(body, "data: [DONE]\n\n"), "\n\n")
	for i, event := range events[:len(events)-1] {
		data, ok := strings.CutPrefix(event, "data: ")
		if !ok || strings.Contains(data, "\n") || len(data) > 16<<20 {
			t.Fatalf("event %d is no line of data", i)
		}
		var members map[string]json.RawMessage
		var c trapChunk
		if err := json.Unmarshal([]byte(data), &members); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			t.Fatal(err)
		}
		if _, ok := members["error"]; ok {
			t.Error("go ends a stream at any error member, even null")
		}
		if i == 0 {
			first = c
		}
		if c.ID != first.ID || c.ID == "" || c.Created != first.Created || c.Model != first.Model ||
			c.Object != "chat.completion.chunk" || c.Fingerprint != first.Fingerprint {
			t.Errorf("go drops chunks that differ: %s", data)
		}
		if len(c.Usage) > 0 && string(c.Usage) != "null" {
			usages++
			if len(c.Choices) != 0 {
				t.Errorf("usage belongs to a chunk of its own: %s", data)
			}
		}
		lastChoices = len(c.Choices)
		for _, choice := range c.Choices {
			if choice.Index == nil {
				t.Fatalf("a choice without index: %s", data)
			}
			k := *choice.Index
			switch {
			case ended[k]:
				t.Errorf("go forgets why a choice ended when more comes: %s", data)
			case !roles[k] && (choice.Delta.Role == nil || *choice.Delta.Role != "assistant"):
				t.Errorf("node throws when a choice begins without its role: %s", data)
			case roles[k] && choice.Delta.Role != nil:
				t.Errorf("python makes assistantassistant of a role that comes twice: %s", data)
			case k > 0 && !roles[k-1]:
				t.Errorf("python fails on choice %d before choice %d", k, k-1)
			}
			roles[k] = true
			if choice.Finish != nil {
				ended[k] = true
			}
			for _, call := range choice.Delta.ToolCalls {
				if call.Index == nil {
					t.Fatalf("python fails on a call without index: %s", data)
				}
				at := *call.Index
				_, known := arguments[at]
				switch {
				case !known && (at != open+1 || call.ID == nil || *call.ID == "" || call.Type == nil ||
					*call.Type != "function" || call.Function.Name == nil):
					t.Errorf("node throws when a call begins without its type, id or name, or out of order: %s", data)
				case known && (call.ID != nil || call.Type != nil || call.Function.Name != nil):
					t.Errorf("python and go join ids and names that come again: %s", data)
				case at != max(at, open):
					t.Errorf("call %d goes on after call %d began: %s", at, open, data)
				}
				open = max(open, at)
				arguments[at] += ""
				if call.Function.Arguments != nil {
					arguments[at] += *call.Function.Arguments
				}
			}
		}
	}

	if len(ended) != choices || len(roles) != choices {
		t.Errorf("node throws without a reason: %d of %d choices have ended", len(ended), choices)
	}

	for at, text := range arguments {
		if !json.Valid([]byte(text)) {
			t.Errorf("the arguments of call %d are %q", at, text)
		}
	}

	switch {
	case wantsUsage && (usages != 1 || lastChoices != 0):
		t.Errorf("go sums usages, python keeps the last chunk's: %d came", usages)
	case !wantsUsage && (usages != 0 || lastChoices == 0):
		t.Error("naive clients read choices[0] of every chunk: usage came unasked")
	}
}

// TestErrorBodies looks at what clients make errors of: an object whose code is a
// string, as JSON, with all four members, on every path.
func TestErrorBodies(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	for i, tt := range []struct {
		path, body string
		status     int
	}{
		{"/v1/chat/completions", `{`, http.StatusBadRequest},
		{"/v1/chat/completions", `[]`, http.StatusBadRequest},
		{"/v1/chat/completions", `{"model":"absent","messages":[{"role":"user","content":"x"}]}`, http.StatusNotFound},
		{"/v1/chat/completions", `{"model":"fake","messages":[]}`, http.StatusBadRequest},
		{"/v1/chat/completions", `{"model":"fake","messages":[{"role":"user","content":"x"}],"stream":true,"n":999}`,
			http.StatusBadRequest},
		{"/v1/completions", `{"model":"fake"}`, http.StatusBadRequest},
		{"/v1/embeddings", `{"model":"fake","input":[]}`, http.StatusBadRequest},
		{"/v1/responses", `{"model":"fake","input":3}`, http.StatusBadRequest},
		{"/v1/moderations", `{"input":"x"}`, http.StatusNotFound},
		{"/v1/audio/speech", `{}`, http.StatusNotFound},
		{"/v1/models", `{}`, http.StatusMethodNotAllowed},
	} {
		res, body := servertest.Post(t, hs, tt.path, tt.body)
		var reply map[string]map[string]any
		err := json.Unmarshal([]byte(body), &reply)
		if err != nil || res.StatusCode != tt.status ||
			res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%d: %d %s %v", i, res.StatusCode, body, err)
			continue
		}

		got := slices.Sorted(maps.Keys(reply["error"]))
		if fmt.Sprint(got) != "[code message param type]" ||
			len(reply) != 1 {
			t.Errorf("%d: %s", i, body)
		}

		for _, name := range []string{"message", "type"} {
			if text, ok := reply["error"][name].(string); !ok || text == "" {
				t.Errorf("%d: %s: %s", i, name, body)
			}
		}

		if code := reply["error"]["code"]; code != nil {
			if _, ok := code.(string); !ok {
				t.Errorf("%d: clients compare codes as texts: %s", i, body)
			}
		}

		if res.Header.Get("X-Request-Id") == "" {
			t.Errorf("%d: no request id", i)
		}
	}
}
