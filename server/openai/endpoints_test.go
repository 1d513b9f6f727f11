package openai_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/pool"
	"serve/server"
	"serve/server/servertest"
)

// TestCompletionEcho sends the prompt back before each answer.
func TestCompletionEcho(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Next: sayLast("ok")}, server.Options{})
	res, body := servertest.Post(t, hs, "/v1/completions", `{"model":"fake","prompt":["a\n",[98,10]],"echo":true,"n":2}`)
	if res.StatusCode != 200 || strings.Count(body, `"text":"a\nok"`) != 2 || strings.Count(body, `"text":"b\nok"`) != 2 {
		t.Error(body)
	}
	_, body = servertest.Post(t, hs, "/v1/completions", `{"model":"fake","prompt":"a\n","echo":true,"stream":true}`)
	if !strings.Contains(body, `"text":"a\n"`) {
		t.Error(body)
	}
}

// TestCompletionScores sends the prompt's log-probabilities, as lm-eval reads them. The
// fake finds a prompt's token the less probable the greater its number.
func TestCompletionScores(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Next: sayLast("ok")}, server.Options{})
	type logprobs struct {
		Tokens  []string
		Probs   []*float64           `json:"token_logprobs"`
		Top     []map[string]float64 `json:"top_logprobs"`
		Offsets []int                `json:"text_offset"`
	}

	read := func(fields string) (texts []string, all []logprobs, reason string, generated int) {
		t.Helper()
		_, body := servertest.Post(t, hs, "/v1/completions", `{"model":"fake","echo":true,`+fields+`}`)
		for line := range strings.SplitSeq(strings.TrimSpace(body), "\n\n") {
			var reply struct {
				Choices []struct {
					Index    int
					Text     string
					LogProbs *logprobs
					Reason   string `json:"finish_reason"`
				}
				Usage *struct {
					TotalTokens      int `json:"total_tokens"`
					PromptTokens     int `json:"prompt_tokens"`
					CompletionTokens int `json:"completion_tokens"`
				}
			}
			if line = strings.TrimPrefix(line, "data: "); line == "[DONE]" {
				continue
			}
			if err := json.Unmarshal([]byte(line), &reply); err != nil {
				t.Fatal(err, body)
			}
			for _, c := range reply.Choices {
				for len(texts) <= c.Index {
					texts = append(texts, "")
					all = append(all, logprobs{})
				}
				texts[c.Index] += c.Text
				if l, to := c.LogProbs, &all[c.Index]; l != nil {
					to.Tokens = append(to.Tokens, l.Tokens...)
					to.Probs = append(to.Probs, l.Probs...)
					to.Top = append(to.Top, l.Top...)
					to.Offsets = append(to.Offsets, l.Offsets...)
				}
				if c.Reason != "" {
					reason = c.Reason
				}
			}
			if reply.Usage != nil {
				generated = reply.Usage.CompletionTokens
			}
		}
		return texts, all, reason, generated
	}

	for _, stream := range []string{"", `,"stream":true,"stream_options":{"include_usage":true}`} {
		for _, n := range []int{1, 2} {
			texts, all, reason, generated := read(
				fmt.Sprintf(`"prompt":["abcdefghij\n",[99,10]],"logprobs":1,"max_tokens":0,"n":%d`, n) + stream,
			)
			if len(texts) != 2*n || texts[0] != "abcdefghij\n" || texts[2*n-1] != "c\n" || reason != "length" || generated != 0 {
				t.Fatalf("stream %s, n %d: %q %q %d", stream, n, texts, reason, generated)
			}
			for i, l := range all {
				if strings.Join(l.Tokens, "") != texts[i] || l.Probs[0] != nil || l.Top[0] != nil ||
					len(l.Probs) != len(l.Tokens) || len(l.Offsets) != len(l.Tokens) || l.Offsets[1] != 1 {
					t.Errorf("%q: %+v", texts[i], l)
				}
				for k := 1; k < len(l.Tokens); k++ {
					want := -float64(l.Tokens[k][0]) / 128
					if l.Probs[k] == nil || math.Abs(*l.Probs[k]-want) > 1e-5 ||
						len(l.Top[k]) != 1 {
						t.Errorf("%q: token %d: %+v", texts[i], k, l)
					}
				}
			}
		}
		texts, all, _, generated := read(`"prompt":"ab\n","logprobs":0` + stream)
		if texts[0] != "ab\nok" || strings.Join(all[0].Tokens, "|") != "a|b|\n|o|k" || *all[0].Probs[3] != -0.5 ||
			all[0].Offsets[4] != 4 || generated != 2 {
			t.Errorf("%q %+v %d", texts, all, generated)
		}
	}
}

