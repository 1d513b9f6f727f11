package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"serve/audit"
	"serve/egress"
)

// seedHeader is the request's header with the seed to draw with.
const seedHeader = "X-Serve-Seed"

// Asker asks a server.
type Asker struct {
	URL       *url.URL
	Key       string // "" for none
	Transport http.RoundTripper
}

// do sends a request, and returns the answer.
func (c *Asker) do(ctx context.Context, method, path string, header http.Header, body []byte) (*Response, error) {
	at, err := url.ParseRequestURI(path)
	if err != nil {
		return nil, fmt.Errorf("the path of the request: %w", err)
	}
	at.Scheme = c.URL.Scheme
	at.Host = c.URL.Host
	r, err := http.NewRequestWithContext(ctx, method, at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	if c.Key != "" {
		r.Header.Set("Authorization", "Bearer "+c.Key)
	}

	client := &http.Client{Transport: c.Transport, CheckRedirect: egress.NoRedirect}
	res, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return readResponse(res)
}

// ask asks what a transcript has asked, with the seed of its record.
func (c *Asker) ask(ctx context.Context, t *Transcript, record *audit.Record) (*Response, error) {
	header := t.Header.Clone()
	header.Del("Content-Length")
	if seed, ok := seedOf(record); ok {
		header.Set(seedHeader, seed)
	}
	answer, err := c.do(ctx, t.Method, t.Path, header, t.Body)
	if err != nil {
		return nil, err
	}
	return c.await(ctx, answer)
}

// pollEvery is how long to wait before a response in the background is asked for again.
const pollEvery = 200 * time.Millisecond

// await returns the end of a response that is made in the background.
func (c *Asker) await(ctx context.Context, answer *Response) (*Response, error) {
	for {
		var r struct{ ID, Object, Status string }
		err := json.Unmarshal(answer.Body, &r)
		if err != nil || r.Object != "response" || r.Status != "queued" && r.Status != "in_progress" {
			return answer, nil
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if answer, err = c.do(ctx, http.MethodGet, "/v1/responses/"+url.PathEscape(r.ID), nil, nil); err != nil {
			return nil, err
		}
	}
}

// seedOf returns the seed that the answers of a request were drawn with, if all had the same.
func seedOf(r *audit.Record) (seed string, ok bool) {
	for i := range r.Work {
		var p struct{ Seed json.Number }
		if json.Unmarshal(r.Work[i].Parameters, &p) != nil || p.Seed == "" || ok && p.Seed.String() != seed {
			return "", false
		}
		seed = p.Seed.String()
		ok = true
	}
	return seed, ok
}

// sums returns the hashes of the server's models, by name. It returns none if it may not list them.
func (c *Asker) sums(ctx context.Context) (map[string]string, error) {
	answer, err := c.do(ctx, http.MethodGet, "/api/tags", nil, nil)
	if err != nil {
		return nil, err
	}
	var tags struct {
		Models []struct{ Name, Digest string }
	}
	if answer.Status != http.StatusOK || json.Unmarshal(answer.Body, &tags) != nil {
		return nil, nil
	}
	sums := map[string]string{}
	for _, m := range tags.Models {
		sums[strings.TrimSuffix(m.Name, ":latest")] = m.Digest
	}
	return sums, nil
}

// locate finds the token with which a difference begins, by the server's tokenizer.
func (c *Asker) locate(ctx context.Context, model string, d *Difference) {
	if d.Token >= 0 || !strings.HasSuffix(d.Part, "text") {
		return
	}
	body, err := json.Marshal(map[string]any{"model": model, "content": string(d.common)})
	if err != nil {
		return
	}
	answer, err := c.do(ctx, http.MethodPost, "/tokenize", http.Header{"Content-Type": {"application/json"}}, body)
	var counted struct{ Tokens []json.RawMessage }
	if err == nil && answer.Status == http.StatusOK && json.Unmarshal(answer.Body, &counted) == nil {
		d.Token = len(counted.Tokens)
	}
}
