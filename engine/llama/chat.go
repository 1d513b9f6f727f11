package llama

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"encoding/json"
	"fmt"
	"slices"
	"unsafe"

	"serve/engine"
)

// chatInput and chatOutput are what serve_chat_render takes and returns.
type chatInput struct {
	Messages          json.RawMessage            `json:"messages"`
	Tools             json.RawMessage            `json:"tools,omitempty"`
	ToolChoice        string                     `json:"tool_choice,omitempty"`
	ParallelToolCalls bool                       `json:"parallel_tool_calls"`
	JSONSchema        string                     `json:"json_schema,omitempty"`
	EnableThinking    bool                       `json:"enable_thinking"`
	Continue          bool                       `json:"continue_final_message,omitempty"`
	Written           string                     `json:"written,omitempty"`
	TemplateArgs      map[string]json.RawMessage `json:"template_kwargs,omitempty"`
}

type chatOutput struct {
	Prompt           string           `json:"prompt"`
	Quoted           []int            `json:"quoted"` // where each range begins and ends
	Grammar          string           `json:"grammar"`
	GrammarLazy      bool             `json:"grammar_lazy"`
	GenerationPrompt string           `json:"generation_prompt"`
	Triggers         []engine.Trigger `json:"triggers"`
	Preserved        []string         `json:"preserved"`
	Stops            []string         `json:"stops"`
	Parser           string           `json:"parser"`
	Plain            bool             `json:"plain"`
}

// inputOf returns a conversation as serve_chat_render takes it.
func inputOf(c engine.Chat) ([]byte, error) {
	return json.Marshal(chatInput{
		Messages: c.Messages, Tools: c.Tools, ToolChoice: c.ToolChoice, ParallelToolCalls: c.ParallelToolCalls,
		JSONSchema: c.Schema, EnableThinking: !c.NoThinking, Continue: c.Continue, TemplateArgs: c.TemplateArgs,
		Written: c.Written,
	})
}

// renderPlain returns the prompt of a conversation as llama.cpp alone renders it, for tests.
func (m *Model) renderPlain(c engine.Chat) (string, error) {
	text, err := inputOf(c)
	if err != nil {
		return "", err
	}
	ctext := C.CString(string(text))
	defer C.free(unsafe.Pointer(ctext))
	var e C.serve_error
	prompt := goString(C.serve_chat_plain(m.c, ctext, &e))
	return prompt, goError(&e)
}

// Render writes a conversation as the model's chat template does (ChatML when
// the file has none), and derives the grammar and the parser of its tool calls.
func (m *Model) Render(c engine.Chat) (*engine.Rendered, error) {
	text, err := inputOf(c)
	if err != nil {
		return nil, fmt.Errorf("render chat: %w", err)
	}

	ctext := C.CString(string(text))
	defer C.free(unsafe.Pointer(ctext))
	var e C.serve_error
	rendered := goString(C.serve_chat_render(m.c, ctext, &e))
	if err := goError(&e); err != nil {
		return nil, fmt.Errorf("render chat: %w", err)
	}

	var out chatOutput
	if err := json.Unmarshal([]byte(rendered), &out); err != nil {
		return nil, fmt.Errorf("render chat: %w", err)
	}

	if out.Grammar, out.Parser, err = mendFormat(out.Grammar, out.Parser); err != nil {
		return nil, fmt.Errorf("render chat: %w", err)
	}

	r := &engine.Rendered{Prompt: out.Prompt, Stops: out.Stops, Preserved: out.Preserved, Parser: out.Parser}
	for q := range slices.Chunk(out.Quoted, 2) {
		r.Quoted = append(r.Quoted, engine.Range{From: q[0], To: q[1]})
	}
	if out.Plain {
		r.Parser = ""
	}

	if out.Grammar != "" {
		r.Grammar = engine.Grammar{
			Text:             out.Grammar,
			Lazy:             out.GrammarLazy,
			Triggers:         out.Triggers,
			FromChat:         true,
			GenerationPrompt: out.GenerationPrompt,
		}
	}

	return r, nil
}

// Parser returns a parser, which Render named, for one answer.
func (m *Model) Parser(spec string) (engine.Parser, error) {
	f, err := newFormat(spec)
	if err != nil {
		return nil, err
	}
	defer f.close()
	return f.parser()
}

// format is what the answers to one rendered chat are parsed by.
type format struct{ c *C.serve_parser }

func newFormat(spec string) (format, error) {
	cspec := C.CString(spec)
	defer C.free(unsafe.Pointer(cspec))
	var e C.serve_error
	f := format{C.serve_parser_new(cspec, &e)}
	if err := goError(&e); err != nil {
		return f, fmt.Errorf("create parser: %w", err)
	}
	return f, nil
}

// close frees the format. Its parsers live on.
func (f format) close() { C.serve_parser_free(f.c) }

func (f format) parser() (engine.Parser, error) {
	var e C.serve_error
	p := &parser{C.serve_answer_new(f.c, &e)}
	if err := goError(&e); err != nil {
		return nil, fmt.Errorf("create parser: %w", err)
	}
	return p, nil
}

// parser parses an answer as it grows; peg_parse.h says how.
type parser struct{ c *C.serve_answer }

func (p *parser) Close() {
	C.serve_answer_free(p.c)
	p.c = nil
}

func (p *parser) Append(text string, last bool) (d engine.Delta, err error) {
	var e C.serve_error
	start := (*C.char)(unsafe.Pointer(unsafe.StringData(text)))
	out := C.serve_answer_append(p.c, start, C.size_t(len(text)), C.bool(last), &e)
	if err := goError(&e); err != nil {
		return d, fmt.Errorf("parse answer: %w", err)
	}
	if out == nil {
		return d, nil
	}

	if err := json.Unmarshal([]byte(goString(out)), &d); err != nil {
		return engine.Delta{}, fmt.Errorf("parse answer: %w", err)
	}
	return d, nil
}
