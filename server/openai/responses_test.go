package openai_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// TestResponses compares whole responses and their events.
func TestResponses(t *testing.T) {
	const tool = `"tools":[{"type":"function","name":"f","parameters":{"type":"object"}},{"type":"web_search"}]`
	for name, tt := range map[string]struct{ says, fields string }{
		"response":       {"Hi!", `"input":"Hello","instructions":"Be kind.","metadata":{"a":"b"},"temperature":0.7`},
		"response_cut":   {"Hello there", `"input":[{"role":"user","content":"Hello"}],"max_output_tokens":5`},
		"response_tools": {`Well.<f {"a":1}><f {}>`, `"input":"Hello",` + tool},
	} {
		t.Run(name, func(t *testing.T) {
			for ending, stream := range map[string]string{".json": "false", ".sse": "true"} {
				hs, _ := servertest.Start(t, enginetest.Options{
					Next:  sayLast(tt.says),
					Parse: scripted,
				}, server.Options{})
				res, body := servertest.Post(t, hs, "/v1/responses", `{"model":"fake","stream":`+stream+`,`+tt.fields+`}`)
				golden(t, name+ending, fmt.Sprintf("%d %s\n%s", res.StatusCode, res.Header.Get("Content-Type"), joinDeltas(body)))
			}
		})
	}
}

// sayLast says a text after the prompt's last line, whatever came before it.
func sayLast(text string) func([]engine.Token) engine.Token {
	return func(tokens []engine.Token) engine.Token {
		said := 0
		for i := len(tokens) - 1; i >= 0 && tokens[i] != '\n'; i-- {
			said++
		}
		if said < len(text) {
			return engine.Token(text[said])
		}
		return enginetest.EOS
	}
}

// joinDeltas leaves out deltas and numbers, which depend on the reader's speed, but
// checks that the deltas make up the text.
func joinDeltas(stream string) string {
	var out []string
	var text strings.Builder
	number := 0
	for _, event := range strings.SplitAfter(stream, "\n\n") {
		_, data, streamed := strings.Cut(event, "data: ")
		var e struct {
			Type           string
			SequenceNumber int `json:"sequence_number"`
			Delta          string
			Text           *string
			Arguments      *string
		}
		if !streamed || json.Unmarshal([]byte(data), &e) != nil {
			out = append(out, event)
			continue
		}
		if e.SequenceNumber != number {
			out = append(out, fmt.Sprintf("number %d instead of %d\n", e.SequenceNumber, number))
		}
		number++
		event = strings.Replace(event, fmt.Sprintf(`"sequence_number":%d`, e.SequenceNumber), `"sequence_number":0`, 1)
		if strings.HasSuffix(e.Type, ".delta") {
			text.WriteString(e.Delta)
			continue
		}
		for _, whole := range []*string{e.Text, e.Arguments} {
			if whole != nil && strings.HasSuffix(e.Type, ".done") {
				if *whole != text.String() {
					out = append(out, fmt.Sprintf("deltas make up %q\n", text.String()))
				}
				text.Reset()
			}
		}
		out = append(out, event)
	}

	return strings.Join(out, "")
}

// TestResponsesInput reads every kind of item into one conversation.
func TestResponsesInput(t *testing.T) {
	var seen []templateMessage
	hs, _ := servertest.Start(t, enginetest.Options{
		Next:        sayLast("ok"),
		RenderError: func(m []byte) error { seen = nil; return json.Unmarshal(m, &seen) },
	}, server.Options{})

	res, body := servertest.Post(t, hs, "/v1/responses", `{"model":"fake","instructions":"I","input":[
		{"role":"developer","content":"D"},{"type":"message","role":"user","content":[{"type":"input_text","text":"a"},
		{"type":"input_text","text":"b"}]},
		{"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"why"}]},
		{"type":"message","role":"assistant","id":"msg_1","status":"completed","content":[{"type":"output_text",
		"text":"c","annotations":[]}]},
		{"type":"function_call","id":"fc_1","call_id":"1","name":"f","arguments":"{\"x\":1}","status":"completed"},
		{"type":"function_call","call_id":"2","name":"g","arguments":"{}"},
		{"type":"function_call_output","call_id":"1","output":"y"},{"type":"function_call_output","call_id":"2",
		"output":[{"type":"input_text","text":"z"}]}]}`)

	if res.StatusCode != 200 {
		t.Fatal(body)
	}

	var roles []string
	for _, m := range seen {
		roles = append(roles, m.Role)
	}

	got := strings.Join(roles, " ")
	if got != "system system user assistant tool tool" &&
		got != "system developer user assistant tool tool" {
		t.Errorf("roles %s", got)
	}

	if a := seen[3]; a.Reasoning != "why" || a.Content != "c" || strings.Count(string(a.ToolCalls), `"id"`) != 2 ||
		seen[2].Content != "a\nb" || seen[5].Content != "z" {
		t.Errorf("seen %+v", seen)
	}
}

