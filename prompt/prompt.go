package prompt

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"serve/engine"
)

// Renderer is the part of a model that building prompts needs. A Reader is one.
type Renderer interface {
	Model() *engine.ModelInfo
	Limits() engine.Limits
	LongestPiece() int
	Render(engine.Chat) (*engine.Rendered, error)
	Tokenize(text string, how engine.Reading, limit int) ([]engine.Token, error)
	Prompt(ctx context.Context, parts []engine.Part, limit int) ([]engine.Token, []*engine.Media, error)
}

// Builder builds prompts for one model.
type Builder struct {
	Model Renderer
	Name  string // the model's name in errors
	Fetch Fetch  // downloads images

	// Templates remembers what the models' templates take; nil for nothing.
	Templates *Templates
}

// Prompt is a rendered and tokenized conversation, with the grammar and parser for the answer.
type Prompt struct {
	Tokens []engine.Token

	// Notes say what was changed in the conversation so that the model's template takes it, a word for each
	// kind of change.
	Notes []string

	// NotEnforced lists the parts of the schemas that the grammar does not enforce. Each entry is a field
	// followed by JSON pointers into its schema, separated by spaces.
	NotEnforced []string

	media    []*engine.Media
	rendered *engine.Rendered
	begun    string

	prediction []engine.Token
}

// Build renders and tokenizes a conversation, and encodes its images.
func (b *Builder) Build(ctx context.Context, c *Conversation) (*Prompt, error) {
	if err := b.checkLength(c); err != nil {
		return nil, err
	}
	images := c.images()
	if e := b.checkImages(images); e != nil {
		return nil, e
	}
	rendered, r, err := c.render(b.Model, b.Templates)
	if err != nil {
		return nil, err
	}
	parts, err := b.cut(ctx, rendered, images)
	if err != nil {
		return nil, err
	}

	p := &Prompt{rendered: rendered, Notes: r.notes, NotEnforced: r.notEnforced()}
	p.begun, _ = c.begun()
	p.Tokens, p.media, err = b.Model.Prompt(ctx, parts, b.Model.Limits().Context-1)
	if err == nil && c.Prediction != "" {
		p.prediction, err = b.predict(c.Prediction)
	}
	return p, err
}

// predict returns the tokens of a prediction, as far as an answer can be long.
func (b *Builder) predict(text string) ([]engine.Token, error) {
	most := b.Model.Limits().Context
	if n := most * max(b.Model.LongestPiece(), 1); len(text) > n {
		text = strings.ToValidUTF8(text[:n], "")
	}
	tokens, err := b.Model.Tokenize(text, engine.Reading{}, most)
	return tokens[:min(len(tokens), most)], err
}

// checkLength returns an engine.LengthError for a conversation whose texts alone have more bytes than the context has
// room for, whatever tokens they become. What a template may leave out, such as reasoning, does not count.
func (b *Builder) checkLength(c *Conversation) error {
	piece := b.Model.LongestPiece()
	if piece == 0 {
		return nil
	}

	bytes := 0
	for i := range c.Messages {
		bytes += len(c.Messages[i].Content)
	}
	if n := bytes / piece; n >= b.Model.Limits().Context {
		return &engine.LengthError{Tokens: n, Limit: b.Model.Limits().Context - 1, AtLeast: true}
	}
	return nil
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
	r.Format = p.rendered.Format
	r.Begun = p.begun
	r.Prediction = p.prediction
	r.Sampling.Grammar = p.rendered.Grammar
}

// renderer renders one conversation.
type renderer struct {
	*Conversation
	model    Renderer
	template *template
	notes    []string // of the last rendering
	loose    []*Tool  // tools whose arguments are not held to their schemas
}

// render renders the conversation by the model's template. The renderer says what was changed for that, and what
// is not enforced.
func (c *Conversation) render(m Renderer, templates *Templates) (*engine.Rendered, *renderer, error) {
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

	c.Tools.setAliases()
	r := &renderer{Conversation: c, model: m, template: templates.of(m)}
	rendered, err := r.forms(chat, messages)
	return rendered, r, err
}

// templateArgs returns the arguments for the template, including the effort.
func (c *Conversation) templateArgs() map[string]json.RawMessage {
	const name = "reasoning_effort"
	if _, given := c.TemplateArgs[name]; given || c.Effort == "" || c.Effort == NoEffort {
		return c.TemplateArgs
	}

	args := map[string]json.RawMessage{name: json.RawMessage(`"` + c.Effort + `"`)}
	for name, value := range c.TemplateArgs {
		args[name] = value
	}
	return args
}

