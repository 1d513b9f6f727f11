// Package console implements a chat with a model in a terminal or a pipe: a line editor, and
// commands to the program instead of the model.
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

	"serve/chatclient"
	"serve/terminal"
)

// Session is a chat between a model and a user at a terminal, or a pipe.
type Session struct {
	Client       *chatclient.Client
	Conversation *chatclient.Conversation
	Stats        bool // print statistics after each answer

	Terminal *terminal.Terminal
	Lookup   func(string) string // returns environment variables

	editor editor
	images []string // to send with the next message, as data URLs
}

// maxPiped is the maximum size of input from a pipe.
const maxPiped = 8 << 20

// ErrInput means that the input is empty or too long.
var ErrInput = errors.New("input")

// Contexts are the contexts that end a session.
type Contexts struct {
	Program       context.Context // done when the program should exit
	Interruptible context.Context // also done on Ctrl-C, unless an editor handles it
	Unhook        func() bool     // stops Ctrl-C from ending Interruptible
}

// Run sends the text, input from a pipe, or both, and prints the answer. Without either, it chats
// until the user exits.
func (s *Session) Run(c Contexts, text string) error {
	e, err := newEditor(os.Stdin, os.Stdout, s.Lookup)
	if err != nil {
		return err
	}
	defer e.Close()
	s.editor = e
	context.AfterFunc(c.Program, e.Close) // do not leave the terminal in raw mode

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
	case <-c.Program.Done(): // reading a key cannot be interrupted
		return nil
	}
}

// isPiped reports whether the input is a pipe or a file: not a terminal, and not nothing.
func isPiped(in *os.File) bool {
	info, err := in.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice == 0
}

// pipe sends the input from a pipe as one message, after the text in about.
func (s *Session) pipe(ctx context.Context, e *plainEditor, about string) error {
	text, err := io.ReadAll(io.LimitReader(e.lines, maxPiped+1))
	if err != nil {
		return err
	}
	if len(text) > maxPiped {
		return fmt.Errorf("%w: the input is longer than %d bytes", ErrInput, maxPiped)
	}
	return s.once(ctx, strings.TrimSpace(about+"\n\n"+strings.TrimRight(string(text), "\r\n")))
}

// once sends one message, and prints the answer without anything else.
func (s *Session) once(ctx context.Context, text string) error {
	if strings.TrimSpace(text) == "" {
		return fmt.Errorf("%w: the input is empty", ErrInput)
	}
	return s.say(ctx, text)
}

// talk chats until the user exits.
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

// tell prints a line of the program.
func (s *Session) tell(format string, args ...any) {
	fmt.Fprintf(s.editor, "serve: %s\n", terminal.Printable(fmt.Sprintf(format, args...)))
}

// aside is tell, but prints to stderr if stdout is only for the answer.
func (s *Session) aside(format string, args ...any) {
	if p, plain := s.editor.(*plainEditor); plain && !p.prompts {
		s.Terminal.Note(format, args...)
		return
	}
	s.tell(format, args...)
}

// say sends a message and shows the answer while it arrives. If it fails, the conversation is
// unchanged; if it is interrupted, the answer so far is kept.
func (s *Session) say(ctx context.Context, text string) error {
	before := slices.Clone(s.Conversation.Messages)
	message := chatclient.Message{Role: "user", Text: text, Images: s.images}
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
		s.aside("%d prompt tokens (%d cached), %d generated: the first after %s, then %.1f per second",
			answer.Prompt, answer.Cached, answer.Answered, answer.First.Round(time.Millisecond), answer.Rate())
	}
	return nil
}

// display shows an answer while it arrives.
type display struct {
	to       io.Writer
	thoughts bool // also show reasoning
	thinking bool
}

func (d *display) delta(part chatclient.Delta) {
	if part.Thought != "" && d.thoughts {
		if !d.thinking {
			fmt.Fprint(d.to, "(thinking)\n")
		}
		fmt.Fprint(d.to, terminal.Printable(part.Thought))
		d.thinking = true
	}
	if part.Text != "" {
		if d.thinking {
			fmt.Fprint(d.to, "\n(answering)\n")
		}
		fmt.Fprint(d.to, terminal.Printable(part.Text))
		d.thinking = false
	}
}
