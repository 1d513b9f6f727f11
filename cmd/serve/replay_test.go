package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// recorded serves OpenAI's recorded streams, which lie beside some checkouts: the
// model of a request is the name of one.
func recorded(t *testing.T) string {
	t.Helper()
	const folder = "../../../shared/data/openai-streams"
	if _, err := os.Stat(folder); err != nil {
		t.Skip("OpenAI's recorded streams do not lie beside this checkout: ", err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request struct{ Model string }
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		http.ServeFile(w, r, filepath.Join(folder, filepath.Base(request.Model)+".sse"))
	}))
	t.Cleanup(s.Close)
	return s.URL + "/v1"
}

// TestRecordedStreamsByNode plays OpenAI's recorded streams and ours to the npm
// package openai: what comes out must have the same shape.
func TestRecordedStreamsByNode(t *testing.T) {
	theirs := recorded(t)
	r := startServe(t, templated(t, "Qwen-Qwen2.5-7B-Instruct"), "--ctx-size", "4096", "--parallel", "4")
	cmd := exec.Command("node", "replay.mjs", r.url+"/v1", "tiny", theirs)
	cmd.Dir = "testdata/node"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestRecordedStreamsByPython does the same with PyPI's.
func TestRecordedStreamsByPython(t *testing.T) {
	theirs := recorded(t)
	r := startServe(t, templated(t, "Qwen-Qwen2.5-7B-Instruct"), "--ctx-size", "4096", "--parallel", "4")
	python(t, []string{"HOME=" + t.TempDir()}, "replay.py", r.url+"/v1", "tiny", theirs)
}

// TestRecordedStreamsByGo adds them up by openai-go's accumulator, to the end: it
// refuses a stream whose chunks do not belong together.
func TestRecordedStreamsByGo(t *testing.T) {
	theirs := recorded(t)
	r := startServe(t, templated(t, "Qwen-Qwen2.5-7B-Instruct"), "--ctx-size", "4096", "--parallel", "4")
	for name, tools := range map[string]bool{"a491adda08c3": false, "f82268f2fefd": true} {
		add := func(url, model string) *openai.ChatCompletionAccumulator {
			client := openai.NewClient(option.WithBaseURL(url), option.WithAPIKey("none"), option.WithMaxRetries(0))
			params := openai.ChatCompletionNewParams{
				Model:    model,
				Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("How is the weather?")},
				StreamOptions: openai.ChatCompletionStreamOptionsParam{
					IncludeUsage: openai.Bool(true),
				},
				Seed:                openai.Int(1),
				MaxCompletionTokens: openai.Int(400),
			}
			if tools {
				f := openai.FunctionDefinitionParam{
					Name: "GetWeatherArgs",
					Parameters: map[string]any{
						"type":       "object",
						"properties": map[string]any{"city": map[string]any{"enum": []string{"Oslo"}}},
						"required":   []string{"city"},
					},
				}
				params.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(f)}
				params.ToolChoice = openai.ChatCompletionToolChoiceOptionUnionParam{OfAuto: openai.String("required")}
			} else {
				params.N = openai.Int(3)
			}

			stream := client.Chat.Completions.NewStreaming(t.Context(), params)
			var acc openai.ChatCompletionAccumulator
			for stream.Next() {
				if !acc.AddChunk(stream.Current()) {
					t.Errorf("%s of %s: a chunk does not belong", name, url)
				}
			}

			if err := stream.Err(); err != nil {
				t.Fatal(err)
			}

			return &acc
		}

		want := add(theirs, name)
		got := add(r.url+"/v1", "tiny")
		if got.Usage.TotalTokens == 0 || want.Usage.TotalTokens == 0 ||
			tools != (len(got.Choices[0].Message.ToolCalls) > 0) || !tools && len(got.Choices) != len(want.Choices) {
			t.Errorf("%s: ours %+v, recorded %+v", name, got, want)
		}

		for i := range got.Choices {
			for k, call := range got.Choices[i].Message.ToolCalls {
				theirs := want.Choices[0].Message.ToolCalls[0]
				if call.Type != theirs.Type || call.ID == "" || !json.Valid([]byte(call.Function.Arguments)) {
					t.Errorf("%s: call %d is %+v, recorded %+v", name, k, call, theirs)
				}
			}
		}
	}
}