// forms renders with the constraints on the answer: tools, a format, or both.
func (r *renderer) forms(chat engine.Chat, messages []Message) (*engine.Rendered, error) {
	byFormat := chat
	switch {
	case r.Format.text:
		byFormat.NoThinking = true // the text is all that is written
	case r.Format.asked():
		byFormat.Schema = placeholder
	}
	if err := r.Tools.offer(&chat); err != nil {
		return nil, err
	}

	calls := r.Tools.offered() && r.Tools.Choice != ChoiceNone
	switch {
	case !r.Format.asked() && !calls:
		chat.Split = len(r.images()) == 0
		return r.messages(chat, messages)
	case !calls:
		byFormat.Tools = chat.Tools
		byFormat.ToolChoice = chat.ToolChoice
		return r.answer(byFormat, messages)
	}
	return r.calls(chat, byFormat, messages)
}

// answer renders a conversation whose answer has a format.
func (r *renderer) answer(byFormat engine.Chat, messages []Message) (*engine.Rendered, error) {
	rendered, err := r.messages(byFormat, messages)
	if err != nil {
		return nil, err
	}
	r.putAnswer(rendered)
	return rendered, nil
}

// calls renders a conversation with tools. If the conversation also has a format, byFormat is the chat for
// it.
func (r *renderer) calls(chat, byFormat engine.Chat, messages []Message) (*engine.Rendered, error) {
	rendered, err := r.messages(chat, messages)
	if err != nil {
		// Some templates take tools, but fail at some schemas.
		if written, plainErr := r.plain(chat, messages); plainErr == nil {
			r.notes = append(r.notes, NoteToolsText)
			return written, nil
		}
		return nil, err
	}

	// Without a grammar, either calls have no marker that triggers it, or the template does not
	// support tools. In the latter case there is none for required calls, either.
	must := r.Tools.Choice == ChoiceRequired
	required := rendered
	if !must && (rendered.Grammar.Text == "" || r.Format.asked()) {
		forced := chat
		forced.ToolChoice = string(ChoiceRequired)
		if required, err = r.messages(forced, messages); err != nil {
			return nil, err
		}
	}

	if required.Grammar.Text == "" {
		return r.plain(chat, messages)
	}
	if slices.Contains(r.notes, NoteCallsText) {
		rendered.Format = newPlainParser // a model writes what it sees
	}

	if rendered.Grammar.Text == "" && !r.Format.asked() {
		r.Tools.wait(&rendered.Grammar, required.Grammar)
	}

	beginning, begun := r.begun()
	now := begun || chat.NoThinking
	if end := thoughtsEnd(rendered.Grammar); end != "" && must && !begun && chat.NoThinking {
		// The template begins thoughts whatever is asked for.
		chat.Written = end
		if rendered, err = r.messages(chat, messages); err != nil {
			return nil, err
		}
	}
	if r.Format.asked() && !must {
		// Allow a call, or an answer by the format, which alone may have been begun.
		r.loose, err = r.Tools.put(&required.Grammar, now, beginning)
	} else {
		r.loose, err = r.Tools.put(&rendered.Grammar, now, "")
	}
	if err != nil || !r.Format.asked() || must {
		return rendered, err
	}

	answer, err := r.messages(byFormat, messages)
	if err != nil {
		return nil, err
	}

	alone := r.putAnswer(answer)
	rendered.Grammar = either(required.Grammar, answer.Grammar, alone, beginning)
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

// messages renders the messages as the template takes them.
func (r *renderer) messages(chat engine.Chat, messages []Message) (*engine.Rendered, error) {
	adapted, notes := r.template.adapt(messages, chat.Tools != nil, chat.Continue)
	r.notes = notes
	rendered, first := r.render(chat, adapted)
	if first == nil {
		return rendered, nil
	}

	for _, fold := range []bool{false, true} {
		adapted, r.notes = r.template.simplify(messages, chat.Continue, fold)
		if rendered, err := r.render(chat, adapted); err == nil {
			return rendered, nil
		}
	}
	return nil, first
}

func (r *renderer) render(chat engine.Chat, messages []Message) (*engine.Rendered, error) {
	text, err := marshalMessages(messages)
	if err != nil {
		return nil, err
	}
	chat.Messages = text
	rendered, err := r.model.Render(chat)
	if err == nil {
		r.Tools.restoreNames(rendered)
	}
	return rendered, err
}
