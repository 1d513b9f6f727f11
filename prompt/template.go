package prompt

import (
	"fmt"
	"strings"
	"sync"

	"serve/engine"
)

// Templates remembers what chat templates take, so that each is asked once. The zero value is empty.
// Many goroutines may use it.
type Templates struct {
	mu    sync.Mutex
	known map[templateKey]*template
}

// maxTemplates is how many templates are remembered; one more, and all are forgotten.
const maxTemplates = 64

// templateKey identifies a template. A model may have a second one for conversations with tools, which only
// the model's other properties tell apart.
type templateKey struct {
	source string
	name   string
	size   uint64
}

// of returns what is known of a model's template. A nil receiver remembers nothing.
func (t *Templates) of(m Renderer) *template {
	if t == nil {
		return &template{model: m}
	}

	facts := m.Model()
	key := templateKey{facts.ChatTemplate, facts.Name, facts.Size}

	t.mu.Lock()
	defer t.mu.Unlock()

	known := t.known[key]
	if known == nil {
		known = &template{}
		if t.known == nil || len(t.known) >= maxTemplates {
			t.known = map[templateKey]*template{}
		}
		t.known[key] = known
	}
	return &template{model: m, shared: known}
}

// template is a model's chat template: what it can show is found out by rendering small conversations.
type template struct {
	model Renderer

	// shared holds the answers of all models with this template; nil if this one holds them itself.
	shared *template

	mu      sync.Mutex
	answers map[probe]bool
}

// probe is a question to a template: whether it shows all of some conversations.
type probe struct {
	trait trait
	tools bool // tools are offered
}

// trait is a property of conversations that not every template takes, as the conversations that show it. A
// conversation is a word for each message:
//
//	s u a  a system's, user's or assistant's message
//	c cc   an assistant's call, two calls
//	k      a call after text
//	r r2   the result of the first and the second call
//	C Q A N  a call whose arguments are not JSON, a JSON string, an array, a number
//	i j    a call and its result, with an ID that is not nine letters and digits
//	f g    a call for which functions.NAME:0 or :1 is written, whatever its ID
//	h      a result with the ID that it came with
//	y z    an assistant's and a user's message without text
type trait string

const (
	systemRole     trait = "s u"
	systemOnly     trait = "s"
	systemLater    trait = "u s|u a s u|u a s"
	systemTwice    trait = "s s u"
	systemAgain    trait = "s u s u|s u a s u"
	systemNotLast  trait = "s u a|s u c r" // the user does not speak last
	assistantFirst trait = "a u|s a u"
	userMissing    trait = "s a|a"
	nothing        trait = "" // before the beginning of an answer
	rolesRepeat    trait = "u u a u|u a a u"
	calls          trait = "u c r|u c r a u"
	callsParallel  trait = "u cc r r2|u cc r r2 a u"
	callsWithText  trait = "u k r|u k r a u"
	textThenCalls  trait = "u a c r|u a c r a u"
	callsFirst     trait = "c r|s c r u"
	emptyTexts     trait = "z a u|u y u|z"
	resultThenUser trait = "u c r u"
	callsUnpaired  trait = "u c|u c u|u c a u|u cc r2|u cc r2 r|u r|u c r r|u c u r"
	anyID          trait = "u i j a u"
	namedIDs       trait = "u f h"
	namedIDsCount  trait = "u f h g h"
	argumentsText  trait = "u C r a u"
	argumentsQuote trait = "u Q r a u"
	argumentsValue trait = "u A r a u|u N r a u"
)

// takes reports whether the template takes conversations with a trait, and shows all of each.
func (t *template) takes(what trait, tools bool) bool {
	holder := t
	if t.shared != nil {
		holder = t.shared
	}
	holder.mu.Lock()
	defer holder.mu.Unlock()

	q := probe{what, tools}
	if answer, known := holder.answers[q]; known {
		return answer
	}

	for conversation := range strings.SplitSeq(string(what), "|") {
		if t.shows(conversation, tools) {
			continue
		}
		if !t.shows("u", false) {
			return true // it fails for another reason, which the conversation itself will meet
		}
		holder.remember(q, false)
		return false
	}
	holder.remember(q, true)
	return true
}

func (t *template) remember(q probe, answer bool) {
	if t.answers == nil {
		t.answers = map[probe]bool{}
	}
	t.answers[q] = answer
}

// shows renders a conversation and looks for all of its words.
func (t *template) shows(conversation string, tools bool) bool {
	messages, words := probeMessages(conversation)
	chat := engine.Chat{}
	if tools {
		chat.Tools = []byte(probeTool)
		chat.ToolChoice = string(ChoiceNone) // shows them, without the work of a grammar
		chat.ParallelToolCalls = true
	}

	text, err := marshalMessages(messages)
	if err != nil {
		return false
	}
	chat.Messages = text
	rendered, err := t.model.Render(chat)
	if err != nil {
		return false
	}

	for _, word := range words {
		if !strings.Contains(rendered.Prompt, word) {
			return false
		}
	}
	return true
}

const (
	probeName  = "lookup"
	probeShort = "a1b2c3d4e" // an ID that every template takes
	probeOther = "f5g6h7i8j"
	probeLong  = "call_k9l0m1n2o3"
	probeNamed = "functions." + probeName + ":"
	probeTool  = `[{"type":"function","function":{"name":"` + probeName + `","description":"Looks it up.",` +
		`"parameters":{"type":"object","properties":{"key":{"type":"string"}},"required":["key"]}}}]`
)

// probeMessages returns a conversation in the notation of traits, and the words in it.
func probeMessages(conversation string) (messages []Message, words []string) {
	word := func() string {
		words = append(words, fmt.Sprintf("word%d", len(words)+11))
		return words[len(words)-1]
	}
	call := func(id, format string) ToolCall {
		return ToolCall{ID: id, Name: probeName, Arguments: fmt.Sprintf(format, word())}
	}
	roles := map[string]Role{"s": System, "u": User, "a": Assistant}
	ids := map[string]string{"r": probeShort, "r2": probeOther, "j": probeLong, "h": probeShort}
	written := map[string]string{"f": probeNamed + "0", "g": probeNamed + "1", "h": probeShort}
	formats := map[string]string{"C": `{"key":"%s`, "Q": `"{%s"`, "A": `["%s"]`}

	for kind := range strings.FieldsSeq(conversation) {
		m := Message{Role: Assistant}
		switch kind {
		case "s", "u", "a":
			m.Role = roles[kind]
			m.Content = word()
		case "y":
		case "z":
			m.Role = User
		case "r", "r2", "j", "h":
			m.Role = ToolRole
			m.Content = word()
			m.CallID = ids[kind]
			m.CallName = probeName
		case "c", "cc", "f", "g":
			m.Calls = []ToolCall{call(probeShort, `{"key":"%s"}`)}
			if kind == "cc" {
				m.Calls = append(m.Calls, call(probeOther, `{"key":"%s"}`))
			}
		case "k":
			m.Content = word()
			m.Calls = []ToolCall{call(probeShort, `{"key":"%s"}`)}
		case "i":
			m.Calls = []ToolCall{call(probeLong, `{"key":"%s"}`)}
		case "N":
			m.Calls = []ToolCall{{ID: probeShort, Name: probeName, Arguments: "42"}}
		default:
			m.Calls = []ToolCall{call(probeShort, formats[kind])}
		}
		messages = append(messages, m)
		if text := written[kind]; text != "" {
			words = append(words, text)
		}
	}
	return messages, words
}
