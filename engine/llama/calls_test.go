package llama

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"serve/engine"
	"serve/models/testmodel"
	"serve/prompt"
)

// startTemplate starts an engine with a random model that has a template.
func startTemplate(t *testing.T, template string) *engine.Engine {
	t.Helper()
	path := write(t, testmodel.Options{ChatTemplate: template, Context: 8192})
	r, err := Load(path, Options{Context: 8192, Sequences: 1, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(r, r, engine.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return e
}

// likeNames are tools whose rules llama.cpp would call the same, or as one of its own.
var likeNames = []string{"web_search", "web-search", "a_b", "a__b", "call"}

func likeTools(t *testing.T) []prompt.Tool {
	t.Helper()
	return toolsNamed(t, likeNames, `{"type":"object","properties":{"days":{"type":"integer","minimum":1,"maximum":7},
		"metric":{"type":"boolean"},"unit":{"enum":["C","F"]}},"required":["days","metric","unit"],
		"additionalProperties":false}`)
}

func toolsNamed(t *testing.T, names []string, parameters string) []prompt.Tool {
	t.Helper()
	list := make([]prompt.Tool, len(names))
	for i, name := range names {
		list[i] = prompt.Tool{
			Name:       name,
			Field:      "x",
			Parameters: []byte(parameters),
		}
		if e := list[i].Compile(i, nil); e != nil {
			t.Fatal(e)
		}
	}
	return list
}

// formatTemplates are of formats whose answers may begin with text in llama.cpp's own grammars.
var formatTemplates = []string{
	"Qwen3-Coder", "Qwen3.5-4B", "Qwen-Qwen3-0.6B", "openai-gpt-oss-120b", "meetkai-functionary-medium-v3.2",
	"CohereForAI-c4ai-command-r7b-12-2024-tool_use", "google-gemma-2-2b-it",
	// Their templates begin thoughts whatever is asked for.
	"StepFun3.5-Flash", "NVIDIA-Nemotron-Nano-v2", "Apriel-1.6-15b-Thinker-fixed",
	// Formats that are mended.
	"MiniMax-M2", "Kimi-K3", "muse-glimmer", "Mistral-Small-3.2-24B-Instruct-2506", "upstage-Solar-Open-100B",
	"Cohere2MoE",
}

// TestRequiredCalls requires a call in the format of every template. The model is random: it calls because it can do
// nothing else.
func TestRequiredCalls(t *testing.T) {
	for i, name := range templateNames(t) {
		if !*all && i%8 != 0 && !slices.Contains(formatTemplates, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireCall(t, readTemplate(t, name))
		})
	}
}

// answers has the model answer a conversation a few times.
func answers(t *testing.T, e *engine.Engine, c *prompt.Conversation, tokens int) ([]prompt.Collector, *prompt.Prompt) {
	t.Helper()
	b := prompt.Builder{Model: prompt.Reader{Engine: e, Context: t.Context()}}
	p, err := b.Build(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}

	r := engine.Request{Choices: 4, MaxTokens: tokens, Sampling: engine.DefaultSampling()}
	r.Sampling.Seed = 1
	p.Ask(&r)
	stream, err := e.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	replies := make([]prompt.Collector, r.Choices)
	for {
		events, err := stream.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			return replies, p
		}
		for i := range events {
			replies[events[i].Choice].Add(&events[i])
		}
	}
}

func requireCall(t *testing.T, template string) {
	c := &prompt.Conversation{
		Messages: []prompt.Message{{Role: prompt.User, Content: "x"}},
		Tools:    prompt.Tools{List: likeTools(t), Choice: prompt.ChoiceRequired},
		Effort:   prompt.NoEffort,
	}
	replies, p := answers(t, startTemplate(t, template), c, 400)

	for i := range replies {
		reply := &replies[i]
		if reply.Finish != engine.FinishStop || len(reply.Calls) != 1 {
			if reply.Finish == engine.FinishLength && len(reply.Calls) == 1 && len(p.NotEnforced) > 0 {
				continue // a call of which the grammar holds only the beginning
			}
			t.Errorf("no call: %s, %q, %q, %+v", reply.Finish, reply.Text(), reply.Reasoning(), reply.Calls)
			continue
		}
		call := reply.Calls[0]
		if !slices.Contains(likeNames, call.Name) {
			t.Errorf("call %+v", call)
		}
		if len(p.NotEnforced) > 0 {
			checkNamed(t, p.NotEnforced)
			continue // it is said that arguments are not held to their schema
		}
		var arguments struct {
			Days   int
			Metric *bool
			Unit   string
		}
		err := json.Unmarshal([]byte(call.Arguments), &arguments)
		if err != nil || arguments.Days < 1 || arguments.Days > 7 || arguments.Metric == nil ||
			arguments.Unit != "C" && arguments.Unit != "F" {
			t.Errorf("call %+v: %v", call, err)
		}
	}
}

// TestThoughtsFirst has models that think answer with a call or by a schema: their thoughts are of any length, and may
// take all tokens. Text in place of what was asked is never an answer.
func TestThoughtsFirst(t *testing.T) {
	for _, name := range []string{
		"Cohere2MoE", "Qwen3-Coder", "Qwen3.5-4B", "openai-gpt-oss-120b", "StepFun3.5-Flash",
		"mistralai-Ministral-3-14B-Reasoning-2512", "openbmb-MiniCPM5-1B",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := startTemplate(t, readTemplate(t, name))
			c := prompt.Conversation{Messages: []prompt.Message{{Role: prompt.User, Content: "x"}}}

			called := c
			called.Tools = prompt.Tools{List: likeTools(t), Choice: prompt.ChoiceRequired}
			replies, _ := answers(t, e, &called, 60)
			for i := range replies {
				r := &replies[i]
				if cut := r.Finish == engine.FinishLength; r.Text() != "" || !cut && len(r.Calls) != 1 {
					t.Errorf("call: %s, %q, %q, %+v", r.Finish, r.Text(), r.Reasoning(), r.Calls)
				}
			}

			formatted := c
			formatted.Format = onlyBool(t)
			replies, _ = answers(t, e, &formatted, 60)
			for i := range replies {
				r := &replies[i]
				if r.Finish == engine.FinishStop && !json.Valid([]byte(r.Text())) ||
					strings.Trim(r.Text(), "{\"a: truefls}\n") != "" {
					t.Errorf("schema: %s, %q, %q", r.Finish, r.Text(), r.Reasoning())
				}
			}
		})
	}
}

