package console

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"serve/chatclient"
	"serve/hub"
)

// exits are the commands that end a chat.
var exits = []string{"exit", "quit", "bye"}

// command executes a line that begins with a slash.
func (s *Session) command(name, rest string) error {
	for _, c := range commands() {
		if c.name == name {
			return c.do(s, rest)
		}
	}
	return fmt.Errorf(
		"unknown command /%s; /help lists the commands; to send the line as a message, begin it with a space", name,
	)
}

// command is a command to the program instead of the model.
type command struct {
	name      string
	arguments string
	help      string
	do        func(s *Session, rest string) error
}

// commands returns all commands.
func commands() []command {
	return []command{
		{"help", "", "list the commands", (*Session).help},
		{"system", "[TEXT]", "set the system prompt; without TEXT, show it; - removes it", (*Session).system},
		{"params", "[NAME [VALUE]]", "set a request parameter (temperature 0); without VALUE, remove it", (*Session).params},
		{"image", "FILE", "attach an image to the next message", (*Session).image},
		{"model", "[NAME]", "switch to another model of the same server; without NAME, list them", (*Session).model},
		{"clear", "", "forget the conversation", (*Session).clear},
		{"save", "FILE", "save the conversation as JSON", (*Session).save},
		{"load", "FILE", "continue a saved conversation", (*Session).load},
		{"stats", "", "turn statistics after each answer on or off", (*Session).stats},
		{"exit", "", "exit, as Ctrl-D does", nil},
	}
}

func (s *Session) help(string) error {
	for _, c := range commands() {
		fmt.Fprintf(s.editor, "  /%-24s %s\n", strings.TrimSpace(c.name+" "+c.arguments), c.help)
	}
	fmt.Fprint(s.editor, "End a line with \\ to continue it on the next. Ctrl-C stops an answer.\n")
	return nil
}

func (s *Session) system(text string) error {
	switch text {
	case "":
		s.tell("system prompt: %q", s.Conversation.System())
	case "-":
		s.Conversation.SetSystem("")
	default:
		s.Conversation.SetSystem(text)
	}
	return nil
}

func (s *Session) params(rest string) error {
	if name, value, _ := strings.Cut(rest, " "); name != "" {
		return s.Conversation.Set(name, strings.TrimSpace(value))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Conversation.Params)) {
		s.tell("%s %s", name, s.Conversation.Params[name])
	}
	return nil
}

func (s *Session) image(path string) error {
	url, err := chatclient.Image(hub.ExpandHome(path, s.Lookup))
	if err != nil {
		return err
	}
	s.images = append(s.images, url)
	s.tell("images attached to the next message: %d", len(s.images))
	return nil
}

func (s *Session) model(name string) error {
	ctx, stop := s.editor.Watch(context.Background())
	defer stop()
	names, err := s.Client.Models(ctx)
	if err != nil {
		return err
	}

	switch {
	case name == "":
		s.tell("%s, of %s", s.Conversation.Model, strings.Join(names, ", "))
	case !slices.Contains(names, name):
		return fmt.Errorf("the server has no model %s; it has %s", name, strings.Join(names, ", "))
	default:
		s.Conversation.Model = name
	}
	return nil
}

func (s *Session) clear(string) error {
	s.Conversation.Clear()
	s.images = nil
	return nil
}

func (s *Session) save(path string) error {
	return s.Conversation.Save(hub.ExpandHome(path, s.Lookup))
}

func (s *Session) load(path string) error {
	loaded, err := chatclient.Load(hub.ExpandHome(path, s.Lookup))
	if err != nil {
		return err
	}
	loaded.Model = s.Conversation.Model
	s.Conversation = loaded
	s.tell("%d messages loaded", len(loaded.Messages))
	return nil
}

func (s *Session) stats(string) error {
	s.Stats = !s.Stats
	return nil
}