// TestCompletionSuffix fills in the middle with the marks that the model has.
func TestCompletionSuffix(t *testing.T) {
	var prompt string
	hs, _ := servertest.Start(t, enginetest.Options{Next: func(tokens []engine.Token) engine.Token {
		prompt = ""
		for _, token := range tokens {
			prompt += string(token)
		}
		return enginetest.EOS
	}}, server.Options{})
	res, body := servertest.Post(t, hs, "/v1/completions", `{"model":"fake","prompt":"before","suffix":"after"}`)
	if res.StatusCode != 200 || prompt != "<before|after>" {
		t.Errorf("%q: %s", prompt, body)
	}
}

// TestBestOf makes more answers than it sends, and sends the most probable.
func TestBestOf(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	res, body := servertest.Post(
		t, hs, "/v1/completions", `{"model":"fake","prompt":"a","best_of":4,"n":2,"max_tokens":5}`,
	)
	if res.StatusCode != 200 || strings.Count(body, `"index":`) != 2 ||
		!strings.Contains(body, `"completion_tokens":20`) || !strings.Contains(body, `"logprobs":null`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	for fields, param := range map[string]string{
		`"best_of":1,"n":2`: "best_of", `"best_of":3,"stream":true`: "best_of", `"echo":true,"suffix":"x"`: "echo",
	} {
		res, body := servertest.Post(t, hs, "/v1/completions", `{"model":"fake","prompt":"a",`+fields+`}`)
		if res.StatusCode != 400 ||
			!strings.Contains(body, `"param":"`+param+`"`) {
			t.Errorf("%s: %d %s", fields, res.StatusCode, body)
		}
	}
}

func TestRerank(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Embeds: true, Ranks: true}, server.Options{})
	// The fake's score is the number of tokens.
	res, body := servertest.Post(
		t,
		hs,
		"/v1/rerank",
		`{"model":"fake","query":"q","documents":["a",{"text":"abc"},"ab"],"top_n":2,"return_documents":true}`,
	)
	if res.StatusCode != 200 || !strings.Contains(body, `"results":[{"index":1,`) ||
		!strings.Contains(body, `"document":{"text":"abc"}},{"index":2,`) || strings.Count(body, `"index"`) != 2 ||
		!strings.Contains(body, `"total_tokens":9`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	for fields, code := range map[string]int{`"documents":[]`: 400, `"documents":[3]`: 400,
		`"documents":[{"title":"x"}]`: 400, `"documents":["a"],"max_chunks_per_doc":3`: 400,
		`"documents":["a"],"top_n":0`: 400} {
		res, body := servertest.Post(t, hs, "/v1/rerank", `{"model":"fake","query":"q",`+fields+`}`)
		if res.StatusCode != code {
			t.Errorf("%s: %d %s", fields, res.StatusCode, body)
		}
	}
	plain, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	res, body = servertest.Post(t, plain, "/v1/rerank", `{"model":"fake","query":"q","documents":["a"]}`)
	if res.StatusCode != 400 ||
		!strings.Contains(body, "unsupported_model") {
		t.Errorf("a model that does not rank: %d %s", res.StatusCode, body)
	}
}

// TestScore scores one query with some texts, and pairs.
func TestScore(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Embeds: true, Ranks: true}, server.Options{})
	for name, tt := range map[string]struct {
		fields string
		status int
		want   string // scores, or a part of the error; the fake's is the number of tokens, made one from 0 to 1
	}{
		"a pair":           {`"text_1":"q","text_2":"a"`, 200, "2"},
		"some":             {`"text_1":"q","text_2":["a","abc"]`, 200, "2 4"},
		"a list of one":    {`"text_1":["q"],"text_2":["a","abc"]`, 200, "2 4"},
		"pairs":            {`"text_1":["q","qq"],"text_2":["a","abc"],"use_activation":true`, 200, "2 5"},
		"by other names":   {`"queries":"q","documents":["a",{"text":"ab"}]`, 200, "2 3"},
		"by others still":  {`"data_1":"q","data_2":"a"`, 200, "2"},
		"items":            {`"queries":"q","items":["a"]`, 200, "2"},
		"not the same":     {`"text_1":["q","r"],"text_2":["a","b","c"]`, 400, "text_1"},
		"many with one":    {`"text_1":["q","r"],"text_2":"a"`, 400, "text_1"},
		"no query":         {`"text_2":"a"`, 400, "text_1"},
		"no text":          {`"text_1":"a"`, 400, "text_2"},
		"an empty list":    {`"text_1":"a","text_2":[]`, 400, "text_2"},
		"raw scores":       {`"text_1":"a","text_2":"b","activation":false`, 400, "activation"},
		"a cut":            {`"text_1":"a","text_2":"b","truncate_prompt_tokens":5`, 400, "truncate_prompt_tokens"},
		"what is too long": {`"text_1":"a","text_2":"` + strings.Repeat("b", 100) + `"`, 400, "context_length_exceeded"},
	} {
		for _, path := range []string{"/v1/score", "/score"} {
			res, body := servertest.Post(t, hs, path, `{"model":"fake",`+tt.fields+`}`)
			var got struct {
				Object string
				Data   []struct {
					Index  int
					Object string
					Score  float64
				}
				Usage struct {
					Total int `json:"total_tokens"`
				}
			}
			if err := json.Unmarshal([]byte(body), &got); err != nil || res.StatusCode != tt.status {
				t.Errorf("%s: %d %s", name, res.StatusCode, body)
				continue
			}
			if tt.status != 200 {
				if !strings.Contains(body, tt.want) {
					t.Errorf("%s: %s", name, body)
				}
				continue
			}
			var scores []string
			for i, s := range got.Data {
				scores = append(scores, fmt.Sprint(math.Round(math.Log(s.Score/(1-s.Score)))))
				if s.Index != i || s.Object != "score" {
					t.Errorf("%s: %s", name, body)
				}
			}
			if strings.Join(scores, " ") != tt.want || got.Object != "list" || got.Usage.Total == 0 {
				t.Errorf("%s: %s", name, body)
			}
		}
	}
}

