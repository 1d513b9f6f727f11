package llama

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"serve/engine"
	"serve/models/testmodel"
)

// templates are those of models that llama.cpp's own tests know.
const templates = "../../build/llama/src/models/templates"

// parsed is the sum of what a parser returned.
type parsed struct {
	content, reasoning string
	calls              []engine.ToolCallDelta
}

func (p *parsed) add(d engine.Delta) {
	p.content += d.Content
	p.reasoning += d.Reasoning
	for _, c := range d.ToolCalls {
		if c.Index == len(p.calls) {
			p.calls = append(p.calls, c)
			continue
		}
		p.calls[c.Index].Arguments += c.Arguments
	}
}

// extend is what a whole parse adds to what was sent, of which nothing is taken back.
func (p *parsed) extend(now parsed) {
	grow := func(sent *string, now string) {
		if strings.HasPrefix(now, *sent) {
			*sent = now
		}
	}
	grow(&p.content, now.content)
	grow(&p.reasoning, now.reasoning)
	for i, c := range now.calls {
		if i == len(p.calls) {
			p.calls = append(p.calls, engine.ToolCallDelta{Index: i, ID: c.ID, Name: c.Name})
		}
		grow(&p.calls[i].Arguments, c.Arguments)
	}
}

func newParser(t testing.TB, f format) engine.Parser {
	t.Helper()
	p, err := f.parser()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// whole has llama.cpp alone parse a text.
func whole(t testing.TB, f format, text string) (sum parsed, err error) {
	t.Helper()
	p := newParser(t, f)
	defer p.Close()
	d, err := p.Append(text, true)
	sum.add(d)
	return sum, err
}

// chatFormat is a template's format, and an answer in it.
type chatFormat struct {
	name   string
	format format
	answer string
}

const (
	formatTools = `[{"type":"function","function":{"name":"write_file","description":"Writes a file",
		"parameters":{"type":"object",
"properties":{"path":{"type":"string"},"content":{"type":"string"},"mode":{"type":"integer"},
		"options":{"type":"object"},
"lines":{"type":"array","items":{"type":"object"}}},"required":["path","content"]}}},
{"type":"function","function":{"name":"look","description":"Looks","parameters":{"type":"object",
		"properties":{"at":{"type":"string"}}}}}]`
	formatUser = `{"role":"user","content":"Write it."}`
)

// formatAnswer is an assistant's message with two calls.
func formatAnswer(content string) string {
	arguments := fmt.Sprintf(
		`{"path":"a b/c.py ","content":%q,"mode":-12,"options":{"a":{"b":[1,2.5e3,null,true,"x \" `+
			`y"]},"e":{}},"lines":[{"n":1},{"n":"zwei ü"}]}`,
		content,
	)
	calls := []map[string]any{}
	for i, c := range [][2]string{{"write_file", arguments}, {"look", `{"at":""}`}} {
		calls = append(calls, map[string]any{
			"id": fmt.Sprintf("call_0000%d", i), "type": "function",
			"function": map[string]any{"name": c[0], "arguments": c[1]},
		})
	}

	text, err := json.Marshal(
		map[string]any{
			"role":              "assistant",
			"content":           "I write <b> it: {\"a\"}",
			"reasoning_content": "Let me see.\nYes",
			"tool_calls":        calls,
		},
	)
	if err != nil {
		panic(err)
	}

	return string(text)
}

const formatText = "def f(x):\n\treturn {'é': \"<\" + x, \"\\\\\": '</tool_call'}  \n\n# 漢字 </ parameter> end"

// chatFormats returns the formats of all templates, with what each writes of an answer.
func chatFormats(t testing.TB, content string) (all []chatFormat) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(templates, "*.jinja"))
	if err != nil || len(files) < 40 {
		t.Fatalf("%d templates in %s, %v", len(files), templates, err)
	}
	for _, file := range files {
		if f, ok := formatOf(t, file, content); ok {
			all = append(all, f)
		}
	}
	return all
}

func formatOf(t testing.TB, file, content string) (f chatFormat, ok bool) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := testmodel.Write(path, testmodel.Options{ChatTemplate: string(text)}); err != nil {
		t.Fatal(err)
	}
	m, err := LoadModel(path, LoadOptions{VocabOnly: true})
	if err != nil {
		return f, false // a template that llama.cpp cannot read
	}
	defer m.Close()

	chat := engine.Chat{
		Messages:          []byte("[" + formatUser + "]"),
		Tools:             []byte(formatTools),
		ToolChoice:        "auto",
		ParallelToolCalls: true,
	}
	asked, err := m.Render(chat)
	if err != nil || asked.Parser == "" {
		return f, false
	}
	f.name = strings.TrimSuffix(filepath.Base(file), ".jinja")
	if f.format, err = newFormat(asked.Parser); err != nil {
		t.Fatalf("%s: %v", f.name, err)
	}
	t.Cleanup(f.format.close)

	chat.Messages = []byte("[" + formatUser + "," + formatAnswer(content) + "," + formatUser + "]")
	answered, err := m.Render(chat)
	if err != nil {
		return f, false
	}
	n := 0
	for n < min(len(asked.Prompt), len(answered.Prompt)) && asked.Prompt[n] == answered.Prompt[n] {
		n++
	}
	f.answer = answered.Prompt[n:]
	if end := strings.Index(f.answer, "Write it."); end >= 0 {
		f.answer = f.answer[:end]
	}
	// What the template writes after the answer is no part of it. The longest text that can be parsed is.
	for cut := len(f.answer); cut > len(f.answer)-80 && cut > 0; cut-- {
		if sum, err := whole(t, f.format, f.answer[:cut]); err == nil && len(sum.calls) > 0 {
			f.answer = f.answer[:cut]
			break
		}
	}
	return f, true
}

