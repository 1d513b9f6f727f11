package openai_test

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/pool"
	"serve/server"
	"serve/server/servertest"
)

// TestOtherServersFields sends fields of other servers, and looks at what reaches the engine.
func TestOtherServersFields(t *testing.T) {
	const chat, completion = "/v1/chat/completions", "/v1/completions"
	for _, tt := range []struct {
		path, fields string
		wrong        string // of the request that reaches the engine, or the field that is refused
		holds        func(engine.Request, engine.Chat) bool
	}{
		{chat, `"num_predict":7`, "", func(r engine.Request, _ engine.Chat) bool { return r.MaxTokens == 7 }},
		{chat, `"n_predict":7,"max_tokens":5`, "", func(r engine.Request, _ engine.Chat) bool { return r.MaxTokens == 5 }},
		{completion, `"n_predict":-1`, "", func(r engine.Request, _ engine.Chat) bool { return r.MaxTokens == 0 }},
		{completion, `"num_predict":3`, "", func(r engine.Request, _ engine.Chat) bool { return r.MaxTokens == 3 }},
		{completion, `"seed":1`, "", func(r engine.Request, _ engine.Chat) bool { return r.MaxTokens == 16 }},
		{chat, `"n_predict":0`, "n_predict", nil},
		{chat, `"stop_token_ids":[97]`, "", func(r engine.Request, _ engine.Chat) bool {
			return reflect.DeepEqual(r.StopTokens, []engine.Token{97})
		}},
		{chat, `"num_ctx":8192,"keep_alive":"5m","cache_prompt":true,"id_slot":-1,"timings_per_token":true`, "", nil},
		{chat, `"min_tokens":0,"skip_special_tokens":true,"cache_salt":null`, "", nil},
		{chat, `"min_tokens":5`, "", func(r engine.Request, _ engine.Chat) bool { return r.Sampling.MinTokens == 5 }},
		{chat, `"min_tokens":5,"max_tokens":4`, "min_tokens", nil},
		{completion, `"min_tokens":17`, "min_tokens", nil},
		{completion, `"min_tokens":5,"max_tokens":5`, "", nil},
		{chat, `"skip_special_tokens":false`, "skip_special_tokens", nil},
		{chat, `"cache_salt":"a"`, "", func(r engine.Request, _ engine.Chat) bool { return r.CacheSalt == "a" }},
		{completion, `"cache_salt":"b"`, "", func(r engine.Request, _ engine.Chat) bool { return r.CacheSalt == "b" }},
		{chat, `"cache_salt":""`, "cache_salt", nil},
		{chat, `"cache_salt":5`, "cache_salt", nil},

		{chat, `"enable_thinking":false`, "", func(_ engine.Request, c engine.Chat) bool { return c.NoThinking }},
		{chat, `"enable_thinking":true`, "", func(_ engine.Request, c engine.Chat) bool {
			return !c.NoThinking && string(c.TemplateArgs["enable_thinking"]) == "true"
		}},
		{chat, `"thinking":{"type":"disabled"}`, "", func(_ engine.Request, c engine.Chat) bool { return c.NoThinking }},
		{chat, `"thinking":{"type":"enabled"}`, "", func(_ engine.Request, c engine.Chat) bool {
			return string(c.TemplateArgs["thinking"]) == "true"
		}},
		{chat, `"think":false`, "", func(_ engine.Request, c engine.Chat) bool { return c.NoThinking }},
		{chat, `"think":"high"`, "", func(_ engine.Request, c engine.Chat) bool {
			return string(c.TemplateArgs["reasoning_effort"]) == `"high"`
		}},
		{chat, `"reasoning":{"effort":"low"}`, "", func(_ engine.Request, c engine.Chat) bool {
			return string(c.TemplateArgs["reasoning_effort"]) == `"low"`
		}},
		{chat, `"reasoning":{"enabled":false}`, "", func(_ engine.Request, c engine.Chat) bool { return c.NoThinking }},
		{chat, `"reasoning_effort":"ultra"`, "", func(_ engine.Request, c engine.Chat) bool {
			return string(c.TemplateArgs["reasoning_effort"]) == `"max"`
		}},
		{chat, `"reasoning_effort":"auto"`, "", func(_ engine.Request, c engine.Chat) bool {
			return !c.NoThinking && len(c.TemplateArgs) == 0
		}},
		{chat, `"reasoning_effort":"high","think":false`, "", func(_ engine.Request,
			c engine.Chat) bool {
			return c.NoThinking
		}},
		{chat, `"think":"much"`, "think", nil},
		{chat, `"thinking":{"type":"so-so"}`, "thinking.type", nil},

		{chat, `"guided_choice":[]`, "guided_choice", nil},
		{chat, `"guided_regex":"(a)\\1"`, "guided_regex", nil},
		{chat, `"guided_grammar":"start: \"(\" start \")\" | \"a\""`, "guided_grammar", nil},
		{chat, `"structured_outputs":{"regex":"a","choice":["a"]}`, "structured_outputs", nil},
		{chat, `"structured_outputs":{"structural_tag":"a"}`, "structured_outputs.structural_tag", nil},
		{chat, `"continue_final_message":true`, "continue_final_message", nil},
		{chat, `"add_generation_prompt":true,"continue_final_message":false`, "", nil},
		{chat, `"add_generation_prompt":false`, "add_generation_prompt", nil},
		{chat, `"tool_choice":"auto"`, "tool_choice", nil},
		{chat, `"tool_choice":"none"`, "", nil},
		{chat, `"seed":9223372036854775807`, "", nil},
		{chat, `"seed":9223372036854775808`, "seed", nil},
		{chat, `"seed":-9223372036854775809`, "seed", nil},
		{chat, `"seed":9223372036854775808.0`, "seed", nil},
		{chat, `"logit_bias":{"99999":1}`, "logit_bias", nil},
		{completion, `"logit_bias":{"99999":1}`, "logit_bias", nil},
	} {
		hs, s := servertest.Start(t, enginetest.Options{Next: sayLast("ok")}, server.Options{})
		r := servertest.Record(s)
		input := servertest.Hello
		if tt.path == completion {
			input = `"prompt":"a"`
		}
		res, body := servertest.Post(t, hs, tt.path, `{"model":"fake",`+input+`,`+tt.fields+`}`)
		switch {
		case tt.wrong != "":
			if res.StatusCode != http.StatusBadRequest || !strings.Contains(body, `"param":"`+tt.wrong+`"`) {
				t.Errorf("%s: %d %s", tt.fields, res.StatusCode, body)
			}
			continue
		case res.StatusCode != http.StatusOK:
			t.Errorf("%s: %d %s", tt.fields, res.StatusCode, body)
			continue
		}

		var c engine.Chat
		if len(r.Chats) > 0 {
			c = r.Chats[0]
		}
		if tt.holds != nil && !tt.holds(r.Last, c) {
			t.Errorf("%s: the engine is asked %+v, the template %+v", tt.fields, r.Last, c)
		}
	}
}

