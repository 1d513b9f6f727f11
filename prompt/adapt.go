package prompt

import (
	"slices"
	"strings"
)

// Notes about what was changed in a conversation so that the model's chat template takes it.
const (
	NoteSystemMoved   = "system-moved"    // system messages were moved to the beginning, or merged
	NoteSystemToUser  = "system-to-user"  // system messages became part of the user's first
	NoteUserAdded     = "user-added"      // an empty message of the user's was added
	NoteAnswerAdded   = "assistant-added" // an empty message of the assistant's was added
	NoteMerged        = "roles-merged"    // messages of the same role in a row were merged
	NoteCallsText     = "calls-as-text"   // earlier calls and results were written as text
	NoteCallsSplit    = "calls-split"     // several calls of one message were written one by one
	NoteCallsPaired   = "calls-paired"    // calls and results were put together, and missing results added
	NoteCallIDs       = "call-ids"        // IDs of calls were replaced in the prompt
	NoteArgumentsText = "arguments-as-text"
	NoteTextAdded     = "text-added"        // messages without text got one that says so
	NoteTextSplit     = "text-before-calls" // an answer's text and its calls were written as two messages
	NoteToolsText     = "tools-as-text"     // the template fails at the tools: they were described in the system message
)

// adapter changes the messages of a conversation step by step, each only if the conversation has what the
// template does not take.
type adapter struct {
	template *template
	tools    bool // the template is told of tools
	messages []Message
	begun    []Message // the last message, if it is the answer's beginning: it is no turn of its own
	notes    []string
}

// adapt returns the messages as the template takes them, and notes about what was changed.
func (t *template) adapt(messages []Message, tools, begun bool) ([]Message, []string) {
	a := newAdapter(t, messages, begun)
	a.tools = tools

	a.arguments()
	a.system()
	a.exchange()
	a.foldSystem()
	a.alternate()
	a.fill()
	return append(a.messages, a.begun...), a.notes
}

func newAdapter(t *template, messages []Message, begun bool) *adapter {
	a := &adapter{template: t, messages: slices.Clone(messages)}
	if begun {
		last := len(a.messages) - 1
		a.begun = a.messages[last:]
		a.messages = a.messages[:last:last]
	}
	return a
}

// simplify returns the messages in the form that all templates take: one system message, which may become
// the user's, and the user and the assistant in turns. It is for what no single change has helped.
func (t *template) simplify(messages []Message, begun, fold bool) ([]Message, []string) {
	a := newAdapter(t, messages, begun)

	a.mergeSystem()
	a.text()
	if fold {
		a.systemToUser()
	}
	a.addUser()
	a.mergeRoles()
	a.fill()
	return append(a.messages, a.begun...), a.notes
}

func (a *adapter) note(text string) {
	if !slices.Contains(a.notes, text) {
		a.notes = append(a.notes, text)
	}
}

// takes asks the template.
func (a *adapter) takes(what trait) bool { return a.template.takes(what, a.tools) }

func isSystem(m *Message) bool { return m.Role == System || m.Role == Developer }

// has reports whether any message is as asked.
func (a *adapter) has(is func(*Message) bool) bool {
	for i := range a.messages {
		if is(&a.messages[i]) {
			return true
		}
	}
	return false
}

// first returns the index of the first message that is not a system message.
func (a *adapter) first() int {
	n := 0
	for n < len(a.messages) && isSystem(&a.messages[n]) {
		n++
	}
	return n
}

// system moves system messages to the beginning, or merges them.
func (a *adapter) system() {
	n := a.first()
	later := slices.ContainsFunc(a.messages[n:], func(m Message) bool { return isSystem(&m) })
	switch {
	case later && n == 0 && !a.takes(systemLater),
		later && n > 0 && !a.takes(systemAgain),
		n > 1 && !a.takes(systemTwice):
		a.mergeSystem()
	}
}

func (a *adapter) mergeSystem() {
	var texts []string
	var images []Image
	var others []Message
	for i := range a.messages {
		if m := &a.messages[i]; isSystem(m) {
			texts = append(texts, m.Content)
			images = append(images, m.Images...)
			continue
		}
		others = append(others, a.messages[i])
	}
	if len(texts) == 0 || len(texts) == 1 && isSystem(&a.messages[0]) {
		return
	}

	one := Message{Role: System, Content: strings.Join(texts, "\n\n"), Images: images}
	a.messages = slices.Insert(others, 0, one)
	a.note(NoteSystemMoved)
}

// foldSystem makes the system message a part of the user's first, for templates without that role.
func (a *adapter) foldSystem() {
	if !a.has(isSystem) {
		return
	}
	userLast := a.messages[len(a.messages)-1].Role == User
	if !a.takes(systemRole) || !userLast && a.first() < len(a.messages) && !a.takes(systemNotLast) {
		a.mergeSystem()
		a.systemToUser()
	}
}

