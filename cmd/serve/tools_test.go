package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/shared"

	"serve/models/testmodel"
)

// templates are chat templates of llama.cpp's tree whose models call tools, one
// of each format.
var templates = []string{
	"mistralai-Mistral-Nemo-Instruct-2407",
	"meta-llama-Llama-3.1-8B-Instruct",
	"meta-llama-Llama-3.3-70B-Instruct",
	"NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
	"Qwen-Qwen2.5-7B-Instruct",
	"Qwen-Qwen3-0.6B",
	"deepseek-ai-DeepSeek-V3.1",
	"openai-gpt-oss-120b",
	"google-gemma-4-31B-it",
	"ibm-granite-granite-4.0",
	// These know no tools.
	"",
	"google-gemma-2-2b-it",
	"deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
	"ibm-granite-granite-3.3-2B-Instruct",
	"microsoft-Phi-3.5-mini-instruct",
}

// templated writes a test model with a template of llama.cpp's tree, or ChatML.
func templated(t *testing.T, template string) string {
	t.Helper()
	if template == "" {
		return modelFile(t)
	}
	text, err := os.ReadFile(filepath.Join("../../build/llama/src/models/templates", template+".jinja"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := testmodel.Write(path, testmodel.Options{ChatTemplate: string(text), Context: 8192}); err != nil {
		t.Fatal(err)
	}
	return path
}

// weather is a tool whose arguments a random model cannot get wrong, if the
// grammar holds.
var weather = openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
	Name: "get_weather", Description: openai.String("says the weather"), Strict: openai.Bool(true),
	Parameters: shared.FunctionParameters{
		"type": "object", "required": []string{"city", "days", "units"}, "additionalProperties": false,
		"properties": map[string]any{
			"city":  map[string]any{"enum": []string{"Paris", "Oslo \"north\""}},
			"days":  map[string]any{"type": "integer", "minimum": 1, "maximum": 7},
			"units": map[string]any{"type": "string", "pattern": "^[CF]$"},
		},
	},
})

// goodArguments checks what the grammar should have held the model to.
func goodArguments(t *testing.T, text string) {
	t.Helper()
	var a struct {
		City  string
		Days  int
		Units string
	}
	err := json.Unmarshal([]byte(text), &a)
	if err != nil || !strings.Contains("Paris Oslo \"north\"", a.City) || a.City == "" || a.Days < 1 || a.Days > 7 ||
		a.Units != "C" && a.Units != "F" {
		t.Errorf("arguments %s: %v", text, err)
	}
}

// TestToolFormats forces a call in the format of each family of models, whole and
// streamed, by the official client. The model is random: whatever is right is so
// because of the grammar and the parser.
func TestToolFormats(t *testing.T) {
	for _, template := range templates {
		t.Run(template, func(t *testing.T) {
			r := startServe(t, templated(t, template), "--parallel", "2")
			client := openai.NewClient(option.WithBaseURL(r.url+"/v1"), option.WithAPIKey("none"), option.WithMaxRetries(0))
			params := openai.ChatCompletionNewParams{
				Model:      "tiny",
				Messages:   []openai.ChatCompletionMessageParamUnion{openai.UserMessage("How is the weather?")},
				Tools:      []openai.ChatCompletionToolUnionParam{weather},
				ToolChoice: openai.ChatCompletionToolChoiceOptionUnionParam{OfAuto: openai.String("required")},
				ParallelToolCalls: openai.Bool(
					false,
				),
				MaxCompletionTokens: openai.Int(1500),
				Seed:                openai.Int(1),
				ReasoningEffort:     shared.ReasoningEffortNone,
			}
			// A format into which our rules cannot be put: there strict is refused.
			strict := template != "google-gemma-4-31B-it"
			if !strict {
				var refused *openai.Error
				_, err := client.Chat.Completions.New(context.Background(), params)
				if !errors.As(err, &refused) ||
					!strings.Contains(refused.Message, "cannot be enforced in the model's format") {
					t.Errorf("strict: %v", err)
				}
				loose := *weather.GetFunction()
				loose.Strict = openai.Bool(false)
				params.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(loose)}
			}
			whole, err := client.Chat.Completions.New(context.Background(), params)
			if err != nil {
				t.Fatal(err, r.errOut.String())
			}
			c := whole.Choices[0]
			if len(c.Message.ToolCalls) != 1 || c.FinishReason != "tool_calls" ||
				c.Message.ToolCalls[0].Function.Name != "get_weather" || c.Message.ToolCalls[0].ID == "" {
				t.Fatalf("got %s", whole.RawJSON())
			}
			if !strict {
				return
			}
			goodArguments(t, c.Message.ToolCalls[0].Function.Arguments)
			// Where a call may come, what waits for one must be a grammar too.
			free := params
			free.ToolChoice = openai.ChatCompletionToolChoiceOptionUnionParam{OfAuto: openai.String("auto")}
			free.MaxCompletionTokens = openai.Int(20)
			if _, err := client.Chat.Completions.New(context.Background(), free); err != nil {
				t.Errorf("auto: %v", err)
			}

			stream := client.Chat.Completions.NewStreaming(context.Background(), params)
			var acc openai.ChatCompletionAccumulator
			fragments := 0
			for stream.Next() {
				chunk := stream.Current()
				if !acc.AddChunk(chunk) {
					t.Error("a chunk does not belong")
				}
				for _, choice := range chunk.Choices {
					for _, d := range choice.Delta.ToolCalls {
						if d.Function.Arguments != "" {
							fragments++
						}
					}
				}
			}
			if err := stream.Err(); err != nil {
				t.Fatal(err)
			}
			calls := acc.Choices[0].Message.ToolCalls
			if len(calls) != 1 || acc.Choices[0].FinishReason != "tool_calls" {
				t.Fatalf("streamed %s", acc.RawJSON())
			}
			goodArguments(t, calls[0].Function.Arguments)
			if fragments == 0 {
				t.Error("no arguments were streamed")
			}
		})
	}
}

