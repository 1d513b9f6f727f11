package openai_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// reading starts a server whose model says "sum" to a request for a summary, and else "ok". It remembers the
// conversations that it reads.
func reading(t *testing.T, context int) (post func(path, body string) (*http.Response, string), seen *[]string) {
	t.Helper()
	seen = new([]string)
	summary := false
	hs, _ := servertest.Start(t, enginetest.Options{
		Limits: engine.Limits{Context: context, Batch: 512},
		Parse:  scripted,
		RenderError: func(m []byte) error {
			var messages []templateMessage
			err := json.Unmarshal(m, &messages)
			text := ""
			for _, m := range messages {
				text += "[" + m.Role + "]" + m.Content
				if len(m.ToolCalls) > 0 {
					text += "(calls)"
				}
			}
			summary = strings.Contains(text, "about to be replaced by a summary")
			probe := strings.Contains(text, "]word1")                        // of what the template takes
			if n := len(*seen); !probe && (n == 0 || (*seen)[n-1] != text) { // it is measured before it is answered
				*seen = append(*seen, text)
			}
			return err
		},
		Next: func(tokens []engine.Token) engine.Token {
			if summary {
				return sayLast("sum")(tokens)
			}
			return sayLast("ok")(tokens)
		},
	}, server.Options{})
	return func(path, body string) (*http.Response, string) { return servertest.Post(t, hs, path, body) }, seen
}

// compactedBody is what is looked at in a response.
type compactedBody struct {
	ID     string
	Status string
	Output []struct {
		Type, ID  string
		Encrypted string `json:"encrypted_content"`
		Content   []struct{ Text string }
	}
	Usage struct {
		Input int `json:"input_tokens"`
	}
}

// TestCompactionOfResponses compacts a conversation that is too long, and goes on from the compaction in all
// ways that clients have.
func TestCompactionOfResponses(t *testing.T) {
	long := strings.Repeat("blah ", 100)
	history := `{"role":"developer","content":"Rule."},{"role":"user","content":"` + long + `"},` +
		`{"role":"assistant","content":"Fine."}`
	const manage = `"instructions":"Be kind.","context_management":[{"type":"compaction","compact_threshold":300}]`

	for name, tt := range map[string]struct {
		last string // items
		want string // what the model reads of them
	}{
		"a question":  {`{"role":"user","content":"Next?"}`, "[user]Next?"},
		"two of them": {`{"role":"user","content":"A"},{"role":"user","content":"B"}`, "[user]A[user]B"},
		"results": {
			`{"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},` +
				`{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},` +
				`{"type":"function_call","call_id":"2","name":"f","arguments":"{}"},` +
				`{"type":"function_call_output","call_id":"1","output":"r1"},` +
				`{"type":"function_call_output","call_id":"2","output":"r2"}`,
			"[assistant](calls)[tool]r1[tool]r2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			post, seen := reading(t, 2048)
			input := `"input":[` + history
			if name == "results" { // otherwise the assistant's text belongs to the calls
				input += `,{"role":"user","content":"Do it."}`
			}
			input += "," + tt.last + `]`
			res, body := post("/v1/responses", `{"model":"fake",`+manage+`,`+input+`}`)
			var got compactedBody
			if err := json.Unmarshal([]byte(body), &got); err != nil || res.StatusCode != http.StatusOK {
				t.Fatal(err, body)
			}

			if len(*seen) != 3 || !strings.Contains((*seen)[1], long) || strings.Contains((*seen)[1], tt.want) {
				t.Fatalf("the model reads %q", *seen)
			}
			want := "[system]Be kind.[system]Rule.[user]Summary of the conversation so far:\n\nsum" + tt.want
			if (*seen)[2] != want {
				t.Errorf("the answer is to %q", (*seen)[2])
			}
			if len(got.Output) != 2 || got.Output[0].Type != "compaction" || got.Output[1].Content[0].Text != "ok" ||
				got.Usage.Input > 300 || !strings.HasSuffix(got.Output[0].ID, "_0") {
				t.Errorf("%s", body)
			}

			// Stored, sent back with everything before, or alone.
			items := fmt.Sprintf(`{"type":"compaction","encrypted_content":%q},{"role":"assistant","content":"ok"},`,
				got.Output[0].Encrypted)
			const more = `{"role":"user","content":"More?"}`
			for way, fields := range map[string]string{
				"stored": `"previous_response_id":"` + got.ID + `","input":[` + more + `]`,
				"whole":  `"input":[` + history + "," + tt.last + "," + items + more + `]`,
				"pruned": `"input":[{"role":"developer","content":"Rule."},` + items + more + `]`,
			} {
				if res, body := post("/v1/responses", `{"model":"fake",`+manage+`,`+fields+`}`); res.StatusCode != http.StatusOK ||
					strings.Contains(body, `"compaction"`) {
					t.Errorf("%s: %s", way, body)
				}
				if last := (*seen)[len(*seen)-1]; last != want+"[assistant]ok[user]More?" {
					t.Errorf("%s: the model reads %q", way, last)
				}
			}
		})
	}
}

