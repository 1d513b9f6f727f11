package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

const thinkText = "<think>" // of the fake's control token

// TestControlTokensInConversations sends the text of a control token by every API, in each kind of message and in calls:
// the model reads it as text.
func TestControlTokensInConversations(t *testing.T) {
	hs, s := servertest.Start(t, enginetest.Options{Limits: engine.Limits{Context: 4096}}, server.Options{})
	recorder := servertest.Record(s)
	for _, api := range apis {
		for _, sequence := range sequences {
			if strings.Contains(sequence, "i1") {
				continue // the fake model does not see
			}
			list, _ := readSequence(sequence, "")
			for i := range list {
				if list[i].text != "" {
					list[i].text += thinkText + "."
				}
			}
			request := api.request(list)
			request["model"] = "fake"
			body, err := json.Marshal(request)
			if err != nil {
				t.Fatal(err)
			}
			// Arguments of calls are their words.
			said := strings.ReplaceAll(string(body), callWord(1), callWord(1)+thinkText)

			recorder.Last = engine.Request{}
			if res, text := servertest.Post(t, hs, api.path, said); res.StatusCode != http.StatusOK {
				t.Errorf("%s, %q: %d %s", api.path, sequence, res.StatusCode, text)
				continue
			}
			read := recorder.Last.Prompt
			if slices.Contains(read, enginetest.Think) {
				t.Errorf("%s, %q: the model reads a control token in %q", api.path, sequence, said)
			}
			// Ollama's arguments are objects, which are written anew.
			got := countText(read, thinkText) + countText(read, `\u003cthink\u003e`)
			if want := strings.Count(said, "think"); got < want {
				t.Errorf("%s, %q: of %d texts the model reads %d", api.path, sequence, want, got)
			}
		}
	}
}

// countText returns how often a text is in a prompt whose tokens are bytes.
func countText(prompt []engine.Token, text string) int {
	var b strings.Builder
	for _, token := range prompt {
		if token < 256 {
			b.WriteByte(byte(token))
		}
	}
	return strings.Count(b.String(), text)
}

// TestControlTokensInTexts sends the text of a control token where no conversation is: it is one only in prompts that
// are sent as such.
func TestControlTokensInTexts(t *testing.T) {
	hs, s := servertest.Start(t, enginetest.Options{}, server.Options{})
	recorder := servertest.Record(s)
	for path, body := range map[string]string{
		"/v1/completions": `{"model":"fake","prompt":"a<think>","max_tokens":1}`,
		"/api/generate":   `{"model":"fake","prompt":"a<think>","raw":true,"stream":false,"options":{"num_predict":1}}`,
	} {
		res, text := servertest.Post(t, hs, path, body)
		if res.StatusCode != http.StatusOK || !slices.Contains(recorder.Last.Prompt, enginetest.Think) {
			t.Errorf("%s: %d %s, the model read %v", path, res.StatusCode, text, recorder.Last.Prompt)
		}
	}

	embeds, _ := servertest.Start(t, enginetest.Options{Embeds: true}, server.Options{})
	for path, field := range map[string]string{
		"/v1/embeddings": `"input":"a<think>"`,
		"/api/embed":     `"input":"a<think>"`,
	} {
		res, text := servertest.Post(t, embeds, path, `{"model":"fake",`+field+`}`)
		want := fmt.Sprint(len("a" + thinkText))
		if res.StatusCode != http.StatusOK ||
			!strings.Contains(text, `"prompt_tokens":`+want) && !strings.Contains(text, `"prompt_eval_count":`+want) {
			t.Errorf("%s: %d %s, not of %s tokens", path, res.StatusCode, text, want)
		}
	}
}
