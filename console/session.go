// Package console is a chat with a model in a terminal, or in a pipe: a line editor, and the
// commands that a person gives the program instead of the model.
package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"serve/chat"
	"serve/terminal"
)

// Session is a person at a terminal, or a pipe, and a model.
type Session struct {
	Client       *chat.Client
	Conversation *chat.Conversation
	Stats        bool // print how fast each answer came

	Terminal *terminal.Terminal
	Lookup   func(string) string // returns environment variables

	editor editor
	images []string // that go with the next message, as data URLs
}

// maxPiped is the most that is read from a pipe.
const maxPiped = 8 << 20

// ErrInput says that there is nothing to ask, or too much.
var ErrInput = errors.New("input")

// Contexts are what ends a session.
type Contexts struct {
	Program       context.Context // done when the program is to end
	Interruptible context.Context // done on Ctrl-C, too, unless an editor has taken it over
	Unhook        func() bool     // has Ctrl-C no longer end Interruptible
}

// Run asks the text, or what comes through a pipe, or both, and prints the answer. Without any
// it talks until the person ends it.
func (s *Session) Run(c Contexts, text string) error {
	e, err := newEditor(os.Stdin, os.Stdout, s.Lookup)
	if err != nil {
		return err
	}
	defer e.Close()
	s.editor = e
	context.AfterFunc(c.Program, e.Close) // a terminal left in raw mode is of no use to anybody

	p, plain := e.(*plainEditor)
	switch {
	case plain && !p.prompts && isPiped(os.Stdin):
		return s.pipe(c.Interruptible, p, text)
	case text != "":
		return s.once(c.Interruptible, text)
	}

	c.Unhook()
	ended := make(chan error, 1)
	go func() { ended <- s.talk(c.Program) }()
	select {
	case err := <-ended:
		return err
	case <-c.Program.Done(): // nobody can be made to press a key
		return nil
	}
}

// isPiped reports whether the input is a pipe or a file: not a terminal, and not nothing.
func isPiped(in *os.File) bool {
	info, err := in.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice == 0
}

// pipe asks what a pipe brings, all of it as one message, after a text that says what it is about.
func (s *Session) pipe(ctx context.Context, e *plainEditor, about string) error {
	text, err := io.ReadAll(io.LimitReader(e.lines, maxPiped+1))
	if err != nil {
		return err
	}
	if len(text) > maxPiped {
		return fmt.Errorf("%w: longer than %d bytes", ErrInput, maxPiped)
	}
	return s.once(ctx, strings.TrimSpace(about+"\n\n"+strings.TrimRight(string(text), "\r\n")))
}

// once asks one thing. What came of a pipe is printed as it is, and nothing with it.
func (s *Session) once(ctx context.Context, text string) error {
	if strings.TrimSpace(text) == "" {
		return fmt.Errorf("%w: there is nothing to ask", ErrInput)
	}
	return s.say(ctx, text)
}

// talk goes on until the person ends it.
func (s *Session) talk(ctx context.Context) error {
	s.tell("%s; /help lists commands, Ctrl-D exits", s.Conversation.Model)
	for ctx.Err() == nil {
		line, err := s.editor.Line("> ")
		switch {
		case errors.Is(err, io.EOF):
			fmt.Fprint(s.editor, "\n")
			return nil
		case err != nil:
			return err
		case strings.TrimSpace(line) == "":
			continue
		}

		command, isCommand := strings.CutPrefix(line, "/")
		if isCommand && !strings.Contains(line, "\n") {
			name, rest, _ := strings.Cut(command, " ")
			if slices.Contains(exits, name) {
				return nil
			}
			err = s.command(name, strings.TrimSpace(rest))
		} else {
			err = s.say(ctx, line)
		}
		if err != nil {
			s.tell("error: %v", err)
		}
	}
	return nil
}

// tell prints something that is not the model's.
func (s *Session) tell(format string, args ...any) {
	fmt.Fprintf(s.editor, "serve: "+format+"\n", args...)
}

// aside is tell, but on stderr where stdout is for the answer alone.
func (s *Session) aside(format string, args ...any) {
	if p, plain := s.editor.(*plainEditor); plain && !p.prompts {
		s.Terminal.Note(format, args...)
		return
	}
	s.tell(format, args...)
}

// say asks the model and shows the answer as it comes. One that fails leaves the conversation as
// it was; one that is stopped stays as far as it came.
func (s *Session) say(ctx context.Context, text string) error {
	before := slices.Clone(s.Conversation.Messages)
	message := chat.Message{Role: "user", Text: text, Images: s.images}
	s.Conversation.Messages = append(s.Conversation.Messages, message)
	answering, stop := s.editor.Watch(ctx)
	defer stop()

	_, plain := s.editor.(*plainEditor)
	show := display{to: s.editor, thoughts: !plain}
	answer, err := s.Client.Ask(answering, s.Conversation, show.delta)
	stopped := answering.Err() != nil && ctx.Err() == nil
	if err != nil && !stopped {
		s.Conversation.Messages = before
		return err
	}

	s.images = nil
	fmt.Fprint(s.editor, "\n")
	if answer.Text == "" && stopped {
		s.Conversation.Messages = before
	} else {
		s.Conversation.Messages = append(s.Conversation.Messages, answer.Message)
	}

	switch {
	case stopped:
		s.tell("stopped")
	case answer.Finish == "length":
		s.aside("truncated: the answer reached max_tokens or the end of the model's context")
	}
	if s.Stats {
		s.aside("%d tokens read (%d cached), %d written: the first after %s, then %.1f per second",
			answer.Prompt, answer.Cached, answer.Answered, answer.First.Round(time.Millisecond), answer.Rate())
	}
	return nil
}

// display shows an answer as it comes.
type display struct {
	to       io.Writer
	thoughts bool // are shown, too
	thinking bool
}

func (d *display) delta(part chat.Delta) {
	if part.Thought != "" && d.thoughts {
		if !d.thinking {
			fmt.Fprint(d.to, "(thinking)\n")
		}
		fmt.Fprint(d.to, printable(part.Thought))
		d.thinking = true
	}
	if part.Text != "" {
		if d.thinking {
			fmt.Fprint(d.to, "\n(answering)\n")
		}
		fmt.Fprint(d.to, printable(part.Text))
		d.thinking = false
	}
}

// printable removes what would move a terminal's cursor, change its colors or worse: models repeat
// what they are given, escapes too.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, text)
}
