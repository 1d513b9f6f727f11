package main

import (
	"context"

	"github.com/spf13/cobra"

	"serve/models"
)

type pullOptions struct {
	update bool
	json   bool
}

func newPullCommand(w *cli) *cobra.Command {
	var o pullOptions
	cmd := &cobra.Command{
		Use:   "pull MODEL...",
		Short: "download and verify models without serving them",
		Long: `pull downloads models from the Hugging Face Hub into the Hugging Face cache, which
other tools share, and checks each file against the hash that the Hub publishes.

A model that is already here is not downloaded again; --update looks for a newer
revision. An interrupted download continues where it stopped.`,
		Example:           "  serve pull mistral-7b\n  serve pull bartowski/Llama-3.2-1B-Instruct-GGUF:Q8_0",
		Args:              arguments(1, -1, "at least one model"),
		ValidArgsFunction: w.completeModels,
		RunE:              func(cmd *cobra.Command, args []string) error { return runPull(cmd.Context(), w, o, args) },
	}

	f := flagsOf(cmd)
	f.Toggle(&o.update, "update", false, "look for a newer revision of models that are already on this machine")
	w.rules.Declare(f)
	f.JSON(&o.json)
	return cmd
}

func runPull(ctx context.Context, w *cli, o pullOptions, names []string) error {
	lib, err := w.library()
	if err != nil {
		return err
	}

	list := []models.Info{}
	for _, name := range names {
		local, err := lib.Pull(ctx, name, o.update)
		if err != nil {
			return err
		}
		if _, err := lib.Store.Verify(ctx, local, false); err != nil {
			return err
		}
		if err := lib.Store.Admitted(ctx, local); err != nil {
			return err
		}
		if _, err := models.ReadModel(local.Parts()); err != nil {
			return err
		}
		list = append(list, local.Info())
	}

	if o.json {
		return w.t.PrintJSON(list)
	}
	for _, m := range list {
		w.t.Fact("stored", "%s: %s", m.Name, m.Path)
	}
	return nil
}