// checkPieces parses a text in pieces of the lengths that next gives. Behind each piece it
// compares the sum with what llama.cpp says of the whole text up to there.
func checkPieces(t *testing.T, f format, text string, next func() int) {
	t.Helper()
	p := newParser(t, f)
	defer p.Close()
	var got, want parsed
	for at := 0; at < len(text); {
		end := min(at+next(), len(text))
		d, err := p.Append(text[at:end], false)
		got.add(d)
		at = end
		now, wholeErr := whole(t, f, text[:at])
		if wholeErr == nil {
			want.extend(now)
		}
		if err != nil && wholeErr == nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("behind %q:\ngot  %+v, %v\nwant %+v, %v", text[:at], got, err, want, wholeErr)
		}
	}

	d, err := p.Append("", true)
	got.add(d)
	now, wholeErr := whole(t, f, text)
	want.extend(now)
	if (err == nil) != (wholeErr == nil) || !reflect.DeepEqual(got, want) {
		t.Fatalf("at the end of %q:\ngot  %+v, %v\nwant %+v, %v", text, got, err, want, wholeErr)
	}
}

// TestAnswersGrow parses what many templates write, byte by byte and in pieces, and texts
// that break the formats. What is returned behind each piece is what llama.cpp says of all
// the text until there.
func TestAnswersGrow(t *testing.T) {
	withCalls := 0
	for _, f := range chatFormats(t, formatText) {
		t.Run(f.name, func(t *testing.T) {
			if sum, err := whole(t, f.format, f.answer); err == nil && len(sum.calls) == 2 {
				withCalls++
			}
			random := rand.New(rand.NewPCG(1, 2))
			checkPieces(t, f.format, f.answer, func() int { return 1 })
			checkPieces(t, f.format, f.answer, func() int { return 1 + random.IntN(12) })
			for range 3 {
				checkPieces(t, f.format, spoil(f.answer, random), func() int { return 1 + random.IntN(12) })
			}
		})
	}
	if withCalls < 30 {
		t.Errorf("only %d templates wrote calls that can be parsed", withCalls)
	}
}

// spoil leaves something out, and puts something in.
func spoil(text string, random *rand.Rand) string {
	for range 2 {
		at := random.IntN(len(text) + 1)
		end := min(len(text), at+random.IntN(8))
		junk := []string{"", "\"", "{", "}", "<", "\\", "\xff", "é", "]", "</"}[random.IntN(10)]
		text = text[:at] + junk + text[end:]
	}
	return text
}

// FuzzAnswersGrow has any text parsed by one format of each kind.
func FuzzAnswersGrow(f *testing.F) {
	var formats []chatFormat
	for _, name := range []string{"Qwen-Qwen3-0.6B", "Qwen3-Coder", "google-gemma-4-31B-it", "MiniMax-M3",
		"openai-gpt-oss-120b", "LFM2.5-8B-A1B", "meta-llama-Llama-3.1-8B-Instruct"} {
		if format, ok := formatOf(f, filepath.Join(templates, name+".jinja"), formatText); ok {
			formats = append(formats, format)
			f.Add(len(formats)-1, format.answer, 5)
		}
	}
	f.Fuzz(func(t *testing.T, which int, text string, n int) {
		if which < 0 || which >= len(formats) || len(text) > 2000 || n < 1 || !utf8.ValidString(text) {
			return
		}
		checkPieces(t, formats[which].format, text, func() int { return n })
	})
}

// BenchmarkAppend measures a token, four bytes, of a tool call that has so many before it.
func BenchmarkAppend(b *testing.B) {
	for _, name := range []string{"Qwen-Qwen3-0.6B", "Qwen3-Coder", "google-gemma-4-31B-it", "MiniMax-M3"} {
		for _, tokens := range []int{100, 1000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", name, tokens), func(b *testing.B) {
				f, ok := formatOf(
					b, filepath.Join(templates, name+".jinja"), strings.Repeat("if x { say \"yes\" }\n", tokens/4+100),
				)
				if !ok {
					b.Fatal("it has no format")
				}

				const size, window = 4, 50
				at := tokens * size
				p := newParser(b, f.format)
				defer func() { p.Close() }()
				if _, err := p.Append(f.answer[:at], false); err != nil {
					b.Fatal(err)
				}

				read := 0
				for b.Loop() {
					if read == window {
						b.StopTimer()
						p.Close()
						p = newParser(b, f.format)
						read = 0
						if _, err := p.Append(f.answer[:at], false); err != nil {
							b.Fatal(err)
						}
						b.StartTimer()
					}

					if _, err := p.Append(f.answer[at+read*size:at+(read+1)*size], false); err != nil {
						b.Fatal(err)
					}

					read++
				}
			})
		}
	}
}
