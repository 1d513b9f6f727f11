package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"serve/loader"
	"serve/machine"
	"serve/models"
)

type catalogOptions struct {
	kinds []string
	json  bool
}

func newCatalogCommand(w *workplace) *cobra.Command {
	var o catalogOptions
	cmd := &cobra.Command{
		Use:   "catalog [WORD...]",
		Short: "list the models that have a plain name",
		Long: `catalog lists the models that serve knows by a plain name; with words, those in
whose names, licences or uses all of them occur. NEEDS is an estimate of the
memory for one request at a time of up to 8192 tokens; more than that where it
begins with >, since something of the model is not known.

ALSO are other names; a family's, such as qwen, means the model beside which it
stands today. Names that Ollama uses (llama3.1:8b, qwen3:4b-instruct-q8_0) mean
the same here.

The rows come from public catalogues, and were not all seen on the Hub: a size
with ~ is rounded, a licence with ? was not read in the repository. Most rows pin
the file's SHA-256, and nothing else is taken; where none is known, HASH says
hub: the Hub's own listing is trusted.`,
		Example: "  serve catalog --kind vision\n  serve catalog --kind code,reasoning apache",
		RunE:    func(cmd *cobra.Command, args []string) error { return runCatalog(cmd.Context(), w, o, args) },
	}
	cmd.Flags().StringSliceVar(&o.kinds, "kind", nil, "only models of this kind: "+strings.Join(servedKinds(), ", "))
	jsonFlag(cmd, &o.json)
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(servedKinds(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// servedKinds are the names of the kinds of models that serve serves.
func servedKinds() []string {
	var names []string
	for _, k := range models.Kinds {
		if k.Served {
			names = append(names, k.Name)
		}
	}
	return names
}

// checkKinds refuses kinds that there are none of.
func checkKinds(kinds []string) error {
	served := servedKinds()
	for _, kind := range kinds {
		if slices.Contains(served, kind) {
			continue
		}
		err := fmt.Errorf("%w: --kind %q is no kind of model", errUsage, kind)
		if slices.ContainsFunc(models.Kinds, func(k models.Kind) bool { return k.Name == kind }) {
			err = fmt.Errorf("%w: --kind %q: serve does not serve models of this kind yet", errUsage, kind)
		}
		return withHint(err, "the kinds are %s", strings.Join(served, ", "))
	}
	return nil
}

// catalogRow is what --json tells of a row.
type catalogRow struct {
	models.Entry
	Quant  string `json:"quantization,omitempty"`
	Memory int64  `json:"memory_bytes"` // for one request of up to loader.DefaultContext tokens
	// More says that it takes more than that: something of the model is not known.
	More bool `json:"memory_is_more,omitempty"`
}

func runCatalog(_ context.Context, w *workplace, o catalogOptions, words []string) error {
	if err := checkKinds(o.kinds); err != nil {
		return err
	}
	list := []catalogRow{}
	for _, e := range models.Search(words, o.kinds) {
		memory, whole := e.Memory(loader.DefaultContext)
		list = append(list, catalogRow{Entry: e, Quant: e.Quant(), Memory: memory, More: !whole})
	}

	if o.json {
		return w.t.printJSON(list)
	}
	if len(list) == 0 {
		w.t.note("nothing in the catalogue is like that; any GGUF repository of the Hub can be named as org/repo")
		return nil
	}
	rows := [][]string{{"NAME", "ALSO", "QUANT", "SIZE", "NEEDS", "CONTEXT", "LICENCE", "HASH", "KIND", "FOR"}}
	for _, row := range list {
		rows = append(rows, row.cells())
	}
	return w.t.table(rows)
}

// cells are a row as a person reads it.
func (r *catalogRow) cells() []string {
	marked := func(mark string, marks bool) string {
		if marks {
			return mark
		}
		return ""
	}
	also := strings.Join(slices.Concat(r.DefaultFor, r.Aliases), ",")
	weights := marked("~", r.BytesEstimated) + machine.FormatSize(uint64(r.Bytes))
	needs := marked(">", r.More) + machine.FormatSize(uint64(r.Memory))
	trained := "-"
	if r.Context > 0 {
		trained = strconv.Itoa(r.Context)
	}
	license := r.License + marked("?", r.LicenseAssumed)
	hash := "hub"
	if sum := r.Hash(); sum != "" {
		hash = sum[:8]
	}

	return []string{
		r.Name, cmp.Or(also, "-"), cmp.Or(r.Quant, "-"), weights, needs, trained, license, hash, kindsOf(r.Entry), r.Use,
	}
}

// kindsOf are the kinds for which serve serves a model.
func kindsOf(e models.Entry) string {
	unserved := func(kind string) bool { return !slices.Contains(servedKinds(), kind) }
	return strings.Join(slices.DeleteFunc(slices.Clone(e.Kinds), unserved), ",")
}
