package chatclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// Client sends requests to a server.
type Client struct {
	api openai.Client
}

// NewClient returns a client for the server at a URL, with or without /v1, and with a key
// if it needs one.
func NewClient(url, key string, transport http.RoundTripper) *Client {
	base := strings.TrimSuffix(strings.TrimSuffix(url, "/"), "/v1") + "/v1/"
	if key == "" {
		key = "none" // OpenAI's client requires one
	}
	// A redirect would carry the key and the conversation elsewhere.
	last := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{openai.NewClient(
		option.WithBaseURL(base), option.WithAPIKey(key),
		option.WithHTTPClient(&http.Client{Transport: transport, CheckRedirect: last}),
		option.WithMaxRetries(0), // report errors to the user at once
	)}
}

// Models lists the names of the server's models.
func (c *Client) Models(ctx context.Context) ([]string, error) {
	page, err := c.api.Models.List(ctx)
	if err != nil {
		return nil, explain(err)
	}
	var names []string
	for _, m := range page.Data {
		names = append(names, m.ID)
	}
	return names, nil
}

// Delta is a new part of an answer.
type Delta struct{ Text, Thought string }

// Answer is a complete or interrupted answer.
type Answer struct {
	Message
	Finish                   string // why it ended; "" if it was interrupted
	Prompt, Cached, Answered int    // tokens; 0 if the server did not report them
	First, Took              time.Duration
}

// Rate returns the tokens per second after the first.
func (a *Answer) Rate() float64 {
	if a.Answered < 2 || a.Took <= a.First {
		return 0
	}
	return float64(a.Answered-1) / (a.Took - a.First).Seconds()
}

// Ask requests an answer and calls show with each part of it. If ctx ends, the answer so far
// is returned with ctx's error.
func (c *Client) Ask(ctx context.Context, conversation *Conversation, show func(Delta)) (*Answer, error) {
	options := []option.RequestOption{
		option.WithJSONSet("messages", conversation.Messages),
		option.WithJSONSet("stream_options", map[string]bool{"include_usage": true}),
	}
	for name, value := range conversation.Params {
		options = append(options, option.WithJSONSet(name, value))
	}

	begin := time.Now()
	a := &Answer{Message: Message{Role: "assistant"}}
	stream := c.api.Chat.Completions.NewStreaming(
		ctx,
		openai.ChatCompletionNewParams{Model: conversation.Model},
		options...)
	defer stream.Close()
	for stream.Next() {
		chunk := stream.Current()
		if u := chunk.Usage; u.CompletionTokens > 0 {
			a.Prompt = int(u.PromptTokens)
			a.Answered = int(u.CompletionTokens)
			a.Cached = int(u.PromptTokensDetails.CachedTokens)
		}
		if len(chunk.Choices) == 0 || chunk.Choices[0].Index != 0 {
			continue
		}
		choice := chunk.Choices[0]
		d := Delta{Text: choice.Delta.Content, Thought: thought(choice.Delta.JSON.ExtraFields["reasoning_content"].Raw())}
		if d != (Delta{}) {
			if a.First == 0 {
				a.First = time.Since(begin)
			}
			a.Text = a.Text + d.Text
			a.Thought = a.Thought + d.Thought
			show(d)
		}
		if choice.FinishReason != "" {
			a.Finish = choice.FinishReason
		}
	}

	a.Took = time.Since(begin)
	if ctx.Err() != nil {
		return a, ctx.Err()
	}

	return a, explain(stream.Err())
}

func thought(raw string) (text string) {
	if raw == "" || json.Unmarshal([]byte(raw), &text) != nil {
		return ""
	}
	return text
}

// ErrKey means that a server wants an API key, or one that may do more.
var ErrKey = errors.New("the server wants another API key")

// refusal is what a server has said.
type refusal struct {
	text string
	kind error // nil, or ErrKey
}

// Error implements error.
func (r *refusal) Error() string { return "the server refused: " + r.text }

// Unwrap returns what kind of refusal it is.
func (r *refusal) Unwrap() error { return r.kind }

// explain turns an error into one of a single line.
func explain(err error) error {
	var said *openai.Error
	if !errors.As(err, &said) {
		return err
	}
	r := &refusal{text: strings.TrimSuffix(said.Message, ".")}
	if said.StatusCode == http.StatusUnauthorized || said.StatusCode == http.StatusForbidden {
		r.kind = ErrKey
	}
	if r.text == "" {
		r.text = fmt.Sprintf("%d %s", said.StatusCode, http.StatusText(said.StatusCode))
	}
	return r
}
