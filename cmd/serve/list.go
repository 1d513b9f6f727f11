package main

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"

	"serve/machine"
)

func newListCommand(w *workplace) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list the models on this machine",
		Long: `list shows every model of the Hugging Face cache, whichever tool fetched it, under
the name by which serve takes it. demo is a part of serve itself, and not listed.`,
		Args: arguments(0, 0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error { return runList(cmd.Context(), w, asJSON) },
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func runList(_ context.Context, w *workplace, asJSON bool) error {
	store, err := w.store()
	if err != nil {
		return err
	}
	locals, err := store.List()
	if err != nil {
		return err
	}
	list := []modelInfo{}
	rows := [][]string{{"NAME", "QUANT", "SIZE", "LICENCE", "REPOSITORY"}}
	for _, l := range locals {
		list = append(list, info(l))
		rows = append(rows, []string{l.Name, cmp.Or(l.Quant, "-"), machine.FormatSize(uint64(l.Bytes())), cmp.Or(l.License, "-"), l.Repo})
	}
	if asJSON {
		return w.t.printJSON(list)
	}
	if len(list) == 0 {
		w.t.note("no model is here but demo, which is a part of serve; serve catalog lists others, serve pull fetches them")
		return nil
	}
	return w.t.table(rows)
}
