package main

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strings"

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
	addCompletionCommand(root, args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		err = errInterrupted // what failed because of the signal is not the user's concern
	}

	failure := terminal.Failure{Message: err.Error(), Hint: hintOf(err), Code: exitCode(err)}
	if failure.Hint == "" && failure.Code == exitUsage {
		failure.Hint = "see " + cmd.CommandPath() + " --help"
	}
	f := cmd.Flags().Lookup("json")
	w.t.Fail(failure, f != nil && f.Value.String() == "true")
	return failure.Code
}

func init() { cobra.AddTemplateFunc("usages", flagset.Usages) }

// newRootCommand returns serve with all its commands.
func newRootCommand(w *cli) *cobra.Command {
	root := newServeCommand(w)
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := flagset.FromEnvironment(cmd.Flags(), w.environ); err != nil {
			return usageError{err}
		}
		if err := terminal.SetUpLog(w.t.Err, w.logLevel); err != nil {
			return err
		}
		w.goOffline(cmd)
		return nil
	}

	f := flagset.Of(root.PersistentFlags())
	f.Toggle(&w.offline, "offline", false, "make no outgoing connections; the same as HF_HUB_OFFLINE=1")
	f.Text(&w.caFile, "ca-file", "", "PEM `file` of additional certificates to trust: of a server, a proxy or a mirror")
	f.Checked(&w.logLevel, "log-level", "info", terminal.ValidLevel, "log `level`: debug, info, warn or error")

	flagUsages := regexp.MustCompile(`(\.\w+Flags)\.FlagUsages`)
	root.SetUsageTemplate(flagUsages.ReplaceAllString(root.UsageTemplate(), "usages $1"))
	root.AddCommand(
		newPullCommand(w),
		newListCommand(w),
		newShowCommand(w),
		newRemoveCommand(w),
		newVerifyCommand(w),
		newSignCommand(w),
		newLicensesCommand(w),
		newSBOMCommand(w),
		newCatalogCommand(w),
		newBundleCommand(w),
		newChatCommand(w),
		newBenchCommand(w),
		newPsCommand(w),
		newKeyCommand(w),
		newAuditCommand(w),
		newReplayCommand(w),
		newDoctorCommand(w),
		newRPCCommand(w),
		newEngineCommand(w),
		newManCommand(),
	)
	root.SetHelpCommand(newHelpCommand())
	return root
}

// newHelpCommand replaces cobra's, which takes an unknown command for an argument of serve.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "help [COMMAND]",
		Short:             "show the help for a command",
		ValidArgsFunction: completeCommands,
		RunE: func(cmd *cobra.Command, args []string) error {
			named, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return withHint(usagef("no command is named %q", strings.Join(args, " ")), "serve --help lists the commands")
			}
			named.InitDefaultHelpFlag()
			named.InitDefaultVersionFlag()
			return named.Help()
		},
	}
}

// addCompletionCommand adds cobra's command, with a text like those of the others.
func addCompletionCommand(root *cobra.Command, args []string) {
	root.InitDefaultCompletionCmd(args...)
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.Short = "write the completion script for a shell"
			cmd.Long = "The help of each command below describes how to use the script."
			cmd.Args = arguments(0, 0, "bash, fish, powershell or zsh")
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			for _, shell := range cmd.Commands() {
				shell.Short = "write the completion script for " + shell.Name()
				writes := shell.Name() + " writes the completion"
				shell.Long = strings.Replace(shell.Long, "Generate the autocompletion", writes, 1)
			}
		}
	}
}

// completeCommands completes the names of commands.
func completeCommands(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	named, rest, err := cmd.Root().Find(args)
	if err != nil || len(rest) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}

	var names []cobra.Completion
	for _, sub := range named.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// arguments checks the number of a command's arguments; what describes them.
func arguments(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || most >= 0 && len(args) > most {
			return usagef("%s takes %s", cmd.CommandPath(), what)
		}
		return nil
	}
}