// person is a schema of OpenAI's strict subset.
const person = `{"type":"object","properties":{"name":{"type":"string","pattern":"^[A-Z][a-z]{1,8}$"},
"age":{"type":"integer","minimum":0,"maximum":130},
"tags":{"type":"array","items":{"enum":["a","b"]},"minItems":1,"maxItems":3},
"friend":{"anyOf":[{"$ref":"#"},{"type":"null"}]}},
"required":["name","age","tags","friend"],"additionalProperties":false}`

// TestStructuredOutput asks a random model for JSON by a schema, with templates
// that are plain, that think, and that have channels.
func TestStructuredOutput(t *testing.T) {
	for _, template := range []string{"", "Qwen-Qwen3-0.6B", "openai-gpt-oss-120b",
		"mistralai-Mistral-Nemo-Instruct-2407"} {
		t.Run(template, func(t *testing.T) {
			model := modelFile(t)
			if template != "" {
				model = templated(t, template)
			}

			r := startServe(t, model, "--ctx-size", "1024", "--parallel", "4")
			for _, stream := range []string{"false", "true"} {
				body := `{"model":"tiny","seed":3,"n":3,"max_tokens":500,"temperature":0.7,"stream":` + stream + `,
					"reasoning_effort":"none","messages":[{"role":"user","content":"Who?"}],
					"response_format":{"type":"json_schema","json_schema":{"name":"person","strict":true,"schema":` + person + `}}}`
				status, answer := r.post(t, "/v1/chat/completions", body)
				if status != 200 {
					t.Fatal(answer)
				}

				texts, ends := readChoices(t, answer, stream == "true")
				for i, text := range texts {
					var p struct {
						Name string
						Age  *int
						Tags []string
					}
					if ends[i] == "length" {
						continue // a friend's friend's friend
					}
					if err := json.Unmarshal([]byte(text), &p); err != nil || p.Name == "" || p.Age == nil || len(p.Tags) == 0 {
						t.Errorf("choice %d ends with %s: %q, %v", i, ends[i], text, err)
					}
				}

				if len(texts) != 3 {
					t.Errorf("%d choices", len(texts))
				}
			}
		})
	}
}

// readChoices reads the text of every choice and why it ended.
func readChoices(t *testing.T, answer string, streamed bool) (texts, ends map[int]string) {
	t.Helper()
	texts = map[int]string{}
	ends = map[int]string{}
	events := []string{answer}
	if streamed {
		events = strings.Split(strings.TrimSpace(answer), "\n\n")
	}

	for _, event := range events {
		data := strings.TrimPrefix(event, "data: ")
		if data == "[DONE]" {
			continue
		}
		var c struct {
			Error   any
			Choices []struct {
				Index          int
				Message, Delta struct{ Content string }
				FinishReason   string `json:"finish_reason"`
			}
		}
		if err := json.Unmarshal([]byte(data), &c); err != nil || c.Error != nil {
			t.Fatalf("%v: %s", err, data)
		}
		for _, choice := range c.Choices {
			texts[choice.Index] += choice.Message.Content + choice.Delta.Content
			if choice.FinishReason != "" {
				ends[choice.Index] = choice.FinishReason
			}
		}
	}

	return texts, ends
}

