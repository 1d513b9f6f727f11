package prompt

import (
	"context"
	"strings"

	"serve/engine"
)

// Model is the part of a model that building prompts needs. pool.Engine implements it.
type Model interface {
	Model() *engine.Model
	Limits() engine.Limits
	Render(engine.Chat) (*engine.Rendered, error)
	Tokenize(text string, special bool, limit int) ([]engine.Token, error)
	Prompt(ctx context.Context, parts []engine.Part, limit int) ([]engine.Token, []*engine.Media, error)
}

// Builder builds prompts for one model.
type Builder struct {
	Model Model
	Name  string // the model's name in errors
	Fetch Fetch  // downloads images
}

// Prompt is a rendered and tokenized conversation, with the grammar and parser for the answer.
type Prompt struct {
	Tokens []engine.Token

	media    []*engine.Media
	rendered *engine.Rendered
	begun    string
}

// Build renders and tokenizes a conversation, and encodes its images.
func (b *Builder) Build(ctx context.Context, c *Conversation) (*Prompt, error) {
	images := c.images()
	if e := b.checkImages(images); e != nil {
		return nil, e
	}
	rendered, err := c.render(b.Model)
	if err != nil {
		return nil, err
	}
	parts, err := b.cut(ctx, rendered.Prompt, images)
	if err != nil {
		return nil, err
	}

	p := &Prompt{rendered: rendered}
	p.begun, _ = c.begun()
	p.Tokens, p.media, err = b.Model.Prompt(ctx, parts, b.Model.Limits().Context-1)
	return p, err
}

// Text is the prompt before it became tokens. Images are in it as their marks.
func (p *Prompt) Text() string { return p.rendered.Prompt }

// Ask sets the prompt, grammar and parser in a request.
func (p *Prompt) Ask(r *engine.Request) {
	r.Prompt = p.Tokens
	r.Media = p.media
	r.Stop = append(r.Stop, p.rendered.Stops...)
	r.Preserved = p.rendered.Preserved
	r.Parser = p.rendered.Parser
	r.Begun = p.begun
	r.Sampling.Grammar = p.rendered.Grammar
}

// render renders the conversation by the model's template. Some templates reject several system
// messages or consecutive messages of the same role; if so, messages are merged.
func (c *Conversation) render(m Model) (*engine.Rendered, error) {
	_, begun := c.begun()
	chat := engine.Chat{
		Continue:     begun,
		NoThinking:   c.Effort == NoEffort,
		TemplateArgs: c.templateArgs(),
	}

	messages := c.Messages
	if !strings.Contains(m.Model().ChatTemplate, string(Developer)) {
		messages = withoutDevelopers(messages)
	}
	if c.Format.asked() {
		messages = instruct(messages, c.Format.instruction())
	}

	rendered, err := c.renderForms(m, chat, messages)
	if err != nil {
		if merged := mergeTurns(messages); len(merged) < len(messages) {
			return c.renderForms(m, chat, merged)
		}
	}
	return rendered, err
}

// templateArgs returns the arguments for the template, including the effort.
func (c *Conversation) templateArgs() map[string][]byte {
	const name = "reasoning_effort"
	if _, given := c.TemplateArgs[name]; given || c.Effort == "" || c.Effort == NoEffort {
		return c.TemplateArgs
	}

	args := map[string][]byte{name: []byte(`"` + c.Effort + `"`)}
	for name, value := range c.TemplateArgs {
		args[name] = value
	}
	return args
}

// renderForms renders with the constraints on the answer: tools, a format, or both.
func (c *Conversation) renderForms(m Model, chat engine.Chat, messages []Message) (*engine.Rendered, error) {
	byFormat := chat
	if c.Format.asked() {
		byFormat.Schema = placeholder
	}
	if err := c.Tools.offer(&chat); err != nil {
		return nil, err
	}

	calls := c.Tools.offered() && c.Tools.Choice != ChoiceNone
	switch {
	case !c.Format.asked() && !calls:
		return renderMessages(m, chat, messages)
	case !calls:
		byFormat.Tools = chat.Tools
		byFormat.ToolChoice = chat.ToolChoice
		rendered, err := renderMessages(m, byFormat, messages)
		if err == nil {
			c.putAnswer(rendered)
		}
		return rendered, err
	}
	return c.renderCalls(m, chat, byFormat, messages)
}

// renderCalls renders a conversation with tools. If the conversation also has a format, byFormat is
// the chat for it.
func (c *Conversation) renderCalls(
	m Model, chat, byFormat engine.Chat, messages []Message,
) (*engine.Rendered, error) {
	rendered, err := renderMessages(m, chat, messages)
	if err != nil {
		return nil, err
	}

	// Without a grammar, either calls have no marker that triggers it, or the template does not
	// support tools. In the latter case there is none for required calls, either.
	must := c.Tools.Choice == ChoiceRequired
	required := rendered
	if !must && (rendered.Grammar.Text == "" || c.Format.asked()) {
		forced := chat
		forced.ToolChoice = string(ChoiceRequired)
		if required, err = renderMessages(m, forced, messages); err != nil {
			return nil, err
		}
	}

	if required.Grammar.Text == "" {
		return c.renderPlain(m, chat, messages)
	}

	if rendered.Grammar.Text == "" && !c.Format.asked() {
		c.Tools.wait(&rendered.Grammar, required.Grammar)
	}

	if err := c.Tools.put(&rendered.Grammar); err != nil || !c.Format.asked() || must {
		return rendered, err
	}

	// Allow a call, or an answer by the format.
	if err := c.Tools.put(&required.Grammar); err != nil {
		return nil, err
	}

	answer, err := renderMessages(m, byFormat, messages)
	if err != nil {
		return nil, err
	}

	alone := c.putAnswer(answer)
	begun, _ := c.begun()
	rendered.Grammar = either(required.Grammar, answer.Grammar, alone, begun)
	return rendered, nil
}

// offer sets the tools of a chat.
func (t *Tools) offer(chat *engine.Chat) (err error) {
	if !t.offered() {
		return nil
	}
	chat.Tools, err = marshalTools(t.List)
	chat.ToolChoice = string(t.Choice)
	chat.ParallelToolCalls = t.Parallel
	return err
}

func renderMessages(m Model, chat engine.Chat, messages []Message) (*engine.Rendered, error) {
	text, err := marshalMessages(messages)
	if err != nil {
		return nil, err
	}
	chat.Messages = text
	return m.Render(chat)
}
