package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"serve/engine"
	"serve/loader"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// run is the whole program: it returns the exit code.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	w := &workplace{environ: environ}
	w.t = newTerminal(stdout, stderr, w.lookup)
	root := newRootCommand(w)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil {
		f := cmd.Flags().Lookup("json")
		w.t.fail(err, f != nil && f.Value.String() == "true")
	}
	return exitCode(err)
}

// newRootCommand returns serve with all its commands.
func newRootCommand(w *workplace) *cobra.Command {
	root := newServeCommand(w)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := flagsFromEnvironment(cmd.Flags(), w.environ); err != nil {
			return err
		}
		return setUpLog(w.t.err, w.logLevel)
	}
	f := root.PersistentFlags()
	f.SortFlags = false
	f.BoolVar(&w.offline, "offline", false, "open no connection but the one that is listened on; HF_HUB_OFFLINE=1 says the same")
	f.StringVar(&w.caFile, "ca-file", "", "PEM certificates to trust besides the system's, for a proxy or a mirror")
	f.StringVar(&w.logLevel, "log-level", "info", "debug, info, warn or error")
	root.AddCommand(newPullCommand(w), newListCommand(w), newShowCommand(w), newRemoveCommand(w), newVerifyCommand(w),
		newCatalogCommand(w), newBundleCommand(w), newChatCommand(w), newBenchCommand(w), newPsCommand(w), newDoctorCommand(w), newEngineCommand(w), newManCommand())
	return root
}

// arguments checks the number of a command's arguments and says what they are.
func arguments(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || most >= 0 && len(args) > most {
			return withHint(fmt.Errorf("%w: %s takes %s", errUsage, cmd.CommandPath(), what), "%s --help", cmd.CommandPath())
		}
		return nil
	}
}

// serveOptions are the flags of serve.
type serveOptions struct {
	modelOptions
	host         string
	port         int
	lazy         bool
	keepAlive    time.Duration
	loadWait     time.Duration
	aliases      []string
	origins      []string
	engine       engine.Options
	maxBody      int64
	drainTimeout time.Duration
	dataDir      string
	keepFor      time.Duration
	moderator    string
	imageHosts   []string
	otlp         string
	ready        func(url string) // is told the address instead of the person; nil for a server of its own
	isolate      bool
	stall        time.Duration
}

// modelOptions are the flags that decide how a model lies in memory.
type modelOptions struct {
	loader.ModelOptions
	mmproj []string
}

func (o *modelOptions) memoryFlags(f *pflag.FlagSet) {
	f.IntVar(&o.Context, "ctx-size", 0, "tokens a request may have, prompt and answer; 0 for the model's own, up to 8192")
	f.IntVar(&o.Parallel, "parallel", 8, "requests answered at the same time; more wait in the queue")
	f.IntVar(&o.Cells, "kv-cells", 0, "tokens kept in all; 0 for ctx-size times parallel, or what fits in memory")
	f.StringVar(&o.KVType, "kv-type", "f16", "type of the kept keys and values: f16, q8_0 or q4_0")
	f.IntVar(&o.Threads, "threads", 0, "threads that compute; 0 for one a physical core")
	f.StringVar(&o.Kernels, "kernels", loader.AutoKernels, "code that computes on the processor: auto for the fastest as measured, or a name that serve doctor lists")
	f.Var((*layersFlag)(&o.GPULayers), "gpu-layers", "layers kept on the GPU: a number, or auto for what fits")
	f.StringSliceVar(&o.mmproj, "mmproj", nil, "projector for images: a file, MODEL=FILE, or none; the model's own by default")
	f.BoolVar(&o.NoMMap, "no-mmap", false, "read the model file instead of mapping it")
	f.BoolVar(&o.NoRepack, "no-repack", false, "keep the processor's weights as they are in the file, which is slower")
	f.Var((*reserveFlag)(&o.Reserve), "memory-reserve",
		"memory that stays free on each device; by default an eighth of one that has less than 8GiB")
}

func newServeCommand(w *workplace) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve [MODEL...]",
		Short: "answer OpenAI's API with local models",
		Long: `serve loads GGUF models with llama.cpp and answers OpenAI's HTTP API with them.

A MODEL is a name of the catalogue (serve catalog), a repository of the Hugging
Face Hub, or a file:

  mistral-7b              mistral-7b:Q8_0           in another quantisation
  qwen3.5:9b              qwen                      as Ollama writes it; a family
  org/repo                org/repo:Q4_K_M           org/repo@revision
  org/repo/file.gguf      hf.co/org/repo            ./file.gguf

Without one it serves demo, a tiny model that it carries: it knows serve, and
nothing else. A page to chat is at /.

What is not on this machine is fetched once, from the Hub and nowhere else.
Nothing ever leaves this machine: no prompt, no answer, no statistics.

Every flag can be set in the environment too: --ctx-size as SERVE_CTX_SIZE.`,
		Example: `  serve
  serve mistral-7b
  serve mistral-7b nomic-embed-text --ctx-size 8192
  serve ./my-model.gguf --offline`,
		Version:           versionText(),
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: w.completeModels,
		RunE:              func(cmd *cobra.Command, args []string) error { return runServe(cmd.Context(), w, o, args) },
	}
	o.flags(cmd.Flags())
	return cmd
}