func (a *adapter) systemToUser() {
	if len(a.messages) == 0 || !isSystem(&a.messages[0]) {
		return
	}
	a.messages[0].Role = User
	if len(a.messages) > 1 && a.messages[1].Role == User {
		a.messages[1] = merged(a.messages[:2]...)
		a.messages = a.messages[1:]
	}
	a.note(NoteSystemToUser)
}

// merged returns messages as one.
func merged(list ...Message) Message {
	one := list[0]
	if len(list) == 1 {
		return one
	}

	var content, reasoning strings.Builder
	one.Images = nil
	one.Calls = nil
	for _, m := range list {
		if content.Len() > 0 && m.Content != "" {
			content.WriteString("\n\n")
		}
		content.WriteString(m.Content) // including the marks of its images
		reasoning.WriteString(m.Reasoning)
		one.Images = append(one.Images, m.Images...)
		one.Calls = append(one.Calls, m.Calls...)
	}
	one.Content = content.String()
	one.Reasoning = reasoning.String()
	return one
}

// alternate brings the user's and the assistant's messages into turns.
func (a *adapter) alternate() {
	n := a.first()
	switch {
	case n == len(a.messages):
		if n == 0 && !a.takes(nothing) || n > 0 && !a.takes(systemOnly) {
			a.addUser()
		}
	case !a.has(func(m *Message) bool { return m.Role == User }) && !a.takes(userMissing),
		a.messages[n].Role == Assistant && len(a.messages[n].Calls) == 0 && !a.takes(assistantFirst),
		len(a.messages[n].Calls) > 0 && !a.takes(callsFirst):
		a.addUser()
	}

	if a.repeats() && !a.takes(rolesRepeat) {
		a.mergeRoles()
	}
}

// addUser adds an empty message of the user's before the first of another's.
func (a *adapter) addUser() {
	n := a.first()
	if n < len(a.messages) && a.messages[n].Role == User {
		return
	}
	a.messages = slices.Insert(a.messages, n, Message{Role: User})
	a.note(NoteUserAdded)
}

// repeats reports whether a role that alternates comes twice in a row.
func (a *adapter) repeats() bool {
	for i := 1; i < len(a.messages); i++ {
		if sameTurn(&a.messages[i-1], &a.messages[i]) {
			return true
		}
	}
	return false
}

// sameTurn reports whether two messages in a row are of the same role. After a call comes its result.
func sameTurn(a, b *Message) bool {
	return a.Role == b.Role && a.Role != ToolRole && len(a.Calls) == 0 && len(b.Calls) == 0
}

func (a *adapter) mergeRoles() {
	var out []Message
	for i := 0; i < len(a.messages); {
		end := i + 1
		for end < len(a.messages) && sameTurn(&a.messages[i], &a.messages[end]) {
			end++
		}
		if end > i+1 {
			a.note(NoteMerged)
		}
		out = append(out, merged(a.messages[i:end]...))
		i = end
	}
	a.messages = out
}

// noText is the text of a message that has none.
const noText = "(no text)"

// fill gives messages without text one, for templates that refuse them.
func (a *adapter) fill() {
	empty := func(m *Message) bool { return strings.TrimSpace(m.Content) == "" && len(m.Calls) == 0 }
	if !a.has(empty) || a.takes(emptyTexts) {
		return
	}
	for i := range a.messages {
		if m := &a.messages[i]; empty(m) {
			m.Content = noText
			a.note(NoteTextAdded)
		}
	}
}

// exchange brings calls and results into the form that the template takes.
func (a *adapter) exchange() {
	isCall := func(m *Message) bool { return len(m.Calls) > 0 }
	isResult := func(m *Message) bool { return m.Role == ToolRole }
	if !a.has(isCall) && !a.has(isResult) {
		return
	}

	if !a.takes(calls) {
		a.text()
		return
	}
	a.results()
	a.splitText()
	if !a.paired() && !a.takes(callsUnpaired) {
		a.pair()
	}
	if a.has(func(m *Message) bool { return len(m.Calls) > 1 }) && !a.takes(callsParallel) {
		a.pair()
		a.split()
	}
	a.answerResults()
	switch {
	case !a.takes(anyID):
		a.shortIDs()
	case a.takes(namedIDs):
		a.nameIDs()
	}
}

