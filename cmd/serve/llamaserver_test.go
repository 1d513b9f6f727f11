package main

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"serve/models/testmodel"
)

// llamaAnswer is what the cases read of an answer of any of the endpoints.
type llamaAnswer struct {
	Tokens  []int
	Content string
	Choices []struct {
		Text    string
		Message struct{ Content string }
		Finish  string `json:"finish_reason"`
		Scores  struct {
			Content []struct {
				Token   string
				LogProb float64
				Top     []any `json:"top_logprobs"`
			}
		} `json:"logprobs"`
	}
	Data []struct{ Embedding []float64 }
}

// ask sends a request about the model, and returns its answer.
func (r *running) ask(t *testing.T, model, path, fields string) (a llamaAnswer) {
	t.Helper()
	status, body := r.post(t, path, `{"model":"`+model+`",`+fields+`}`)
	if err := json.Unmarshal([]byte(body), &a); err != nil || status != 200 {
		t.Fatalf("%s %s: %d %s", path, fields, status, body)
	}
	return a
}

// TestLlamaServerEngine runs those cases of llama.cpp's tests of its server that are about the engine: what a
// model writes, and not how the server answers. TestLlamaServer in server/openai has the others.
func TestLlamaServerEngine(t *testing.T) {
	r := startServe(t, modelFile(t), "--parallel", "2")
	const belief = `"prompt":"I believe the meaning of life is","cache_prompt":false`
	const meaning = belief + `,"max_tokens":32`
	const book = `"messages":[{"role":"system","content":"Book"},{"role":"user","content":"What is the best book"}]`
	write := func(fields string) string { return r.ask(t, "tiny", "/v1/completions", fields).Choices[0].Text }

	t.Run("test_consistent_result_same_seed", func(t *testing.T) {
		first := write(meaning + `,"seed":42`)
		for range 3 {
			if again := write(meaning + `,"seed":42`); again != first {
				t.Errorf("%q, and then %q", first, again)
			}
		}
	})

	t.Run("test_different_result_different_seed", func(t *testing.T) {
		seen := map[string]bool{}
		for seed := range 4 {
			seen[write(fmt.Sprintf(`%s,"temperature":1,"seed":%d`, meaning, seed))] = true
		}
		if len(seen) != 4 {
			t.Errorf("4 seeds make %d answers", len(seen))
		}
	})

	t.Run("test_completion_with_tokens_input", func(t *testing.T) {
		tokens := r.ask(t, "tiny", "/tokenize", `"content":"I believe","add_special":true`).Tokens
		list := strings.ReplaceAll(fmt.Sprint(tokens), " ", ",")
		a := r.ask(t, "tiny", "/v1/completions", `"temperature":0,"prompt":[`+list+`,"I believe"]`)
		if len(a.Choices) != 2 || a.Choices[0].Text != a.Choices[1].Text {
			t.Errorf("%+v", a.Choices)
		}
	})

	t.Run("test_tokenize_detokenize", func(t *testing.T) {
		const text = "What is the capital of France ?"
		tokens := r.ask(t, "tiny", "/tokenize", fmt.Sprintf(`"content":%q`, text)).Tokens
		list := strings.ReplaceAll(fmt.Sprint(tokens), " ", ",")
		if got := r.ask(t, "tiny", "/detokenize", `"tokens":`+list).Content; strings.TrimSpace(got) != text {
			t.Errorf("%q", got)
		}
	})

	for format, want := range map[string]string{
		`{"type":"json_object","schema":{"const":"42"}}`:                                      `"42"`,
		`{"type":"json_schema","json_schema":{"name":"a","schema":{"const":"foooooo"}}}`:      `"foooooo"`,
		`{"type":"json_schema","json_schema":{"name":"a","schema":{"enum":[[1,2],[1,2,3]]}}}`: `[`,
	} {
		t.Run("test_completion_with_response_format/"+want, func(t *testing.T) {
			a := r.ask(t, "tiny", "/v1/chat/completions", book+`,"response_format":`+format)
			if got := a.Choices[0].Message.Content; !strings.HasPrefix(got, want) {
				t.Errorf("%q", got)
			}
		})
	}

	t.Run("test_logprobs", func(t *testing.T) {
		const fields = `"temperature":0,"max_tokens":5,"logprobs":true,"top_logprobs":10,`
		a := r.ask(t, "tiny", "/v1/chat/completions", fields+book)
		var text strings.Builder
		for _, token := range a.Choices[0].Scores.Content {
			text.WriteString(token.Token)
			if token.LogProb > 0 || len(token.Top) != 10 {
				t.Errorf("%+v", token)
			}
		}
		if got := a.Choices[0].Message.Content; got == "" || got != text.String() {
			t.Errorf("the text is %q, and that of the tokens %q", got, &text)
		}
	})

	t.Run("test_logit_bias", func(t *testing.T) {
		token := r.ask(t, "tiny", "/tokenize", `"content":"What"`).Tokens[0]
		want := r.ask(t, "tiny", "/detokenize", fmt.Sprintf(`"tokens":[%d]`, token)).Content
		got := write(fmt.Sprintf(`%s,"temperature":0,"max_tokens":1,"logit_bias":{"%d":100}`, belief, token))
		if strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("the answer is %q, and the bias is for %q", got, want)
		}
	})

	t.Run("test_ignore_eos", func(t *testing.T) {
		a := r.ask(t, "tiny", "/v1/completions", meaning+`,"ignore_eos":true`)
		if a.Choices[0].Finish != "length" {
			t.Errorf("%+v", a)
		}
	})
}

// TestLlamaServerEmbeddings runs the cases about embeddings.
func TestLlamaServerEmbeddings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "embedder.gguf")
	if err := testmodel.Write(path, testmodel.Options{Architecture: "qwen3", Pooling: 1}); err != nil {
		t.Fatal(err)
	}
	r := startServe(t, path)

	a := r.ask(t, "embedder", "/v1/embeddings", `"input":["I believe","I believe","I believe"]`)
	if len(a.Data) != 3 {
		t.Fatalf("%+v", a)
	}
	for _, d := range a.Data {
		var length float64
		for i, x := range d.Embedding {
			length += x * x
			if math.Abs(x-a.Data[0].Embedding[i]) > 1e-3 {
				t.Errorf("the same text has other embeddings: %v and %v", d.Embedding, a.Data[0].Embedding)
				break
			}
		}
		if math.Abs(length-1) > 1e-3 {
			t.Errorf("an embedding has the length %f", length)
		}
	}
}
