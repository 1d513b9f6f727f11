package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"serve/chat"
	"serve/hub"
)

// session is a person at a terminal, or a pipe, and a model.
type session struct {
	w            *workplace
	client       *chat.Client
	conversation *chat.Conversation
	editor       editor
	images       []string // that go with the next message, as data URLs
	stats        bool
}

// maxPiped is the most that is read of a pipe.
const maxPiped = 8 << 20

// nothingPiped reports whether the input is no pipe and no file: a terminal, or nothing.
func nothingPiped(in *os.File) bool {
	info, err := in.Stat()
	return err != nil || info.Mode()&os.ModeCharDevice != 0
}

// pipe asks what a pipe brings, all of it as one message, after a text that says what it
// is about.
func (s *session) pipe(ctx context.Context, e *plainEditor, about string) error {
	text, err := io.ReadAll(io.LimitReader(e.lines, maxPiped+1))
	if err != nil {
		return err
	}
	if len(text) > maxPiped {
		return fmt.Errorf("%w: the input is longer than %d bytes", errUsage, maxPiped)
	}
	return s.once(ctx, strings.TrimSpace(about+"\n\n"+strings.TrimRight(string(text), "\r\n")))
}

// once asks one thing. What came of a pipe is printed as it is, and nothing with it.
func (s *session) once(ctx context.Context, text string) error {
	if strings.TrimSpace(text) == "" {
		return fmt.Errorf("%w: there is nothing to ask", errUsage)
	}
	return s.say(ctx, text)
}