// TestStopTokens ends an answer at a token, and at a text that it contains.
func TestStopTokens(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Next: sayLast("hello")}, server.Options{})
	for fields, want := range map[string]string{
		`"stop_token_ids":[108]`:                                "he",
		`"stop":"ll"`:                                           "he",
		`"stop":"ll","min_tokens":4`:                            "hello",
		`"stop":["ll","o"],"min_tokens":4`:                      "hell",
		`"stop_token_ids":[108],"min_tokens":3`:                 "he.",
		`"min_tokens":8`:                                        "hello...",
		`"stop":"ll","include_stop_str_in_output":true`:         "hell",
		`"stop":["x"],"include_stop_str_in_output":true`:        "hello",
		`"stop":"ll","include_stop_str_in_output":null`:         "he",
		`"stop_token_ids":[],"include_stop_str_in_output":true`: "hello",
	} {
		for _, stream := range []string{"", `,"stream":true`} {
			for path, input := range map[string]string{
				"/v1/chat/completions": servertest.Hello,
				"/v1/completions":      `"prompt":"a\n"`,
			} {
				_, body := servertest.Post(t, hs, path, `{"model":"fake",`+input+`,`+fields+stream+`}`)
				if got := textOf(body); got != want {
					t.Errorf("%s %s%s: %q, want %q", path, fields, stream, got, want)
				}
			}
		}
	}
}

var saidText = regexp.MustCompile(`"(?:content|text)":"([^"]*)"`)

// textOf joins the texts of an answer's chunks.
func textOf(body string) (text string) {
	for _, event := range strings.SplitAfter(body, "\n\n") {
		if m := saidText.FindStringSubmatch(event); m != nil {
			text += m[1]
		}
	}
	return text
}

// TestSchemasOfOthers enforces a schema by vLLM's names.
func TestSchemasOfOthers(t *testing.T) {
	for _, fields := range []string{
		`"guided_json":{"type":"object","required":["a"]}`,
		`"guided_json":"{\"type\":\"object\",\"required\":[\"a\"]}"`,
		`"structured_outputs":{"json":{"type":"object","required":["a"]}}`,
	} {
		hs, s := servertest.Start(t, enginetest.Options{Next: sayLast(`{"a":1}`)}, server.Options{})
		r := servertest.Record(s)
		res, body := servertest.Post(t, hs, "/v1/chat/completions", `{"model":"fake",`+servertest.Hello+`,`+fields+`}`)
		if res.StatusCode != 200 || !strings.Contains(string(r.Chats[len(r.Chats)-1].Messages), "required") {
			t.Errorf("%s: %d %s", fields, res.StatusCode, body)
		}
	}
}

