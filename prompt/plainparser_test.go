package prompt

import (
	"reflect"
	"strings"
	"testing"

	"serve/engine"
)

// parsed is the sum of what a parser returned.
type parsed struct {
	content string
	calls   []string // name and arguments
}

// parsePieces has a parser read a text in pieces of n bytes.
func parsePieces(t *testing.T, p engine.Parser, text string, n int) (sum parsed) {
	t.Helper()
	defer p.Close()
	for begin := 0; begin == 0 || begin < len(text); begin += n {
		end := min(begin+n, len(text))
		d, err := p.Append(text[begin:end], end == len(text))
		if err != nil {
			t.Fatal(err)
		}
		sum.content += d.Content
		for _, c := range d.ToolCalls {
			if c.Name != "" {
				sum.calls = append(sum.calls, c.Name+" ")
			}
			if c.Index != len(sum.calls)-1 {
				t.Fatalf("a part of call %d after %d calls", c.Index, len(sum.calls))
			}
			sum.calls[c.Index] += c.Arguments
		}
	}
	return sum
}

func TestPlainParser(t *testing.T) {
	for text, want := range map[string]parsed{
		`Hello {"tool_calls":[`:   {content: `Hello {"tool_calls":[`},
		"":                        {},
		`{"other":1}`:             {content: `{"other":1}`},
		`{"tool`:                  {content: `{"tool`},
		"  { no":                  {content: "  { no"},
		`Well, {"tool_calls":[]}`: {content: `Well, {"tool_calls":[]}`},
		`{"tool_calls":[{"na`:     {},
		`{"tool_calls":[{"name":"f","arguments":{}}]}`: {calls: []string{"f {}"}},
		` { "tool_calls" : [ {"name": "f", "arguments": {"a": "}\"{"} } , {"name":"g","arguments":{}} ]}`: {
			calls: []string{`f {"a": "}\"{"}`, "g {}"},
		},
		`{"tool_calls":[{"name":"f","arguments":{"a":[1,{"b":"c`:           {calls: []string{`f {"a":[1,{"b":"c`}},
		`{"tool_calls":[{"name":"f","arguments":{"a":"x\\\"y"}}] and more`: {calls: []string{`f {"a":"x\\\"y"}`}},
		`{"tool_calls":[{"name":5,"arguments":{}}]}`:                       {},
	} {
		for n := 1; n <= len(text)+1; n++ {
			if got := parsePieces(t, newPlainParser(nil), text, n); !reflect.DeepEqual(got, want) {
				t.Errorf("%s in pieces of %d: got %q, want %q", text, n, got, want)
			}
		}
	}
}

// FuzzPlainParser reads any text in pieces, and whole.
func FuzzPlainParser(f *testing.F) {
	f.Add(`{"tool_calls":[{"name":"f","arguments":{"a": "}\"{"} },{"name":"g","arguments":{}}]}`, 3)
	f.Add(`{"tool`, 1)
	f.Fuzz(func(t *testing.T, text string, n int) {
		whole := parsePieces(t, newPlainParser(nil), text, len(text)+1)
		n = max(n, 1) % 64
		if got := parsePieces(t, newPlainParser(nil), text, max(n, 1)); !reflect.DeepEqual(got, whole) {
			t.Errorf("%q in pieces of %d: got %q, whole %q", text, n, got, whole)
		}
		if whole.calls == nil && whole.content != "" && whole.content != text {
			t.Errorf("%q is read as %q", text, whole.content)
		}
	})
}

// thinker is a parser of what is thought before a bar, and said after it.
type thinker struct {
	said   bool
	closed *bool
}

func (p *thinker) Close() { *p.closed = true }

func (p *thinker) Append(text string, _ bool) (d engine.Delta, err error) {
	if !p.said {
		d.Reasoning, text, p.said = strings.Cut(text, "|")
	}
	d.Content = text
	return d, nil
}

// TestPlainParserReadsContent has calls behind a thought.
func TestPlainParserReadsContent(t *testing.T) {
	closed := false
	p := newPlainParser(&thinker{closed: &closed})
	d, err := p.Append(`hm|{"tool_calls":[{"name":"f","arguments":{`, false)
	want := []engine.ToolCallDelta{{Name: "f"}, {Arguments: "{"}}
	if err != nil || d.Reasoning != "hm" || d.Content != "" || !reflect.DeepEqual(d.ToolCalls, want) {
		t.Errorf("got %+v, %v", d, err)
	}
	if p.Close(); !closed {
		t.Error("the inner parser was not closed")
	}
}