// talk goes on until the person ends it.
func (s *session) talk(ctx context.Context) error {
	s.tell("%s; /help lists commands, Ctrl-D ends", s.conversation.Model)
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
		if line, isCommand := strings.CutPrefix(line, "/"); isCommand && !strings.Contains(line, "\n") {
			name, rest, _ := strings.Cut(line, " ")
			if name == "exit" || name == "quit" || name == "bye" {
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

// tell says something that is no model's.
func (s *session) tell(format string, args ...any) {
	fmt.Fprintf(s.editor, "serve: "+format+"\n", args...)
}

// say asks the model and shows the answer as it comes. One that fails leaves the
// conversation as it was; one that is stopped stays as far as it came.
func (s *session) say(ctx context.Context, text string) error {
	before := slices.Clone(s.conversation.Messages)
	s.conversation.Messages = append(s.conversation.Messages, chat.Message{Role: "user", Text: text, Images: s.images})
	answering, stop := s.editor.Watch(ctx)
	defer stop()
	thinking := false
	_, plain := s.editor.(*plainEditor)
	answer, err := s.client.Ask(answering, s.conversation, func(d chat.Delta) {
		if d.Thought != "" && !plain {
			if !thinking {
				fmt.Fprint(s.editor, "(thinking)\n")
			}
			fmt.Fprint(s.editor, printable(d.Thought))
			thinking = true
		}
		if d.Text != "" {
			if thinking {
				fmt.Fprint(s.editor, "\n(answering)\n")
			}
			thinking = false
			fmt.Fprint(s.editor, printable(d.Text))
		}
	})
	stopped := answering.Err() != nil && ctx.Err() == nil
	if err != nil && !stopped {
		s.conversation.Messages = before
		return err
	}
	s.images = nil
	fmt.Fprint(s.editor, "\n")
	if answer.Text == "" && stopped {
		s.conversation.Messages = before
	} else {
		s.conversation.Messages = append(s.conversation.Messages, answer.Message)
	}
	switch {
	case stopped:
		s.tell("stopped")
	case answer.Finish == "length":
		s.aside("cut: the answer is as long as max_tokens or the model's context allow")
	}
	if s.stats {
		s.aside("%d tokens read (%d reused), %d written: the first after %s, then %.1f a second", answer.Prompt, answer.Cached, answer.Answered,
			answer.First.Round(time.Millisecond), answer.Rate())
	}
	return nil
}

// aside is tell, but on stderr where stdout is for the answer alone.
func (s *session) aside(format string, args ...any) {
	if p, plain := s.editor.(*plainEditor); plain && !p.prompts {
		s.w.t.note(format, args...)
		return
	}
	s.tell(format, args...)
}

// printable leaves out what would move a terminal's cursor, change its colours or worse:
// models repeat what they are given, escapes too.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, text)
}

// command is a line that begins with a slash.
func (s *session) command(name, rest string) error {
	for _, c := range commands() {
		if c.name == name {
			return c.do(s, rest)
		}
	}
	return fmt.Errorf("/%s is no command; /help lists them. Begin with a space to say it to the model", name)
}

// sessionCommand is what a person can tell the program instead of the model.
type sessionCommand struct {
	name, arguments, help string
	do                    func(s *session, rest string) error
}

// commands are all of them.
func commands() []sessionCommand {
	return []sessionCommand{
		{"help", "", "this list", (*session).help},
		{"system", "[TEXT]", "what the model is told to be; without TEXT, what that is; - for nothing", (*session).system},
		{"params", "[NAME [VALUE]]", "fields of the requests: temperature 0, max_tokens 200; without VALUE one is taken away", (*session).params},
		{"image", "FILE", "goes with the next message", (*session).image},
		{"model", "[NAME]", "another model of the same server; without NAME, which it has", (*session).model},
		{"clear", "", "forget what was said", func(s *session, _ string) error { s.conversation.Clear(); s.images = nil; return nil }},
		{"save", "FILE", "keep the conversation, as JSON", func(s *session, path string) error { return s.conversation.Save(hub.ExpandHome(path, s.w.lookup)) }},
		{"load", "FILE", "go on with one that was kept", (*session).load},
		{"stats", "", "say how fast each answer came, or no more", func(s *session, _ string) error { s.stats = !s.stats; return nil }},
		{"exit", "", "as Ctrl-D does", nil},
	}
}

func (s *session) help(string) error {
	for _, c := range commands() {
		fmt.Fprintf(s.editor, "  /%-24s %s\n", strings.TrimSpace(c.name+" "+c.arguments), c.help)
	}
	fmt.Fprint(s.editor, "A line that ends with \\ goes on. Ctrl-C stops an answer.\n")
	return nil
}

func (s *session) system(text string) error {
	switch text {
	case "":
		s.tell("system: %q", s.conversation.System())
	case "-":
		s.conversation.SetSystem("")
	default:
		s.conversation.SetSystem(text)
	}
	return nil
}

func (s *session) params(rest string) error {
	if name, value, _ := strings.Cut(rest, " "); name != "" {
		return s.conversation.Set(name, strings.TrimSpace(value))
	}
	for _, name := range slices.Sorted(maps.Keys(s.conversation.Params)) {
		s.tell("%s %s", name, s.conversation.Params[name])
	}
	return nil
}

func (s *session) image(path string) error {
	url, err := chat.Image(hub.ExpandHome(path, s.w.lookup))
	if err == nil {
		s.images = append(s.images, url)
		s.tell("%d images go with the next message", len(s.images))
	}
	return err
}

func (s *session) model(name string) error {
	ctx, stop := s.editor.Watch(context.Background())
	defer stop()
	names, err := s.client.Models(ctx)
	if err != nil {
		return err
	}
	if name == "" {
		s.tell("%s, of %s", s.conversation.Model, strings.Join(names, ", "))
		return nil
	}
	if !slices.Contains(names, name) {
		return fmt.Errorf("%s is not there; %s are", name, strings.Join(names, ", "))
	}
	s.conversation.Model = name
	return nil
}

func (s *session) load(path string) error {
	loaded, err := chat.Load(hub.ExpandHome(path, s.w.lookup))
	if err != nil {
		return err
	}
	model := s.conversation.Model
	s.conversation = loaded
	s.conversation.Model = model
	s.tell("%d messages", len(loaded.Messages))
	return nil
}