// TestTextsOfOthers enforces texts by vLLM's names: the engine has a grammar, the model is told, and the answer is
// checked.
func TestTextsOfOthers(t *testing.T) {
	for fields, told := range map[string]string{
		`"guided_choice":["yes","no"]`:                       `yes\nno`,
		`"guided_regex":"yes|no"`:                            `yes|no`,
		`"guided_grammar":"start: \"yes\" | \"no\""`:         `regular expression`,
		`"structured_outputs":{"choice":["yes","no"]}`:       `yes\nno`,
		`"structured_outputs":{"regex":"yes|no"}`:            `yes|no`,
		`"structured_outputs":{"grammar":"start: /yes|no/"}`: `regular expression`,
	} {
		for said, status := range map[string]int{"yes": 200, "maybe": 500} {
			hs, s := servertest.Start(t, enginetest.Options{Next: sayLast(said)}, server.Options{})
			r := servertest.Record(s)
			res, body := servertest.Post(t, hs, "/v1/chat/completions", `{"model":"fake",`+servertest.Hello+`,`+fields+`}`)
			if res.StatusCode != status || !strings.Contains(string(r.Chats[len(r.Chats)-1].Messages), told) ||
				!strings.Contains(r.Last.Sampling.Grammar.Text, "answer-root") {
				t.Errorf("%s, said %s: %d %s", fields, said, res.StatusCode, body)
			}
		}
	}
}

// TestOneFormat refuses formats beside each other, and takes fields without a value.
func TestOneFormat(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Next: sayLast("yes")}, server.Options{})
	for fields, status := range map[string]int{
		`"guided_choice":["yes"],"guided_regex":"yes"`:                          400,
		`"guided_choice":["yes"],"response_format":{"type":"json_object"}`:      400,
		`"guided_choice":["yes"],"structured_outputs":{"choice":["yes"]}`:       400,
		`"guided_choice":["yes"],"guided_regex":null`:                           200,
		`"guided_choice":["yes"],"response_format":{"type":"text"}`:             200,
		`"response_format":null,"guided_choice":null,"structured_outputs":null`: 200,
	} {
		res, body := servertest.Post(t, hs, "/v1/chat/completions", `{"model":"fake",`+servertest.Hello+`,`+fields+`}`)
		if res.StatusCode != status || status == 400 && !strings.Contains(body, "Only one of") {
			t.Errorf("%s: %d %s", fields, res.StatusCode, body)
		}
	}
}

// TestFinalMessage continues the last message, or has a new one follow it.
func TestFinalMessage(t *testing.T) {
	for fields, want := range map[string]bool{
		``:                               true,
		`,"continue_final_message":true`: true,
		`,"continue_final_message":true,"add_generation_prompt":false`: true,
		`,"continue_final_message":false`:                              false,
	} {
		hs, s := servertest.Start(t, enginetest.Options{Next: sayLast("ok")}, server.Options{})
		r := servertest.Record(s)
		res, body := servertest.Post(t, hs, "/v1/chat/completions",
			`{"model":"fake","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]`+fields+`}`)
		if res.StatusCode != 200 || r.Chats[0].Continue != want {
			t.Errorf("%s: %d %s", fields, res.StatusCode, body)
		}
	}
}

// TestExcludedReasoning leaves the reasoning out of an answer.
func TestExcludedReasoning(t *testing.T) {
	for _, fields := range []string{`"reasoning":{"exclude":true}`, `"include_reasoning":false`} {
		for _, stream := range []string{"", `,"stream":true`} {
			hs, _ := servertest.Start(t, enginetest.Options{
				Next: sayLast("thought"),
				Parse: func(text string, _ bool) (enginetest.Message, error) {
					return enginetest.Message{Reasoning: text, Content: "said"}, nil
				},
			}, server.Options{})
			res, body := servertest.Post(t, hs, "/v1/chat/completions",
				`{"model":"fake",`+servertest.Hello+`,`+fields+stream+`}`)
			if res.StatusCode != 200 || strings.Contains(body, "thought") || !strings.Contains(body, "said") {
				t.Errorf("%s%s: %d %s", fields, stream, res.StatusCode, body)
			}
		}
	}
}

