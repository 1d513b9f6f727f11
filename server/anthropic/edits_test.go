package anthropic_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"serve/server/servertest"
)

// worked is a conversation with three uses of tools in two turns, each with thinking. Results are longer than what
// takes their place.
var worked = regexp.MustCompile(`"r-\d`).ReplaceAllString(worn, "$0"+strings.Repeat(" result", 20))

const worn = `"tools":[{"name":"f","input_schema":{"type":"object"}},{"name":"g","input_schema":{"type":"object"}}],` +
	`"messages":[{"role":"user","content":"One"},` +
	`{"role":"assistant","content":[{"type":"thinking","thinking":"t-1","signature":""},` +
	`{"type":"tool_use","id":"1","name":"f","input":{"path":"i-1"}}]},` +
	`{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"r-1"}]},` +
	`{"role":"assistant","content":[{"type":"thinking","thinking":"t-2","signature":""},` +
	`{"type":"tool_use","id":"2","name":"g","input":{"path":"i-2"}}]},` +
	`{"role":"user","content":[{"type":"tool_result","tool_use_id":"2","content":"r-2"}]},` +
	`{"role":"assistant","content":"Done."},{"role":"user","content":"Two"},` +
	`{"role":"assistant","content":[{"type":"thinking","thinking":"t-3","signature":""},` +
	`{"type":"tool_use","id":"3","name":"f","input":{"path":"i-3"}}]},` +
	`{"role":"user","content":[{"type":"tool_result","tool_use_id":"3","content":"r-3"}]}]`

// TestContextEdits checks what edits remove, and what the answer says of it, whole and streamed.
func TestContextEdits(t *testing.T) {
	const all = "t-1 i-1 r-1 t-2 i-2 r-2 t-3 i-3 r-3"
	uses := func(fields string) string { return `{"type":"clear_tool_uses_20250919"` + fields + `}` }
	thinking := func(fields string) string { return `{"type":"clear_thinking_20251015"` + fields + `}` }
	const now = `,"trigger":{"type":"input_tokens","value":1}`

	for name, tt := range map[string]struct {
		edits   string
		left    string
		applied string // by type: how many
	}{
		"none":                 {``, all, ``},
		"below its trigger":    {uses(``), all, ``},
		"few uses":             {uses(now), all, ``},
		"results":              {uses(now + `,"keep":{"type":"tool_uses","value":1}`), "t-1 i-1 t-2 i-2 t-3 i-3 r-3", `tool_uses 2`},
		"all results":          {uses(now + `,"keep":{"type":"tool_uses","value":0}`), "t-1 i-1 t-2 i-2 t-3 i-3", `tool_uses 3`},
		"by uses":              {uses(`,"trigger":{"type":"tool_uses","value":2},"keep":{"type":"tool_uses","value":2}`), "t-1 i-1 t-2 i-2 r-2 t-3 i-3 r-3", `tool_uses 1`},
		"not so many uses":     {uses(`,"trigger":{"type":"tool_uses","value":3},"keep":{"type":"tool_uses","value":2}`), all, ``},
		"inputs too":           {uses(now + `,"keep":{"type":"tool_uses","value":1},"clear_tool_inputs":true`), "t-1 t-2 t-3 i-3 r-3", `tool_uses 2`},
		"inputs of some":       {uses(now + `,"keep":{"type":"tool_uses","value":1},"clear_tool_inputs":["g"]`), "t-1 i-1 t-2 t-3 i-3 r-3", `tool_uses 2`},
		"no inputs":            {uses(now + `,"keep":{"type":"tool_uses","value":2},"clear_tool_inputs":false`), "t-1 i-1 t-2 i-2 r-2 t-3 i-3 r-3", `tool_uses 1`},
		"but for some":         {uses(now + `,"keep":{"type":"tool_uses","value":0},"exclude_tools":["f"]`), "t-1 i-1 r-1 t-2 i-2 t-3 i-3 r-3", `tool_uses 1`},
		"too little":           {uses(now + `,"keep":{"type":"tool_uses","value":1},"clear_at_least":{"type":"input_tokens","value":5000}`), all, ``},
		"thinking":             {thinking(``), "i-1 r-1 i-2 r-2 t-3 i-3 r-3", `thinking_turns 1`},
		"thinking of two":      {thinking(`,"keep":{"type":"thinking_turns","value":2}`), all, ``},
		"thinking of all":      {thinking(`,"keep":"all"`), all, ``},
		"thinking of all, too": {thinking(`,"keep":{"type":"all"}`), all, ``},
		"both": {thinking(``) + "," + uses(now+`,"keep":{"type":"tool_uses","value":1}`), "i-1 i-2 t-3 i-3 r-3",
			`thinking_turns 1, tool_uses 2`},
	} {
		t.Run(name, func(t *testing.T) {
			hs, r := start(t, "ok")
			for _, stream := range []string{"false", "true"} {
				res, text := servertest.Post(t, hs, messages, body(worked+`,"stream":`+stream+
					`,"context_management":{"edits":[`+tt.edits+`]}`))
				if res.StatusCode != http.StatusOK {
					t.Fatal(text)
				}
				read := string(r.Chats[len(r.Chats)-1].Messages)
				var left []string
				for _, word := range strings.Fields(all) {
					if strings.Contains(read, word) {
						left = append(left, word)
					}
				}
				if got := strings.Join(left, " "); got != tt.left {
					t.Errorf("the model reads %q: %s", got, read)
				}

				if stream == "true" {
					if n := strings.Count(text, `"context_management":null`); n != 1 {
						t.Errorf("%d times null: %s", n, text)
					}
					list := events(t, text)
					text = write(t, list[len(list)-2:len(list)-1])
					text = text[strings.Index(text, "{"):]
				}
				if got := appliedOf(t, text); got != tt.applied {
					t.Errorf("applied %q: %s", got, text)
				}
			}
		})
	}
}

