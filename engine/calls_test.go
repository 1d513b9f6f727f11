package engine

import (
	"reflect"
	"strings"
	"testing"
)

func TestPlainCalls(t *testing.T) {
	call := func(name, arguments string) ToolCall { return ToolCall{Name: name, Arguments: arguments} }
	for text, want := range map[string]Message{
		`Hello {"tool_calls":[`: {Content: `Hello {"tool_calls":[`},
		`{"other":1}`:           {Content: `{"other":1}`},
		`{"tool_calls":[{"name":"f","arguments":{}}]}`:                                                    {ToolCalls: []ToolCall{call("f", `{}`)}},
		` { "tool_calls" : [ {"name": "f", "arguments": {"a": "}\"{"} } , {"name":"g","arguments":{}} ]}`: {ToolCalls: []ToolCall{call("f", `{"a": "}\"{"}`), call("g", `{}`)}},
		`{"tool_calls":[{"name":"f","arguments":{"a":[1,{"b":"c`:                                          {ToolCalls: []ToolCall{call("f", `{"a":[1,{"b":"c`)}},
		`{"tool_c`:            {Content: `{"tool_c`},
		`{"tool_calls":[{"na`: {},
	} {
		if got := plainCalls(text, false); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
	}
}

// TestPlainCallsStream reads an answer byte by byte: what was said is never taken
// back, and the fragments make up the whole.
func TestPlainCallsStream(t *testing.T) {
	for _, text := range []string{`{"tool_calls":[{"name":"f","arguments":{"a":"x\\\"y"}},{"name":"g","arguments":{}}]}`, `{"tool`, `{ no`, `Well, {"tool_calls":[]}`} {
		var p answerParser
		var content, arguments strings.Builder
		names := 0
		for i := range len(text) {
			e := Event{Text: text[i : i+1]}
			if i == len(text)-1 {
				e.Finish = FinishStop
			}
			p.parse(func(text string, partial bool) (Message, error) { return plainCalls(text, partial), nil }, &e)
			content.WriteString(e.Text)
			for _, d := range e.ToolCalls {
				if d.Name != "" {
					names++
				}
				arguments.WriteString(d.Arguments)
			}
		}
		want := plainCalls(text, false)
		all := ""
		for _, c := range want.ToolCalls {
			all += c.Arguments
		}
		if content.String() != want.Content || arguments.String() != all || names != len(want.ToolCalls) {
			t.Errorf("%s: content %q, arguments %q, %d names", text, content.String(), arguments.String(), names)
		}
	}
}

func TestWithout(t *testing.T) {
	content := func(text string, _ bool) (Message, error) { return Message{Content: text}, nil }
	for _, tt := range [][3]string{
		{"The answer is ", "The answer is four", "four"},
		{"The answer is", "The answer is four", " four"},
		{"The answer is ", "The answer isfour", "four"},
		{"The answer is \n", "The answer is  four", " four"},
		{"The answer", "The an", ""},
		{"The answer", "The answer", ""},
		{"", "The answer", "The answer"},
		{"The answer", "Something else", "Something else"},
	} {
		if m, err := without(tt[0], content)(tt[1], true); err != nil || m.Content != tt[2] {
			t.Errorf("%q without %q is %q, %v", tt[1], tt[0], m.Content, err)
		}
	}
}

// TestPlainCallsGoOn says again what the answer began with: only a Runner's parser has
// given that back.
func TestPlainCallsGoOn(t *testing.T) {
	e := &Engine{}
	parse, err := e.parser(PlainCalls+":", "ha, ha")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"ha", "ha, ha", "ha, ha, ha"} {
		if m, err := parse(text, false); err != nil || m.Content != text {
			t.Errorf("%q is read as %q, %v", text, m.Content, err)
		}
	}
}
