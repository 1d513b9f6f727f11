package prompt

import "strings"

// thinkingWords are what templates of models that reason before they answer contain: a switch for it,
// an effort, or the marks around what was reasoned.
var thinkingWords = []string{
	"enable_thinking",
	"reasoning_effort",
	"reasoning_content",
	"<think>",
	"[THINK]",
	"<|channel|>analysis",
}

// Thinks reports whether a chat template is one of a model that reasons before it answers.
func Thinks(template string) bool {
	for _, word := range thinkingWords {
		if strings.Contains(template, word) {
			return true
		}
	}
	return false
}

// TakesTools reports whether a chat template has a place for tools. Without one, they are described in
// the system message.
func TakesTools(template string) bool { return strings.Contains(template, "tools") }