// appliedOf returns what an answer says of the edits that were applied.
func appliedOf(t *testing.T, text string) string {
	t.Helper()
	var m struct {
		Managed *struct {
			Applied []struct {
				Type   string
				Uses   *int `json:"cleared_tool_uses"`
				Turns  *int `json:"cleared_thinking_turns"`
				Tokens *int `json:"cleared_input_tokens"`
			} `json:"applied_edits"`
		} `json:"context_management"`
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil || m.Managed == nil || m.Managed.Applied == nil {
		t.Fatal(err, text)
	}
	var list []string
	for _, a := range m.Managed.Applied {
		switch {
		case a.Tokens == nil:
			t.Error(text)
		case a.Type == "clear_tool_uses_20250919" && a.Uses != nil:
			list = append(list, fmt.Sprintf("tool_uses %d", *a.Uses))
		case a.Type == "clear_thinking_20251015" && a.Turns != nil:
			list = append(list, fmt.Sprintf("thinking_turns %d", *a.Turns))
		}
	}
	return strings.Join(list, ", ")
}

// TestEditsAreCounted counts the tokens before and after edits.
func TestEditsAreCounted(t *testing.T) {
	hs, _ := start(t, "ok")
	long := strings.Replace(worked, "r-1", strings.Repeat("r-1 ", 100), 1)
	count := func(fields string) (c struct {
		Input   int `json:"input_tokens"`
		Managed *struct {
			Original int `json:"original_input_tokens"`
		} `json:"context_management"`
	}) {
		_, text := servertest.Post(t, hs, messages+"/count_tokens", `{"model":"fake",`+fields+`}`)
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			t.Fatal(err, text)
		}
		return c
	}

	before := count(long)
	if before.Managed != nil || before.Input == 0 {
		t.Errorf("%+v", before)
	}
	after := count(long + `,"context_management":{"edits":[{"type":"clear_tool_uses_20250919",` +
		`"trigger":{"type":"tool_uses","value":2},"keep":{"type":"tool_uses","value":2}}]}`)
	if after.Managed == nil || after.Managed.Original != before.Input || after.Input >= before.Input-200 {
		t.Errorf("%+v, before %+v", after, before)
	}
}

// TestEditRefusals sends edits that are wrong, and one that is left out.
func TestEditRefusals(t *testing.T) {
	hs, _ := start(t, "ok")
	for fields, want := range map[string]string{
		`[]`: "context_management",
		`{"edits":[{"type":"clear_everything"}]}`: "context_management.edits[0].type",
		`{"edits":[{}]}`: "context_management.edits[0].type",
		`{"edits":[{"type":"clear_tool_uses_20250919","keep":"all"}]}`:                                         "edits[0].keep",
		`{"edits":[{"type":"clear_tool_uses_20250919","keep":{"type":"tool_uses"}}]}`:                          "edits[0].keep.value",
		`{"edits":[{"type":"clear_tool_uses_20250919","trigger":{"type":"turns","value":1}}]}`:                 "edits[0].trigger.type",
		`{"edits":[{"type":"clear_tool_uses_20250919","clear_at_least":{"type":"input_tokens","value":-1}}]}`:  "clear_at_least.value",
		`{"edits":[{"type":"clear_tool_uses_20250919","exclude_tools":"f"}]}`:                                  "exclude_tools",
		`{"edits":[{"type":"clear_tool_uses_20250919","clear_tool_inputs":1}]}`:                                "clear_tool_inputs",
		`{"edits":[{"type":"clear_thinking_20251015","keep":"none"}]}`:                                         "edits[0].keep",
		`{"edits":[{"type":"clear_thinking_20251015"},{"type":"clear_thinking_20251015"},{"type":"a"},{},{}]}`: "context_management.edits",
	} {
		res, text := servertest.Post(t, hs, messages, body(servertest.Hello+`,"context_management":`+fields))
		if res.StatusCode != http.StatusBadRequest || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", fields, res.StatusCode, text)
		}
	}

	res, text := servertest.Post(t, hs, messages, body(servertest.Hello+
		`,"context_management":{"edits":[{"type":"compact_20260112","trigger":{"type":"input_tokens","value":50000}}]}`))
	if res.StatusCode != http.StatusOK || res.Header.Get("x-ignored-fields") != "context_management.edits[0]" {
		t.Errorf("%d %s", res.StatusCode, text)
	}
}
