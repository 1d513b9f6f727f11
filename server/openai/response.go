package openai

import "encoding/json"

// response is the response object, with every field that OpenAI's schema requires.
type response struct {
	ID                 string          `json:"id"`
	Object             string          `json:"object"`
	CreatedAt          int64           `json:"created_at"`
	CompletedAt        *int64          `json:"completed_at"`
	Status             string          `json:"status"`
	Background         bool            `json:"background"`
	Error              *responseError  `json:"error"`
	IncompleteDetails  *incomplete     `json:"incomplete_details"`
	FrequencyPenalty   float64         `json:"frequency_penalty"`
	Instructions       *string         `json:"instructions"`
	MaxOutputTokens    *int            `json:"max_output_tokens"`
	MaxToolCalls       *int            `json:"max_tool_calls"`
	Model              string          `json:"model"`
	Output             []*item         `json:"output"`
	ParallelToolCalls  bool            `json:"parallel_tool_calls"`
	PresencePenalty    float64         `json:"presence_penalty"`
	PreviousResponseID *string         `json:"previous_response_id"`
	PromptCacheKey     *string         `json:"prompt_cache_key"`
	Reasoning          map[string]any  `json:"reasoning"`
	SafetyIdentifier   *string         `json:"safety_identifier"`
	ServiceTier        string          `json:"service_tier"`
	Store              bool            `json:"store"`
	Temperature        float64         `json:"temperature"`
	Text               map[string]any  `json:"text"`
	ToolChoice         json.RawMessage `json:"tool_choice"`
	Tools              json.RawMessage `json:"tools"`
	TopLogprobs        int             `json:"top_logprobs"`
	TopP               float64         `json:"top_p"`
	Truncation         string          `json:"truncation"`
	Usage              *responseUsage  `json:"usage"`
	User               *string         `json:"user"`
	Metadata           json.RawMessage `json:"metadata"`

	Conversation *conversationRef `json:"conversation,omitempty"`
}

// The statuses of responses.
const (
	statusRunning    = "in_progress"
	statusCompleted  = "completed"
	statusIncomplete = "incomplete" // cut at the limit of tokens
	statusFailed     = "failed"
	statusCancelled  = "cancelled"
)

// complete reports whether a response has been answered to its end, or up to a limit.
func (r *response) complete() bool {
	return r.Status == statusCompleted || r.Status == statusIncomplete
}

// conversationRef names the conversation that a response belongs to.
type conversationRef struct {
	ID string `json:"id"`
}

type responseError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type incomplete struct {
	Reason string `json:"reason"`
}

type responseUsage struct {
	InputTokens        int           `json:"input_tokens"`
	InputDetails       inputDetails  `json:"input_tokens_details"`
	OutputTokens       int           `json:"output_tokens"`
	OutputTokenDetails outputDetails `json:"output_tokens_details"`
	TotalTokens        int           `json:"total_tokens"`
}

type inputDetails struct {
	CachedTokens     int `json:"cached_tokens"`
	CacheWriteTokens int `json:"cache_write_tokens"`
}

type outputDetails struct {
	ReasoningTokens int `json:"reasoning_tokens"`
}

// item is an item of the output. Its fields depend on its type.
type item struct {
	Type      string       `json:"type"`
	ID        string       `json:"id"`
	Status    string       `json:"status,omitempty"`
	Role      string       `json:"role,omitempty"`
	Content   *[]*itemPart `json:"content,omitempty"`
	Summary   *[]string    `json:"summary,omitempty"`
	Encrypted string       `json:"encrypted_content,omitempty"`
	CallID    string       `json:"call_id,omitempty"`
	Namespace string       `json:"namespace,omitempty"`
	Name      string       `json:"name,omitempty"`
	Execution string       `json:"execution,omitempty"`
	Arguments any          `json:"arguments,omitempty"` // JSON in a string; of a search an object
	Input     *string      `json:"input,omitempty"`
}

// itemPart is a text part of a message or of reasoning. The latter has no annotations.
type itemPart struct {
	Type        string          `json:"type"`
	Text        string          `json:"text"`
	Annotations *[]int          `json:"annotations,omitempty"`
	LogProbs    json.RawMessage `json:"logprobs,omitempty"`
}