// TestCompactionStreams compares a stream with a compaction with the whole answer.
func TestCompactionStreams(t *testing.T) {
	long := strings.Repeat("blah ", 100)
	for ending, stream := range map[string]string{".json": "false", ".sse": "true"} {
		post, _ := reading(t, 2048)
		res, body := post("/v1/responses", `{"model":"fake","stream":`+stream+`,"context_management":[{"type":"compaction",`+
			`"compact_threshold":300}],"input":[{"role":"user","content":"`+long+`"},{"role":"assistant","content":"Fine."},`+
			`{"role":"user","content":"Next?"}]}`)
		golden(t, "response_compacted"+ending,
			fmt.Sprintf("%d %s\n%s", res.StatusCode, res.Header.Get("Content-Type"), joinDeltas(body)))
	}
}

// TestNotCompacted sends conversations that are left as they are.
func TestNotCompacted(t *testing.T) {
	const manage = `"context_management":[{"type":"compaction","compact_threshold":300}]`
	for name, fields := range map[string]string{
		"short":                   manage + `,"input":"x"`,
		"only a question":         manage + `,"input":"` + strings.Repeat("blah ", 100) + `"`,
		"not asked for":           `"input":[{"role":"user","content":"` + strings.Repeat("blah ", 100) + `"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]`,
		"below the default":       `"context_management":[{"type":"compaction"}],"input":[{"role":"user","content":"` + strings.Repeat("blah ", 100) + `"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]`,
		"an empty list of it":     `"context_management":[],"input":"x"`,
		"a threshold that is off": `"context_management":[{"type":"compaction","compact_threshold":null}],"input":"x"`,
	} {
		post, seen := reading(t, 2048)
		res, body := post("/v1/responses", `{"model":"fake",`+fields+`}`)
		if res.StatusCode != http.StatusOK || strings.Contains(body, `"compaction"`) || len(*seen) != 1 {
			t.Errorf("%s: %q, %s", name, *seen, body)
		}
	}
}

// TestCompactionTrigger ends the input with a trigger, as newer clients do in place of POST /responses/compact.
func TestCompactionTrigger(t *testing.T) {
	post, seen := reading(t, 2048)
	for _, stream := range []string{"false", "true"} {
		_, body := post("/v1/responses", `{"model":"fake","input":"Hello"}`)
		first := decoded(t, body)
		res, body := post("/v1/responses", `{"model":"fake","stream":`+stream+`,"previous_response_id":"`+first.ID+
			`","input":[{"type":"compaction_trigger"}]}`)
		if stream == "true" {
			if strings.Count(body, "event: response.output_item.done") != 1 || strings.Contains(body, "delta") {
				t.Error(body)
			}
			var event struct{ Response json.RawMessage }
			if err := json.Unmarshal([]byte(body[strings.LastIndex(body, "data: ")+len("data: "):]), &event); err != nil {
				t.Fatal(err)
			}
			body = string(event.Response)
		}
		var got compactedBody
		if err := json.Unmarshal([]byte(body), &got); err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(err, body)
		}
		if len(got.Output) != 1 || got.Output[0].Type != "compaction" || got.Status != "completed" {
			t.Errorf("%s", body)
		}

		post("/v1/responses", `{"model":"fake","previous_response_id":"`+got.ID+`","input":"More?"}`)
		if last := (*seen)[len(*seen)-1]; last != "[user]Summary of the conversation so far:\n\nsum[user]More?" {
			t.Errorf("the model reads %q", last)
		}
		post("/v1/responses", `{"model":"fake","input":[{"role":"user","content":"Kept."},`+
			`{"type":"compaction","encrypted_content":"serve1.c3Vt"},{"role":"user","content":"More?"}]}`)
		if last := (*seen)[len(*seen)-1]; !strings.HasPrefix(last, "[user]Kept.[user]Summary") {
			t.Errorf("the model reads %q", last)
		}
	}
}

