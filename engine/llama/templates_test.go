package llama

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"serve/engine"
	"serve/models/testmodel"
	"serve/prompt"
)

// templateDir has chat templates of many families, as their authors publish them.
const templateDir = "../../build/llama/src/models/templates"

// templateModel is a model that only renders chats.
type templateModel struct {
	c     *Model
	facts *engine.ModelInfo
	text  string // the last prompt

	quoted []engine.Range // of that
}

func (m *templateModel) Model() *engine.ModelInfo { return m.facts }
func (m *templateModel) Limits() engine.Limits    { return engine.Limits{Context: 1 << 20} }
func (m *templateModel) LongestPiece() int        { return 0 }

func (m *templateModel) Tokenize(text string, how engine.Reading, _ int) ([]engine.Token, error) {
	return m.c.Tokenize(text, how)
}

func (m *templateModel) Prompt(_ context.Context, parts []engine.Part, _ int) ([]engine.Token, []*engine.Media, error) {
	m.text = parts[0].Text
	m.quoted = parts[0].Quoted
	return nil, nil, nil
}

func (m *templateModel) Render(c engine.Chat) (*engine.Rendered, error) { return m.c.Render(c) }

// templateNames are the templates of llama.cpp's tree.
func templateNames(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob(templateDir + "/*.jinja")
	if err != nil || len(paths) < 60 {
		t.Fatalf("%d templates: %v", len(paths), err)
	}
	names := make([]string, len(paths))
	for i, path := range paths {
		names[i] = strings.TrimSuffix(filepath.Base(path), ".jinja")
	}
	return names
}

