package prompt

import (
	"slices"
	"strings"
	"testing"

	"serve/fault"
)

// TestReadable tells JSON that llama.cpp reads from what it does not.
func TestReadable(t *testing.T) {
	for text, want := range map[string]bool{
		`{"a":1}`: true, `{"a":1e300}`: true, `{"a":1e400}`: false, `{"a":`: false, `NaN`: false, ``: false,
		strings.Repeat("9", 400): false,
	} {
		if got := readable(text); got != want {
			t.Errorf("%.20s: %t", text, got)
		}
	}
}

// TestMendSurrogates leaves pairs, and replaces halves.
func TestMendSurrogates(t *testing.T) {
	for text, want := range map[string]string{
		`"a"`:                  `"a"`,
		`"\ud83d\ude00"`:       `"\ud83d\ude00"`,
		`"\ud83d"`:             `"\ufffd"`,
		`"\ude00\ud83dx"`:      `"\ufffd\ufffdx"`,
		`"\\ud83d"`:            `"\\ud83d"`,
		`"\ud83d\ud83d\ude00"`: `"\ufffd\ud83d\ude00"`,
		`"\u00e9`:              `"\u00e9`,
	} {
		if got := mendSurrogates(text); got != want {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
	}
}

// TestObjectsAlone compiles parameters, which are an object whatever else their schema says.
func TestObjectsAlone(t *testing.T) {
	for parameters, good := range map[string]bool{
		`{}`: true, `{"properties":{"a":{"type":"string"}}}`: true, `{"type":["object","null"]}`: true,
		`{"enum":[1,{"a":1}]}`:                            true,
		`{"anyOf":[{"type":"string"},{"properties":{}}]}`: true,
		`{"type":"string"}`:                               false, `{"enum":["a"]}`: false, `{"minimum":1e400}`: false,
	} {
		tool := Tool{Name: "f", Parameters: []byte(parameters), Field: "x"}
		e := tool.Compile(0, nil)
		if good != (e == nil) || !good && e.Kind != fault.InvalidSchema {
			t.Errorf("%s: %v", parameters, e)
		}
		if parameters == `{"type":["object","null"]}` && !strings.Contains(tool.arguments.Rules, "arguments-0-0 ::= \"{\"") {
			t.Errorf("%s: %s", parameters, tool.arguments.Rules)
		}
	}
}

// TestShortIDs maps IDs to nine letters and digits, the same for a call and its result, and never two to one.
func TestShortIDs(t *testing.T) {
	a := adapter{messages: []Message{
		{Role: Assistant, Calls: []ToolCall{{ID: "call_1"}, {ID: "abcdefghi"}, {ID: "call_2"}}},
		{Role: ToolRole, CallID: "call_2"}, {Role: ToolRole, CallID: "call_1"}, {Role: ToolRole, CallID: "abcdefghi"},
	}}
	a.shortIDs()
	calls := a.messages[0].Calls
	if calls[1].ID != "abcdefghi" || a.messages[1].CallID != calls[2].ID || a.messages[2].CallID != calls[0].ID {
		t.Errorf("%+v", a.messages)
	}
	if calls[0].ID == calls[2].ID || !isShort(calls[0].ID) || !isShort(calls[2].ID) {
		t.Errorf("%+v", calls)
	}
	if !slices.Equal(a.notes, []string{NoteCallIDs}) {
		t.Errorf("notes %q", a.notes)
	}
}

// TestNamesAlike gives an alias to the second of two tools whose rules would be the same.
func TestNamesAlike(t *testing.T) {
	tools := Tools{List: []Tool{{Name: "a_b"}, {Name: "a-b"}, {Name: "call"}, {Name: "c"}}}
	tools.setAliases()
	for i, want := range []bool{false, true, true, false} {
		if got := tools.List[i].alias != ""; got != want {
			t.Errorf("%s: %t", tools.List[i].Name, got)
		}
	}
}

// TestResultsInOrder puts results into the order of their calls, and names their functions.
func TestResultsInOrder(t *testing.T) {
	for calls, c := range map[string]struct{ results, want string }{
		"a b":   {"b a", "a b"},
		"a b c": {"c a b", "a b c"},
		"a":     {"b a", "b a"}, // one call: nothing to mix up
		"b c":   {"x c b", "b c x"},
		"a a":   {"a a", "a a"},
	} {
		messages := []Message{{Role: Assistant}}
		for id := range strings.FieldsSeq(calls) {
			messages[0].Calls = append(messages[0].Calls, ToolCall{ID: id, Name: "f" + id})
		}
		for id := range strings.FieldsSeq(c.results) {
			messages = append(messages, Message{Role: ToolRole, CallID: id})
		}

		a := adapter{messages: messages}
		a.results()
		var got []string
		for _, m := range a.messages[1:] {
			got = append(got, m.CallID)
			if named := m.CallName == "f"+m.CallID; named != strings.Contains(calls, m.CallID) {
				t.Errorf("%s: the result of %s is named %q", calls, m.CallID, m.CallName)
			}
		}
		changed := c.results != c.want
		if strings.Join(got, " ") != c.want || slices.Contains(a.notes, NoteCallsPaired) != changed {
			t.Errorf("%s, %s: %s, notes %s", calls, c.results, got, a.notes)
		}
	}
}

// TestNameIDs gives results the IDs that a template counts for their calls.
func TestNameIDs(t *testing.T) {
	for whole, want := range map[bool][]string{
		true:  {"functions.f:0", "functions.g:1", "functions.f:2", "functions.f:3"},
		false: {"functions.f:0", "functions.g:1", "functions.f:0", "functions.f:1"},
	} {
		known := &template{answers: map[probe]bool{{namedIDsCount, false}: whole}}
		a := adapter{template: known, messages: []Message{
			{Role: Assistant, Calls: []ToolCall{{ID: "1", Name: "f"}, {ID: "2", Name: "g"}}},
			{Role: ToolRole, CallID: "1"}, {Role: ToolRole, CallID: "2"},
			{Role: Assistant, Calls: []ToolCall{{ID: "1", Name: "f"}, {ID: "1", Name: "f"}}}, // IDs that come again
			{Role: ToolRole, CallID: "1"}, {Role: ToolRole, CallID: "1"}, {Role: ToolRole, CallID: "other"},
		}}
		a.nameIDs()

		var called, answered []string
		for _, m := range a.messages {
			for _, c := range m.Calls {
				called = append(called, c.ID)
			}
			if m.Role == ToolRole {
				answered = append(answered, m.CallID)
			}
		}
		if !slices.Equal(called, want) || !slices.Equal(answered, append(want, "other")) {
			t.Errorf("%t: calls %s, results %s", whole, called, answered)
		}
		if !slices.Equal(a.notes, []string{NoteCallIDs}) {
			t.Errorf("notes %q", a.notes)
		}
	}
}

// TestFill gives messages without text one, if the template refuses them.
func TestFill(t *testing.T) {
	for refused, want := range map[bool]string{false: ",a,", true: noText + ",a,"} {
		known := &template{answers: map[probe]bool{{emptyTexts, false}: !refused}}
		a := adapter{template: known, messages: []Message{
			{Role: User, Content: " "},
			{Role: Assistant, Content: "a"},
			{Role: Assistant, Calls: []ToolCall{{}}}, // says something
		}}
		a.fill()

		var texts []string
		for _, m := range a.messages {
			texts = append(texts, strings.TrimSpace(m.Content))
		}
		if got := strings.Join(texts, ","); got != want || slices.Contains(a.notes, NoteTextAdded) != refused {
			t.Errorf("refused %t: %q, notes %s", refused, got, a.notes)
		}
	}
}
