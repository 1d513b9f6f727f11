package prompt

import (
	"regexp"
	"slices"
	"strings"

	"serve/engine"
)

// Grammars for answers that must be calls. llama.cpp's allow any text before a call, and after it.

// part is an element of a rule's body: a name, a literal, a class, or alternatives in parentheses.
type part struct {
	token  string   // empty for alternatives
	alts   [][]part // alternatives, each a sequence
	suffix string   // ?, *, + or bounds
}

// parseParts parses a rule's body into alternatives. One whose parentheses do not match stays one part, for
// llama.cpp to refuse.
func parseParts(body []string) [][]part {
	alts, rest, whole := parseAlternatives(body)
	if !whole || len(rest) > 0 {
		return [][]part{{{token: strings.Join(body, "")}}}
	}
	return alts
}

// parseAlternatives parses up to the end, or to a closing parenthesis, which it leaves. Whole is false if a
// parenthesis in between was not closed.
func parseAlternatives(body []string) (alts [][]part, rest []string, whole bool) {
	whole = true
	var seq []part
	for len(body) > 0 && body[0] != ")" {
		token := body[0]
		body = body[1:]
		switch {
		case token == " ":
		case token == "|":
			alts = append(alts, seq)
			seq = nil
		case token == "(":
			group, after, closed := parseAlternatives(body)
			if len(after) == 0 {
				return nil, nil, false
			}
			body = after[1:] // without the parenthesis
			whole = whole && closed
			seq = append(seq, part{alts: group})

		case strings.ContainsAny(token[:1], "?*+{") && len(seq) > 0:
			seq[len(seq)-1].suffix += token
		default:
			seq = append(seq, part{token: token})
		}
	}

	return append(alts, seq), body, whole
}

// writeParts is the inverse of parseParts, but for spaces.
func writeParts(alts [][]part) string {
	texts := make([]string, len(alts))
	for i, seq := range alts {
		words := make([]string, len(seq))
		for k, p := range seq {
			words[k] = p.token + p.suffix
			if p.token == "" {
				words[k] = "(" + writeParts(p.alts) + ")" + p.suffix
			}
		}
		texts[i] = strings.Join(words, " ")
	}
	return strings.Join(texts, " | ")
}

// callRule matches the names of llama.cpp's rules for calls.
var callRule = regexp.MustCompile(`(^|-)(tool-calls?(-root)?|tools)$`)

// freeText matches the names of llama.cpp's rules for text up to a mark.
var freeText = regexp.MustCompile(`^(until|ac)-\d+$`)

// callPart returns the first call in the alternatives, and what follows it in its sequence.
func callPart(alts [][]part) []part {
	for _, seq := range alts {
		for i, p := range seq {
			if callRule.MatchString(p.token) {
				return seq[i:]
			}
			if inner := callPart(p.alts); inner != nil {
				return inner
			}
		}
	}
	return nil
}

// withoutText removes free text from the alternatives, except for thoughts. It reports whether text after
// some mark was among it, which means that what holds it is an answer.
//
// Once allows what is repeated only once: one message of thoughts, not any number.
func withoutText(alts [][]part, written string, once bool) (out [][]part, answer bool) {
	for _, seq := range alts {
		var kept []part
		mark := ""
		for _, p := range seq {
			switch {
			case freeText.MatchString(p.token):
				if !isThought(mark, written) {
					answer = answer || mark != ""
					continue
				}
				mark = ""

			case p.token == "":
				inner, answers := withoutText(p.alts, written, once)
				if answers && (p.suffix == "?" || p.suffix == "*") {
					continue
				}
				p.alts = inner
				if once && p.suffix == "*" {
					p.suffix = "?"
				}
				mark = ""

			case p.token[0] == '"':
				if strings.TrimSpace(unquoted(p.token)) != "" {
					mark = unquoted(p.token)
				}
			case p.token != "space":
				mark = ""
			}

			kept = append(kept, p)
		}

		out = append(out, kept)
	}

	return out, answer
}

