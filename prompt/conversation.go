// Package prompt converts a conversation to a prompt, a grammar and a parser, and the model's output
// back to text, reasoning and tool calls. It knows chat templates and the grammars that llama.cpp
// derives from them, but no API: each API builds a Conversation from its requests.
package prompt

import (
	"encoding/json"
	"slices"

	"serve/schema"
)

// Conversation is the input of a chat model, and the constraints on its answer.
type Conversation struct {
	Messages []Message // at least one
	Tools    Tools
	Format   Format
	// Effort is the reasoning effort, a word that the template may know. NoEffort turns reasoning
	// off; the empty string means the template's default.
	Effort string
	// TemplateArgs are additional arguments for the template. None of them may be Reserved.
	TemplateArgs map[string]json.RawMessage
	// Complete says that a final assistant message is complete: the answer is another message.
	Complete bool
	// Prediction is text that the answer is expected to repeat.
	Prediction string
}

// NoEffort is the Effort that turns reasoning off.
const NoEffort = "none"

// Role is the author of a message. Developer becomes System if the template does not know it.
type Role string

// The roles.
const (
	System    Role = "system"
	Developer Role = "developer"
	User      Role = "user"
	Assistant Role = "assistant"
	ToolRole  Role = "tool"
)

// Message is one message of a conversation.
type Message struct {
	Role      Role
	Content   string     // contains the marks of the images
	Images    []Image    // in the order of their marks
	Reasoning string     // precedes the content
	Calls     []ToolCall // made by an assistant
	CallID    string     // in a tool's result: the call's ID
	CallName  string     // in a tool's result: the function's name, if known
}

// ToolCall is a tool call. The arguments are a JSON object, unless a model has written something else.
type ToolCall struct {
	ID        string
	Name      string
	Arguments string
}

// MaxTools is the maximum number of tools of a request. llama.cpp takes 110 KiB for the description of how each may be
// called, however short it is.
const MaxTools = 512

// Tools are the tools that the model may call.
type Tools struct {
	List     []Tool
	Choice   ToolChoice
	Parallel bool // allows several calls in one answer
}

// ToolChoice determines whether the model may, must or must not call a tool.
type ToolChoice string

// The choices. The zero value is for conversations without tools.
const (
	ChoiceAuto     ToolChoice = "auto"
	ChoiceNone     ToolChoice = "none"
	ChoiceRequired ToolChoice = "required"
)

// Tool is a function that the model may call. It must be compiled before use.
type Tool struct {
	Name        string
	Description string
	Parameters  json.RawMessage // JSON Schema of the arguments, an object
	Strict      bool            // requires that the whole schema is enforced
	Field       string          // the request's field with the schema, for errors

	arguments *schema.Compiled
	alias     string // the name while it is rendered, if it needs another
}

// offered reports whether there are any tools.
func (t *Tools) offered() bool { return len(t.List) > 0 }

// Format is the required format of the answer, JSON or text; the zero value allows any text.
type Format struct {
	schema string // shown to the model; empty for any JSON object
	field  string // the request's field with the schema, for errors
	text   bool   // it is no JSON: schema says in words what it must be
	answer *schema.Compiled
}

// asked reports whether a format is required.
func (f *Format) asked() bool { return f.answer != nil }

// begun returns the beginning of the answer, which a client may give as a final assistant message.
// The model continues from there.
func (c *Conversation) begun() (text string, ok bool) {
	last := &c.Messages[len(c.Messages)-1]
	if c.Complete || last.Role != Assistant || len(last.Calls) > 0 {
		return "", false
	}
	return last.Content, true
}

// images returns the images of all messages, in order.
func (c *Conversation) images() []Image {
	var all []Image
	for i := range c.Messages {
		all = append(all, c.Messages[i].Images...)
	}
	return all
}

// instruct adds a text to the system message that the conversation begins with, which it creates if there is
// none.
func instruct(messages []Message, text string) []Message {
	messages = slices.Clone(messages)
	if len(messages) > 0 && isSystem(&messages[0]) {
		messages[0].Content += "\n\n" + text
		return messages
	}
	return slices.Insert(messages, 0, Message{Role: System, Content: text})
}

// reserved are the names in a template that the renderer itself sets, and those of the language.
var reserved = []string{
	"messages", "tools", "add_generation_prompt", "bos_token", "eos_token",
	"raise_exception", "strftime_now", "namespace", "range",
	"true", "True", "false", "False", "none", "None",
}

// Reserved reports whether a client may not give an argument of a name to a template. With the conversation as
// an argument, the model would read another one than the server has checked.
func Reserved(name string) bool { return slices.Contains(reserved, name) }
