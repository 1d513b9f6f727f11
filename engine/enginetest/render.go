package enginetest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"serve/engine"
)

// Render writes role, content and calls of every message, and a newline at the end. Contents and calls are quoted.
func (f *Fake) Render(_ context.Context, c engine.Chat) (*engine.Rendered, error) {
	if f.opts.RenderError != nil {
		if err := f.opts.RenderError(c.Messages); err != nil {
			return nil, err
		}
	}

	var messages []struct {
		Role, Content string
		Calls         []struct {
			Function struct{ Name, Arguments string }
		} `json:"tool_calls"`
	}

	if err := json.Unmarshal(c.Messages, &messages); err != nil {
		return nil, err
	}

	r := &engine.Rendered{}
	var b strings.Builder
	for _, m := range messages {
		fmt.Fprintf(&b, "[%s]", m.Role)
		from := b.Len()
		b.WriteString(m.Content)
		for _, call := range m.Calls {
			fmt.Fprintf(&b, "<%s %s>", call.Function.Name, call.Function.Arguments)
		}
		r.Quoted = append(r.Quoted, engine.Range{From: from, To: b.Len()})
	}

	r.Prompt = b.String() + "\n"
	if f.opts.Parse != nil {
		r.Parser = "fake"
		// The fake has no grammar, and what it says is scripted; but a place for each schema.
		var tools []struct{ Function struct{ Name string } }
		if err := json.Unmarshal(c.Tools, &tools); len(c.Tools) > 0 && err != nil {
			return nil, err
		}
		for _, tool := range tools {
			r.Grammar.Text += "tool-" + tool.Function.Name + "-schema ::= \"\"\n"
		}
		if len(tools) > 0 {
			r.Grammar.Text = "root ::= \"\"\n" + r.Grammar.Text
		}
		r.Preserved = []string{"<think>"}
	}

	return r, nil
}

// Parser returns a parser by Options.Parse.
func (f *Fake) Parser(context.Context, string) (engine.Parser, error) {
	return NewParser(f.opts.Parse), nil
}
