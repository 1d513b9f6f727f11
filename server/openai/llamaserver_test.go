package openai_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/openai"
	"serve/server/servertest"
	"serve/testfiles"
)

// llamaCase is a request after one of the tests of llama.cpp's server.
type llamaCase struct {
	test    string // its name there
	path    string
	fields  string // of the request, but its model
	want    string // matches the status and the body of the answer
	differs string // why the answer is not what the test there wants
}

// llamaCases are those of one file, about one model.
type llamaCases struct {
	file  string // in tools/server/tests/unit
	fake  enginetest.Options
	cases []llamaCase
}

// Paths of cases.
const (
	chatPath      = "/chat/completions"
	textPath      = "/v1/completions"
	responsesPath = "/responses"
	messagesPath  = "/v1/messages"
	countPath     = "/v1/messages/count_tokens"
	embedPath     = "/v1/embeddings"
	rerankPath    = "/rerank"
)

// roomy is the limits of fakes whose prompts are long.
var roomy = engine.Limits{Context: 2048, Batch: 64}

// says returns a fake that answers with a text, which may have calls.
func says(text string) enginetest.Options {
	return enginetest.Options{Next: sayLast(text), Parse: scripted, Limits: roomy}
}

// TestLlamaServer sends the requests of llama.cpp's tests, and looks at the answers.
func TestLlamaServer(t *testing.T) {
	for _, group := range allLlamaCases() {
		hs, _ := servertest.Start(t, group.fake, server.Options{})
		for _, tt := range group.cases {
			body := `{"model":"fake",` + tt.fields + `}`
			if strings.Contains(tt.fields, `"model":`) {
				body = `{` + tt.fields + `}`
			}
			res, answer := servertest.Post(t, hs, tt.path, body)
			got := fmt.Sprintf("%d %s", res.StatusCode, answer)
			if !regexp.MustCompile(`(?s)^` + tt.want).MatchString(got) {
				t.Errorf("%s, %s: %s %s\nanswers %s\nwant    %s", group.file, tt.test, tt.path, body, got, tt.want)
			}
		}
	}
}

// TestLlamaServerLists asks for what has no body.
func TestLlamaServerLists(t *testing.T) {
	hs, _ := servertest.Start(t, seer, server.Options{})
	for path, want := range map[string]string{
		"/health":    `"status":"ok"`,
		"/models":    `"id":"fake"`,
		"/v1/models": `"id":"fake"`,
	} {
		status, body := servertest.Request(t, hs, http.MethodGet, path)
		if status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// TestCompatibilityLlamaServer writes into docs/compatibility.md where answers differ from what llama.cpp's tests want.
func TestCompatibilityLlamaServer(t *testing.T) {
	var text strings.Builder
	text.WriteString("| file | test | here |\n|---|---|---|\n")
	taken := 0
	passed := 0
	rows := map[string]bool{}
	for _, group := range allLlamaCases() {
		for _, tt := range group.cases {
			taken++
			if tt.differs == "" {
				passed++
				continue
			}
			row := fmt.Sprintf("| %s | %s | %s |\n", group.file, tt.test, tt.differs)
			if !rows[row] {
				text.WriteString(row)
			}
			rows[row] = true
		}
	}
	fmt.Fprintf(&text, "\n%d of %d cases are answered as llama.cpp's tests want.\n", passed, taken)
	testfiles.Section(t, "../../docs/compatibility.md", "llama-server", text.String(), *openai.Update)
}