// loadTemplate loads the vocabulary of a test model with a template.
func loadTemplate(t testing.TB, template string) *templateModel {
	t.Helper()
	path := write(t, testmodel.Options{ChatTemplate: template})
	m, err := LoadModel(path, LoadOptions{VocabOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return &templateModel{c: m, facts: &engine.ModelInfo{ChatTemplate: m.info.Template}}
}

func readTemplate(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(templateDir, name+".jinja"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sequences are orders of messages that OpenAI takes, a word for each message:
//
//	s, d, u, a  the system's, a developer's, the user's, an assistant's message
//	c=ID,ID     an assistant's calls with these IDs
//	r=ID        a call's result
//	S, U, A, R=ID  the same without text
var sequences = []string{
	"u",
	"s u",
	"d u",
	"u a u",
	"s u a u a u",
	// The system's message is not first, or not alone.
	"u s",
	"u a s",
	"u a s u",
	"u a d u",
	"s s u",
	"s d u",
	"d s u",
	"s u s u",
	"s u a s u",
	"s",
	"d",
	"s s",
	// Roles do not alternate.
	"a",
	"a u",
	"s a",
	"s a u",
	"a a u",
	"u u",
	"u u a u",
	"u a a u",
	"u a a",
	"u a",
	"s u a",
	"a u a",
	// Nothing is said.
	"U",
	"S u",
	"s U",
	"u A u",
	"U a U",
	"U A U",
	"u c=1 R=1",
	"u c=1 R=1 u",
	"u c=1,2 R=1 r=2 A u",
	// Calls and results.
	"u c=1 r=1",
	"s u c=1 r=1",
	"u c=1 r=1 a",
	"u c=1 r=1 u",
	"u c=1 r=1 a u",
	"u c=1 r=1 c=2 r=2",
	"u c=1 r=1 c=2 r=2 a u",
	"u c=1,2 r=1 r=2",
	"u c=1,2 r=2 r=1",
	"u c=1,2 r=1 r=2 u",
	"u c=1,2 r=1 r=2 a u c=3 r=3",
	"u c=1,2,3 r=1 r=2 r=3 a",
	"u a c=1 r=1",
	"u c=1 a r=1",
	"u c=1 r=1 s u",
	"u c=1 r=1 d",
	"u c=1 r=1 r=1",
	"u c=1,1 r=1 r=1",
	// Calls without results, and results without calls.
	"u c=1",
	"u c=1 u",
	"u c=1 a",
	"u c=1 a u",
	"u c=1 c=2 r=2",
	"u c=1,2 r=2",
	"u c=1,2 r=1 u",
	"u c=1,2 u",
	"u c=1,2",
	"u r=1",
	"u a r=1",
	"u r=1 u",
	"r=1",
	"r=1 u",
	"s r=1",
	"r=1 a u",
	"c=1 r=1",
	"c=1 r=1 u",
	"s c=1 r=1",
	"c=1",
	"u c=1 u r=1",
	"u c=1 r=1 u c=2,3 r=2 r=3 u c=4",
	// IDs of others.
	"u c=aaaaaa r=aaaaaa",
	"u c=abcdefghij r=abcdefghij u",
	"u c=toolu_01A09q90qw90lq917835lq9 r=toolu_01A09q90qw90lq917835lq9",
	"u c=3f2504e0-4f89-11d3-9a0c-0305e82c3301 r=3f2504e0-4f89-11d3-9a0c-0305e82c3301",
	"u c=call_ü r=call_ü",
}

// oddArguments are arguments that models write and clients send back: cut, not JSON, or no object.
var oddArguments = []string{
	`{"cmd": "odd-word`,
	`{"cmd": "odd-word",}`,
	`{"cmd": "odd-word"}{"cmd": "b"}`,
	`odd-word`,
	`{"cmd": NaN, "b": "odd-word"}`,
	"{\"cmd\": \"odd-word\n\"}",
	`["odd-word"]`,
	`"odd-word"`,
	`121`,
	`null`,
	`true`,
	" ",
	`{"cmd":"\ud83d odd-word"}`,
	`{"cmd":1e400,"b":"odd-word"}`,
}

const oddWord = "odd-word"

// silent are the roles of messages without text.
var silent = map[string]prompt.Role{"S": prompt.System, "U": prompt.User, "A": prompt.Assistant}

// conversation makes a sequence a conversation. Every text has a word of its own, which it returns.
func conversation(sequence string, arguments string) (*prompt.Conversation, []string) {
	var c prompt.Conversation
	var words []string
	say := func(role prompt.Role) prompt.Message {
		word := fmt.Sprintf("word-%d-", len(words)+1)
		words = append(words, word)
		return prompt.Message{Role: role, Content: word}
	}

	for _, item := range strings.Fields(sequence) {
		kind, ids, _ := strings.Cut(item, "=")
		switch kind {
		case "s":
			c.Messages = append(c.Messages, say(prompt.System))
		case "d":
			c.Messages = append(c.Messages, say(prompt.Developer))
		case "u":
			c.Messages = append(c.Messages, say(prompt.User))
		case "a":
			c.Messages = append(c.Messages, say(prompt.Assistant))
		case "S", "U", "A":
			c.Messages = append(c.Messages, prompt.Message{Role: silent[kind]})
		case "R":
			c.Messages = append(c.Messages, prompt.Message{Role: prompt.ToolRole, CallID: ids})
		case "r":
			m := say(prompt.ToolRole)
			m.CallID = ids
			c.Messages = append(c.Messages, m)
		case "c":
			m := prompt.Message{Role: prompt.Assistant}
			for id := range strings.SplitSeq(ids, ",") {
				text := arguments
				if strings.Contains(text, oddWord) {
					words = append(words, oddWord)
				}
				if text == "" {
					text = fmt.Sprintf(`{"city":%q}`, say("").Content)
				}
				m.Calls = append(m.Calls, prompt.ToolCall{ID: id, Name: "get", Arguments: text})
			}
			c.Messages = append(c.Messages, m)
		}
	}

	return &c, words
}

func getTool(t testing.TB) prompt.Tool {
	t.Helper()
	tool := prompt.Tool{Name: "get", Description: "Gets it.", Field: "x",
		Parameters: []byte(`{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}`)}
	if e := tool.Compile(0, nil); e != nil {
		t.Fatal(e)
	}
	return tool
}

// all tries every sequence with every template, with and without tools.
var all = flag.Bool("matrix", false, "every sequence of messages by every template: minutes")

// pickyTemplates refuse or drop the most, each in its own way. They get every sequence in every run.
var pickyTemplates = []string{
	"mistralai-Mistral-Nemo-Instruct-2407",
	"Mistral-Small-3.2-24B-Instruct-2506",
	"mistralai-Ministral-3-14B-Reasoning-2512",
	"google-gemma-2-2b-it",
	"google-gemma-4-31B-it",
	"Qwen3.5-4B",
	"Qwen3-Coder",
	"meta-llama-Llama-3.2-3B-Instruct",
	"Kimi-K3",
	"openai-gpt-oss-120b",
	"microsoft-Phi-3.5-mini-instruct",
	"LFM2-8B-A1B",
	"llama-cpp-rwkv-world",
	"MiniMax-M3",
	"deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
}

// TestTemplateMatrix renders every order of messages that OpenAI takes by the templates of all families. None may
// be refused, and nothing of it lost.
func TestTemplateMatrix(t *testing.T) {
	for i, name := range templateNames(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			every := 14 // a sample of the others
			if *all || slices.Contains(pickyTemplates, name) {
				every = 1
			}
			matrix(t, readTemplate(t, name), every, i)
		})
	}
}

// matrix renders every n-th sequence by a template, beginning with one that the offset chooses.
func matrix(t *testing.T, template string, every, offset int) {
	m := loadTemplate(t, template)
	b := prompt.Builder{Model: m, Templates: &prompt.Templates{}}
	cells := 0
	refused := 0
	lost := 0
	try := func(sequence, arguments string) {
		hasCalls := strings.ContainsAny(sequence, "crR")
		for _, tools := range []bool{false, true} {
			if !*all && tools != hasCalls {
				continue
			}
			c, words := conversation(sequence, arguments)
			if tools {
				c.Tools = prompt.Tools{List: []prompt.Tool{getTool(t)}, Choice: prompt.ChoiceAuto, Parallel: true}
			}
			cells++
			p, err := b.Build(t.Context(), c)
			if err != nil {
				refused++
				t.Errorf("%s, arguments %q, tools %t: %v", sequence, arguments, tools, err)
				continue
			}
			for _, word := range words {
				if !strings.Contains(m.text, word) {
					lost++
					t.Errorf("%s, arguments %q, tools %t, %s: %s is lost: %s", sequence, arguments, tools, p.Notes, word, m.text)
				}
			}
		}
	}

	for i, s := range sequences {
		if (i+offset)%every == 0 {
			try(s, "")
		}
	}
	for i, arguments := range oddArguments {
		if (i+offset)%every == 0 {
			try("u c=1 r=1", arguments)
		}
	}
	t.Logf("%d conversations, %d refused, %d texts lost", cells, refused, lost)
}
