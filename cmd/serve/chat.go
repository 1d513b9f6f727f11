package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"serve/chat"
	"serve/models/demo"
)

// chatOptions are the flags of chat.
type chatOptions struct {
	url    string
	system string
	load   string
	stats  bool
	params []string
	memory modelOptions
}

func newChatCommand(w *workplace) *cobra.Command {
	var o chatOptions
	cmd := &cobra.Command{
		Use:   "chat [MODEL] [TEXT...]",
		Short: "talk to a model in the terminal",
		Long: `chat talks to a model: one that a serve of yours has already, or else one that it loads
for as long as you talk (demo, the tiny one that it carries, if none is named); with --url
one of any server that speaks OpenAI's API, whose key is read from OPENAI_API_KEY.

With TEXT, or with a pipe for input, or both (the text comes first), it asks that and prints
the answer, and nothing else, on stdout. Otherwise it reads lines, which are edited as in a shell. A line that ends with
a backslash goes on; what is pasted is one message, however many lines it has. Ctrl-C stops
an answer, and Ctrl-D ends. /help lists the commands.

Nothing that is said is kept, unless you /save it.`,
		Example: `  serve chat mistral-7b
  serve chat mistral-7b "Name three rivers."
  git diff | serve chat mistral-7b "Explain this change."
  serve chat --url http://127.0.0.1:8080`,
		ValidArgsFunction: w.completeModel,
		RunE:              func(cmd *cobra.Command, args []string) error { return runChat(cmd.Context(), w, o, args) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.url, "url", "", "ask this server, and load nothing")
	f.StringVar(&o.system, "system", "", "what the model is told to be")
	f.StringVar(&o.load, "load", "", "go on with a conversation that was saved")
	f.StringArrayVar(&o.params, "param", nil, "field of the requests, NAME=VALUE: temperature=0, max_tokens=200")
	f.BoolVar(&o.stats, "stats", false, "say how fast each answer came")
	o.memory.memoryFlags(f)
	return cmd
}

func runChat(ctx context.Context, w *workplace, o chatOptions, args []string) error {
	s := &session{w: w, stats: o.stats, conversation: new(chat.Conversation)}
	if o.load != "" {
		loaded, err := chat.Load(o.load)
		if err != nil {
			return err
		}
		s.conversation = loaded
	}
	if o.system != "" {
		s.conversation.SetSystem(o.system)
	}
	for _, p := range o.params {
		name, value, ok := strings.Cut(p, "=")
		if err := s.conversation.Set(name, value); err != nil || !ok || name == "" {
			return fmt.Errorf("%w: --param %q: like temperature=0", errUsage, p)
		}
	}
	model := ""
	if len(args) > 0 {
		model, args = args[0], args[1:]
	}
	// A signal to stop ends the program. Ctrl-C is the editor's from when there is one; in
	// a pipe, and while a model is fetched or loaded, it ends the program too.
	interrupted := ctx
	ctx, stop := signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	interruptible, cancel := context.WithCancel(ctx)
	defer cancel()
	unhook := context.AfterFunc(interrupted, cancel)
	done, err := s.connect(ctx, interruptible, o, model)
	if err != nil {
		return err
	}
	defer done()
	e, err := newEditor(os.Stdin, os.Stdout, w.lookup)
	if err != nil {
		return err
	}
	defer e.Close()
	s.editor = e
	context.AfterFunc(ctx, e.Close) // a terminal left in raw mode is of no use to anybody
	p, plain := e.(*plainEditor)
	switch {
	case plain && !p.prompts && !nothingPiped(os.Stdin):
		return s.pipe(interruptible, p, strings.Join(args, " "))
	case len(args) > 0:
		return s.once(interruptible, strings.Join(args, " "))
	}
	unhook()
	ended := make(chan error, 1)
	go func() { ended <- s.talk(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done(): // nobody can be made to press a key
		return nil
	}
}

// connect finds the server that has the model, or starts one that serves until ctx is
// done, and returns what ends that. It gives up when patience is done.
func (s *session) connect(ctx, patience context.Context, o chatOptions, model string) (done func(), err error) {
	done = func() {}
	address, key := o.url, s.w.lookup("OPENAI_API_KEY")
	if address == "" {
		key = "" // whatever it is for, it is not for this machine
		if address = s.w.serving(patience, model); address == "" {
			if model == "" {
				model = demo.Name
				s.w.t.note("no serve runs, and no model is named: demo, the tiny one that serve carries, answers")
			}
			if address, done, err = s.w.serveFor(ctx, patience, o.memory, model); err != nil {
				return nil, err
			}
			model = ""
		}
	}
	transport, err := s.w.transportTo(address)
	if err != nil {
		done()
		return nil, err
	}
	s.client = chat.NewClient(address, key, transport)
	if s.conversation.Model = cmp.Or(model, s.conversation.Model); s.conversation.Model == "" || o.url == "" && model == "" {
		names, err := s.client.Models(patience)
		if err != nil || len(names) == 0 {
			done()
			return nil, fmt.Errorf("no model at %s: %w", address, cmp.Or(err, errors.New("it has none")))
		}
		s.conversation.Model = names[0]
	}
	return done, nil
}

// serving returns the address of a serve that runs and has the model, or any model if
// none is named; "" if there is none.
func (w *workplace) serving(ctx context.Context, model string) string {
	store, err := w.store()
	if err != nil {
		return ""
	}
	running, _ := instances(store.Home)
	for _, in := range running {
		status, err := w.askStatus(ctx, in.URL)
		if err != nil {
			continue
		}
		for _, m := range status.Models {
			if model == "" || m.ID == model || slices.Contains(m.Aliases, model) {
				return in.URL
			}
		}
	}
	return ""
}

// serveFor serves a model on a port of its own until done is called. It gives up when
// patience is done before the model is loaded.
func (w *workplace) serveFor(ctx, patience context.Context, o modelOptions, model string) (address string, done func(), err error) {
	ctx, stop := context.WithCancel(ctx)
	ready, ended := make(chan string, 1), make(chan struct{})
	var failed error
	so := defaultServeOptions()
	so.modelOptions, so.port, so.ready = o, 0, func(url string) { ready <- url }
	if w.logLevel == "info" {
		// A line a request is no news to who has just asked.
		if err := setUpLog(w.t.err, "warn"); err != nil {
			stop()
			return "", nil, err
		}
	}
	go func() {
		defer close(ended)
		failed = runServe(ctx, w, so, []string{model})
	}()
	select {
	case address = <-ready:
		return address, func() { stop(); <-ended }, nil
	case <-ended:
		stop()
		return "", nil, failed
	case <-patience.Done():
		stop()
		<-ended
		return "", nil, context.Cause(patience)
	}
}