// isThought reports whether a mark begins thoughts: it says so, or the template has begun them by it.
func isThought(mark, written string) bool {
	return strings.Contains(strings.ToLower(mark), "think") || mark != "" && strings.Contains(written, mark)
}

func unquoted(literal string) string {
	return unescapes.Replace(strings.Trim(literal, `"`))
}

var unescapes = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n", `\r`, "\r")

// thoughtRules are llama.cpp's rules for whole messages of thoughts.
var thoughtRules = []string{"any", "analysis", "thought"}

// thinks reports whether the alternatives have a place for thoughts.
func thinks(alts [][]part) bool {
	for _, seq := range alts {
		for _, p := range seq {
			switch {
			case freeText.MatchString(p.token), slices.Contains(thoughtRules, p.token):
				return true
			case thinks(p.alts):
				return true
			}
		}
	}
	return false
}

// thoughtsOver matches the end of a prompt whose template has closed the place for thoughts.
var thoughtsOver = regexp.MustCompile(
	`(?i)(</[^<>]*think[^<>]*>|\[/think\]|<channel\|>|<\|end_thinking\|>|<\|close\|>think<\|sep\|>|\[begin final ` +
		`response\])\s*$`,
)

// mustCall makes a grammar one of calls: an answer is thoughts, if the model thinks, and then a call. Written
// is what the template has written of the answer. With now there are no thoughts, unless they have begun.
func (g gbnf) mustCall(written string, now bool) {
	root := g.rule(rootRule)
	if root == nil {
		return
	}
	alts := parseParts(root.body)
	call := callPart(alts)
	if call == nil {
		return
	}

	for i := range g {
		if callRule.MatchString(g[i].name) {
			inner, _ := withoutText(parseParts(g[i].body), "", false)
			g[i].body = tokens(writeParts(inner))
		}
	}
	if only := g.rule("any"); only != nil && g.rule("analysis") != nil {
		only.body = tokens("analysis") // and no comments
	}

	rest := written
	if first := alts[0]; len(first) > 0 && strings.HasPrefix(first[0].token, `"`) {
		rest = strings.TrimPrefix(written, unquoted(first[0].token))
	}
	thinking, _ := withoutText(alts, rest, true)
	begun := strings.Contains(strings.ToLower(rest), "think") || strings.Contains(rest, "reasoning")
	if thoughtsOver.MatchString(written) || now && !begun || !thinks(thinking) {
		call, _ := withoutText([][]part{call}, "", false)
		if thinking = call; written != "" {
			thinking = [][]part{slices.Insert(call[0], 0, part{token: quoted(written)})}
		}
	}
	root.body = tokens(writeParts(thinking))
}

// rule returns a rule by its name, or nil.
func (g gbnf) rule(name string) *rule {
	for i := range g {
		if g[i].name == name {
			return &g[i]
		}
	}
	return nil
}

// thoughtsEnd returns the mark that ends thoughts which the template has begun, or nothing.
func thoughtsEnd(g engine.Grammar) string {
	root := parseGBNF(g.Text).rule(rootRule)
	if root == nil || thoughtsOver.MatchString(g.GenerationPrompt) {
		return ""
	}
	for _, seq := range parseParts(root.body) {
		for _, p := range seq {
			if end := endOf(p.alts, g.GenerationPrompt); end != "" {
				return end
			}
		}
	}
	return ""
}

// endOf returns the literal after free text that follows a mark of thoughts which was written.
func endOf(alts [][]part, written string) string {
	for _, seq := range alts {
		mark := ""
		inside := false
		for _, p := range seq {
			text := ""
			switch {
			case freeText.MatchString(p.token):
				inside = mark != "" && strings.Contains(written, mark)
			case strings.HasPrefix(p.token, `"`):
				text = strings.TrimSpace(unquoted(p.token))
			case p.token == "" && len(p.alts[0]) == 1 && strings.HasPrefix(p.alts[0][0].token, `"`):
				text = strings.TrimSpace(unquoted(p.alts[0][0].token)) // of an end that may be missing
			}
			if inside && text != "" {
				return text
			}
			if text != "" {
				mark = text
			}
		}
	}
	return ""
}
