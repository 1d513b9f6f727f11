package main

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"

	"serve/machine"
	"serve/models"
)

func newListCommand(w *cli) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list the models on this machine",
		Long: `list shows every model in the Hugging Face cache, whichever tool downloaded it,
under the name that serve accepts. demo is built in and not listed.`,
		Args: arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return runList(cmd.Context(), w, asJSON) },
	}
	flagsOf(cmd).JSON(&asJSON)
	return cmd
}

func runList(_ context.Context, w *cli, asJSON bool) error {
	lib, err := w.library()
	if err != nil {
		return err
	}
	locals, err := lib.Store.List()
	if err != nil {
		return err
	}

	list := []models.Info{}
	rows := [][]string{{"NAME", "QUANT", "SIZE", "LICENSE", "REPOSITORY"}}
	for _, l := range locals {
		list = append(list, l.Info())
		size := machine.FormatSize(uint64(l.Bytes()))
		rows = append(rows, []string{l.Name, cmp.Or(l.Quant, "-"), size, cmp.Or(l.License, "-"), l.Repo})
	}

	if asJSON {
		return w.t.PrintJSON(list)
	}
	if len(list) == 0 {
		w.t.Note("no models have been downloaded; serve catalog lists some, and serve pull downloads them")
		return nil
	}
	return w.t.Table(rows)
}
