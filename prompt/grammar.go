package prompt

import (
	"regexp"
	"strings"

	"serve/engine"
	"serve/fault"
	"serve/schema"
)

// placeholder is the schema given to llama.cpp in place of the real one. llama.cpp knows where the
// answer or the arguments are in a model's format; our rules replace the placeholder's there.
const placeholder = `{"const":"schema"}`

// Names of rules in llama.cpp's chat grammars.
const (
	rootRule   = "root"
	answerRule = "response-format-schema"
	formatRule = "response-format" // the answer's in formats that have no rule of the other name
	callsRule  = "tool-calls"

	recipientsRule = "tools" // functionary's name for calls
)

func argumentsRule(tool string) string {
	return "tool-" + notInRules.ReplaceAllString(tool, "-") + "-schema"
}

var notInRules = regexp.MustCompile(`[^a-zA-Z0-9-]+`)

// Parts of llama.cpp's chat grammars that are replaced.
const (
	// llama.cpp allows a Markdown code block around the answer; clients expect plain JSON.
	fencedAnswer = "(\"```json\" space response-format space \"```\" | space response-format space)"
	plainAnswer  = "response-format space"

	// gpt-oss announces that JSON follows, which llama.cpp's parser for tool calls does not expect
	// before an answer.
	constrain = ` (space "<|constrain|>"? [A-Za-z0-9_-]+)?`

	// Some formats allow several calls even if parallel calls are disabled.
	manyCalls = "(tool-call space)+"
	oneCall   = "tool-call space"
)

// putSchema replaces a rule of a chat grammar by a compiled schema. It returns false if there is no
// such rule.
func putSchema(g *engine.Grammar, rule string, compiled *schema.Compiled) bool {
	rules := parseGBNF(strings.TrimRight(g.Text, "\n"))
	if !rules.define(rule, compiled.Root) {
		return false
	}
	rules.replace(fencedAnswer, plainAnswer)
	g.Text = rules.String() + "\n" + compiled.Rules
	return true
}

// putAnswer puts the answer's schema into the grammar of a rendered chat. It returns true if the
// schema is the whole grammar, which means that the output is the content, byte for byte.
func (c *Conversation) putAnswer(rendered *engine.Rendered) (alone bool) {
	if c.Format.text {
		// Templates' grammars have white space, or a code block, around an answer. JSON may have that, a text may not.
		rendered.Parser = ""
		rendered.Grammar = c.onlySchema()
		return true
	}

	rules := []string{answerRule, formatRule}
	if _, begun := c.begun(); begun {
		rules = rules[:1] // some of the others have marks around the answer, which a client has not begun with
	}
	for _, rule := range rules {
		if rendered.Parser != "" && putSchema(&rendered.Grammar, rule, c.Format.answer) {
			return false
		}
	}
	rendered.Grammar = c.onlySchema()
	return true
}

// onlySchema returns a grammar that consists of the answer's schema only. It includes the beginning
// of the answer, if the client has given one.
func (c *Conversation) onlySchema() engine.Grammar {
	answer := c.Format.answer
	g := engine.Grammar{Text: rootRule + defines + answer.Root + "\n" + answer.Rules}
	g.GenerationPrompt, g.FromChat = c.begun()
	return g
}

// put puts the tools' schemas into the grammar of a rendered chat. It returns the tools whose arguments have no
// place in it. Now leaves out thoughts before a required call; what a client has begun comes before no call, unless
// begun is empty.
func (t *Tools) put(g *engine.Grammar, now bool, begun string) (loose []*Tool, err error) {
	if g.Text == "" {
		return nil, nil
	}

	rules := parseGBNF(strings.TrimRight(g.Text, "\n"))
	if !g.Lazy {
		rules.mustCall(strings.TrimSuffix(g.GenerationPrompt, begun), now)
	}
	for i := range rules {
		r := &rules[i]
		if r.name == callsRule && !t.Parallel && strings.Join(r.body, "") == manyCalls {
			r.body = tokens(oneCall)
		}
		if r.name == recipientsRule && !t.Parallel {
			one, _, _ := strings.Cut(strings.Join(r.body, ""), ` (">>>" `)
			r.body = tokens(one)
		}
	}

	known := rules.byName()
	var compiled strings.Builder
	for i := range t.List {
		tool := &t.List[i]
		if places := known[argumentsRule(tool.ruleName())]; len(places) > 0 {
			for _, at := range places {
				rules[at].body = tokens(tool.arguments.Root)
			}
			compiled.WriteString("\n" + tool.arguments.Rules)
			continue
		}
		if tool.Strict {
			return nil, fault.New(fault.Unsupported, tool.Field,
				"The schema in '%s' cannot be enforced in the model's format for tool calls: remove 'strict'.", tool.Field)
		}
		loose = append(loose, tool)
	}

	g.Text = rules.String() + compiled.String()
	return loose, nil
}

// wait handles formats whose calls have no marker besides their JSON, such as Llama 3.1's: the model
// writes free text until it writes the name of a tool; from there on the grammar for a required call
// applies.
func (t *Tools) wait(g *engine.Grammar, required engine.Grammar) {
	rules := parseGBNF(required.Text)
	root := rules.rule(rootRule)
	if root == nil {
		return
	}
	call := callPart(parseParts(root.body))
	if call == nil {
		return
	}
	root.body = tokens(writeParts([][]part{call}))

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

// either combines the grammars for tool calls and for an answer by a schema, with a prefix for the
// rules of each. The grammar for calls begins with the part of the answer that the template has
// written. A grammar that is the schema alone must get the same beginning, without the part that
// the client has written.
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
