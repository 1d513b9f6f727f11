package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"serve/access"
	"serve/archive"
	"serve/auditor"
	"serve/egress"
	"serve/host"
	"serve/hub"
	"serve/library"
	"serve/loader"
	"serve/models"
	"serve/models/demo"
	"serve/server"
	"serve/web"
)

func newServeCommand(w *cli) *cobra.Command {
	c := new(config)
	cmd := &cobra.Command{
		Use:   "serve [MODEL...]",
		Short: "serve local models over the OpenAI, Anthropic and Ollama APIs",
		Long: `serve runs GGUF models with llama.cpp and serves them over the OpenAI, Anthropic
and Ollama APIs.

A MODEL is a name in the catalog (serve catalog), a repository on the Hugging
Face Hub, or a file:

  mistral-7b, qwen                a name in the catalog; a family
  mistral-7b:Q8_0                 another quantization
  qwen3.5:9b                      an Ollama name
  org/repo, org/repo:Q4_K_M       any GGUF repository on the Hub
  org/repo@revision, org/repo/file.gguf, hf.co/org/repo
  ./file.gguf                     a local file

Without a MODEL it serves demo, a tiny built-in model that knows about serve and
nothing else. To chat in a browser, open http://127.0.0.1:8080/.

Models that are not on this machine are downloaded once, from the Hub and nowhere
else. Prompts and answers never leave this machine, and no usage data is collected.

Every flag can also be set in the environment: --ctx-size as SERVE_CTX_SIZE.`,
		Example: `  serve
  serve mistral-7b
  serve mistral-7b nomic-embed-text --ctx-size 8192
  serve ./my-model.gguf --offline`,
		Version:           fullVersion(),
		Annotations:       map[string]string{needs: egress.Listens},
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: w.completeModels,
		RunE: func(cmd *cobra.Command, args []string) error {
			return hintAtCommands(cmd, args, runServe(cmd.Context(), w, c, args))
		},
		SuggestionsMinimumDistance: 1,
	}
	c.declare(flagsOf(cmd))
	w.rules.Declare(flagsOf(cmd))
	return cmd
}

// hintAtCommands improves an error about the name of a model that may have been meant as a command.
func hintAtCommands(cmd *cobra.Command, names []string, err error) error {
	if !errors.Is(err, models.ErrReference) || len(names) == 0 || names[0] == "" || strings.ContainsAny(names[0], "/:@") {
		return err
	}

	near := cmd.SuggestionsFor(names[0])
	switch {
	case names[0] == "version":
		return withHint(err, "did you mean serve --version?")
	case len(near) == 0:
		return withHint(err, "%s; serve --help lists the commands", hintOf(err))
	}
	return &models.Error{
		Kind: models.ErrReference,
		Text: fmt.Sprintf("no command or model is named %q", names[0]),
		Todo: "did you mean serve " + near[0] + "? serve --help lists the commands, and serve catalog the models",
	}
}

// runServe listens, downloads and loads the models, and serves until ctx is done.
func runServe(ctx context.Context, w *cli, c *config, names []string) error {
	s := &startup{w: w, c: c}
	defer s.close()
	if err := s.openKeys(); err != nil {
		return err
	}

	// The port first: a download takes longer than to find out that it is taken.
	listener, err := host.Listen(c.host, c.port, "choose another --port, or 0 for any free port")
	if err != nil {
		return err
	}
	defer listener.Close()

	if err := s.listenForOllama(); err != nil {
		return err
	}
	if err := s.openAudit(names); err != nil {
		return err
	}
	if err := s.protect(listener); err != nil {
		return err
	}
	w.net.Listening()
	if err := s.prepare(ctx); err != nil {
		return err
	}
	if err := s.findModels(ctx, names); err != nil {
		return err
	}
	if err := s.openArchive(); err != nil {
		return err
	}
	return s.run(ctx, listener)
}

// startup is a server that is being started.
type startup struct {
	w       *cli
	c       *config
	options server.Options
	home    string
	embeds  bool // the first model computes embeddings and generates no text
	also    []net.Listener
	keys    *access.Keys     // nil with --allow-anonymous
	audit   *auditor.Running // nil without --audit

	protection host.Protected

	closers []func()
}

func (s *startup) close() {
	for _, c := range slices.Backward(s.closers) {
		c()
	}
}

// openKeys opens the file of API keys. One that is there by default counts, and one that comes later too.
func (s *startup) openKeys() error {
	if s.c.protection.AllowAnonymous {
		if s.c.keysFile != "" {
			return usagef("--keys and --allow-anonymous contradict each other")
		}
		return nil
	}
	path, err := s.w.keysFile(s.c.keysFile)
	if err != nil {
		return err
	}
	keys, err := access.Open(access.Options{File: path, Required: s.c.keysFile != ""})
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = withHint(err, "serve key create NAME --keys %s makes a key", path)
		}
		return usageError{err}
	}
	s.keys = keys
	s.c.protection.Keys = keys.Required()
	s.closers = append(s.closers, func() { s.report(keys.Close()) })
	return nil
}

// report tells the user about what has failed at the end.
func (s *startup) report(err error) {
	if err != nil {
		s.w.t.Warn("%v", err)
	}
}

