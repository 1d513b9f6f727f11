package openai

import "serve/engine"

// usage is OpenAI's count of tokens.
type usage struct {
	PromptTokens        int               `json:"prompt_tokens"`
	CompletionTokens    int               `json:"completion_tokens"`
	TotalTokens         int               `json:"total_tokens"`
	PromptTokensDetails promptDetails     `json:"prompt_tokens_details"`
	CompletionDetails   completionDetails `json:"completion_tokens_details"`
}

type promptDetails struct {
	CachedTokens int `json:"cached_tokens"`
	AudioTokens  int `json:"audio_tokens"`
}

type completionDetails struct {
	ReasoningTokens          int `json:"reasoning_tokens"`
	AudioTokens              int `json:"audio_tokens"`
	AcceptedPredictionTokens int `json:"accepted_prediction_tokens"`
	RejectedPredictionTokens int `json:"rejected_prediction_tokens"`
}

// add sums the usage of several prompts.
func (u *usage) add(e engine.Usage) {
	u.PromptTokens += e.Prompt
	u.CompletionTokens += e.Completion
	u.TotalTokens += e.Prompt + e.Completion
	u.PromptTokensDetails.CachedTokens += e.Cached
	u.CompletionDetails.AcceptedPredictionTokens += e.Agreed
	u.CompletionDetails.RejectedPredictionTokens += e.Disagreed
}
