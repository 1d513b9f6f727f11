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

func newPullCommand(w *workplace) *cobra.Command {
	var o pullOptions
	cmd := &cobra.Command{
		Use:   "pull MODEL...",
		Short: "fetch models and verify them, without serving",
		Long: `pull fetches models from the Hugging Face Hub into its cache, where other tools
find them too, and compares every byte with the hash that the Hub gave before.

A model that is here already is not asked for again; --update does that. What
breaks off goes on where it was at the next pull.`,
		Example:           "  serve pull mistral-7b\n  serve pull bartowski/Llama-3.2-1B-Instruct-GGUF:Q8_0",
		Args:              arguments(1, -1, "at least one model"),
		ValidArgsFunction: w.completeModels,
		RunE:              func(cmd *cobra.Command, args []string) error { return runPull(cmd.Context(), w, o, args) },
	}
	cmd.Flags().BoolVar(&o.update, "update", false, "ask the Hub for the newest revision, also of a model that is here")
	jsonFlag(cmd, &o.json)
	return cmd
}

func jsonFlag(cmd *cobra.Command, json *bool) {
	cmd.Flags().BoolVar(json, "json", false, "print the result as JSON")
}

func runPull(ctx context.Context, w *workplace, o pullOptions, names []string) error {
	store, err := w.store()
	if err != nil {
		return err
	}
	list := []modelInfo{}
	for _, name := range names {
		local, err := w.pull(ctx, store, name, o.update)
		if err != nil {
			return err
		}
		if _, err := store.Verify(ctx, local, false); err != nil {
			return err
		}
		if _, err := models.ReadModel(local.Parts()); err != nil {
			return err
		}
		list = append(list, info(local))
	}
	if o.json {
		return w.t.printJSON(list)
	}
	for _, m := range list {
		w.t.fact("here", "%s: %s", m.Name, m.Path)
	}
	return nil
}

// modelInfo is what --json tells of a model on this machine.
type modelInfo struct {
	Name        string     `json:"name"`
	Repo        string     `json:"repo,omitempty"`
	Commit      string     `json:"commit,omitempty"`
	Quant       string     `json:"quantization,omitempty"`
	License     string     `json:"license,omitempty"`
	LicenseLink string     `json:"license_link,omitempty"`
	Bytes       int64      `json:"bytes"`
	Path        string     `json:"path"` // of the weights, or of their first part
	Files       []fileInfo `json:"files"`
}

type fileInfo struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256,omitempty"`
	GitOID string `json:"git_oid,omitempty"` // of small files that have no SHA-256
}

func info(l *models.Local) modelInfo {
	m := modelInfo{Name: l.Name, Repo: l.Repo, Commit: l.Commit, Quant: l.Quant, License: l.License, LicenseLink: l.Link, Bytes: l.Bytes(), Path: l.Path()}
	for _, f := range l.Files() {
		file := fileInfo{Path: f.Name, Bytes: f.Size, SHA256: f.SHA256}
		if f.SHA256 == "" {
			file.GitOID = f.GitOID
		}
		m.Files = append(m.Files, file)
	}
	return m
}