// listenForOllama listens where Ollama's clients look for it, if that is asked for.
func (s *startup) listenForOllama() error {
	if s.c.ollamaPort == 0 {
		return nil
	}
	l, err := host.Listen(s.c.host, s.c.ollamaPort, "stop Ollama if it is running, or choose another --ollama-port")
	if err != nil {
		return err
	}
	s.also = append(s.also, l)
	s.closers = append(s.closers, func() { l.Close() })
	return nil
}

// protect opens the server's certificate, if it has one, and refuses to start where others could reach the server
// without what protects it.
func (s *startup) protect(first net.Listener) error {
	store, err := s.w.store()
	if err != nil {
		return err
	}
	s.protection, err = s.c.protection.Apply(host.Place{
		Listeners: append([]net.Listener{first}, s.also...),
		Home:      store.Home,
		Host:      s.c.host,
		Hosts:     s.c.server.Hosts,
		Transport: s.w.transport,
	}, s.w.t)
	if err != nil {
		return usageError{err}
	}
	s.closers = append(s.closers, func() { s.report(s.protection.Close()) })
	return nil
}

// prepare derives the server's options from the configuration.
func (s *startup) prepare(ctx context.Context) error {
	o := s.c.server
	o.Keys = s.keys
	if s.audit != nil {
		o.Audit = s.audit
		o.Captures = s.audit.Captures
	}
	host.LimitByMemory(&o)
	o.Version = versionText()
	o.PID = os.Getpid()
	o.MaxWaiting = s.c.engine.MaxWaiting
	o.BatchLines = s.c.model.Parallel
	o.Page = web.Page()
	o.LenientFields = s.c.strictFields == strictOff

	if len(o.ImageHosts) > 0 {
		transport, err := s.w.transport("--image-host", server.ImageWay(o.ImageHosts))
		if err != nil {
			return err
		}
		o.ImageTransport = transport
	}

	if s.c.otlpEndpoint != "" {
		tracer, stop, err := s.w.tracer(ctx, s.c.otlpEndpoint)
		if err != nil {
			return err
		}
		s.closers = append(s.closers, stop)
		o.Tracer = tracer
	}
	s.options = o
	return nil
}

// findModels finds or downloads the models, and gives them their aliases.
func (s *startup) findModels(ctx context.Context, names []string) error {
	lib, err := s.w.library()
	if err != nil {
		return err
	}
	s.home = lib.Store.Home
	served := &library.Served{
		Resolver:   lib,
		Loader:     loader.New(s.w.loaderOptions(s.c, lib.Store)),
		Options:    s.c.model,
		Projectors: s.c.mmproj,
	}
	s.options.Library = &library.Managed{Served: served}
	if len(names) == 0 {
		names = []string{demo.Name}
		s.w.t.Note("no model was named; using demo, a tiny built-in one; serve mistral-7b downloads a real one")
	}

	for i, name := range names {
		m, embeds, err := served.Model(ctx, name, i == 0)
		if err != nil {
			return err
		}
		s.options.Models = append(s.options.Models, m)
		if i == 0 {
			s.embeds = embeds
		}
	}
	if err := served.Projectors.Check(); err != nil {
		return err
	}
	if err := library.NameAliases(s.options.Models, s.c.aliases); err != nil {
		return usagef("--alias %w", err)
	}
	return nil
}

// openArchive opens the folder for responses and files, if there is one.
func (s *startup) openArchive() error {
	if s.c.dataDir == "" {
		return nil
	}
	a, err := archive.Open(hub.ExpandHome(s.c.dataDir, s.w.lookup), s.c.keepResponses, s.c.stored)
	if err != nil {
		err = fmt.Errorf("cannot open --data-dir %s: %w", s.c.dataDir, err)
		return withHint(err, "choose another --data-dir, or stop the server that uses it")
	}
	s.closers = append(s.closers, func() { a.Close() })
	s.options.Archive = a

	s.options.Files, err = a.Files()
	if err != nil {
		return withHint(err, "choose another --data-dir")
	}
	return nil
}

// openAudit opens the audit log, if there is one.
func (s *startup) openAudit(names []string) error {
	network, err := s.w.network()
	if err != nil {
		return err
	}
	log, err := s.c.audit.Open(auditor.Environment{
		Expand:  func(path string) string { return hub.ExpandHome(path, s.w.lookup) },
		Offline: network.Offline,
		Version: versionText(),
		Models:  names,
		Net:     &s.w.net,
	})
	if err != nil || log == nil {
		return err
	}
	s.audit = log
	s.closers = append(s.closers, func() { s.report(log.Stop()) })
	return nil
}

// run serves until ctx is done, and then stops the engines.
func (s *startup) run(ctx context.Context, listener net.Listener) error {
	s.protection.Configure(&s.options, s.c.host)
	s.c.connections.Proxies = s.protection.Proxies

	running, err := server.New(s.options)
	if err != nil {
		return usageError{err}
	}
	defer running.Close()
	o := host.Options{
		Listener:     listener,
		Also:         s.also,
		Server:       running,
		Models:       s.options.Models,
		Terminal:     s.w.t,
		Home:         s.home,
		Manager:      &s.w.manager,
		Certificate:  s.protection.Certificate,
		Embeds:       s.embeds,
		Page:         s.options.Page != nil,
		Connections:  s.c.connections,
		Lazy:         s.c.lazy,
		DrainTimeout: s.c.drainTimeout,
		WriteStall:   s.options.WriteStall,
		Stall:        s.options.Stall,
		Ready:        s.c.ready,
	}
	return host.Run(ctx, o)
}
