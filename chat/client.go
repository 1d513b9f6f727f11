package chat

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

// Client asks a server.
type Client struct {
	api openai.Client
}

// NewClient returns a client of a server: its address with or without /v1, and the key
// that it wants, if any.
func NewClient(url, key string, transport http.RoundTripper) *Client {
	base := strings.TrimSuffix(strings.TrimSuffix(url, "/"), "/v1") + "/v1/"
	if key == "" {
		key = "none" // OpenAI's client wants one
	}
	return &Client{openai.NewClient(
		option.WithBaseURL(base), option.WithAPIKey(key), option.WithHTTPClient(&http.Client{Transport: transport}),
		option.WithMaxRetries(0), // who asked is told at once
	)}
}

// Models lists the names of the models there.
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

// Delta is what came anew of an answer.
type Delta struct{ Text, Thought string }

// Answer is one that has ended, perhaps early: then it is as long as it was.
type Answer struct {
	Message
	Finish                   string // why: "" if it was stopped
	Prompt, Cached, Answered int    // tokens; 0 if the server did not say
	First, Took              time.Duration
}

// Rate is the tokens a second after the first.
func (a *Answer) Rate() float64 {
	if a.Answered < 2 || a.Took <= a.First {
		return 0
	}
	return float64(a.Answered-1) / (a.Took - a.First).Seconds()
}

// Ask has the model answer and calls show with each part of the answer. When ctx ends,
// what has come until then is returned with ctx's error.
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

// explain makes one line of an error.
func explain(err error) error {
	var said *openai.Error
	if errors.As(err, &said) && said.Message != "" {
		return fmt.Errorf("the server refused: %s", strings.TrimSuffix(said.Message, "."))
	}
	return err
}
