package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"serve/flagset"
	"serve/terminal"
)

// run is the whole program: it returns the exit code.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	w := &cli{environ: environ}
	w.t = terminal.New(stdout, stderr, w.lookup)

	root := newRootCommand(w)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil {
		f := cmd.Flags().Lookup("json")
		failure := terminal.Failure{Message: err.Error(), Hint: hintOf(err), Code: exitCode(err)}
		w.t.Fail(failure, f != nil && f.Value.String() == "true")
	}
	return exitCode(err)
}

// newRootCommand returns serve with all its commands.
func newRootCommand(w *cli) *cobra.Command {
	root := newServeCommand(w)
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := flagset.FromEnvironment(cmd.Flags(), w.environ); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		return setUpLog(w.t.Err, w.logLevel)
	}

	f := flagset.Of(root.PersistentFlags())
	f.Toggle(&w.offline, "offline", false, "make no outgoing connections; the same as HF_HUB_OFFLINE=1")
	f.Text(&w.caFile, "ca-file", "", "PEM file of additional certificates to trust, for a proxy or a mirror")
	f.Checked(&w.logLevel, "log-level", "info", validLevel, "log level: debug, info, warn or error")

	root.AddCommand(
		newPullCommand(w),
		newListCommand(w),
		newShowCommand(w),
		newRemoveCommand(w),
		newVerifyCommand(w),
		newCatalogCommand(w),
		newBundleCommand(w),
		newChatCommand(w),
		newBenchCommand(w),
		newPsCommand(w),
		newDoctorCommand(w),
		newEngineCommand(w),
		newManCommand(),
	)
	return root
}

// arguments checks the number of a command's arguments; what describes them.
func arguments(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || most >= 0 && len(args) > most {
			err := fmt.Errorf("%w: %s takes %s", errUsage, cmd.CommandPath(), what)
			return withHint(err, "see %s --help", cmd.CommandPath())
		}
		return nil
	}
}

// validLevel refuses anything but a log level.
func validLevel(level string) error {
	var l slog.Level
	if l.UnmarshalText([]byte(level)) != nil {
		return fmt.Errorf("must be debug, info, warn or error")
	}
	return nil
}

// setUpLog sends the log to stderr. The engine's info lines are the details of a load, hundreds of
// them: they show at level debug only.
func setUpLog(w io.Writer, level string) error {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return fmt.Errorf("%w: --log-level: %w", errUsage, err)
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

// Handle implements slog.Handler.
func (q quietEngine) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		return q.Handler.Handle(ctx, r)
	}

	fromEngine := false
	r.Attrs(func(a slog.Attr) bool {
		fromEngine = a.Key == "from" && a.Value.String() == "llama.cpp"
		return !fromEngine
	})
	if fromEngine {
		return nil
	}
	return q.Handler.Handle(ctx, r)
}
