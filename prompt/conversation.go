// Package prompt turns a conversation into what a model is asked, and the model's answer back
// into text, reasoning and calls. It knows chat templates, the grammars that llama.cpp derives
// from them, and no API: who speaks one builds a Conversation out of a request.
package prompt

import (
	"encoding/json"
	"slices"

	"serve/schema"
)

// Conversation is what a model is asked to go on with, and what is expected of its answer.
type Conversation struct {
	Messages []Message // at least one
	Tools    Tools
	Format   Format
	// Effort is how much the model is to think, a word that its template may know; NoEffort
	// leaves thinking out, and nothing leaves it to the template.
	Effort string
	// TemplateArgs are more arguments for the template, JSON values.
	TemplateArgs map[string][]byte
}

// NoEffort is the Effort that asks for an answer without thinking.
const NoEffort = "none"

// Role says who speaks. Templates know all of these but Developer, which becomes System where
// they do not.
type Role string

// The roles.
const (
	System    Role = "system"
	Developer Role = "developer"
	User      Role = "user"
	Assistant Role = "assistant"
	ToolRole  Role = "tool"
)

// Message is a turn of the conversation.
type Message struct {
	Role      Role
	Content   string  // with the marks of the images
	Images    []Image // in the order of their marks
	Reasoning string  // that came before the content
	Calls     []Call  // of an assistant
	CallID    string  // of a tool: which call this is the result of
}

// Call is a call of a tool. Its arguments are JSON.
type Call struct {
	ID        string
	Name      string
	Arguments string
}

// Tools are what the model may call, and how.
type Tools struct {
	List     []Tool
	Choice   Choice
	Parallel bool // more than one call in an answer
}

// Choice says whether a call may come, must, or must not.
type Choice string

// The choices. The zero value is that of a conversation without tools.
const (
	ChoiceAuto     Choice = "auto"
	ChoiceNone     Choice = "none"
	ChoiceRequired Choice = "required"
)

// Tool is a function that the model may call. Compile it before it is offered.
type Tool struct {
	Name        string
	Description string
	Parameters  json.RawMessage // JSON Schema of the arguments, an object
	Strict      bool            // the schema must be enforced in full
	Field       string          // where the request has the schema, as errors name it

	arguments *schema.Grammar
}

// Offered reports whether there is anything to call.
func (t *Tools) Offered() bool { return len(t.List) > 0 }

// Format is the form that the answer must have; the zero value is any text.
type Format struct {
	schema string // to tell the model; empty for any JSON object
	field  string // where the request has the schema, as errors name it
	answer *schema.Grammar
}

// Asked reports whether the answer must have a form.
func (f *Format) Asked() bool { return f.answer != nil }

// begun is the answer's beginning, which a client may give as a last message of the
// assistant's. The answer is what comes after it.
func (c *Conversation) begun() (text string, ok bool) {
	last := &c.Messages[len(c.Messages)-1]
	if last.Role != Assistant || len(last.Calls) > 0 {
		return "", false
	}
	return last.Content, true
}

// images are those of all messages, in order.
func (c *Conversation) images() []Image {
	var all []Image
	for i := range c.Messages {
		all = append(all, c.Messages[i].Images...)
	}
	return all
}

// instruct adds to the system's message, or makes one.
func instruct(messages []Message, text string) []Message {
	messages = slices.Clone(messages)
	for i := range messages {
		if messages[i].Role == System || messages[i].Role == Developer {
			messages[i].Content += "\n\n" + text
			return messages
		}
	}
	return slices.Insert(messages, 0, Message{Role: System, Content: text})
}
