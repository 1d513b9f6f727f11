package llama

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"serve/engine"
	"serve/prompt"
)

// Calls of two tools, as the templates write them into a conversation.
var (
	loopCall   = prompt.ToolCall{ID: "abcdef123", Name: "get_weather", Arguments: `{"city":"São \"Paulo\" <b>","days":-3}`}
	loopOther  = prompt.ToolCall{ID: "abcdef124", Name: "say", Arguments: `{"text":"one, two {3}"}`}
	loopValues = prompt.ToolCall{
		ID:        "abcdef125",
		Name:      "get_weather",
		Arguments: `{"city":"x","days":7,"metric":true,"near":[1,2.5],"by":{"name":"x y"}}`,
	}
)

// loopAnswers are answers of a model.
var loopAnswers = []struct {
	name    string
	content string
	calls   []prompt.ToolCall
}{
	{"one call", "", []prompt.ToolCall{loopCall}},
	{"two calls", "", []prompt.ToolCall{loopCall, loopOther}},
	{"text and call", "I look.", []prompt.ToolCall{loopCall}},
	{"values", "", []prompt.ToolCall{loopValues}},
}

func loopTools(t *testing.T) []prompt.Tool {
	t.Helper()
	list := []prompt.Tool{
		{
			Name:        "get_weather",
			Description: "Looks.",
			Parameters: []byte(`{"type":"object","properties":{"city":{"type":"string"},
			"days":{"type":"integer"},"metric":{"type":"boolean"},"near":{"type":"array","items":{"type":"number"}},
			"by":{"type":"object","properties":{"name":{"type":"string"}}}},"required":["city"]}`),
		},
		{Name: "say", Description: "Says.", Parameters: []byte(`{"type":"object","properties":{"text":{"type":"string"}}}`)},
	}
	for i := range list {
		list[i].Field = "x"
		if e := list[i].Compile(i, nil); e != nil {
			t.Fatal(e)
		}
	}
	return list
}

// toolLoop renders conversations by a template.
type toolLoop struct {
	m       *templateModel
	builder prompt.Builder
	tools   []prompt.Tool
}

