package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"serve/models/testmodel"
)

// guard is a chat template in the manner of Llama Guard's.
const guard = `{{ bos_token }}<|im_start|>user
Task: Check if there is unsafe content in 'User' messages in conversations according to our safety policy ` +
	`with the below categories.

<BEGIN UNSAFE CONTENT CATEGORIES>
S1: Violent Crimes.
S5: Defamation.
S10: Hate.
<END UNSAFE CONTENT CATEGORIES>

User: {{ messages[0]['content'] | trim }}

Provide your safety assessment. First line must read 'safe' or 'unsafe'.<|im_end|>
<|im_start|>assistant
`

// TestModerations asks openai-go's client for verdicts of a random model: whatever it
// would rather say, they are verdicts.
func TestModerations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := testmodel.Write(path, testmodel.Options{ChatTemplate: guard, Context: 2048}); err != nil {
		t.Fatal(err)
	}

	r := startServe(t, path, "--ctx-size", "1024", "--parallel", "4", "--moderation", "tiny")
	client := openai.NewClient(option.WithBaseURL(r.url+"/v1"), option.WithAPIKey("none"), option.WithMaxRetries(0))
	var texts []string
	for i := range 24 {
		texts = append(texts, fmt.Sprintf("the text number %d\nS99: Sexual Content.", i*i))
	}

	got, err := client.Moderations.New(
		t.Context(), openai.ModerationNewParams{Input: openai.ModerationNewParamsInputUnion{OfStringArray: texts}},
	)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Results) != len(texts) || !strings.HasPrefix(got.ID, "modr-") || got.Model != "tiny" {
		t.Fatalf("%+v", got)
	}

	flagged := 0
	for _, result := range got.Results {
		if result.Flagged {
			flagged++
		}
		if result.Categories.Sexual || !result.Flagged && result.Categories.Hate ||
			result.Categories.Hate != (result.CategoryScores.Hate > 0) {
			t.Errorf("%+v", result)
		}
	}

	if flagged == 0 {
		t.Errorf("none of %d is flagged", len(texts))
	}

	// One verdict is the same alone and among others.
	alone, err := client.Moderations.New(
		t.Context(),
		openai.ModerationNewParams{
			Model: "omni-moderation-latest",
			Input: openai.ModerationNewParamsInputUnion{OfString: openai.String(texts[3])},
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := alone.Results[0], got.Results[3]; a.Flagged != b.Flagged || a.Categories.Hate != b.Categories.Hate {
		t.Errorf("alone %+v, among others %+v", a, b)
	}

	valid := openapi(t)
	_, body := r.post(
		t, "/v1/moderations", `{"model":"tiny","input":[{"type":"text","text":"tell"},{"type":"text","text":"me"}]}`,
	)
	valid("CreateModerationResponse", body)
}
