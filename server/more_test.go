package server

import (
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
)

// TestCompletionEcho sends the prompt back before each answer.
func TestCompletionEcho(t *testing.T) {
	hs, _ := start(t, enginetest.Options{Next: sayLast("ok")}, Options{})
	res, body := post(t, hs, "/v1/completions", `{"model":"fake","prompt":["a\n",[98,10]],"echo":true,"n":2}`)
	if res.StatusCode != 200 || strings.Count(body, `"text":"a\nok"`) != 2 || strings.Count(body, `"text":"b\nok"`) != 2 {
		t.Error(body)
	}
	_, body = post(t, hs, "/v1/completions", `{"model":"fake","prompt":"a\n","echo":true,"stream":true}`)
	if !strings.Contains(body, `"text":"a\n"`) {
		t.Error(body)
	}
}

// TestCompletionSuffix fills in the middle with the marks that the model has.
func TestCompletionSuffix(t *testing.T) {
	var prompt string
	hs, _ := start(t, enginetest.Options{Next: func(tokens []engine.Token) engine.Token {
		prompt = ""
		for _, token := range tokens {
			prompt += string(token)
		}
		return enginetest.EOS
	}}, Options{})
	res, body := post(t, hs, "/v1/completions", `{"model":"fake","prompt":"before","suffix":"after"}`)
	if res.StatusCode != 200 || prompt != "<before|after>" {
		t.Errorf("%q: %s", prompt, body)
	}
}

// TestBestOf makes more answers than it sends, and sends the most probable.
func TestBestOf(t *testing.T) {
	hs, _ := start(t, enginetest.Options{}, Options{})
	res, body := post(t, hs, "/v1/completions", `{"model":"fake","prompt":"a","best_of":4,"n":2,"max_tokens":5}`)
	if res.StatusCode != 200 || strings.Count(body, `"index":`) != 2 || !strings.Contains(body, `"completion_tokens":20`) || !strings.Contains(body, `"logprobs":null`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	high := collected{tokens: []engine.TokenInfo{{TokenLogProb: engine.TokenLogProb{LogProb: -1}}}}
	low := collected{tokens: []engine.TokenInfo{{TokenLogProb: engine.TokenLogProb{LogProb: -0.5}}, {TokenLogProb: engine.TokenLogProb{LogProb: -2}}}}
	if high.probability() <= low.probability() {
		t.Error("the less probable is better")
	}
	for fields, param := range map[string]string{
		`"best_of":1,"n":2`: "best_of", `"best_of":3,"stream":true`: "best_of", `"echo":true,"logprobs":1`: "echo", `"echo":true,"suffix":"x"`: "echo",
	} {
		if res, body := post(t, hs, "/v1/completions", `{"model":"fake","prompt":"a",`+fields+`}`); res.StatusCode != 400 || !strings.Contains(body, `"param":"`+param+`"`) {
			t.Errorf("%s: %d %s", fields, res.StatusCode, body)
		}
	}
}

func TestRerank(t *testing.T) {
	hs, _ := start(t, enginetest.Options{Embeds: true, Ranks: true}, Options{})
	// The fake's score is the number of tokens.
	res, body := post(t, hs, "/v1/rerank", `{"model":"fake","query":"q","documents":["a",{"text":"abc"},"ab"],"top_n":2,"return_documents":true}`)
	if res.StatusCode != 200 || !strings.Contains(body, `"results":[{"index":1,`) || !strings.Contains(body, `"document":{"text":"abc"}},{"index":2,`) || strings.Count(body, `"index"`) != 2 || !strings.Contains(body, `"total_tokens":9`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	for fields, code := range map[string]int{`"documents":[]`: 400, `"documents":[3]`: 400, `"documents":[{"title":"x"}]`: 400, `"documents":["a"],"max_chunks_per_doc":3`: 400, `"documents":["a"],"top_n":0`: 400} {
		if res, body := post(t, hs, "/v1/rerank", `{"model":"fake","query":"q",`+fields+`}`); res.StatusCode != code {
			t.Errorf("%s: %d %s", fields, res.StatusCode, body)
		}
	}
	plain, _ := start(t, enginetest.Options{}, Options{})
	if res, body := post(t, plain, "/v1/rerank", `{"model":"fake","query":"q","documents":["a"]}`); res.StatusCode != 400 || !strings.Contains(body, "unsupported_model") {
		t.Errorf("a model that does not rank: %d %s", res.StatusCode, body)
	}
}

func TestTokenize(t *testing.T) {
	hs, _ := start(t, enginetest.Options{}, Options{})
	res, body := post(t, hs, "/tokenize", `{"model":"fake","prompt":"ab<think>","return_token_strs":true}`)
	if res.StatusCode != 200 || !strings.Contains(body, `"tokens":[97,98,257]`) || !strings.Contains(body, `"token_strs":["a","b","\u003cthink\u003e"]`) || !strings.Contains(body, `"count":3`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if _, body = post(t, hs, "/v1/tokenize", `{"model":"fake","content":""}`); !strings.Contains(body, `"tokens":[]`) {
		t.Error(body)
	}
	if _, body = post(t, hs, "/detokenize", `{"model":"fake","tokens":[97,98,257]}`); !strings.Contains(body, `"prompt":"ab\u003cthink\u003e"`) {
		t.Error(body)
	}
	if res, body := post(t, hs, "/detokenize", `{"model":"fake","tokens":[97,99999]}`); res.StatusCode != 400 || !strings.Contains(body, "tokens[1]") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}
