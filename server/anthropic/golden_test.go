package anthropic_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"serve/server/servertest"
)

const twoTools = `"tools":[{"name":"f","description":"d","input_schema":{"type":"object"}},` +
	`{"type":"custom","name":"g","input_schema":{"type":"object","properties":{"b":{"type":"array"}}}}]`

// transcripts are requests, and what the model says to them.
var transcripts = map[string]struct{ says, fields string }{
	"basic":       {"Hi \"\u20ac\"\n", servertest.Hello},
	"system":      {"Hi", `"system":"Be brief.",` + servertest.Hello},
	"empty":       {"", servertest.Hello},
	"max_tokens":  {"Hello there", servertest.Hello + `,"max_tokens":5`},
	"stop":        {"one two three", servertest.Hello + `,"stop_sequences":["four","two"]`},
	"stop_unseen": {"one two three", servertest.Hello + `,"stop_sequences":["four"]`},
	"sampling":    {"Hi", servertest.Hello + `,"temperature":0.5,"top_p":0.9,"top_k":40,"metadata":{"user_id":"u"}`},
	"multipart": {"Hi", `"messages":[{"role":"user","content":[
		{"type":"text","text":"one"},{"type":"text","text":"two","cache_control":{"type":"ephemeral"}}]}]`},
	"conversation": {
		"Hi",
		`"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]`,
	},
	"prefill": {"lo there", `"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"Hel"}]`},
	"image": {"A picture", `"messages":[{"role":"user","content":[{"type":"text","text":"What is it?"},
		{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + pixel + `"}}]}]`},

	"thinking":         {"(Hm, a greeting.)Hi", servertest.Hello + `,"thinking":{"type":"enabled","budget_tokens":1024}`},
	"thinking_only":    {"(Hm, a greeting", servertest.Hello + `,"max_tokens":6`},
	"thinking_omitted": {"(Hm)Hi", servertest.Hello + `,"thinking":{"type":"adaptive","display":"omitted"}`},
	"thinking_call":    {`(Hm)Well.<f {"a":1}>`, servertest.Hello + `,` + twoTools},

	"call": {`<f {"a":1}>`, servertest.Hello + `,` + twoTools},
	"calls": {
		`Well. <f {"a":1}><g {"b":[2]}><f {}>`,
		servertest.Hello + `,` + twoTools + `,"tool_choice":{"type":"any"}`,
	},
	"call_named": {
		`<g {}>`,
		servertest.Hello + `,` + twoTools + `,"tool_choice":{"type":"tool","name":"g","disable_parallel_tool_use":true}`,
	},
	"call_empty": {`<f >`, servertest.Hello + `,` + twoTools},
	"call_none":  {`No.`, servertest.Hello + `,` + twoTools + `,"tool_choice":{"type":"none"}`},
	"result": {"Fine", twoTools + `,"messages":[{"role":"user","content":"a"},
		{"role":"assistant","content":[{"type":"tool_use","id":"toolu_1","name":"f","input":{"a":1}}]},
		{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"sun"},{"type":"text",
		"text":"So?"}]}]`},
}

// TestGolden compares whole answers.
func TestGolden(t *testing.T) {
	for name, tt := range transcripts {
		t.Run(name, func(t *testing.T) {
			hs, _ := start(t, tt.says)
			res, text := servertest.Post(t, hs, messages, body(tt.fields))
			var indented bytes.Buffer
			if err := json.Indent(&indented, []byte(text), "", " "); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			golden(t, name+".json", fmt.Sprintf("%d %s\n%s\n", res.StatusCode, res.Header.Get("Content-Type"), &indented))
		})
	}
}

// TestGoldenStreams compares whole streams.
func TestGoldenStreams(t *testing.T) {
	for name, tt := range transcripts {
		t.Run(name, func(t *testing.T) {
			hs, _ := start(t, tt.says)
			res, text := servertest.Post(t, hs, messages+"?beta=true", body(tt.fields+`,"stream":true`))
			short := write(t, joined(events(t, text)))
			golden(t, name+".sse", fmt.Sprintf("%d %s\n%s", res.StatusCode, res.Header.Get("Content-Type"), short))
		})
	}
}

// message is what clients make of a stream, by the rules of Anthropic's own.
type message struct {
	fields  map[string]any
	blocks  []map[string]any
	inputs  []string // by block
	open    int      // index of the open block; -1 for none
	stopped bool
}

// add applies an event.
func (m *message) add(t testing.TB, e event) {
	t.Helper()
	if m.stopped || m.fields == nil != (e.name == "message_start") {
		t.Fatalf("%s comes at the wrong time", e.name)
	}
	index, about := e.data["index"].(float64)
	if about && e.name != "content_block_start" && int(index) != m.open {
		t.Fatalf("%s of block %v, while %d is open", e.name, index, m.open)
	}

	switch e.name {
	case "message_start":
		m.fields, _ = e.data["message"].(map[string]any)
		m.open = -1
		if input := m.usage()["input_tokens"]; input == 0.0 || len(m.fields["content"].([]any)) > 0 {
			t.Errorf("the message begins with %v", m.fields)
		}
	case "content_block_start":
		if m.open >= 0 || int(index) != len(m.blocks) {
			t.Fatalf("block %v begins while %d is open, after %d", index, m.open, len(m.blocks))
		}
		m.open = int(index)
		m.blocks = append(m.blocks, e.data["content_block"].(map[string]any))
		m.inputs = append(m.inputs, "")
	case "content_block_delta":
		m.addDelta(t, e.data["delta"].(map[string]any))
	case "content_block_stop":
		if input := m.inputs[m.open]; input != "" {
			var object map[string]any
			if err := json.Unmarshal([]byte(input), &object); err != nil {
				t.Fatalf("%s: %v", input, err)
			}
			m.blocks[m.open]["input"] = object
		}
		m.open = -1
	case "message_delta":
		for field, value := range e.data["delta"].(map[string]any) {
			m.fields[field] = value
		}
		for field, value := range e.data["usage"].(map[string]any) {
			m.usage()[field] = value
		}
	case "message_stop":
		m.stopped = len(e.data) == 1
	default:
		t.Errorf("an event called %s", e.name)
	}
}

func (m *message) usage() map[string]any { return m.fields["usage"].(map[string]any) }

func (m *message) addDelta(t testing.TB, delta map[string]any) {
	t.Helper()
	field := map[any]string{
		"text_delta":       "text",
		"thinking_delta":   "thinking",
		"signature_delta":  "signature",
		"input_json_delta": "partial_json",
	}[delta["type"]]
	text, ok := delta[field].(string)
	if !ok {
		t.Fatalf("a delta %v", delta)
	}
	if field == "partial_json" {
		m.inputs[m.open] += text
		return
	}
	// A field that is not there cannot be added to.
	m.blocks[m.open][field] = m.blocks[m.open][field].(string) + text
}

// TestStreamsEqualWholeAnswers adds up streams, which must give the message that is answered whole.
func TestStreamsEqualWholeAnswers(t *testing.T) {
	for name, tt := range transcripts {
		t.Run(name, func(t *testing.T) { compareStream(t, tt.says, tt.fields) })
	}
}

// TestAnyStreamEqualsTheWholeAnswer does the same with answers of any shape.
func TestAnyStreamEqualsTheWholeAnswer(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	words := []string{"one ", "\u20ac", "\"two\"", "\\", "\n", " ", "three"}
	some := func(n int) string {
		var b strings.Builder
		for range random.IntN(n) {
			b.WriteString(words[random.IntN(len(words))])
		}
		return b.String()
	}

	for range 60 {
		says := some(6)
		if random.IntN(2) == 0 {
			says = "(" + some(6) + ")" + says
		}
		for range random.IntN(4) {
			// A stop sequence in a call would cut it off: TestTruncatedCall.
			a := strings.ReplaceAll(some(4), "three", "four")
			input, err := json.Marshal(map[string]any{"a": a, "b": []int{random.IntN(9)}})
			if err != nil {
				t.Fatal(err)
			}
			says += "<" + string(rune('f'+random.IntN(2))) + " " + string(input) + ">"
		}
		fields := servertest.Hello + `,` + twoTools + `,"max_tokens":300,"stop_sequences":["three"]`
		if random.IntN(2) == 0 {
			fields += `,"thinking":{"type":"adaptive","display":"omitted"}`
		}
		compareStream(t, says, fields)
	}
}

// compareStream asks for an answer as a stream and whole, and compares what clients get of it.
func compareStream(t *testing.T, says, fields string) {
	t.Helper()
	hs, _ := start(t, says)
	_, stream := servertest.Post(t, hs, messages, body(fields+`,"stream":true`))
	m := &message{}
	for _, e := range events(t, stream) {
		m.add(t, e)
	}
	if !m.stopped {
		t.Fatalf("no end: %s", stream)
	}
	content := make([]any, len(m.blocks))
	for i, b := range m.blocks {
		content[i] = b
	}
	m.fields["content"] = content
	streamed, err := json.Marshal(m.fields)
	if err != nil {
		t.Fatal(err)
	}

	hs, _ = start(t, says)
	_, whole := servertest.Post(t, hs, messages, body(fields))
	if got, want := settled(t, string(streamed)), settled(t, whole); !reflect.DeepEqual(got, want) {
		t.Errorf("%q, streamed %v\nwhole    %v", says, got, want)
	}
}

// settled reads a message, without what differs from run to run.
func settled(t *testing.T, text string) (m map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(changing.ReplaceAllString(text, "${1}0")), &m); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return m
}

