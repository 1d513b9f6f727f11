package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"serve/chatclient"
	"serve/console"
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
		ValidArgsFunction: w.completeModel,
		RunE:              func(cmd *cobra.Command, args []string) error { return runChat(cmd.Context(), w, o, args) },
	}

	f := flagsOf(cmd)
	f.Text(&o.url, "url", "", "`URL` of a server to use instead of loading a model")
	f.Text(&o.system, "system", "", "`text` of the system prompt")
	f.Text(&o.load, "load", "", "continue a conversation saved in this `file`")
	f.StringArrayVar(&o.params, "param", nil, "request parameter as `NAME=VALUE`, such as temperature=0")
	f.Toggle(&o.stats, "stats", false, "print statistics after each answer")
	w.declareKey(f)
	o.declare(f)
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
	address, key, model, err := c.find(ctx, interruptible, model)
	if err != nil {
		return err
	}
	transport, err := c.w.transportTo(address, key)
	if err != nil {
		return err
	}
	c.client = chatclient.NewClient(address, "", transport)

	c.conversation.Model = cmp.Or(model, c.conversation.Model)
	if c.conversation.Model != "" && (c.o.url != "" || model != "") {
		return nil
	}
	names, err := c.client.Models(interruptible)
	if err != nil {
		return noServer(address, err)
	}
	if len(names) == 0 {
		return fmt.Errorf("the server at %s has no models", address)
	}
	c.conversation.Model = names[0]
	return nil
}

// find returns the address of a server, the key for it, and the name of its model; "" for its first.
func (c *connection) find(ctx, interruptible context.Context, model string) (address string, key registry.Key, name string, err error) {
	own, err := c.w.apiKey()
	if err != nil {
		return "", own, "", err
	}
	if c.o.url != "" {
		return c.o.url, own.Or(c.w.lookup("OPENAI_API_KEY")), model, nil
	}
	// OPENAI_API_KEY is meant for another server.
	if address := c.w.serving(interruptible, own, model); address != "" {
		return address, own, model, nil
	}
	if address, err := c.w.ollama(interruptible, model); address != "" || err != nil {
		return address, registry.Key{}, model, err
	}

	if model == "" {
		model = demo.Name
		c.w.t.Note("no server is running and no model was named; using demo, a tiny built-in one")
	}
	address, c.stop, err = c.w.serveFor(ctx, interruptible, c.o.modelConfig, model)
	return address, registry.Key{}, "", err
}

// serving returns the address of a running server that has the model, or any model if none is
// named; "" if there is none.
func (w *cli) serving(ctx context.Context, key registry.Key, model string) string {
	running, _ := w.servers()
	for _, s := range running {
		status, err := w.askStatus(ctx, s.URL)
		if errors.Is(err, registry.ErrKey) && w.lists(ctx, s.URL, key, model) {
			return s.URL
		}
		if err != nil {
			continue
		}
		for _, m := range status.Models {
			if model == "" || m.ID == model || slices.Contains(m.Aliases, model) {
				return s.URL
			}
		}
	}
	return ""
}

// lists reports whether a server lists a model, or any if none is named, to one who may not see its status.
func (w *cli) lists(ctx context.Context, address string, key registry.Key, model string) bool {
	transport, err := w.transportTo(address, key)
	if err != nil {
		return false
	}
	names, err := chatclient.NewClient(address, "", transport).Models(ctx)
	if err != nil {
		w.t.Note("the server at %s needs an API key: set SERVE_API_KEY or --api-key-file", address)
		return false
	}
	return model == "" && len(names) > 0 || slices.Contains(names, model)
}

// ollama returns the address of the server that OLLAMA_HOST names, if it has the model, or any model if
// none is named; "" if it does not, or is not running.
func (w *cli) ollama(ctx context.Context, model string) (string, error) {
	value := w.lookup("OLLAMA_HOST")
	if value == "" {
		return "", nil
	}

	address, err := chatclient.OllamaAddress(value)
	if err != nil {
		return "", usagef("OLLAMA_HOST: %w", err)
	}

	transport, err := w.transportTo(address, registry.Key{})
	if err != nil {
		return "", err
	}

	asking, cancel := context.WithTimeout(ctx, chatclient.ListTimeout)
	defer cancel()
	names, err := chatclient.NewClient(address, "", transport).Models(asking)
	if err != nil {
		w.t.Note("the server at %s (OLLAMA_HOST) does not answer: %v", address, err)
		return "", nil
	}

	has := func(name string) bool { return name == model || strings.TrimSuffix(name, ":latest") == model }
	if len(names) == 0 || model != "" && !slices.ContainsFunc(names, has) {
		return "", nil
	}

	return address, nil
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
	c.allowAnonymous = true // it is for this command, on a port that nobody knows
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
