package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"serve/library"
	"serve/models"
)

type catalogOptions struct {
	kinds []string
	json  bool
}

func newCatalogCommand(w *cli) *cobra.Command {
	var o catalogOptions
	kinds := models.ServedKinds()
	cmd := &cobra.Command{
		Use:   "catalog [WORD...]",
		Short: "list the models that can be named by a short name",
		Long: `catalog lists the models that have a short name; with words, only those whose
names, licenses or uses contain all of them. NEEDS estimates the memory for one
request at a time of up to 8192 tokens; > marks a lower bound, where not all of the
model's dimensions are known.

ALSO lists other names of a model. A family name, such as qwen, stands for the model
that lists it; newer versions of serve may choose another. Ollama's names (llama3.1:8b,
qwen3:4b-instruct-q8_0) work too.

The rows come from public catalogs, and not all were checked on the Hub: a size
with ~ is rounded, and a license with ? was not checked in the repository. Most rows
pin the SHA-256 of the file, and no other file is accepted; a HASH of "hub" means
that the catalog has no hash, and the hash in the Hub's listing is trusted.`,
		Example: "  serve catalog --kind vision\n  serve catalog --kind code,reasoning apache",
		RunE:    func(cmd *cobra.Command, args []string) error { return runCatalog(cmd.Context(), w, o, args) },
	}

	f := flagsOf(cmd)
	f.List(&o.kinds, "kind", "only models of this `kind`: "+strings.Join(kinds, ", "))
	f.JSON(&o.json)
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kinds, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// checkKinds refuses kinds that do not exist.
func checkKinds(kinds []string) error {
	served := models.ServedKinds()
	for _, kind := range kinds {
		if slices.Contains(served, kind) {
			continue
		}
		err := usagef("--kind %q: unknown kind of model", kind)
		if slices.ContainsFunc(models.Kinds, func(k models.Kind) bool { return k.Name == kind }) {
			err = usagef("--kind %q: serve does not support models of this kind yet", kind)
		}
		return withHint(err, "the kinds are %s", strings.Join(served, ", "))
	}
	return nil
}

func runCatalog(_ context.Context, w *cli, o catalogOptions, words []string) error {
	if err := checkKinds(o.kinds); err != nil {
		return err
	}
	list := library.Search(words, o.kinds)
	if o.json {
		return w.t.PrintJSON(list)
	}
	if len(list) == 0 {
		w.t.Note("nothing in the catalog matches; any GGUF repository on the Hub can be named as org/repo")
		return nil
	}
	rows := [][]string{{"NAME", "ALSO", "QUANT", "SIZE", "NEEDS", "CONTEXT", "LICENSE", "HASH", "KIND", "FOR"}}
	for _, row := range list {
		rows = append(rows, row.Cells())
	}
	return w.t.Table(rows)
}
