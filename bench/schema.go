package main

import (
	"context"
	"encoding/json"

	"serve/bench/launch"
	"serve/loadgen"
)

// kinds are what a model is asked for: free text, and answers by a schema. The limits are there to be reached: each
// answer is cut by its number of tokens.
var kinds = []struct{ name, schema string }{
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

// schemas measures the time per token of answers by a schema. A schema is told to the model, so its prompt is longer
// than that of free text. Each kind has servers of its own: one that fails at a kind has the others.
func schemas(o *options, _ int) (list []scenario) {
	for _, k := range kinds {
		sc := scenario{
			name:    "schemas, " + k.name,
			about:   "one client; answers of " + k.name + ", drawn at random",
			need:    need{slots: 1, context: roomFor(1024, o.tokens)},
			metrics: []metric{perToken},
		}

		sc.measure = func(ctx context.Context, s *launch.Server, round int) (figures, error) {
			// Greedy answers of small models have no end.
			fields := map[string]any{"temperature": 1, "seed": o.roundSeed(round) % (1 << 31)}
			if k.schema == "" {
				fields["ignore_eos"] = true
			} else {
				fields["response_format"] = map[string]any{"type": "json_schema",
					"json_schema": map[string]any{"name": "answer", "schema": json.RawMessage(k.schema)}}
			}

			a, err := s.Client.Ask(ctx, loadgen.Call{Model: s.Model, Prompt: "Tell me about the people you know.",
				Tokens: o.tokens, Chat: true, Fields: fields})
			if err == nil && a.Answered == 0 {
				err = errNoTokens
			}
			return figures{perToken.Name: 1000 * a.Took.Seconds() / float64(max(a.Answered, 1))}, err
		}
		list = append(list, sc)
	}
	return list
}
