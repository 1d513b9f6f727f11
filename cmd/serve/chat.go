package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"serve/chatclient"
	"serve/console"
	"serve/egress"
	"serve/models/demo"
	"serve/registry"
	"serve/terminal"
)

// chatOptions are the flags of chat.
type chatOptions struct {
	modelConfig
	url    string
	system string
	load   string
	stats  bool
	params []string
}

func newChatCommand(w *cli) *cobra.Command {
	var o chatOptions
	cmd := &cobra.Command{
		Use:   "chat [MODEL] [TEXT...]",
		Short: "chat with a model in the terminal",
		Long: `chat talks to a model on one of your running servers, or else loads the model for the
duration of the chat (without a MODEL, the tiny built-in demo). With --url it talks to
any server with OpenAI's API; the key is read from OPENAI_API_KEY. OLLAMA_HOST names a
server to fall back on when none of yours has the model; its form is Ollama's.

Given TEXT, input from a pipe, or both (the text comes first), it sends them and
prints only the answer to stdout. Otherwise it reads lines, with editing keys as in a
shell. End a line with a backslash to continue it; pasted text is one message,
however many lines it has. Ctrl-C stops an answer, and Ctrl-D exits. /help lists the
commands.

Nothing is stored unless you /save it.`,
		Example: `  serve chat mistral-7b
  serve chat mistral-7b "Name three rivers."
  git diff | serve chat mistral-7b "Explain this change."
  serve chat --url http://127.0.0.1:8080`,
		Annotations:       map[string]string{needs: egress.Listens + egress.Asks},
		ValidArgsFunction: w.completeModel,
		RunE:              func(cmd *cobra.Command, args []string) error { return runChat(cmd.Context(), w, o, args) },
	}

	f := flagsOf(cmd)
	f.Text(&o.url, "url", "", "`URL` of a server to use instead of loading a model")
	f.Text(&o.system, "system", "", "`text` of the system prompt")
	f.Text(&o.load, "load", "", "continue a conversation saved in this `file`")
	f.StringArrayVar(&o.params, "param", nil, "request parameter as `NAME=VALUE`, such as temperature=0")
	f.Toggle(&o.stats, "stats", false, "print statistics after each answer")
	o.declare(f)
	w.reach.Declare(f)
	return cmd
}

func runChat(ctx context.Context, w *cli, o chatOptions, args []string) error {
	conversation, err := o.conversation()
	if err != nil {
		return err
	}
	model := ""
	if len(args) > 0 {
		model = args[0]
		args = args[1:]
	}

	// A signal to stop ends the program. Once there is an editor, Ctrl-C belongs to it; before
	// that, and in a pipe, Ctrl-C ends the program too.
	interrupted := ctx
	ctx, stop := signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	interruptible, cancel := context.WithCancel(ctx)
	defer cancel()
	unhook := context.AfterFunc(interrupted, cancel)

	c := &connection{w: w, o: o, conversation: conversation}
	defer c.close()
	if err := c.open(ctx, interruptible, model); err != nil {
		return err
	}
	s := &console.Session{
		Client:       c.client,
		Conversation: conversation,
		Stats:        o.stats,
		Terminal:     w.t,
		Lookup:       w.lookup,
	}
	err = s.Run(console.Contexts{Program: ctx, Interruptible: interruptible, Unhook: unhook}, strings.Join(args, " "))
	if errors.Is(err, console.ErrInput) {
		err = usageError{err}
	}
	return err
}

// conversation returns the conversation that the flags describe.
func (o *chatOptions) conversation() (*chatclient.Conversation, error) {
	c := new(chatclient.Conversation)
	if o.load != "" {
		loaded, err := chatclient.Load(o.load)
		if err != nil {
			return nil, err
		}
		c = loaded
	}
	if o.system != "" {
		c.SetSystem(o.system)
	}
	for _, p := range o.params {
		name, value, ok := strings.Cut(p, "=")
		if err := c.Set(name, value); err != nil || !ok || name == "" {
			return nil, usagef("--param %q: must be NAME=VALUE, such as temperature=0", p)
		}
	}
	return c, nil
}

// connection is a server that answers a conversation.
type connection struct {
	w            *cli
	o            chatOptions
	conversation *chatclient.Conversation
	client       *chatclient.Client
	stop         func() // stops the server, if it was started for this
}

func (c *connection) close() {
	if c.stop != nil {
		c.stop()
	}
}

// open finds a server that has the model, or starts one that runs until ctx is done. It gives
// up when interruptible is done.
func (c *connection) open(ctx, interruptible context.Context, model string) error {
	server, key, model, err := c.find(ctx, interruptible, model)
	if err != nil {
		return err
	}
	transport, err := c.w.dialer().Transport(server, key)
	if err != nil {
		return err
	}
	c.client = chatclient.NewClient(server.URL, key.Secret, transport)

	c.conversation.Model = cmp.Or(model, c.conversation.Model)
	if c.conversation.Model != "" && (c.o.url != "" || model != "") {
		return nil
	}
	names, err := c.client.Models(interruptible)
	if err != nil {
		return registry.Explain(server, err)
	}
	if len(names) == 0 {
		return fmt.Errorf("the server at %s has no models", server.URL)
	}
	c.conversation.Model = names[0]
	return nil
}

// find returns a server, the key for it, and the name of its model; "" for its first.
func (c *connection) find(
	ctx, interruptible context.Context, model string,
) (s registry.Server, key registry.Key, name string, err error) {
	d := c.w.dialer()
	if c.o.url != "" {
		key, err = d.Key()
		return registry.Server{URL: c.o.url}, key.Or(c.w.lookup("OPENAI_API_KEY")), model, err
	}
	// OPENAI_API_KEY is meant for another server.
	if s, key, err = d.Find(interruptible, model); s.URL != "" || err != nil {
		return s, key, model, err
	}

	if model == "" {
		model = demo.Name
		c.w.t.Note("no server is running and no model was named; using demo, a tiny built-in one")
	}
	s.URL, c.stop, err = c.w.serveFor(ctx, interruptible, c.o.modelConfig, model)
	return s, registry.Key{}, "", err
}

// serveFor serves a model on a free port until done is called. It gives up if interruptible is
// done before the model is loaded.
func (w *cli) serveFor(
	ctx, interruptible context.Context, m modelConfig, model string,
) (address string, done func(), err error) {
	if w.logLevel == "info" {
		// A log line for each request would only repeat what the user has just sent.
		if err := terminal.SetUpLog(w.t.Err, "warn"); err != nil {
			return "", nil, err
		}
	}

	ctx, stop := context.WithCancel(ctx)
	ready := make(chan string, 1)
	ended := make(chan struct{})
	var failed error // set when ended is closed
	c := defaultConfig()
	c.modelConfig = m
	c.port = 0
	c.protection.AllowAnonymous = true // it is for this command, on a port that nobody knows
	c.ready = func(url string) { ready <- url }
	go func() {
		defer close(ended)
		failed = runServe(ctx, w, c, []string{model})
	}()

	select {
	case address = <-ready:
		return address, func() { stop(); <-ended }, nil
	case <-ended:
		stop()
		return "", nil, failed
	case <-interruptible.Done():
		stop()
		<-ended
		return "", nil, context.Cause(interruptible)
	}
}
