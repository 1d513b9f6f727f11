package main

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
)

// The real models that make judges fetches, by the names that serve gives them.
const (
	smol = "SmolLM2-135M-Instruct.Q4_1"
	half = "SmolLM2-135M-Instruct.f16" // the same, its weights written as f16
	mini = "all-MiniLM-L6-v2.f16"
)

// judges is the folder of what the tests of real models need.
var judges = filepath.Join("testdata", "judges")

// realModel returns the file of a real model.
func realModel(t *testing.T, name string) string {
	t.Helper()
	folder := os.Getenv("TEST_MODELS")
	if folder == "" {
		t.Skip("TEST_MODELS is not set: make judges runs this with real models")
	}
	return filepath.Join(folder, name+".gguf")
}

// startReal serves SmolLM2 to as many clients at once as the tests have.
func startReal(t *testing.T) *running {
	t.Helper()
	model := realModel(t, smol)
	data := filepath.Join(t.TempDir(), "data")
	return startServe(t, model, "--ctx-size", "2048", "--parallel", "32", "--kernels", nativeKernels(t),
		"--data-dir", data, "--log-level", "warn")
}

// What the official clients ask: each token of the answer is more probable than any other by a factor
// of two at least, so that no rounding changes it.
const (
	realSystem   = "Complete the sentence of the user."
	realQuestion = "The capital of France is"
)