// build renders the user's message and what follows. It returns the prompt's text, and the request.
func (l *toolLoop) build(t *testing.T, turn []prompt.Message) (string, engine.Request, []string) {
	t.Helper()
	c := &prompt.Conversation{
		Messages: append([]prompt.Message{{Role: prompt.User, Content: "What is it?"}}, turn...),
		Tools:    prompt.Tools{List: l.tools, Choice: prompt.ChoiceAuto, Parallel: true},
	}
	p, err := l.builder.Build(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var r engine.Request
	p.Ask(&r)
	return l.m.text, r, p.Notes
}

// parse parses an answer to a request.
func (l *toolLoop) parse(t *testing.T, r *engine.Request, text string) (sum parsed, err error) {
	t.Helper()
	var p engine.Parser
	if r.Parser != "" {
		if p, err = l.m.c.Parser(r.Parser); err != nil {
			t.Fatal(err)
		}
	}
	if r.Format != nil {
		p = r.Format(p)
	}
	if p == nil {
		return parsed{content: text}, nil
	}
	defer p.Close()
	d, err := p.Append(text, true)
	sum.add(d)
	return sum, err
}

// answers returns what a template writes of an answer, in a few ways, with the request that it answers: with and
// without thoughts, which templates may leave out of a conversation.
func (l *toolLoop) answers(
	t *testing.T, content string, calls []prompt.ToolCall,
) (all []string, r engine.Request, notes []string) {
	t.Helper()
	for _, thoughts := range []string{"Let me see.", ""} {
		turn := []prompt.Message{{Role: prompt.Assistant, Content: content, Reasoning: thoughts, Calls: calls}}
		for _, call := range calls {
			turn = append(turn, prompt.Message{Role: prompt.ToolRole, Content: "RESULT", CallID: call.ID, CallName: call.Name})
		}

		var asked, written string
		var request engine.Request
		written, request, notes = l.build(t, turn)
		asked, r, _ = l.build(t, nil)
		r.Format = request.Format // depends on the calls in the conversation
		n := 0
		for n < min(len(asked), len(written)) && asked[n] == written[n] {
			n++
		}

		at := strings.LastIndexAny(written[:n], "<>[]")
		if n < len(asked) && at >= 0 &&
			strings.IndexByte("<[", written[at]) >= 0 {
			n = at // within a mark
		}
		// Where the template instructs the model after the conversation, the answer follows the mark that ends the prompt.
		if mark := lastMark(asked); mark != "" && n+len(mark) < len(asked) && strings.HasPrefix(written[n:], mark) {
			n += len(mark)
			asked = written[:n]
		}

		answer, _, _ := strings.Cut(written[n:], "RESULT")
		if begun := asked[min(n, len(asked)):]; begun != "" && !strings.HasPrefix(begun, "</") {
			for _, end := range []string{"</think>", "\n</think>\n", "[BEGIN FINAL RESPONSE]"} {
				all = append(all, "Let me see."+end+answer)
			}
		}

		all = append(all, answer)
	}

	return all, r, notes
}

// lastMark returns the mark that a text ends with; empty if it ends with something else.
func lastMark(text string) string {
	if begin := strings.LastIndexByte(text, '<'); begin >= 0 && strings.IndexByte(text[begin:], '>') == len(text)-begin-1 {
		return text[begin:]
	}
	return ""
}

// cutStep is how many bytes lie between two cuts of an answer: one, if there is time for it.
func cutStep() int {
	if *all {
		return 1
	}
	return 7
}

func sameCalls(got parsed, want []prompt.ToolCall) bool {
	if len(got.calls) != len(want) {
		return false
	}
	for i, c := range got.calls {
		var is, should any
		if c.Name != want[i].Name || json.Unmarshal([]byte(c.Arguments), &is) != nil ||
			json.Unmarshal([]byte(want[i].Arguments), &should) != nil || !reflect.DeepEqual(is, should) {
			return false
		}
	}
	return true
}

// back returns the answer that is parsed to these calls. What a template writes after an answer is no part of it.
func (l *toolLoop) back(t *testing.T, content string, calls []prompt.ToolCall) (string, engine.Request, bool) {
	t.Helper()
	texts, r, notes := l.answers(t, content, calls)
	switch {
	case slices.Contains(notes, prompt.NoteCallsSplit):
		calls = calls[:1] // the turn has one
	case slices.Contains(notes, prompt.NoteTextSplit):
		return "", r, true // the text was a turn of its own
	}
	for _, text := range texts {
		for end := len(text); end > max(0, len(text)-160); end-- {
			sum, err := l.parse(t, &r, text[:end])
			if err == nil && sameCalls(sum, calls) && strings.TrimSpace(sum.content) == content {
				return text[:end], r, true
			}
		}
	}
	return texts[0], r, false
}

// checkCuts parses an answer that ends at any byte. What there is of a call is returned as it is.
func (l *toolLoop) checkCuts(t *testing.T, r *engine.Request, answer string) {
	t.Helper()
	full, err := l.parse(t, r, answer)
	if err != nil {
		t.Fatal(err)
	}

	arguments := full.calls[0].Arguments
	longest := 0
	for end := 0; end < len(answer); end += cutStep() {
		cut, err := l.parse(t, r, answer[:end])
		switch {
		case err != nil:
			t.Errorf("cut to %q: %v", answer[:end], err)
		case len(cut.calls) == 0:
		case !strings.HasPrefix(arguments, cut.calls[0].Arguments) && !sameCalls(cut, []prompt.ToolCall{loopCall}):
			t.Errorf("cut to %q: arguments %q", answer[:end], cut.calls[0].Arguments)
		case len(cut.calls[0].Arguments) < longest:
			t.Errorf("cut to %q: arguments %q are shorter than before", answer[:end], cut.calls[0].Arguments)
		default:
			longest = len(cut.calls[0].Arguments)
		}
		if t.Failed() {
			return
		}
	}
}

// TestToolLoops has every template write an answer with calls, and parses that: the calls are the same.
func TestToolLoops(t *testing.T) {
	for _, name := range templateNames(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := loadTemplate(t, readTemplate(t, name))
			l := toolLoop{m: m, builder: prompt.Builder{Model: m, Templates: &prompt.Templates{}}, tools: loopTools(t)}
			for _, a := range loopAnswers {
				answer, r, ok := l.back(t, a.content, a.calls)
				why := notBack[name+", "+a.name]
				switch {
				case !ok && why == "":
					sum, err := l.parse(t, &r, answer)
					t.Errorf("%s: %q is parsed to %+v, %v", a.name, answer, sum, err)
				case ok && why != "":
					t.Errorf("%s: it is parsed back, and should not be: %s", a.name, why)
				case ok && a.name == "one call":
					l.checkCuts(t, &r, answer)
				}
			}
		})
	}
}

// instructsLast is a template that instructs the model after the conversation.
const instructsLast = "CohereForAI-c4ai-command-r-plus-tool_use"

// TestLikeNames calls tools whose names llama.cpp's rules do not tell apart, or are names of such rules, in the format
// of every template: each call comes back, and a grammar that requires a call has each name.
func TestLikeNames(t *testing.T) {
	// No boolean: some templates write True, where their formats have true.
	const parameters = `{"type":"object","properties":{"days":{"type":"integer"},"unit":{"enum":["C","F"]}},
		"required":["days","unit"],"additionalProperties":false}`
	for i, name := range templateNames(t) {
		if !*all && i%4 != 0 && !slices.Contains(formatTemplates, name) && name != instructsLast {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := loadTemplate(t, readTemplate(t, name))
			l := toolLoop{
				m:       m,
				builder: prompt.Builder{Model: m, Templates: &prompt.Templates{}},
				tools:   toolsNamed(t, likeNames, parameters),
			}
			for _, tool := range likeNames {
				call := prompt.ToolCall{ID: "abcdef123", Name: tool, Arguments: `{"days":3,"unit":"C"}`}
				if answer, r, ok := l.back(t, "", []prompt.ToolCall{call}); !ok {
					sum, err := l.parse(t, &r, answer)
					t.Errorf("%s: %q is parsed to %+v, %v", tool, answer, sum, err)
				}
			}

			c := &prompt.Conversation{
				Messages: []prompt.Message{{Role: prompt.User, Content: "x"}},
				Tools:    prompt.Tools{List: l.tools, Choice: prompt.ChoiceRequired},
			}
			p, err := l.builder.Build(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			var r engine.Request
			p.Ask(&r)
			for _, tool := range likeNames {
				alone := regexp.MustCompile(`[^a-zA-Z0-9_-]` + tool + `[^a-zA-Z0-9_-]`)
				if !alone.MatchString(r.Sampling.Grammar.Text) {
					t.Errorf("%s is not in the grammar:\n%s", tool, r.Sampling.Grammar.Text)
				}
			}
		})
	}
}

