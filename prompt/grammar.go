package prompt

import (
	"regexp"
	"strings"

	"serve/engine"
	"serve/fault"
	"serve/schema"
)

// placeholder is the schema that llama.cpp gets in the place of ours: it knows where in a
// model's format an answer or a call's arguments stand, and our rules go there.
const placeholder = `{"const":"schema"}`

// Rules of llama.cpp's chat grammars: where a schema stands, and what calls are.
const (
	rootRule   = "root"
	answerRule = "response-format-schema"
	callsRule  = "tool-calls"
)

func argumentsRule(tool string) string {
	return "tool-" + notInRules.ReplaceAllString(tool, "-") + "-schema"
}

var notInRules = regexp.MustCompile(`[^a-zA-Z0-9-]+`)

// Pieces of llama.cpp's chat grammars that are taken out.
const (
	// An answer may stand in a block of Markdown; who asks for JSON wants nothing around it.
	fencedAnswer = "(\"```json\" space response-format space \"```\" | space response-format space)"
	plainAnswer  = "response-format space"

	// gpt-oss says that JSON follows, which llama.cpp's parser of calls does not expect before
	// an answer.
	constrain = ` (space "<|constrain|>"? [A-Za-z0-9_-]+)?`

	// Some formats allow many calls even where one was asked for.
	manyCalls = "(tool-call space)+"
	oneCall   = "tool-call space"
)

// putSchema replaces a rule of a chat's grammar by compiled ones; false if there is no such
// rule.
func putSchema(g *engine.Grammar, rule string, compiled *schema.Grammar) bool {
	rules := parseGBNF(strings.TrimRight(g.Text, "\n"))
	if !rules.define(rule, compiled.Root) {
		return false
	}
	rules.replace(fencedAnswer, plainAnswer)
	g.Text = rules.String() + "\n" + compiled.Rules
	return true
}

// putAnswer puts the schema of the answer into a rendered chat. It reports whether the schema
// is all of the grammar: the text is the content, byte for byte.
func (c *Conversation) putAnswer(rendered *engine.Rendered) (alone bool) {
	if rendered.Parser != "" && putSchema(&rendered.Grammar, answerRule, c.Format.answer) {
		return false
	}
	rendered.Grammar = c.onlySchema()
	return true
}

// onlySchema makes the answer's schema the whole grammar, from what the answer has begun with
// on.
func (c *Conversation) onlySchema() engine.Grammar {
	answer := c.Format.answer
	g := engine.Grammar{Text: rootRule + defines + answer.Root + "\n" + answer.Rules}
	g.GenerationPrompt, g.FromChat = c.begun()
	return g
}

// put puts the tools' own schemas into the grammar of a rendered chat.
func (t *Tools) put(g *engine.Grammar) error {
	if g.Text == "" {
		return nil
	}

	rules := parseGBNF(g.Text)
	for i := range rules {
		r := &rules[i]
		if r.name == rootRule && !g.Lazy {
			// A call must come: it comes first, and no talk before it.
			if begin, end, ok := r.untilCall(); ok {
				r.body = append(r.body[:begin:begin], r.body[end:]...)
			}
		}
		if r.name == callsRule && !t.Parallel && strings.Join(r.body, "") == manyCalls {
			r.body = tokens(oneCall)
		}
	}

	g.Text = rules.String()

	for i := range t.List {
		tool := &t.List[i]
		if !putSchema(g, argumentsRule(tool.Name), tool.arguments) && tool.Strict {
			return fault.New(fault.Unsupported, tool.Field,
				"The model's format of tool calls cannot enforce the schema in '%s': leave 'strict' out.", tool.Field)
		}
	}

	return nil
}

// wait lets a model that marks its calls by nothing but their JSON, as Llama 3.1 does, say what
// it likes until it writes the name of a tool: from there the grammar of a call that must come
// holds.
func (t *Tools) wait(g *engine.Grammar, required engine.Grammar) {
	rules := parseGBNF(required.Text)
	found := false
	for i := range rules {
		if _, end, ok := rules[i].untilCall(); ok && rules[i].name == rootRule {
			rules[i].body = rules[i].body[end+1:] // without the space before the calls
			found = true
		}
	}
	if !found {
		return
	}

	*g = engine.Grammar{Text: rules.String(), Lazy: true, FromChat: true}
	for i := range t.List {
		name := `"` + t.List[i].Name + `"`
		for _, before := range []string{`{"name": `, `{"name":`, `{ "name": `, `{"type": "function", "name": `} {
			g.Triggers = append(g.Triggers, engine.Trigger{
				Kind:  engine.TriggerWord,
				Value: before + name,
			})
		}
	}
}

// either lets a model call tools or answer by a schema: the grammars of both, under names of
// their own. The one for calls begins with what the template has written of the answer; so must
// the other, where the schema alone is all of it. What a client has begun comes after that.
func either(calls, answer engine.Grammar, alone bool, begun string) engine.Grammar {
	written := ""
	template := strings.TrimSuffix(calls.GenerationPrompt, begun)
	if calls.FromChat && alone && template != "" {
		written = quoted(template) + " "
	}

	callRules := parseGBNF(calls.Text).prefixed("c-")
	answerRules := parseGBNF(answer.Text)
	answerRules.replace(constrain, "")
	answerRules = answerRules.prefixed("a-")

	out := calls
	out.Lazy = false
	out.Triggers = nil
	out.Text = "root ::= c-root | " + written + "a-root\n" + callRules.String() + "\n" + answerRules.String()
	return out
}
