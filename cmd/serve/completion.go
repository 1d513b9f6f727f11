package main

import (
	"strings"

	"github.com/spf13/cobra"

	"serve/machine"
	"serve/models"
)

// completeLocal offers the models that are on this machine.
func (w *cli) completeLocal(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	store, err := w.store()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	locals, err := store.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}

	var names []string
	for _, l := range locals {
		if strings.HasPrefix(l.Name, begun) {
			names = append(names, l.Name+"\ton this machine, "+machine.FormatSize(uint64(l.Bytes())))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeModels offers those and the catalog's, and files: a model can be one.
func (w *cli) completeModels(
	cmd *cobra.Command, args []string, begun string,
) ([]string, cobra.ShellCompDirective) {
	names, _ := w.completeLocal(cmd, args, begun)
	for _, e := range models.Catalog() {
		for _, name := range append([]string{e.Name}, e.DefaultFor...) {
			if strings.HasPrefix(name, begun) {
				names = append(names, name+"\t"+e.Use)
			}
		}
	}
	return names, cobra.ShellCompDirectiveDefault
}

// completeModel is completeModels for a command that takes one, and then something else.
func (w *cli) completeModel(
	cmd *cobra.Command, args []string, begun string,
) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return w.completeModels(cmd, args, begun)
}
