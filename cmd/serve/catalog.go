package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"serve/models"
)

func newCatalogCommand(w *workplace) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "catalog [WORD...]",
		Short: "list the models that have a plain name",
		Long: `catalog lists the models that serve knows by a plain name; with words, those in
whose names, licences or uses all of them occur. NEEDS is an estimate of the
memory for one request at a time of up to 8192 tokens.

Most rows pin the file's SHA-256; where none is known, HASH says hub: the Hub's
own listing is trusted.`,
		RunE: func(cmd *cobra.Command, args []string) error { return runCatalog(cmd.Context(), w, asJSON, args) },
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// catalogRow is what --json tells of a row.
type catalogRow struct {
	models.Entry
	Quant  string `json:"quantization"`
	Memory int64  `json:"memory_bytes"` // for one request of up to defaultContext tokens
}

func runCatalog(_ context.Context, w *workplace, asJSON bool, words []string) error {
	list := []catalogRow{}
	rows := [][]string{{"NAME", "QUANT", "SIZE", "NEEDS", "CONTEXT", "LICENCE", "HASH", "FOR"}}
	for _, e := range models.Search(words) {
		row := catalogRow{e, e.Quant(), e.Memory(defaultContext)}
		list = append(list, row)
		hash := "hub"
		if e.SHA256 != "" {
			hash = e.SHA256[:8]
		}
		about := ""
		if e.BytesEstimated {
			about = "~"
		}
		rows = append(rows, []string{e.Name, row.Quant, about + size(uint64(e.Bytes)), size(uint64(row.Memory)), strconv.Itoa(e.Context), e.License, hash, e.Use})
	}
	if asJSON {
		return w.t.printJSON(list)
	}
	if len(list) == 0 {
		w.t.note("nothing in the catalogue has these words; any GGUF repository of the Hub can be named as org/repo")
		return nil
	}
	return w.t.table(rows)
}