// defaultServeOptions are those without a flag.
func defaultServeOptions() (o serveOptions) {
	o.flags(pflag.NewFlagSet("", pflag.ContinueOnError))
	return o
}

func (o *serveOptions) flags(f *pflag.FlagSet) {
	f.SortFlags = false
	f.StringVar(&o.host, "host", "127.0.0.1", "address to listen on")
	f.IntVar(&o.port, "port", 8080, "port to listen on, 0 for any free one")
	o.memoryFlags(f)
	f.BoolVar(&o.lazy, "lazy", false, "load no model before a request asks for it")
	f.DurationVar(&o.keepAlive, "keep-alive", 0, "unload a model that was not used for so long; 0 for when its memory is needed")
	f.DurationVar(&o.loadWait, "load-timeout", 5*time.Minute, "how long a request waits for its model to be loaded")
	f.StringSliceVar(&o.aliases, "alias", nil, "another name for a model: gpt-4o=mistral-7b, or gpt-4o for the first")
	f.StringSliceVar(&o.origins, "allow-origin", nil, "origin of web pages that may use the server, * for all")
	f.IntVar(&o.engine.MaxWaiting, "max-waiting", 512, "requests in the queue of a model; more are refused, and of one client alone more than four fifths")
	f.IntVar(&o.engine.MaxWaitingTokens, "max-waiting-tokens", 1<<20, "tokens of the prompts in the queue of a model; more are refused")
	f.DurationVar(&o.engine.MaxWait, "max-wait", 5*time.Minute, "how long a request may wait in the queue; one that would wait longer is refused at once; 0 for any time")
	f.DurationVar(&o.engine.Gap, "stream-gap", 50*time.Millisecond, "how long the next token of an answer may always wait for new prompts; with long steps it waits up to 2.5 of them")
	f.Int64Var(&o.maxBody, "max-body", 32<<20, "bytes of a request's body")
	f.BoolVar(&o.isolate, "isolate", true, "compute in a process of its own for each model, and start another when it dies")
	f.DurationVar(&o.stall, "stall-timeout", 2*time.Minute, "how long a step may take before the engine is taken for stuck, and started again")
	f.StringVar(&o.dataDir, "data-dir", "", "folder to keep responses in, for previous_response_id; without one none is kept")
	f.DurationVar(&o.keepFor, "keep-responses", 30*24*time.Hour, "how long responses are kept; 0 for ever")
	f.StringVar(&o.moderator, "moderation", "", "name of the served model, a Llama Guard, that answers /v1/moderations")
	f.StringSliceVar(&o.imageHosts, "image-host", nil, "host that images in requests may be fetched from; data URLs need none")
	f.StringVar(&o.otlp, "otlp-endpoint", "", "OpenTelemetry collector to send traces to, like http://localhost:4318: times and sizes, never texts")
	f.DurationVar(&o.drainTimeout, "drain-timeout", 30*time.Second, "how long running requests may go on after a signal to stop")
}

// flagsFromEnvironment gives every flag that was not given the value of its
// variable: --ctx-size that of SERVE_CTX_SIZE.
func flagsFromEnvironment(flags *pflag.FlagSet, environ []string) (err error) {
	values := map[string]string{}
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok {
			values[name] = value
		}
	}
	flags.VisitAll(func(f *pflag.Flag) {
		name := "SERVE_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := values[name]
		if !ok || f.Changed || err != nil || f.Name == "help" || f.Name == "version" {
			return
		}
		if e := flags.Set(f.Name, value); e != nil {
			err = fmt.Errorf("%w: %s=%q: %w", errUsage, name, value, e)
		}
	})
	return err
}

// setUpLog sends the log to stderr. The engine's info lines are the details of a
// load, hundreds of them: they show at level debug only.
func setUpLog(w io.Writer, level string) error {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return fmt.Errorf("%w: --log-level %q: debug, info, warn or error", errUsage, level)
	}
	var h slog.Handler = slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})
	if l > slog.LevelDebug {
		h = quietEngine{h}
	}
	slog.SetDefault(slog.New(h))
	return nil
}

// quietEngine drops the engine's lines below warning.
type quietEngine struct{ slog.Handler }

func (q quietEngine) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		fromEngine := false
		r.Attrs(func(a slog.Attr) bool {
			fromEngine = a.Key == "from" && a.Value.String() == "llama.cpp"
			return !fromEngine
		})
		if fromEngine {
			return nil
		}
	}
	return q.Handler.Handle(ctx, r)
}