// results names results, and puts those of one message's calls into the calls' order, which is all that tells many
// templates apart what belongs to which call.
func (a *adapter) results() {
	a.nameResults()

	for i := range a.messages {
		ids := a.messages[i].Calls
		if len(ids) < 2 {
			continue
		}
		end := i + 1
		for end < len(a.messages) && a.messages[end].Role == ToolRole {
			end++
		}

		places := map[string]int{} // of the first call with an ID
		for k := len(ids) - 1; k >= 0; k-- {
			places[ids[k].ID] = k
		}
		place := func(m Message) int {
			at, ok := places[m.CallID]
			if !ok {
				return len(ids) // after those that belong to a call
			}
			return at
		}
		byCall := func(a, b Message) int { return place(a) - place(b) }
		if list := a.messages[i+1 : end]; !slices.IsSortedFunc(list, byCall) {
			slices.SortStableFunc(list, byCall)
			a.note(NoteCallsPaired)
		}
	}
}

// nameResults notes the name of the function in every result, which some templates write.
func (a *adapter) nameResults() {
	names := map[string]string{}
	for i := range a.messages {
		m := &a.messages[i]
		for _, c := range m.Calls {
			names[c.ID] = c.Name
		}
		if m.Role == ToolRole && m.CallName == "" {
			m.CallName = names[m.CallID]
		}
	}
}

// paired reports whether the results of every call follow it, in any order, and nothing else is a result.
func (a *adapter) paired() bool {
	waiting := map[string]int{} // how many calls with an ID have no result yet
	for i := range a.messages {
		m := &a.messages[i]
		if m.Role == ToolRole {
			if waiting[m.CallID] == 0 {
				return false
			}
			if waiting[m.CallID]--; waiting[m.CallID] == 0 {
				delete(waiting, m.CallID)
			}
			continue
		}
		if len(waiting) > 0 {
			return false
		}
		for _, c := range m.Calls {
			waiting[c.ID]++
		}
	}
	return len(waiting) == 0
}

// noResult is the result of a call that has none.
const noResult = "(no result)"

// pair puts the results of every call after it, in the order of the calls. A missing one is made up, and one
// without a call becomes the user's.
func (a *adapter) pair() {
	if a.paired() {
		return
	}
	a.note(NoteCallsPaired)

	results := map[string][]int{} // messages by ID, in order, that are not used
	for i := range a.messages {
		if m := &a.messages[i]; m.Role == ToolRole {
			results[m.CallID] = append(results[m.CallID], i)
		}
	}
	used := map[int]bool{}
	take := func(after int, id string) (Message, bool) {
		list := results[id]
		for len(list) > 0 && list[0] <= after {
			list = list[1:] // what comes next is after it, too
		}
		if results[id] = list; len(list) == 0 {
			return Message{}, false
		}
		results[id] = list[1:]
		used[list[0]] = true
		return a.messages[list[0]], true
	}

	var out []Message
	for i, m := range a.messages {
		switch {
		case used[i]:
			continue
		case m.Role == ToolRole:
			m = resultText(m)
		}
		out = append(out, m)
		for _, c := range m.Calls {
			result, ok := take(i, c.ID)
			if !ok {
				result = Message{Role: ToolRole, Content: noResult, CallID: c.ID, CallName: c.Name}
			}
			out = append(out, result)
		}
	}
	a.messages = out
}

// splitText writes the text before calls as a message of its own, if the template leaves it out beside calls.
func (a *adapter) splitText() {
	withText := func(m *Message) bool { return len(m.Calls) > 0 && strings.TrimSpace(m.Content) != "" }
	if !a.has(withText) || a.takes(callsWithText) || !a.takes(textThenCalls) {
		return
	}
	a.note(NoteTextSplit)

	var out []Message
	for _, m := range a.messages {
		if withText(&m) {
			out = append(out, Message{Role: Assistant, Content: m.Content, Images: m.Images})
			m.Content = ""
			m.Images = nil
		}
		out = append(out, m)
	}
	a.messages = out
}

// split writes several calls of one message one by one, each with its result, which follow in order.
func (a *adapter) split() {
	a.note(NoteCallsSplit)

	var out []Message
	for i := 0; i < len(a.messages); i++ {
		m := a.messages[i]
		if len(m.Calls) < 2 {
			out = append(out, m)
			continue
		}
		results := map[string][]Message{}
		for _, r := range a.messages[i+1 : i+1+len(m.Calls)] {
			results[r.CallID] = append(results[r.CallID], r)
		}
		for k, c := range m.Calls {
			one := Message{Role: Assistant, Calls: []ToolCall{c}}
			if k == 0 {
				one = m
				one.Calls = m.Calls[:1]
			}
			out = append(out, one, results[c.ID][0])
			results[c.ID] = results[c.ID][1:]
		}
		i += len(m.Calls)
	}
	a.messages = out
}

// answerResults adds an empty answer between a result and the user's next message.
func (a *adapter) answerResults() {
	var out []Message
	for i, m := range a.messages {
		if i > 0 && m.Role == User && a.messages[i-1].Role == ToolRole && !a.takes(resultThenUser) {
			out = append(out, Message{Role: Assistant})
			a.note(NoteAnswerAdded)
		}
		out = append(out, m)
	}
	a.messages = out
}