// TestTokenizerInfo asks as lm-eval does: for the tokenizer of the only model, and the numbers of its tokens.
func TestTokenizerInfo(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	for _, path := range []string{"/tokenizer_info", "/v1/tokenizer_info?model=fake"} {
		status, body := servertest.Request(t, hs, http.MethodGet, path)
		if status != 200 || body != `{"tokenizer_class":"PreTrainedTokenizerFast","bos_token":null,`+
			`"eos_token":"\u003ceos\u003e","add_bos_token":false,"add_eos_token":false,"model_max_length":256,`+
			`"chat_template":null}` {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	res, body := servertest.Post(t, hs, "/tokenize", `{"prompt":"<think>","add_special_tokens":false}`)
	if res.StatusCode != 200 || !strings.Contains(body, `"tokens":[257]`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	res, body = servertest.Post(t, hs, "/detokenize", `{"tokens":[97]}`)
	if res.StatusCode != 200 || !strings.Contains(body, `"prompt":"a"`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	for path, want := range map[string]int{"/tokenizer_info?model=other": 404, "/tokenizer_info?name=fake": 400} {
		if status, body := servertest.Request(t, hs, http.MethodGet, path); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

func TestTokenize(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	res, body := servertest.Post(t, hs, "/tokenize", `{"model":"fake","prompt":"ab<think>","return_token_strs":true}`)
	if res.StatusCode != 200 || !strings.Contains(body, `"tokens":[97,98,257]`) ||
		!strings.Contains(body, `"token_strs":["a","b","\u003cthink\u003e"]`) || !strings.Contains(body, `"count":3`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	_, body = servertest.Post(t, hs, "/v1/tokenize", `{"model":"fake","content":""}`)
	if !strings.Contains(body, `"tokens":[]`) {
		t.Error(body)
	}
	_, body = servertest.Post(t, hs, "/detokenize", `{"model":"fake","tokens":[97,98,257]}`)
	if !strings.Contains(body, `"prompt":"ab<think>"`) {
		t.Error(body)
	}
	res, body = servertest.Post(t, hs, "/detokenize", `{"model":"fake","tokens":[97,99999]}`)
	if res.StatusCode != 400 ||
		!strings.Contains(body, "tokens[1]") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

// TestSamplingReachesTheEngine sends every field that says how tokens are drawn, by all of its names.
func TestSamplingReachesTheEngine(t *testing.T) {
	hs, s := servertest.Start(t, enginetest.Options{}, server.Options{})
	r := servertest.Record(s)

	want := engine.DefaultSampling()
	want.Seed = 11
	want.IgnoreEOS = true
	want.DRYSequenceBreakers = []string{"x"}
	want.LogitBias = []engine.LogitBias{{Token: 97, Bias: 5}}
	fields := map[string]any{
		"model":                 "fake",
		"prompt":                "a",
		"max_tokens":            math.MaxInt32, // no fewer than min_tokens
		"seed":                  11,
		"ignore_eos":            true,
		"dry_sequence_breakers": []string{"x"},
		"logit_bias":            map[string]int{"97": 5},
	}
	for _, p := range engine.Parameters {
		value := p.Low + (p.High-p.Low)*0.75
		if p.Int != nil {
			value = p.High
		}
		if value == p.Default {
			t.Fatalf("%s: %v would show nothing", p.Name, value)
		}
		p.Set(&want, value)
		fields[p.Name] = value
	}

	sendFields(t, hs, fields)
	if !reflect.DeepEqual(r.Last.Sampling, want) {
		t.Errorf("got %+v\nwant %+v", r.Last.Sampling, want)
	}

	for _, p := range engine.Parameters {
		for _, alias := range p.Aliases {
			delete(fields, p.Name)
			fields[alias] = p.Low + 0.25
			sendFields(t, hs, fields)
			if got := p.Get(&r.Last.Sampling); float32(got) != float32(p.Low+0.25) {
				t.Errorf("%s: got %v", alias, got)
			}
		}
	}
}

func sendFields(t *testing.T, hs *httptest.Server, fields map[string]any) {
	t.Helper()
	body, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	if res, answer := servertest.Post(t, hs, "/v1/completions", string(body)); res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s", body, res.StatusCode, answer)
	}
}

// TestTemplateArguments sends what only the model's template reads.
func TestTemplateArguments(t *testing.T) {
	hs, s := servertest.Start(t, enginetest.Options{}, server.Options{})
	r := servertest.Record(s)
	servertest.Post(
		t,
		hs,
		"/v1/chat/completions",
		`{"model":"fake",`+servertest.Hello+`,"max_tokens":1,"chat_template_kwargs":{"x":[1]},"reasoning_effort":"low"}`,
	)
	if c := r.Chats[0]; string(c.TemplateArgs["x"]) != "[1]" || string(c.TemplateArgs["reasoning_effort"]) != `"low"` ||
		c.NoThinking {
		t.Errorf("got %+v", c)
	}
	servertest.Post(
		t, hs, "/v1/responses", `{"model":"fake","input":"a","max_output_tokens":1,"reasoning":{"effort":"none"}}`,
	)
	if c := r.Chats[1]; !c.NoThinking {
		t.Errorf("got %+v", c)
	}
}

// TestHarmlessFields sends what nobody could tell from the answer, and what would
// change it and cannot be.
func TestHarmlessFields(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	for _, tt := range []struct {
		path, fields string
		status       int
	}{
		{"/v1/chat/completions", servertest.Hello + `,"moderation":{"a":1},"prompt_cache_options":{"a":1},` +
			`"prompt_cache_retention":"24h"`, 200},
		{"/v1/chat/completions", servertest.Hello + `,"audio":{"voice":"x"}`, 400},
		{"/v1/completions", `"prompt":"a","grammar":"root ::= x"`, 400},
		{"/v1/responses", `"input":"a","include":["reasoning.encrypted_content"],"max_tool_calls":3,` +
			`"prompt_cache_retention":"24h"`, 200},
		{"/v1/responses", `"input":"a","context_management":{}`, 400},
		{"/v1/rerank", `"query":"q","documents":["a"],"max_chunks_per_doc":1`, 400},
		{"/v1/rerank", `"query":"q","documents":["a"],"max_tokens_per_doc":1`, 400},
		{"/v1/rerank", `"query":"q","documents":["a"],"rank_fields":["x"]`, 400},
		{"/tokenize", `"prompt":"a","add_special_tokens":false`, 200},
		{"/tokenize", `"content":"a","add_special":false`, 200},
	} {
		if res, body := servertest.Post(t, hs, tt.path, `{"model":"fake",`+tt.fields+`}`); res.StatusCode != tt.status {
			t.Errorf("%s %s: %d %s", tt.path, tt.fields, res.StatusCode, body)
		}
	}
}

// TestDimensions shortens the embeddings of a model that was made for it.
func TestDimensions(t *testing.T) {
	qwen := &pool.Model{ID: "Qwen3-Embedding-0.6B"}
	hs, s := servertest.Start(t, enginetest.Options{Embeds: true}, server.Options{Models: []*pool.Model{qwen}})
	qwen.Load = s.Model.Load
	res, body := servertest.Post(t, hs, "/v1/embeddings", `{"model":"Qwen3-Embedding-0.6B","input":"abc","dimensions":1}`)
	if res.StatusCode != 200 || !strings.Contains(body, `"embedding":[1]`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	for body, code := range map[string]string{
		`{"model":"Qwen3-Embedding-0.6B","input":"abc","dimensions":9}`: "invalid_value",
		`{"model":"fake","input":"abc","dimensions":2}`:                 "unsupported_parameter",
	} {
		res, answer := servertest.Post(t, hs, "/v1/embeddings", body)
		if res.StatusCode != 400 ||
			!strings.Contains(answer, code) {
			t.Errorf("%s: %d %s", body, res.StatusCode, answer)
		}
	}
}