// TestContinuedAnswers gives the beginning of an answer by a schema, which may end within
// a word, and within a token. What comes is the rest of it.
func TestContinuedAnswers(t *testing.T) {
	const schema = `{"type":"object","properties":{"city":{"enum":["Paris","Oslo"]},"days":{"type":"integer",` +
		`"minimum":1,"maximum":9}},"required":["city","days"],"additionalProperties":false}`
	for _, template := range templates {
		t.Run(template, func(t *testing.T) {
			r := startServe(t, templated(t, template), "--parallel", "2")
			ask := func(beginning, more string) (int, string) {
				return r.post(
					t,
					"/v1/chat/completions",
					fmt.Sprintf(
						`{"model":"tiny","seed":1,"max_tokens":200,"reasoning_effort":"none","messages":[{"role":"user",`+
							`"content":"x"},{"role":"assistant","content":%q}]%s}`,
						beginning,
						more,
					),
				)
			}

			const byFormat = `,"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":` +
				schema + `}}`
			const tools = `,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]`
			for i, beginning := range []string{`{"city":`, `{ "ci`, `{"city": "Os`, `{"city":"Oslo","days":3}`, `{"city":`,
				`{"city": "Os`} {
				more := byFormat
				if i >= 4 { // though it might have called something
					more += tools
				}

				status, body := ask(beginning, more)
				if template == "google-gemma-4-31B-it" { // its answers by a schema begin with a fence
					if status != 400 || !strings.Contains(body, "does not fit") {
						t.Errorf("%d %s", status, body)
					}
					continue
				}

				var reply struct {
					Choices []struct{ Message struct{ Content string } }
				}
				if err := json.Unmarshal([]byte(body), &reply); err != nil || status != 200 {
					t.Fatalf("%s: %d %s", beginning, status, body)
				}

				var answer struct {
					City string
					Days int
				}
				whole := beginning + reply.Choices[0].Message.Content
				err := json.Unmarshal([]byte(whole), &answer)
				if err != nil || answer.City == "" || answer.Days == 0 ||
					strings.Contains(beginning, "Os") && answer.City != "Oslo" {
					t.Errorf("%s became %s: %v", beginning, whole, err)
				}
			}

			if status, body := ask("The city is", byFormat); status != 400 || !strings.Contains(body, "does not fit") {
				t.Errorf("%d %s", status, body)
			}
			status, body := ask("The city is", `,"max_completion_tokens":5`)
			if status != 200 ||
				strings.Contains(body, "The city") {
				t.Errorf("%d %s", status, body)
			}
		})
	}
}

// scripts are programs of the other official clients, which judge.
var scripts = []string{"tools", "responses", "conversations", "images", "batches"}

// startForScripts serves what the scripts need: tools, images, responses that are kept, files and batches.
func startForScripts(t *testing.T) *running {
	t.Helper()
	mmproj := projectorFile(t, testmodel.Projector(testmodel.MLP))
	return startServe(
		t,
		templated(t, "Qwen-Qwen2.5-7B-Instruct"),
		"--mmproj",
		mmproj,
		"--ctx-size",
		"4096",
		"--parallel",
		"2",
		"--data-dir",
		filepath.Join(t.TempDir(), "data"),
	)
}