func TestBadResponses(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Parse: scripted}, server.Options{})
	for fields, param := range map[string]string{
		`"previous_response_id":"resp_1"`: "previous_response_id",
		`"truncation":"some"`:             "truncation",
		`"top_logprobs":21`:               "top_logprobs",
		`"nonsense":1`:                    "nonsense",
		`"temperature":5`:                 "temperature",
		`"tools":[{"type":"custom","name":"x","format":{"type":"grammar","syntax":"lark",
		"definition":"start: a"}}]`: "tools[0].format.definition",
		`"tools":[{"type":"namespace","name":"n"}]`:                               "tools[0].tools",
		`"tools":[{"type":"namespace","name":"n.m","tools":[]}]`:                  "tools[0].name",
		`"tools":[{"type":"function","name":"` + strings.Repeat("x", 129) + `"}]`: "tools[0].name",
		`"tools":[{"type":"function"}]`:                                           "tools[0].name",
		`"tool_choice":{"type":"function","name":"f"}`:                            "tool_choice",
		`"text":{"format":{"type":"json_schema","schema":{}}}`:                    "text.format.name",
		`"input":[]`: "input",
		`"input":[{"type":"tool_search_output","call_id":"x"}]`:                        "input[0].tools",
		`"input":[{"role":"user"}]`:                                                    "input[0].content",
		`"input":[{"role":"user","content":[{"type":"input_image","image_url":"x"}]}]`: "input[0].content[0].image_url",
		`"input":[{"type":"function_call","name":"f"}]`:                                "input[0].call_id",
	} {
		if !strings.HasPrefix(fields, `"input"`) {
			fields = `"input":"x",` + fields
		}
		res, body := servertest.Post(t, hs, "/v1/responses", `{"model":"fake",`+fields+`}`)
		var e struct{ Error struct{ Param string } }
		if err := json.Unmarshal([]byte(body), &e); err != nil || res.StatusCode != 400 || e.Error.Param != param {
			t.Errorf("%s: %d %s", fields, res.StatusCode, body)
		}
	}
}

// TestResponseFailsLate tells of an error after the first event, once.
func TestResponseFailsLate(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Next: sayLast("no JSON")}, server.Options{})
	_, body := servertest.Post(
		t, hs, "/v1/responses", `{"model":"fake","input":"x","stream":true,"text":{"format":{"type":"json_object"}}}`,
	)
	if strings.Count(body, "event: response.failed") != 1 || strings.Count(body, "event: error") != 1 ||
		strings.Contains(body, "response.completed") || !strings.Contains(body, "schema_violation") {
		t.Error(body)
	}
}

// TestResponseOutOfTime ends a stream whose time is up as one that has failed.
func TestResponseOutOfTime(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Limits: engine.Limits{Context: 1 << 20}}, server.Options{})
	body := `{"model":"fake","input":"a","stream":true}` // endless
	res, text := servertest.Ask(t, hs, "/v1/responses", body, "X-Request-Timeout-Ms: 300")
	events := strings.Split(strings.TrimSpace(text), "\n\n")
	if res.StatusCode != 200 || len(events) < 2 {
		t.Fatalf("%d %s", res.StatusCode, text)
	}
	failed := events[len(events)-2]
	last := events[len(events)-1]
	if !strings.HasPrefix(failed, "event: response.failed\n") || !strings.HasPrefix(last, "event: error\n") ||
		!strings.Contains(last, `"code":"deadline_exceeded"`) {
		t.Errorf("it ends with\n%s\n%s", failed, last)
	}
}