func onlyBool(t *testing.T) prompt.Format {
	t.Helper()
	const document = `{"type":"object","properties":{"a":{"type":"boolean"}},"required":["a"],
		"additionalProperties":false}`
	f, e := prompt.SchemaFormat([]byte(document), prompt.FormatOptions{Field: "x", SchemaField: "x", Strict: true})
	if e != nil {
		t.Fatal(e)
	}
	return f
}

// checkNamed checks that what a format that is not JSON does not hold arguments to is named: for each tool all that
// its schema has beyond types and members.
func checkNamed(t *testing.T, list []string) {
	t.Helper()
	const field = "x /properties/days/maximum /properties/days/minimum /properties/unit/enum"
	for _, entry := range list {
		if entry != field {
			t.Errorf("%q is named, and not %q", entry, field)
		}
	}
	if len(list) != len(likeNames) {
		t.Errorf("%d tools of %d are named", len(list), len(likeNames))
	}
}

// TestTextFormats has random models answer with one of several texts, in the format of every template.
func TestTextFormats(t *testing.T) {
	choices := []string{"yes", "no, {never} <b>", "1\n2"}
	for i, name := range templateNames(t) {
		if !*all && i%8 != 0 && !slices.Contains(formatTemplates, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			format, e := prompt.ChoiceFormat(choices, prompt.FormatOptions{Field: "x"})
			if e != nil {
				t.Fatal(e)
			}
			c := &prompt.Conversation{
				Messages: []prompt.Message{{Role: prompt.User, Content: "x"}},
				Format:   format,
				Effort:   prompt.NoEffort,
			}
			list, _ := answers(t, startTemplate(t, readTemplate(t, name)), c, 400)
			for _, reply := range list {
				ended := reply.Finish == engine.FinishStop
				if ended && !slices.Contains(choices, reply.Text()) || !ended && reply.Text() != "" {
					t.Errorf("%s: %q after %q", reply.Finish, reply.Text(), reply.Reasoning())
				}
			}
		})
	}
}
