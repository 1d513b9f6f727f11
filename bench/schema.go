package main

import (
	"context"
	"encoding/json"
	"fmt"

	"serve/loadgen"
)

// kinds are what a model is asked for: free text, and answers by a schema. The
// limits are there to be reached: each answer is cut by its number of tokens.
var kinds = []struct {
	name   string
	schema string
}{
	{"free text", ""},
	{
		"a long string",
		`{"type":"object","properties":{"text":{"type":"string"}},"required":["text"],"additionalProperties":false}`,
	},
	{
		"records",
		`{"type":"object","properties":{"rows":{"type":"array","minItems":200,"maxItems":400,"items":{"type":"object",
		"properties":{"name":{"type":"string","maxLength":12},"age":{"type":"integer"},"score":{"type":"number"},
		"active":{"type":"boolean"}},
		"required":["name","age","score","active"],"additionalProperties":false}}},
		"required":["rows"],"additionalProperties":false}`,
	},
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
		times[i] = make([][]float64, len(kinds))
		errs[i] = make([]error, len(kinds))
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
	fields := map[string]any{"temperature": 1, "seed": seed}
	if schema == "" {
		fields["ignore_eos"] = true
	} else {
		fields["response_format"] = map[string]any{
			"type": "json_schema", "json_schema": map[string]any{"name": "answer", "schema": json.RawMessage(schema)},
		}
	}
	c := loadgen.Client{URL: p.url, HTTP: client}
	a, err := c.Ask(
		context.Background(),
		loadgen.Call{
			Model:  p.model(),
			Prompt: "Tell me about the people you know.",
			Tokens: tokens,
			Chat:   true,
			Fields: fields,
		},
	)
	if err == nil && a.PerToken() == 0 {
		err = fmt.Errorf("%d tokens came", a.Answered)
	}
	return a.PerToken(), err
}
