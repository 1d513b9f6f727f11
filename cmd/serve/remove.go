package main

import (
	"context"

	"github.com/spf13/cobra"

	"serve/machine"
)

func newRemoveCommand(w *cli) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "rm MODEL...",
		Aliases: []string{"remove"},
		Short:   "remove models from this machine",
		Long: `rm removes the files of models from the Hugging Face cache, for every tool that
uses it. Files shared with another model are kept.`,
		Args:              arguments(1, -1, "at least one model"),
		ValidArgsFunction: w.completeLocal,
		RunE:              func(cmd *cobra.Command, args []string) error { return runRemove(cmd.Context(), w, asJSON, args) },
	}
	flagsOf(cmd).JSON(&asJSON)
	return cmd
}

// removed is a model that was removed.
type removed struct {
	Name  string `json:"name"`
	Freed int64  `json:"freed_bytes"`
}

func runRemove(_ context.Context, w *cli, asJSON bool, names []string) error {
	lib, err := w.library()
	if err != nil {
		return err
	}

	list := []removed{}
	for _, name := range names {
		local, err := lib.Find(name)
		if err != nil {
			return err
		}
		freed, err := lib.Store.Remove(local)
		if err != nil {
			return err
		}
		list = append(list, removed{local.Name, freed})
		if !asJSON {
			w.t.Fact("removed", "%s: %s freed", local.Name, machine.FormatSize(uint64(freed)))
		}
	}

	if asJSON {
		return w.t.PrintJSON(list)
	}
	return nil
}
