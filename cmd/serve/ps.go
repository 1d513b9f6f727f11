package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"serve/dial"
	"serve/egress"
)

// psOptions are the flags of ps.
type psOptions struct {
	urls []string
	json bool
}

func newPsCommand(w *cli) *cobra.Command {
	var o psOptions
	cmd := &cobra.Command{
		Use:        "ps",
		SuggestFor: []string{"status"},
		Short:      "list running servers and their models",
		Long: `ps lists your servers on this machine and the state of each model: its process,
devices, memory (in use and planned), KV cells in use, running and queued requests,
and tokens per second over the last five seconds.`,
		Annotations: map[string]string{needs: egress.Asks},
		Args:        arguments(0, 0, "no arguments"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return runPs(cmd.Context(), w, o) },
	}

	f := flagsOf(cmd)
	f.List(&o.urls, "url", "`URL` of a server to query, instead of looking for servers")
	f.JSON(&o.json)
	w.reach.Declare(f)
	return cmd
}

func runPs(ctx context.Context, w *cli, o psOptions) error {
	list, err := w.dialer().Statuses(ctx, o.urls)
	if err != nil {
		return err
	}
	if o.json {
		return w.t.PrintJSON(list)
	}
	if len(list) == 0 {
		w.t.Note("no server is running; start one with serve MODEL")
		return nil
	}

	if len(list) == 1 && list[0].Err != nil {
		return list[0].Err
	}

	rows := dial.Table(list, w.t.Error)
	if len(rows) == 1 {
		return errors.New("no server answered")
	}
	return w.t.Table(rows)
}
