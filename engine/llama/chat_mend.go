package llama

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// Where llama.cpp derives a format from a template by example, it takes parts of the example for parts of the format.
// A mend makes such a format what the models write, in the grammar and in the parser.

// node is a parser in llama.cpp's text of a format: sequences, literals and the like, which have each other by number.
type node map[string]any

// arena is the text of a format.
type arena struct {
	Parsers []node          `json:"parsers"`
	Rules   json.RawMessage `json:"rules"`
	Root    json.RawMessage `json:"root"`
}

func (a *arena) add(n node) int {
	a.Parsers = append(a.Parsers, n)
	return len(a.Parsers) - 1
}

func (n node) literal() string {
	text, _ := n["literal"].(string) // another kind of node has none
	return text
}

// mend is a fault of a format.
type mend struct {
	mark    string // what formats with the fault have in their parser's text
	grammar func(string) string
	parser  func(*arena) // nil if the parser takes what the models write
}

var mends = []mend{
	{mark: `"[CALL_ID]"`, grammar: idBeforeArguments, parser: (*arena).idBeforeArguments},
	{mark: `"delimiters":[">>>"]`, grammar: betweenRecipients, parser: (*arena).betweenRecipients},
	{mark: `<minimax:tool_call>`, grammar: noCommas, parser: (*arena).noCommas},
	{mark: `call00001`, grammar: anyID, parser: (*arena).anyID},
	{mark: `"kimi-k3-tool-call"`, grammar: noFreeText},
	{mark: `<atem:function_calls>`, grammar: noFreeText},
	{mark: `"tag":"tool-id"`, grammar: boundIDs},
}

// mendFormat mends a grammar, which may be empty, and the parser of a rendered chat.
func mendFormat(grammar, parser string) (string, string, error) {
	var spec map[string]any
	for _, m := range mends {
		// The text of the format is a string in the parser's.
		if !strings.Contains(parser, quotedInside(m.mark)) {
			continue
		}
		grammar = m.grammar(grammar)
		if m.parser == nil {
			continue
		}
		if err := json.Unmarshal([]byte(parser), &spec); err != nil {
			return "", "", fmt.Errorf("mend format: %w", err)
		}
		text, _ := spec["arena"].(string)
		var a arena
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			return "", "", fmt.Errorf("mend format: %w", err)
		}

		m.parser(&a)
		mended, err := json.Marshal(a)
		if err != nil {
			return "", "", fmt.Errorf("mend format: %w", err)
		}
		spec["arena"] = string(mended)
		all, err := json.Marshal(spec)
		if err != nil {
			return "", "", fmt.Errorf("mend format: %w", err)
		}
		parser = string(all)
	}
	return grammar, parser, nil
}

// quotedInside returns a text as it is in a JSON string, but for the quotes around it.
func quotedInside(text string) string {
	return strings.ReplaceAll(text, `"`, `\"`)
}

// Within the marks of a call some grammars have text of any length: the attributes of Kimi K3's, and the recipient of
// Muse's.
func noFreeText(grammar string) string {
	grammar = freeAttributes.ReplaceAllString(grammar, `"\"" [^<]{0,64} "<|sep|>"`)
	return freeRecipient.ReplaceAllString(grammar, `" to=" [a-zA-Z0-9_.-]{1,64} "<|message|>`)
}

var (
	freeAttributes = regexp.MustCompile(`"\\"" until-\d+ "<\|sep\|>"`)
	freeRecipient  = regexp.MustCompile(`" to=" until-\d+ "<\|message\|>`)
)

// Cohere's and Mistral Nemo's calls have an ID in JSON, which is a string or a number of any length.
func boundIDs(grammar string) string {
	const free = `("\"" ( [^"\\] | "\\" ( ["\\/ bfnrt] | "u" [0-9a-fA-F]{4} ) )* "\"" | json-number)`
	return strings.ReplaceAll(grammar, free, `("\"" [a-zA-Z0-9_-]{1,64} "\"" | [0-9]{1,9})`)
}

// Mistral Small 3.2 writes name[CALL_ID]id[ARGS]{}, or name[ARGS]{}. llama.cpp has name[ARGS] first and then the rest.
func idBeforeArguments(grammar string) string {
	grammar = strings.ReplaceAll(grammar, ` "[ARGS]") ("[CALL_ID]" `, `) ("[CALL_ID]" `)
	for line := range strings.SplitSeq(grammar, "\n") {
		// The ID was any text up to the mark.
		_, after, found := strings.Cut(line, `("[CALL_ID]" until-`)
		if rule, _, ok := strings.Cut(after, ")?"); found && ok {
			grammar = strings.ReplaceAll(grammar, `("[CALL_ID]" until-`+rule+`)?`, `("[CALL_ID]" [a-zA-Z0-9]{9})?`)
		}
	}
	return grammar
}

func (a *arena) idBeforeArguments() {
	for _, n := range a.Parsers {
		children, _ := n["children"].([]any) // only sequences have them
		if len(children) != 3 {
			continue
		}
		last := a.child(children[2])
		if a.child(children[0])["literal"] == "" && last.literal() == "[ARGS]" {
			n["children"] = children[:2]
		}
	}
}

func (a *arena) child(number any) node {
	n, _ := number.(float64) // JSON's numbers
	return a.Parsers[int(n)]
}

// Functionary 3.2 writes >>> before each recipient, of which llama.cpp has only the first.
func betweenRecipients(grammar string) string {
	lines := strings.Split(grammar, "\n")
	for i, line := range lines {
		if calls, ok := strings.CutPrefix(line, "tools ::= "); ok && strings.HasSuffix(calls, ")+") {
			call := strings.TrimSuffix(calls, "+")
			lines[i] = `tools ::= ">>>"? ` + call + ` (">>>" ` + call + `)*`
		}
	}
	return strings.Join(lines, "\n")
}

func (a *arena) betweenRecipients() {
	for i := range a.Parsers {
		rule := a.Parsers[i]
		if rule["type"] != "rule" || rule["name"] != "tools" {
			continue
		}
		calls := a.child(rule["child"])
		if calls["type"] != "repetition" {
			continue
		}
		mark := a.add(node{"type": "literal", "literal": ">>>"})
		maybe := a.add(node{"type": "repetition", "child": mark, "min_count": 0, "max_count": 1})
		calls["child"] = a.add(node{"type": "sequence", "children": []any{maybe, calls["child"]}})
		return
	}
}

// MiniMax M2 writes nothing between calls, and no comma and space.
func noCommas(grammar string) string { return strings.ReplaceAll(grammar, `(", " (`, `((`) }

func (a *arena) noCommas() {
	for _, n := range a.Parsers {
		if n.literal() == ", " {
			n["literal"] = ""
		}
	}
}

// Solar Open writes an ID of its own for each call, and not the one of llama.cpp's example.
const exampleID = "call00001"

func anyID(grammar string) string {
	return strings.ReplaceAll(grammar, `"`+exampleID, `[a-zA-Z0-9_-]{1,64} "`)
}

func (a *arena) anyID() {
	for i := range a.Parsers {
		mark, found := strings.CutPrefix(a.Parsers[i].literal(), exampleID)
		if !found || mark == "" {
			continue
		}
		id := a.add(node{"type": "until", "delimiters": []string{mark}})
		end := a.add(node{"type": "literal", "literal": mark})
		a.Parsers[i] = node{"type": "sequence", "children": []any{id, end}}
	}
}
