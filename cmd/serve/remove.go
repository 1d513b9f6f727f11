package main

import (
	"context"

	"github.com/spf13/cobra"

	"serve/machine"
)

func newRemoveCommand(w *workplace) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "rm MODEL...",
		Aliases: []string{"remove"},
		Short:   "remove models from this machine",
		Long: `rm removes the files of models from the Hugging Face cache, for every tool. What
another model there shares stays.`,
		Args:              arguments(1, -1, "at least one model"),
		ValidArgsFunction: w.completeLocal,
		RunE:              func(cmd *cobra.Command, args []string) error { return runRemove(cmd.Context(), w, asJSON, args) },
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func runRemove(_ context.Context, w *workplace, asJSON bool, names []string) error {
	store, err := w.store()
	if err != nil {
		return err
	}
	type removed struct {
		Name  string `json:"name"`
		Freed int64  `json:"freed_bytes"`
	}
	list := []removed{}
	for _, name := range names {
		local, err := w.find(store, name)
		if err != nil {
			return err
		}
		freed, err := store.Remove(local)
		if err != nil {
			return err
		}
		list = append(list, removed{local.Name, freed})
		if !asJSON {
			w.t.fact("removed", "%s: %s are free", local.Name, machine.FormatSize(uint64(freed)))
		}
	}
	if asJSON {
		return w.t.printJSON(list)
	}
	return nil
}
