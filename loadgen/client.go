// Package loadgen generates load for a server with OpenAI's API, and measures time to first token,
// time between tokens, and throughput.
package loadgen

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Client sends requests to one server.
type Client struct {
	URL  string // with or without /v1
	Key  string // sent with each request, unless empty
	HTTP *http.Client
}

// NewHTTP returns a client that opens one connection per request: a run simulates many clients,
// not one with many requests, and some servers drop idle connections.
func NewHTTP(transport http.RoundTripper) *http.Client {
	if t, ok := transport.(*http.Transport); ok {
		t = t.Clone()
		t.DisableKeepAlives = true
		t.DisableCompression = true
		transport = t
	}
	// A server that is measured answers itself; a redirect would carry the key elsewhere.
	last := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, CheckRedirect: last}
}

// Call is one request.
type Call struct {
	Model  string
	Prompt string
	Tokens int            // maximum tokens of the answer
	Chat   bool           // request a chat completion, not a completion
	Fields map[string]any // additional fields of the request
	Key    string         // instead of the client's
	// Event, unless nil, is called with the time of each event that has text.
	Event func(time.Time)
}

// Answer is the result of a call.
type Answer struct {
	First, Took              time.Duration   // since the call: the first text, the end
	Gaps                     []time.Duration // between two events that have text
	Prompt, Cached, Answered int             // tokens, as counted by the server; 0 if it does not report them
	CacheReported            bool            // whether it reports Cached
	Events                   int             // that had text
	Text                     string          // without reasoning and tool calls
	Tools                    bool            // whether it calls a tool
}

// PerToken returns the seconds per token after the first; 0 if there are fewer than two tokens.
func (a *Answer) PerToken() float64 {
	if a.Answered < 2 {
		return 0
	}
	var sum time.Duration
	for _, g := range a.Gaps {
		sum += g
	}
	return sum.Seconds() / float64(a.Answered-1)
}

// StatusError is a response with an error status.
type StatusError struct {
	Status int
	Text   string
}

func (r *StatusError) Error() string { return fmt.Sprintf("%d: %s", r.Status, r.Text) }

// maxLine bounds a line of a stream, maxRefusal the text of an error.
const (
	maxLine    = 16 << 20
	maxRefusal = 64 << 10
)

// Ask makes a call and reads the answer to its end. A stream that ends without [DONE] is an
// error.
func (c *Client) Ask(ctx context.Context, q Call) (a Answer, err error) {
	begin := time.Now()
	path, body := q.request()
	res, err := c.send(ctx, http.MethodPost, path, body, q.Key)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()

	var last time.Time
	var written strings.Builder
	done := false
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if data = bytes.TrimSpace(data); !ok || len(data) == 0 {
			continue
		}
		if done = string(data) == "[DONE]"; done {
			break
		}
		now := time.Now()
		text, err := a.read(data, &written)
		if err != nil {
			return a, err
		}
		if !text {
			continue
		}
		if a.Events++; a.Events == 1 {
			a.First = now.Sub(begin)
		} else {
			a.Gaps = append(a.Gaps, now.Sub(last))
		}
		if last = now; q.Event != nil {
			q.Event(now)
		}
	}

	a.Took = time.Since(begin)
	a.Text = written.String()
	if err := lines.Err(); err != nil {
		return a, err
	}
	if !done {
		return a, errors.New("the stream ended without [DONE]")
	}

	return a, nil
}

// request returns the endpoint and the body of a call.
func (q *Call) request() (path string, body map[string]any) {
	path = "/completions"
	body = map[string]any{
		"model":          q.Model,
		"max_tokens":     q.Tokens,
		"stream":         true,
		"stream_options": map[string]bool{"include_usage": true},
	}
	if q.Chat {
		path = "/chat/completions"
		body["messages"] = []map[string]string{{"role": "user", "content": q.Prompt}}
	} else {
		body["prompt"] = q.Prompt
	}

	for name, value := range q.Fields {
		body[name] = value
	}
	return path, body
}

// chunk is the part of an event that is used.
type chunk struct {
	Choices []struct {
		Text  string `json:"text"`
		Delta struct {
			Content   string          `json:"content"`
			Reasoning string          `json:"reasoning_content"`
			ToolCalls json.RawMessage `json:"tool_calls"`
		} `json:"delta"`
	} `json:"choices"`
	Usage *struct {
		Prompt   int `json:"prompt_tokens"`
		Answered int `json:"completion_tokens"`
		Details  struct {
			Cached *int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	} `json:"usage"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// read processes one event, appends its text, and reports whether it has text, reasoning or tool calls.
func (a *Answer) read(data []byte, written *strings.Builder) (text bool, err error) {
	var c chunk
	if err := json.Unmarshal(data, &c); err != nil {
		return false, fmt.Errorf("an event is not JSON: %w", err)
	}
	if c.Error != nil {
		return false, fmt.Errorf("the answer was cut off: %s", c.Error.Message)
	}
	if u := c.Usage; u != nil {
		a.Prompt = u.Prompt
		a.Answered = u.Answered
		if cached := u.Details.Cached; cached != nil {
			a.Cached = *cached
			a.CacheReported = true
		}
	}
	for _, choice := range c.Choices {
		d := choice.Delta
		written.WriteString(choice.Text)
		written.WriteString(d.Content)
		a.Tools = a.Tools || called(d.ToolCalls)
		text = text || choice.Text+d.Content+d.Reasoning != "" || called(d.ToolCalls)
	}
	return text, nil
}

// called reports whether a delta's tool_calls has any.
func called(calls json.RawMessage) bool {
	return len(calls) > 0 && string(calls) != "null" && string(calls) != "[]"
}

// Models lists the names of the server's models.
func (c *Client) Models(ctx context.Context) ([]string, error) {
	res, err := c.send(ctx, http.MethodGet, "/models", nil, "")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var list struct{ Data []struct{ ID string } }
	if err := json.NewDecoder(io.LimitReader(res.Body, maxLine)).Decode(&list); err != nil {
		return nil, fmt.Errorf("list models: %w", err)
	}
	var names []string
	for _, m := range list.Data {
		names = append(names, m.ID)
	}
	return names, nil
}

// root returns the server's URL without /v1.
func (c *Client) root() string {
	return strings.TrimSuffix(strings.TrimSuffix(c.URL, "/"), "/v1")
}

// send sends a request; a status other than 200 is a Refusal.
func (c *Client) send(ctx context.Context, method, path string, body any, key string) (*http.Response, error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(b)
	}

	req, err := http.NewRequestWithContext(ctx, method, c.root()+"/v1"+path, in)
	if err != nil {
		return nil, err
	}

	req.Header.Set("Content-Type", "application/json")
	if key == "" {
		key = c.Key
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}

	res, err := c.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, maxRefusal))
	r := &StatusError{res.StatusCode, strings.TrimSpace(string(text))}
	var said struct{ Error struct{ Message string } }
	if json.Unmarshal(text, &said) == nil && said.Error.Message != "" {
		r.Text = said.Error.Message
	}

	return nil, r
}
