package servertest

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
)

// Line is an answer of a scripted model, and when the model gives it.
type Line struct {
	After string // a text that the conversation must contain; empty for any
	Tool  string // the name of a tool that must be offered; empty for any
	Say   string // the answer, unless it is a call
	Call  string // the name of a tool to call
	Input string // of the call, JSON

	Beside []Line // further calls in the same answer, of which only Call and Input count
}

// answer returns what the model writes. Calls have the form that it is told in its prompt.
func (l *Line) answer() string {
	if l.Call == "" {
		return l.Say
	}

	var calls []string
	for _, c := range append([]Line{*l}, l.Beside...) {
		calls = append(calls, `{"name":"`+c.Call+`","arguments":`+c.Input+`}`)
	}
	return `{"tool_calls":[` + strings.Join(calls, ",") + `]}`
}

// applies reports whether the line answers a prompt.
func (l *Line) applies(prompt string) bool {
	return strings.Contains(prompt, l.After) &&
		(l.Tool == "" || strings.Contains(prompt, `{"name":"`+l.Tool+`","description"`))
}

// promptEnd is the control character after the prompts of a scripted model.
const promptEnd = '\x02'

// script is a scripted model.
type script struct {
	lines  []Line
	answer map[string]string // by prompt
}

// next is enginetest.Options.Next.
func (s *script) next(tokens []engine.Token) engine.Token {
	end := len(tokens) - 1
	for tokens[end] != promptEnd {
		end--
	}
	said := len(tokens) - 1 - end
	if answer := s.says(tokens[:end]); said < len(answer) {
		return engine.Token(answer[said])
	}
	return enginetest.EOS
}

// says returns the answer to a prompt.
func (s *script) says(tokens []engine.Token) string {
	b := make([]byte, len(tokens))
	for i, t := range tokens {
		b[i] = byte(t)
	}
	prompt := string(b)
	if answer, known := s.answer[prompt]; known {
		return answer
	}

	answer := "The script has no line for this."
	if i := slices.IndexFunc(s.lines, func(l Line) bool { return l.applies(prompt) }); i >= 0 {
		answer = s.lines[i].answer()
	}
	s.answer[prompt] = answer
	return answer
}

// Play starts a server with a scripted model called "fake", for clients that do things and then say
// more: the first line that applies to a conversation is the answer. Its context has room for the
// long prompts of agents.
func Play(t testing.TB, so server.Options, lines ...Line) (*httptest.Server, *Recorder) {
	t.Helper()
	s := &script{lines: lines, answer: map[string]string{}}
	fo := enginetest.Options{
		Limits: engine.Limits{Sequences: 8, Context: 1 << 19, Batch: 1 << 13},
		Next:   s.next,
	}
	hs, started := Start(t, fo, so)

	r := Record(started)
	r.Rewrite = func(rendered *engine.Rendered) { rendered.Prompt += string(promptEnd) }
	return hs, r
}
