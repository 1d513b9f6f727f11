package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
)

func newVerifyCommand(w *cli) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [MODEL...]",
		Short: "check the hashes of models on this machine",
		Long: `verify reads every byte of the named models, or of all models on this machine,
compares their hashes with those that the Hub has published, and checks their
headers.`,
		ValidArgsFunction: w.completeLocal,
		RunE:              func(cmd *cobra.Command, args []string) error { return runVerify(cmd.Context(), w, asJSON, args) },
	}
	flagsOf(cmd).JSON(&asJSON)
	return cmd
}

// verifyResult is the result of verifying a model.
type verifyResult struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Unknown int    `json:"files_without_known_hash"`
	Error   string `json:"error,omitempty"`
}

// runVerify checks all models even if one is damaged, and fails at the end.
func runVerify(ctx context.Context, w *cli, asJSON bool, names []string) error {
	lib, err := w.library()
	if err != nil {
		return err
	}
	locals, err := lib.FindAll(names)
	if err != nil {
		return err
	}

	if len(locals) == 0 && !asJSON {
		w.t.Note("no models to verify")
	}

	var failed error
	todo := "copy or download the damaged files again"
	list := []verifyResult{}
	for _, local := range locals {
		unknown, err := lib.Store.Examine(ctx, local)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		v := verifyResult{Name: local.Name, OK: err == nil, Unknown: unknown}
		switch {
		case err != nil:
			v.Error = err.Error()
			w.t.Fact("damaged", "%s: %v", local.Name, err)
			failed = errors.Join(failed, err)
			if local.Repo != "" {
				todo = "remove damaged models with serve rm, and pull them again"
			}
		case unknown > 0:
			w.t.Fact("readable", "%s: its hash is unknown", local.Name)
		default:
			w.t.Fact("intact", "%s", local.Name)
		}
		list = append(list, v)
	}

	if asJSON {
		if err := w.t.PrintJSON(list); err != nil {
			return err
		}
	}
	if failed != nil {
		return withHint(errVerify{failed}, "%s", todo)
	}
	return nil
}

// errVerify has a short text, and the kinds of all errors that it wraps.
type errVerify struct{ error }

func (errVerify) Error() string   { return "some models are damaged" }
func (e errVerify) Unwrap() error { return e.error }