// TestTruncatedCall leaves a call that was cut off out of a whole answer, so that nobody acts on a
// part of it, and says in a stream why it is not whole.
func TestTruncatedCall(t *testing.T) {
	fields := servertest.Hello + `,` + twoTools + `,"max_tokens":12`
	hs, _ := start(t, `<f {"a":"aaaaaaaaaaaa"}>`)
	_, text := servertest.Post(t, hs, messages, body(fields))
	if !strings.Contains(text, `"content":[{"type":"text","text":""}],"stop_reason":"max_tokens"`) {
		t.Errorf("whole: %s", text)
	}

	_, stream := servertest.Post(t, hs, messages, body(fields+`,"stream":true`))
	if !strings.Contains(stream, `"name":"f"`) || !strings.Contains(stream, `"stop_reason":"max_tokens"`) {
		t.Errorf("streamed: %s", stream)
	}
}

// TestContextFills tells the end of the context from the end of max_tokens.
func TestContextFills(t *testing.T) {
	hs, _ := start(t, strings.Repeat("word ", 2000))
	_, text := servertest.Post(t, hs, messages, body(servertest.Hello+`,"max_tokens":100000`))
	if !strings.Contains(text, `"stop_reason":"model_context_window_exceeded"`) {
		t.Errorf("the end: %s", text[len(text)-400:])
	}
}

// TestUsage counts what is read from the cache apart from the rest of the prompt.
func TestUsage(t *testing.T) {
	hs, _ := start(t, "Hi")
	counts := func(stream string) (input, read, output float64) {
		_, text := servertest.Post(t, hs, messages, body(servertest.Hello+stream))
		if stream != "" {
			list := events(t, text)
			text = write(t, list[len(list)-2:len(list)-1])
			text = text[strings.Index(text, "{"):]
		}
		var m struct {
			Usage struct {
				Input  float64 `json:"input_tokens"`
				Read   float64 `json:"cache_read_input_tokens"`
				Output float64 `json:"output_tokens"`
			}
		}
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		return m.Usage.Input, m.Usage.Read, m.Usage.Output
	}

	all, none, said := counts("")
	if all == 0 || none != 0 || said != 2 {
		t.Errorf("first %v, %v, %v", all, none, said)
	}
	for _, stream := range []string{"", `,"stream":true`} {
		input, read, output := counts(stream)
		if input < 1 || read == 0 || input+read != all || output != said {
			t.Errorf("again %v, %v, %v of %v", input, read, output, all)
		}
	}
}