// TestScriptsByNode runs them with Node, and those of another client: five turns with tools, and its other calls.
func TestScriptsByNode(t *testing.T) {
	for _, script := range append([]string{"aisdk", "aisdk_outputs"}, scripts...) {
		t.Run(script, func(t *testing.T) {
			r := startForScripts(t)
			cmd := exec.Command("node", script+".mjs", r.url+"/v1", "tiny")
			cmd.Dir = "testdata/node"
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestScriptsByPython runs them with Python, and LangChain's.
func TestScriptsByPython(t *testing.T) {
	for _, script := range append([]string{"langchain_clients"}, scripts...) {
		t.Run(script, func(t *testing.T) {
			r := startForScripts(t)
			python(t, []string{"HOME=" + t.TempDir()}, script+".py", r.url+"/v1", "tiny")
		})
	}
}

// TestRerank ranks with a model that has a classifier's head.
func TestRerank(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ranker.gguf")
	if err := testmodel.Write(path, testmodel.Options{Architecture: "qwen3", Pooling: 4, Classes: 1}); err != nil {
		t.Fatal(err)
	}

	r := startServe(t, path)
	status, body := r.post(
		t,
		"/v1/rerank",
		`{"model":"ranker","query":"the world","documents":["the man","a house and a garden","the world"]}`,
	)
	var b struct {
		Results []struct {
			Index int
			Score float64 `json:"relevance_score"`
		}
	}

	if err := json.Unmarshal([]byte(body), &b); err != nil || status != 200 || len(b.Results) != 3 {
		t.Fatalf("%d %s", status, body)
	}

	for i, result := range b.Results {
		if result.Score <= 0 || result.Score >= 1 || i > 0 && result.Score > b.Results[i-1].Score {
			t.Errorf("results %+v", b.Results)
		}
	}
}

// TestLargeGrammars gives llama.cpp the largest of what the compiler writes.
func TestLargeGrammars(t *testing.T) {
	r := startServe(t, modelFile(t), "--ctx-size", "1024", "--parallel", "2")
	var words []string
	for i := range 80 {
		words = append(words, fmt.Sprintf("%q", fmt.Sprint("word ", i)))
	}

	for _, document := range []string{
		`{"type":"string","minLength":900,"maxLength":1000}`,
		`{"type":"array","items":{"type":"integer"},"maxItems":1000}`,
		`{"enum":[` + strings.Join(words, ",") + `]}`,
		`{"type":"number","minimum":0,"maximum":1000,"multipleOf":0.5}`,
		`{"type":"string","pattern":"^[a-z]{1,200}$","minLength":100}`,
		`{"type":"object","patternProperties":{"^a":{"type":"null"},"b$":{"type":"null"}},"additionalProperties":false}`,
		`{"type":"string","format":"ipv6"}`, `{"type":"string","format":"date-time"}`, `{"type":"integer","multipleOf":64}`,
		`{"type":"string","pattern":"^[\\u00e0-\\u00ff😀-😆\"\\\\]+$"}`,
	} {
		status, body := r.post(
			t,
			"/v1/chat/completions",
			`{"model":"tiny","max_tokens":5,"messages":[{"role":"user","content":"x"}],`+
				`"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":`+document+`}}}`,
		)
		if status != 200 {
			t.Errorf("%.100s: %d %s", document, status, body)
		}
	}
}

// TestToolsOrSchema lets a random model choose between a call and an answer by a
// schema, in formats that write them differently. It must be able to do either.
func TestToolsOrSchema(t *testing.T) {
	allCalls := 0
	allTexts := 0
	for _, template := range []string{"", "meta-llama-Llama-3.1-8B-Instruct", "Qwen-Qwen2.5-7B-Instruct",
		"mistralai-Mistral-Nemo-Instruct-2407", "openai-gpt-oss-120b"} {
		t.Run(template, func(t *testing.T) {
			r := startServe(t, templated(t, template), "--parallel", "4")
			_, body := r.post(
				t,
				"/v1/chat/completions",
				`{"model":"tiny","seed":5,"n":24,"temperature":2,"top_k":0,"min_p":0,"max_tokens":120,
				"parallel_tool_calls":false,"reasoning_effort":"none",
				"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","strict":true,
				"parameters":{"type":"object","properties":{"a":{"enum":[1,2]}},"required":["a"],"additionalProperties":false}}}],
				"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,
				"schema":{"type":"object","properties":{"b":{"type":"boolean"}},"required":["b"],"additionalProperties":false}}}}`,
			)
			var answer struct {
				Error   any
				Choices []struct {
					Message struct {
						Content   *string
						ToolCalls []struct {
							Function struct{ Name, Arguments string }
						} `json:"tool_calls"`
					}
					FinishReason string `json:"finish_reason"`
				}
			}

			if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Error != nil {
				t.Fatal(body)
			}

			calls := 0
			texts := 0
			for _, c := range answer.Choices {
				switch {
				case c.FinishReason == "length":
				case len(c.Message.ToolCalls) > 0:
					calls++
					var a struct{ A int }
					if err := json.Unmarshal([]byte(c.Message.ToolCalls[0].Function.Arguments), &a); err != nil || a.A < 1 || a.A > 2 {
						t.Errorf("call %+v", c.Message)
					}

				default:
					texts++
					var b struct{ B *bool }
					if c.Message.Content == nil || json.Unmarshal([]byte(*c.Message.Content), &b) != nil || b.B == nil {
						t.Errorf("answer %+v", c.Message)
					}
				}
			}

			if calls+texts == 0 {
				t.Errorf("neither a call nor an answer: %.600s", body)
			}

			allCalls = allCalls + calls
			allTexts = allTexts + texts
		})
	}

	if allCalls == 0 || allTexts == 0 {
		t.Errorf("%d calls and %d answers", allCalls, allTexts)
	}
}
