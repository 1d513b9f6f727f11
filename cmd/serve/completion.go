package main

import (
	"github.com/spf13/cobra"

	"serve/library"
)

// completeLocal offers the models that are on this machine.
func (w *cli) completeLocal(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	lib, err := w.library()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return lib.CompleteLocal(begun), cobra.ShellCompDirectiveNoFileComp
}

// completeModels also offers the catalog's models, and files.
func (w *cli) completeModels(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	names, _ := w.completeLocal(cmd, args, begun)
	return append(names, library.CompleteCatalog(begun)...), cobra.ShellCompDirectiveDefault
}

// completeModel is completeModels for a command whose first argument alone is a model.
func (w *cli) completeModel(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return w.completeModels(cmd, args, begun)
}