// Reasons why answers do not come back as they are.
const (
	plainAlone = "in the plain format calls are the whole answer"
	noText     = "the template leaves out text beside calls, also as a message of its own"
	textAfter  = "the template writes the text after the calls"
	python     = "the template writes True, where the format that the grammar holds has true"
	withID     = "the template writes an id in each call, which llama.cpp's format has not"
)

// notBack are answers that do not come back as they are, with the reason.
var notBack = map[string]string{
	"deepseek-ai-DeepSeek-R1-Distill-Llama-8B, text and call": plainAlone,
	"microsoft-Phi-3.5-mini-instruct, text and call":          plainAlone,
	"llama-cpp-rwkv-world, text and call":                     plainAlone,
	"ibm-granite-granite-3.3-2B-Instruct, text and call":      plainAlone,
	"google-gemma-2-2b-it, text and call":                     plainAlone,
	"LFM2.5-Instruct, text and call":                          plainAlone,
	"LFM2-8B-A1B, text and call":                              plainAlone,
	"HuggingFaceTB-SmolLM3-3B, text and call":                 plainAlone,
	"CohereForAI-c4ai-command-r-plus-tool_use, text and call": plainAlone,
	"mistralai-Mistral-Nemo-Instruct-2407, text and call":     noText,
	"Mistral-Small-3.2-24B-Instruct-2506, text and call":      noText,
	"google-gemma-4-31B-it, text and call":                    textAfter,
	"deepseek-ai-DeepSeek-R1-Distill-Qwen-32B, text and call": textAfter,
	"StepFun3.5-Flash, values":                                python,
	"Qwen3-Coder, values":                                     python,
	"Qwen3.5-4B, values":                                      python,
	"NVIDIA-Nemotron-3-Nano-30B-A3B-BF16, values":             python,
	"ByteDance-Seed-OSS, values":                              python,
	"unsloth-Apriel-1.5, two calls":                           withID,
	"Apriel-1.6-15b-Thinker-fixed, two calls":                 withID,
	"openbmb-MiniCPM5-1B, values":                             "the template leaves out what is in lists and objects",
	"MiniMax-M1, two calls":                                   "llama.cpp's format has one call between the marks",
}

// TestNamedIDs renders calls and results by templates that write IDs of their own for calls: each result comes after
// the ID of its call, whatever the client's IDs and the results' order.
func TestNamedIDs(t *testing.T) {
	call := func(id, name string) prompt.ToolCall { return prompt.ToolCall{ID: id, Name: name, Arguments: `{}`} }
	result := func(id, text string) prompt.Message {
		return prompt.Message{Role: prompt.ToolRole, Content: text, CallID: id}
	}

	for _, name := range []string{"moonshotai-Kimi-K2", "Kimi-K2-Instruct", "Kimi-K2-Thinking"} {
		m := loadTemplate(t, readTemplate(t, name))
		l := toolLoop{m: m, builder: prompt.Builder{Model: m, Templates: &prompt.Templates{}}}
		text, _, notes := l.build(t, []prompt.Message{
			{Role: prompt.Assistant, Calls: []prompt.ToolCall{call("id_1", "say"), call("id_2", "get_weather")}},
			result("id_2", "SUNNY"),
			result("id_1", "SAID"),
			{Role: prompt.Assistant, Calls: []prompt.ToolCall{call("id_1", "get_weather")}},
			result("id_1", "RAINY"),
		})

		last := "functions.get_weather:2" // counts all calls
		if name == "moonshotai-Kimi-K2" {
			last = "functions.get_weather:0" // counts a message's
		}
		for _, want := range []struct{ id, result string }{
			{"functions.say:0", "SAID"}, {"functions.get_weather:1", "SUNNY"}, {last, "RAINY"},
		} {
			called := strings.Contains(text, "<|tool_call_begin|>"+want.id+"<|tool_call_argument_begin|>")
			_, after, answered := strings.Cut(text, "Return of "+want.id)
			if !called || !answered || !strings.HasPrefix(strings.TrimLeft(after, "\\n\n"), want.result) {
				t.Errorf("%s, %s: %s", name, want.id, text)
			}
		}
		if strings.Contains(text, "id_1") || !slices.Contains(notes, prompt.NoteCallsPaired) {
			t.Errorf("%s, %s: %s", name, notes, text)
		}
	}
}