// TestForgedWindows sends compactions that no server has made.
func TestForgedWindows(t *testing.T) {
	post, _ := reading(t, 2048)
	for name, sealed := range map[string]string{
		"an item that is none": `serve2.eyJzdW1tYXJ5IjoiYSIsImxhc3QiOlt7InJvbGUiOiJ1c2VyIn1dfQ`, // {"role":"user"}
		"null":                 `serve2.eyJzdW1tYXJ5IjoiYSIsImxhc3QiOltudWxsXX0`,
	} {
		res, body := post("/v1/responses", `{"model":"fake","input":[{"type":"compaction","encrypted_content":"`+sealed+`"}]}`)
		if res.StatusCode != http.StatusBadRequest || !strings.Contains(body, `"input[0]`) {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
	}
	res, body := post("/v1/responses", `{"model":"fake","input":[{"role":"user","content":"a"},`+
		`{"type":"compaction","encrypted_content":"serve2.%%"}]}`)
	if res.StatusCode != http.StatusOK || res.Header.Get("X-Items-Not-Read") != "compaction" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

// TestTruncation leaves out the oldest messages of what is too long, and nothing of what fits.
func TestTruncation(t *testing.T) {
	hundred := strings.Repeat("x", 100)
	turn := func(said string) string {
		return `{"role":"user","content":"` + said + hundred + `"},{"role":"assistant","content":"` + said + hundred + `"},`
	}
	called := `{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},` +
		`{"type":"function_call_output","call_id":"1","output":"` + hundred + `"},`
	const rule = `{"role":"system","content":"Rule."},`
	const last = `{"role":"user","content":"Last"}`

	for name, tt := range map[string]struct {
		items  string
		fields string
		status int
		want   string // what the answer is to; x stands for a hundred
		left   string // the header
	}{
		"it fits": {rule + turn("a") + last, ``, 200, "[system]Rule.[user]ax[assistant]ax[user]Last", ""},
		"too long": {rule + turn("a") + turn("b") + turn("c") + last, ``, 200,
			"[system]Rule.[assistant]bx[user]cx[assistant]cx[user]Last", "oldest messages dropped: 3"},
		"with room for a longer answer": {rule + turn("a") + turn("b") + turn("c") + last, `,"max_output_tokens":250`, 200,
			"[system]Rule.[user]cx[assistant]cx[user]Last", "oldest messages dropped: 4"},
		"results stay with their calls": {turn("a") + `{"role":"user","content":"` + hundred + hundred + `"},` + called +
			last, `,"max_output_tokens":200`, 200, "[assistant](calls)[tool]x[user]Last", "oldest messages dropped: 3"},
		"one message":   {`{"role":"user","content":"` + strings.Repeat(hundred, 6) + `"}`, ``, 400, "", ""},
		"the last one":  {turn("a") + `{"role":"user","content":"` + strings.Repeat(hundred, 6) + `"}`, ``, 400, "", ""},
		"not asked for": {rule + turn("a") + turn("b") + turn("c") + last, `,"truncation":"disabled"`, 400, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			post, seen := reading(t, 500)
			fields := tt.fields
			if !strings.Contains(fields, "truncation") {
				fields += `,"truncation":"auto"`
			}
			res, body := post("/v1/responses", `{"model":"fake","input":[`+tt.items+`]`+fields+`}`)
			if res.StatusCode != tt.status {
				t.Fatalf("%d %s", res.StatusCode, body)
			}
			if tt.status == http.StatusBadRequest {
				if !strings.Contains(body, "context_length_exceeded") {
					t.Error(body)
				}
				return
			}
			got := strings.ReplaceAll((*seen)[len(*seen)-1], hundred, "x")
			if got != tt.want || strings.Join(res.Header.Values("X-Prompt-Changed"), "|") != tt.left {
				t.Errorf("%q: %q", got, res.Header.Values("X-Prompt-Changed"))
			}
		})
	}
}
