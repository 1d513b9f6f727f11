package openai

import (
	"encoding/json"
	"regexp"
	"unicode/utf8"

	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
)

// customInput is the name of the one argument that the model gives a custom tool.
const customInput = "input"

// readCustomCall reads {"name":…,"input":…}.
func readCustomCall(v wire.Value) (c prompt.ToolCall, e *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return c, e
	}
	if c.Name, e = readCalledName(v, object); e != nil {
		return c, e
	}
	input, e := wire.OptionalText(object, customInput)
	c.Arguments = string(wire.AppendString([]byte(`{"`+customInput+`":`), input)) + "}"
	return c, e
}

// inputReader takes the text out of the arguments of a custom tool's call, {"input":"…"}, while they
// are written.
type inputReader struct {
	rest  string // arguments that have not become text
	begun bool
	ended bool
}

// inputBegins is what precedes the text.
var inputBegins = regexp.MustCompile(`^\s*\{\s*"` + customInput + `"\s*:\s*"`)

// maxBeginning limits how much of the arguments is looked at for their beginning, in bytes.
const maxBeginning = 256

// add returns the text of a part of the arguments.
func (r *inputReader) add(arguments string) string {
	r.rest += arguments
	if !r.begun && len(r.rest)-len(arguments) <= maxBeginning {
		if n := len(inputBegins.FindString(r.rest)); n > 0 {
			r.begun = true
			r.rest = r.rest[n:]
		}
	}
	if !r.begun || r.ended {
		return ""
	}

	n := r.complete()
	text, ok := unquoted(r.rest[:n])
	r.rest = r.rest[n:]
	if !ok {
		return ""
	}
	return text
}

// complete returns the length of the beginning of rest that is text, without an escape that is not
// complete.
func (r *inputReader) complete() int {
	for i := 0; i < len(r.rest); i++ {
		switch r.rest[i] {
		case '"':
			r.ended = true
			return i
		case '\\':
			n := escapeLength(r.rest[i:])
			if i+n > len(r.rest) {
				return i
			}
			i += n - 1
		}
	}
	return len(r.rest) - incompleteRune(r.rest)
}

// incompleteRune returns the length of a character at the end of a text that is not complete.
func incompleteRune(s string) int {
	for n := 1; n < utf8.UTFMax && n <= len(s); n++ {
		if tail := s[len(s)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRuneInString(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// escapeLength returns the length of an escape, of which there may be only a part. Two halves of a pair
// are one.
func escapeLength(s string) int {
	const short, long = len(`\n`), len(`\u0000`)
	switch {
	case len(s) < short || s[1] != 'u':
		return short
	case len(s) < long || s[2] != 'd' && s[2] != 'D' || !isHighHalf(s[3]):
		return long
	case len(s) > long && s[long] != '\\' || len(s) > long+1 && s[long+1] != 'u':
		return long // a half alone
	}
	return 2 * long
}

func isHighHalf(c byte) bool { return c == '8' || c == '9' || c|0x20 == 'a' || c|0x20 == 'b' }

// unquoted returns the text of the inside of a JSON string.
func unquoted(s string) (text string, ok bool) {
	if s == "" {
		return "", true
	}
	ok = json.Unmarshal([]byte(`"`+s+`"`), &text) == nil
	return text, ok && utf8.ValidString(text)
}

// end returns the text that remains when the arguments are complete. Arguments of another form than
// was asked for are the text themselves, unless the text is in them.
func (r *inputReader) end() string {
	if r.begun {
		return ""
	}
	var object struct{ Input *string }
	if json.Unmarshal([]byte(r.rest), &object) == nil && object.Input != nil {
		return *object.Input
	}
	return r.rest
}

// inputOf returns the text of complete arguments.
func inputOf(arguments string) string {
	var r inputReader
	text := r.add(arguments)
	return text + r.end()
}