// TestSampledTokenIsListed has top_logprobs contain the token itself, also if none other is wanted.
func TestSampledTokenIsListed(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Next: sayLast("ok")}, server.Options{})
	_, body := servertest.Post(t, hs, "/v1/completions", `{"model":"fake","prompt":"a\n","logprobs":0,"echo":true}`)
	if !strings.Contains(body, `"top_logprobs":[null,{"\n":-0.078125},{"o":-0.5},{"k":-0.5}]`) {
		t.Error(body)
	}
}

// TestNames answers by the name that was asked for, and lists aliases where a name is unknown.
func TestNames(t *testing.T) {
	hs, s := servertest.Start(t, enginetest.Options{Next: sayLast("ok"), Embeds: false}, server.Options{})
	for _, stream := range []string{"", `,"stream":true,"stream_options":{"include_usage":true}`} {
		for path, input := range map[string]string{
			"/v1/chat/completions": servertest.Hello,
			"/v1/completions":      `"prompt":"a"`,
		} {
			_, body := servertest.Post(t, hs, path, `{"model":"org/fake",`+input+stream+`}`)
			if !strings.Contains(body, `"model":"org/fake"`) || strings.Contains(body, `"model":"fake"`) {
				t.Errorf("%s%s: %s", path, stream, body)
			}
		}
	}

	_, body := servertest.Post(t, hs, "/v1/completions", `{"model":"other","prompt":"a"}`)
	if !strings.Contains(body, "fake (gpt-4o, org/fake)") {
		t.Error(body)
	}

	s.Model.Aliases = append(s.Model.Aliases, "*")
	any, err := server.New(server.Options{Models: []*pool.Model{s.Model}})
	if err != nil {
		t.Fatal(err)
	}
	defer any.Close()
	other := httptest.NewServer(any.Handler())
	defer other.Close()
	res, body := servertest.Post(t, other, "/v1/completions", `{"model":"other","prompt":"a"}`)
	if res.StatusCode != 200 || !strings.Contains(body, `"model":"other"`) {
		t.Errorf("any name: %d %s", res.StatusCode, body)
	}
	if _, body := servertest.Request(t, other, http.MethodGet, "/v1/models"); strings.Contains(body, "*") {
		t.Errorf("models: %s", body)
	}
}

// TestPaths serves the paths of Azure's API, and says what is wrong with others.
func TestPaths(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Next: sayLast("ok")}, server.Options{})
	for path, fields := range map[string]string{
		"/openai/deployments/fake/chat/completions?api-version=2024-10-21":       servertest.Hello,
		"/openai/deployments/org%2Ffake/chat/completions?api-version=2024-10-21": servertest.Hello,
		"/openai/deployments/fake/completions":                                   `"prompt":"a"`,
		"/openai/deployments/nobody/completions":                                 `"model":"fake","prompt":"a"`,
		"/openai/v1/chat/completions":                                            `"model":"fake",` + servertest.Hello,
	} {
		if res, body := servertest.Post(t, hs, path, `{`+fields+`}`); res.StatusCode != 200 {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}

	for path, want := range map[string]string{
		"/v1/v1/models":          "GET /v1/v1/models. The base URL probably has one /v1 too many; did you mean /v1/models?",
		"/v1":                    "GET /v1. The endpoints are under this path",
		"/v1/":                   "GET /v1/. The endpoints are under this path",
		"/v1/nothing?a=b":        "GET /v1/nothing.",
		"/openai/deployments/a/": "GET /openai/deployments/a/.",
	} {
		if code, body := servertest.Request(t, hs, http.MethodGet, path); code != 404 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

// TestContextOfModels says what a request has room for, once the model is in memory.
func TestContextOfModels(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Next: sayLast("ok")}, server.Options{})
	const context = `"context_length":256,"max_model_len":256`
	if _, body := servertest.Request(t, hs, http.MethodGet, "/v1/models"); strings.Contains(body, "context_length") {
		t.Error("before it is loaded:", body)
	}
	servertest.Post(t, hs, "/v1/completions", `{"model":"fake","prompt":"a"}`)
	for _, path := range []string{"/v1/models", "/v1/models/gpt-4o"} {
		if _, body := servertest.Request(t, hs, http.MethodGet, path); !strings.Contains(body, context) {
			t.Errorf("%s: %s", path, body)
		}
	}
}

// TestForeignTokens says what a client is to do that embeds token ids of another tokenizer.
func TestForeignTokens(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Embeds: true}, server.Options{})
	res, body := servertest.Post(t, hs, "/v1/embeddings", `{"model":"fake","input":[[97],[99999]]}`)
	if res.StatusCode != 400 || !strings.Contains(body, "check_embedding_ctx_length=False") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}
