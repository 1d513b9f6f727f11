package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"serve/bench/launch"
	"serve/loadgen"
	"serve/models"
)

//go:embed tools.jinja
var toolTemplate []byte

// templateFor returns a file with a chat template that has tools, in the folder, if the model's own has none: serve
// has a format for such models, and llama-server would not mention the tools to them.
func templateFor(header *models.Header, folder string) (string, error) {
	if strings.Contains(header.String("tokenizer.chat_template"), "tools") {
		return "", nil
	}
	file := filepath.Join(folder, "tools.jinja")
	return file, os.WriteFile(file, toolTemplate, 0o600)
}

var (
	perToken = metric{"time per token, prompt included", "ms", lower}
	slowdown = metric{"last quarter over the first", "x", lower}
	called   = metric{"calls of the tool", "%", ""}
)

// longestString is the most characters that llama-server's grammars can ask for.
const longestString = 1900

func tools(o *options, _ int) []scenario {
	answer := 4 * o.tokens
	sc := scenario{
		name: "tools",
		about: fmt.Sprintf("one client; a call of a tool with a long string, forced by tool_choice, cut off after %d "+
			"tokens; chat completions", answer),
		need:    need{slots: 1, context: roomFor(1024, answer), tools: true},
		metrics: []metric{perToken, slowdown, firstToken, called},
		notes: []string{"llama-server lets a model write text before a call, though tool_choice forces one: where it does " +
			"not call the tool, it has not done the same work"},
	}
	sc.measure = func(ctx context.Context, s *launch.Server, round int) (figures, error) {
		a, err := s.Client.Ask(ctx, loadgen.Call{
			Model:  s.Model,
			Tokens: answer,
			Chat:   true,
			Fields: toolCall(o.roundSeed(round), min(4*answer, longestString)),
		})
		if err != nil {
			return nil, err
		}
		return callFigures(&a)
	}
	return []scenario{sc}
}

// toolCall are the fields of a request whose answer is a call with a string of at least so many characters. The
// conversation has calls already, since small models do as was done before.
func toolCall(seed uint64, characters int) map[string]any {
	parameters := fmt.Sprintf(`{"type":"object","properties":{"path":{"type":"string"},
		"content":{"type":"string","minLength":%d}},"required":["path","content"],"additionalProperties":false}`, characters)
	fields := maps.Clone(greedy())
	fields["tools"] = []any{map[string]any{"type": "function", "function": map[string]any{
		"name":        "write_file",
		"description": "Writes a text to a file.",
		"parameters":  json.RawMessage(parameters),
	}}}
	fields["tool_choice"] = "required"

	var messages []map[string]any
	for i, text := range []string{
		"Once there was a river that ran from the hills to the town.",
		"Once there was a forest in which the oldest tree could speak.",
	} {
		topic := strings.Fields(text)[4]
		id := fmt.Sprintf("call_%d", i)
		arguments := fmt.Sprintf(`{"path":"%s.txt","content":%q}`, topic, text)
		messages = append(messages, askForStory(topic),
			map[string]any{"role": "assistant", "content": "", "tool_calls": []any{map[string]any{
				"id": id, "type": "function", "function": map[string]any{"name": "write_file", "arguments": arguments}}}},
			map[string]any{"role": "tool", "tool_call_id": id, "content": "The file is written."})
	}
	topic := fmt.Sprintf("%s%d", things[seed%uint64(len(things))], seed%1000)
	fields["messages"] = append(messages, askForStory(topic))
	return fields
}

func askForStory(topic string) map[string]any {
	return map[string]any{
		"role":    "user",
		"content": fmt.Sprintf("Write a story about the %[1]s to the file %[1]s.txt.", topic),
	}
}

// callFigures are those of an answer of many tokens. What a server holds back until it has parsed it comes late and
// at once, so times per token count from the request.
func callFigures(a *loadgen.Answer) (figures, error) {
	if a.Answered < 2 {
		return nil, errNoTokens
	}
	f := figures{
		perToken.Name:   1000 * a.Took.Seconds() / float64(a.Answered),
		firstToken.Name: 1000 * a.First.Seconds(),
		called.Name:     0,
	}
	if a.Tools {
		f[called.Name] = 100
	}
	if quarter := len(a.Gaps) / 4; quarter > 0 {
		f[slowdown.Name] = sum(a.Gaps[len(a.Gaps)-quarter:]).Seconds() / sum(a.Gaps[:quarter]).Seconds()
	}
	return f, nil
}

func sum(times []time.Duration) (all time.Duration) {
	for _, t := range times {
		all += t
	}
	return all
}
