package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
)

// TestPromptScores asks for the log-probabilities of prompts' tokens, many prompts at
// once. Each must be what the token has that a bias makes the model write there, after
// the tokens before it.
func TestPromptScores(t *testing.T) {
	r := startServe(t, modelFile(t), "--ctx-size", "512", "--parallel", "4")
	probabilities := func(fields string) []*float64 {
		status, text := r.post(t, "/v1/completions", `{"model":"tiny","logprobs":0,"temperature":0,`+fields+`}`)
		var reply struct {
			Choices []struct {
				LogProbs struct {
					Probs []*float64 `json:"token_logprobs"`
				}
			}
		}
		if err := json.Unmarshal([]byte(text), &reply); err != nil || status != 200 || len(reply.Choices) != 1 {
			t.Error(err, text)
			return nil
		}
		return reply.Choices[0].LogProbs.Probs
	}

	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			var split struct{ Tokens []int }
			_, text := r.post(
				t,
				"/tokenize",
				fmt.Sprintf(`{"model":"tiny","prompt":"%s %d"}`, strings.Repeat("the man and the canary ", 2*i+1), i),
			)
			if err := json.Unmarshal([]byte(text), &split); err != nil {
				t.Error(err)
				return
			}
			array := func(tokens []int) string { return strings.ReplaceAll(fmt.Sprint(tokens), " ", ",") }
			scores := probabilities(`"max_tokens":0,"echo":true,"prompt":` + array(split.Tokens))
			if len(scores) != len(split.Tokens) || scores[0] != nil {
				t.Errorf("%d scores for %d tokens", len(scores), len(split.Tokens))
				return
			}
			for k := 1; k < len(scores); k += 1 + len(scores)/8 {
				written := probabilities(
					fmt.Sprintf(`"max_tokens":1,"logit_bias":{"%d":100},"prompt":%s`, split.Tokens[k], array(split.Tokens[:k])),
				)
				if len(written) == 1 && math.Abs(*written[0]-*scores[k]) > 0.02 {
					t.Errorf("prompt %d: token %d is scored %f and written with %f", i, k, *scores[k], *written[0])
				}
			}
		})
	}

	wg.Wait()
}
