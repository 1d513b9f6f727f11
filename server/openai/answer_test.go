package openai

import (
	"testing"

	"serve/engine"
)

// TestProbability compares answers of several lengths.
func TestProbability(t *testing.T) {
	answer := func(logprobs ...float32) *collected {
		var c collected
		for _, p := range logprobs {
			c.tokens = append(c.tokens, engine.TokenInfo{TokenLogProb: engine.TokenLogProb{LogProb: p}})
		}
		return &c
	}
	high := answer(-1)
	low := answer(-0.5, -2)
	if high.probability() <= low.probability() {
		t.Error("the less probable is better")
	}
}
