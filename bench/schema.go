package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// kinds are what a model is asked for: free text, and answers by a schema. The
// limits are there to be reached: each answer is cut by its number of tokens.
var kinds = []struct {
	name   string
	schema string
}{
	{"free text", ""},
	{"a long string", `{"type":"object","properties":{"text":{"type":"string"}},"required":["text"],"additionalProperties":false}`},
	{"records", `{"type":"object","properties":{"rows":{"type":"array","minItems":200,"maxItems":400,"items":{"type":"object",
		"properties":{"name":{"type":"string","maxLength":12},"age":{"type":"integer"},"score":{"type":"number"},"active":{"type":"boolean"}},
		"required":["name","age","score","active"],"additionalProperties":false}}},"required":["rows"],"additionalProperties":false}`},
}

// schemas measures the time per token under a schema, over that of free text on the
// same server: one client, runs answers of each kind in turns. A server that refuses
// or fails says so in place of a figure.
func (o *options) schemas(model string) error {
	fmt.Printf("time per token of one client, median of %d runs, and its ratio to free text of the same server\n", o.runs)
	servers := []*process{o.startServe(model, 1), o.startTunedPeer(model, 1)}
	defer stopAll(servers)
	if err := firstError(servers); err != nil {
		return err
	}
	times := make([][][]float64, len(servers))
	errs := make([][]error, len(servers))
	for i := range servers {
		times[i], errs[i] = make([][]float64, len(kinds)), make([]error, len(kinds))
	}
	for run := range o.runs + 1 {
		for turn := range servers {
			i := (turn + run) % len(servers)
			for k := range kinds {
				perToken, err := answer(servers[i], kinds[k].schema, o.tokens, run)
				if err != nil {
					errs[i][k] = err
				} else if run > 0 { // the first run warms up
					times[i][k] = append(times[i][k], perToken)
				}
			}
		}
	}
	for i, p := range servers {
		free := median(times[i][0])
		for k, kind := range kinds {
			if err := errs[i][k]; err != nil {
				fmt.Printf("  %-20s %-14s %v\n", p.name, kind.name, err)
				continue
			}
			perToken := median(times[i][k])
			fmt.Printf("  %-20s %-14s %6.2f ms  %.2f x\n", p.name, kind.name, 1000*perToken, perToken/free)
		}
	}
	return nil
}

// answer streams one answer of a chat and returns the seconds per token after the
// first: a schema is told to the model, so its prompt is longer than that of free text.
func answer(p *process, schema string, tokens, seed int) (float64, error) {
	request := map[string]any{
		"model": p.model(), "max_tokens": tokens, "temperature": 1, "seed": seed,
		"messages": []map[string]string{{"role": "user", "content": "Tell me about the people you know."}},
		"stream":   true, "stream_options": map[string]bool{"include_usage": true},
	}
	if schema == "" {
		request["ignore_eos"] = true
	} else {
		request["response_format"] = map[string]any{
			"type": "json_schema", "json_schema": map[string]any{"name": "answer", "schema": json.RawMessage(schema)},
		}
	}
	body, err := json.Marshal(request)
	if err != nil {
		return 0, err
	}
	res, err := client.Post(p.url+"/v1/chat/completions", "application/json", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		return 0, fmt.Errorf("%s: %.120s", res.Status, text)
	}
	var chunk struct {
		Choices []struct {
			Delta struct {
				Content string `json:"content"`
			} `json:"delta"`
		} `json:"choices"`
		Usage *struct {
			CompletionTokens int `json:"completion_tokens"`
		} `json:"usage"`
		Error any `json:"error"`
	}
	var first, last time.Time
	written := 0
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: {"))
		if !ok {
			continue
		}
		chunk.Choices, chunk.Usage = nil, nil
		if err := json.Unmarshal(append([]byte("{"), data...), &chunk); err != nil {
			return 0, err
		}
		if chunk.Error != nil {
			return 0, fmt.Errorf("within the answer: %v", chunk.Error)
		}
		if len(chunk.Choices) > 0 && chunk.Choices[0].Delta.Content != "" {
			last = time.Now()
			if first.IsZero() {
				first = last
			}
		}
		if chunk.Usage != nil {
			written = chunk.Usage.CompletionTokens
		}
	}
	if written < 2 {
		return 0, fmt.Errorf("%d tokens came", written)
	}
	return last.Sub(first).Seconds() / float64(written-1), nil
}
