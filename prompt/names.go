package prompt

import (
	"crypto/rand"
	"encoding/hex"
	"regexp"
	"strings"

	"serve/engine"
)

// llama.cpp names the rules of its grammars by the tools, with a dash for every other character, so that the
// rules of web_search and web-search are the same, and those of "call" are its own. Such a tool gets an alias
// while a chat is rendered; the name takes its place in what comes out, but for the names of rules.

// reservedNames are the names of tools, as they are in rules, that mean rules of llama.cpp's own.
var reservedNames = map[string]bool{"call": true, "calls": true, "call-root": true, "call-first": true, "choice": true}

// setAliases gives aliases to the tools that need one.
func (t *Tools) setAliases() {
	taken := map[string]bool{}
	for i := range t.List {
		tool := &t.List[i]
		name := notInRules.ReplaceAllString(tool.Name, "-")
		tool.alias = ""
		if taken[name] || reservedNames[name] {
			tool.alias = newAlias()
		}
		taken[name] = true
	}
}

// newAlias returns a name that no text contains.
func newAlias() string {
	var b [12]byte
	rand.Read(b[:])
	return "tool" + hex.EncodeToString(b[:])
}

// ruleName is the name by which llama.cpp knows the tool.
func (t *Tool) ruleName() string {
	if t.alias != "" {
		return t.alias
	}
	return t.Name
}

// aliasForm matches aliases. In the names of rules (tool-NAME, ling3-arg-NAME-days) one comes after a dash.
var aliasForm = regexp.MustCompile(`([a-z0-9]-)?tool[0-9a-f]{24}`)

// restoreNames replaces the aliases of tools in a rendered chat by their names.
func (t *Tools) restoreNames(r *engine.Rendered) {
	names := map[string]string{}
	for i := range t.List {
		if tool := &t.List[i]; tool.alias != "" {
			names[tool.alias] = tool.Name
		}
	}
	if len(names) == 0 {
		return
	}

	replace := func(text string) string {
		return aliasForm.ReplaceAllStringFunc(text, func(found string) string {
			name, ok := names[found]
			if !ok {
				return found // also in the name of a rule, with what comes before it
			}
			return name
		})
	}
	restorePrompt(r, names)
	r.Parser = replace(r.Parser)
	r.Grammar.Text = replace(r.Grammar.Text)
	for k := range r.Grammar.Triggers {
		r.Grammar.Triggers[k].Value = replace(r.Grammar.Triggers[k].Value)
	}
}

// restorePrompt replaces aliases in the prompt, wherever they are. The names are quoted, as all that a client chose.
func restorePrompt(r *engine.Rendered, names map[string]string) {
	var text strings.Builder
	var moved []engine.Range
	from := 0
	keep := func(to int) {
		for _, q := range within(r.Quoted, from, to) {
			moved = appendRange(moved, q.From+text.Len(), q.To+text.Len())
		}
		text.WriteString(r.Prompt[from:to])
	}

	for _, place := range aliasForm.FindAllStringIndex(r.Prompt, -1) {
		at := place[0] + strings.LastIndex(r.Prompt[place[0]:place[1]], "tool")
		name, ok := names[r.Prompt[at:place[1]]]
		if !ok {
			continue
		}
		keep(at)
		moved = appendRange(moved, text.Len(), text.Len()+len(name))
		text.WriteString(name)
		from = place[1]
	}

	keep(len(r.Prompt))
	r.Prompt = text.String()
	r.Quoted = moved
}