// TestRealModel has SmolLM2 asked by the official clients, and judged by llama.cpp's own programs.
func TestRealModel(t *testing.T) {
	r := startReal(t)
	t.Run("Go", func(t *testing.T) { askByGo(t, r) })
	t.Run("tools", func(t *testing.T) { askForTools(t, r) })
	t.Run("Node", func(t *testing.T) {
		cmd := exec.Command("node", "real.mjs", r.url+"/v1", smol)
		cmd.Dir = "testdata/node"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("Python", func(t *testing.T) {
		python(t, []string{"HOME=" + t.TempDir()}, "real.py", r.url+"/v1", smol)
	})
	t.Run("answers", func(t *testing.T) { compareAnswers(t, r) })
}

// askByGo asks by openai-go.
func askByGo(t *testing.T, r *running) {
	client := openai.NewClient(option.WithBaseURL(r.url+"/v1"), option.WithAPIKey("none"), option.WithMaxRetries(0))
	params := openai.ChatCompletionNewParams{
		Model: smol,
		Messages: []openai.ChatCompletionMessageParamUnion{
			openai.SystemMessage(realSystem), openai.UserMessage(realQuestion),
		},
		MaxCompletionTokens: openai.Int(32),
		Temperature:         openai.Float(0),
		Logprobs:            openai.Bool(true),
		TopLogprobs:         openai.Int(3),
	}

	whole, err := client.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	answer := whole.Choices[0]
	if !strings.Contains(answer.Message.Content, "Paris") || answer.FinishReason != "stop" {
		t.Errorf("got %s", whole.RawJSON())
	}
	checkLogProbs(t, &answer)
	checkUsage(t, whole)

	params.StreamOptions.IncludeUsage = openai.Bool(true)
	stream := client.Chat.Completions.NewStreaming(t.Context(), params)
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		if !acc.AddChunk(stream.Current()) {
			t.Error("a chunk does not belong")
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if acc.Choices[0].Message.Content != answer.Message.Content {
		t.Errorf("streamed %q, whole %q", acc.Choices[0].Message.Content, answer.Message.Content)
	}
	checkUsage(t, &acc.ChatCompletion)

	response, err := client.Responses.New(t.Context(), responses.ResponseNewParams{
		Model:           smol,
		Instructions:    openai.String(realSystem),
		Input:           responses.ResponseNewParamsInputUnion{OfString: openai.String(realQuestion)},
		MaxOutputTokens: openai.Int(32),
		Temperature:     openai.Float(0),
	})
	if err != nil || response.OutputText() != answer.Message.Content {
		t.Errorf("response %+v, %v", response, err)
	}

	completion, err := client.Completions.New(t.Context(), openai.CompletionNewParams{
		Model:       smol,
		Prompt:      openai.CompletionNewParamsPromptUnion{OfString: openai.String("The capital of France is")},
		MaxTokens:   openai.Int(1),
		Temperature: openai.Float(0),
		Echo:        openai.Bool(true),
	})
	if err != nil || completion.Choices[0].Text != "The capital of France is Paris" {
		t.Errorf("completion %+v, %v", completion, err)
	}
}

// checkLogProbs holds an answer's log-probabilities to what a greedy answer has: the tokens
// spell it, and each is the most probable of a distribution.
func checkLogProbs(t *testing.T, c *openai.ChatCompletionChoice) {
	t.Helper()
	var spelled strings.Builder
	for _, token := range c.Logprobs.Content {
		spelled.WriteString(token.Token)
		sum := 0.0
		for _, top := range token.TopLogprobs {
			sum += math.Exp(top.Logprob)
		}
		if len(token.TopLogprobs) != 3 || token.TopLogprobs[0].Token != token.Token || sum > 1.0001 {
			t.Errorf("token %s", token.RawJSON())
		}
	}
	if spelled.String() != c.Message.Content {
		t.Errorf("the tokens spell %q, the answer is %q", &spelled, c.Message.Content)
	}
}

// checkUsage counts the tokens of an answer. The one that ended it is none of them.
func checkUsage(t *testing.T, c *openai.ChatCompletion) {
	t.Helper()
	u := c.Usage
	want := int64(len(c.Choices[0].Logprobs.Content))
	if u.PromptTokens == 0 || u.CompletionTokens != want || u.TotalTokens != u.PromptTokens+u.CompletionTokens {
		t.Errorf("usage %+v, want %d tokens of answer", u, want)
	}
}

// askForTools holds the model to tools and to a schema, which it is too small to follow by itself.
func askForTools(t *testing.T, r *running) {
	client := openai.NewClient(option.WithBaseURL(r.url+"/v1"), option.WithAPIKey("none"), option.WithMaxRetries(0))
	params := openai.ChatCompletionNewParams{
		Model: smol,
		Messages: []openai.ChatCompletionMessageParamUnion{
			openai.UserMessage("How is the weather in Paris for the next three days?"),
		},
		Tools:               []openai.ChatCompletionToolUnionParam{weather},
		ParallelToolCalls:   openai.Bool(false),
		MaxCompletionTokens: openai.Int(200),
		Temperature:         openai.Float(0),
	}
	for name, choice := range map[string]openai.ChatCompletionToolChoiceOptionUnionParam{
		"required": {OfAuto: openai.String("required")},
		"named": openai.ToolChoiceOptionFunctionToolChoice(
			openai.ChatCompletionNamedToolChoiceFunctionParam{Name: "get_weather"}),
	} {
		params.ToolChoice = choice
		reply, err := client.Chat.Completions.New(t.Context(), params)
		if err != nil {
			t.Fatal(err)
		}
		calls := reply.Choices[0].Message.ToolCalls
		if len(calls) != 1 || calls[0].Function.Name != "get_weather" {
			t.Fatalf("%s: %s", name, reply.RawJSON())
		}
		goodArguments(t, calls[0].Function.Arguments)
	}

	format := shared.ResponseFormatJSONSchemaJSONSchemaParam{
		Name:   "cook",
		Strict: openai.Bool(true),
		Schema: json.RawMessage(cook),
	}
	reply, err := client.Chat.Completions.New(t.Context(), openai.ChatCompletionNewParams{
		Model:    smol,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Describe a cook.")},
		ResponseFormat: openai.ChatCompletionNewParamsResponseFormatUnion{
			OfJSONSchema: &shared.ResponseFormatJSONSchemaParam{JSONSchema: format},
		},
		MaxCompletionTokens: openai.Int(200),
		Temperature:         openai.Float(0),
	})
	if err != nil {
		t.Fatal(err)
	}
	checkCook(t, reply.Choices[0].Message.Content)
}

// cook is a schema of OpenAI's strict subset.
const cook = `{"type":"object","properties":{"name":{"type":"string","pattern":"^[A-Z][a-z]{1,8}$"},
"age":{"type":"integer","minimum":16,"maximum":99},
"dishes":{"type":"array","items":{"enum":["soup","bread"]},"minItems":1,"maxItems":3}},
"required":["name","age","dishes"],"additionalProperties":false}`

// checkCook validates an answer by the schema cook.
func checkCook(t *testing.T, text string) {
	t.Helper()
	var c struct {
		Name   string
		Age    int
		Dishes []string
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		t.Errorf("%s: %v", text, err)
		return
	}
	named := regexp.MustCompile(`^[A-Z][a-z]{1,8}$`).MatchString(c.Name)
	aged := c.Age >= 16 && c.Age <= 99
	cooks := len(c.Dishes) >= 1 && len(c.Dishes) <= 3
	for _, dish := range c.Dishes {
		cooks = cooks && (dish == "soup" || dish == "bread")
	}
	if !named || !aged || !cooks {
		t.Errorf("not by the schema: %s", text)
	}
}
