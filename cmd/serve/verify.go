package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"serve/models"
)

func newVerifyCommand(w *workplace) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [MODEL...]",
		Short: "read models again and compare their hashes",
		Long: `verify reads all bytes of models, of every one on this machine unless some are
named, compares their hashes with those that the Hub gave, and checks their headers.`,
		ValidArgsFunction: w.completeLocal,
		RunE:              func(cmd *cobra.Command, args []string) error { return runVerify(cmd.Context(), w, asJSON, args) },
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// verdict is what verify says of a model.
type verdict struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Unknown int    `json:"files_without_known_hash"`
	Error   string `json:"error,omitempty"`
}

// runVerify goes through all models even if one is damaged, and fails then.
func runVerify(ctx context.Context, w *workplace, asJSON bool, names []string) error {
	store, err := w.store()
	if err != nil {
		return err
	}
	var locals []*models.Local
	for _, name := range names {
		local, err := w.find(store, name)
		if err != nil {
			return err
		}
		locals = append(locals, local)
	}
	if len(names) == 0 {
		if locals, err = store.List(); err != nil {
			return err
		}
	}
	var failed error
	list := []verdict{}
	for _, local := range locals {
		unknown, err := verifyModel(ctx, store, local)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		v := verdict{Name: local.Name, OK: err == nil, Unknown: unknown}
		switch {
		case err != nil:
			v.Error = err.Error()
			w.t.fact("damaged", "%s: %v", local.Name, err)
			failed = errors.Join(failed, err)
		case unknown > 0:
			w.t.fact("readable", "%s: nobody says what its hash should be", local.Name)
		default:
			w.t.fact("right", "%s", local.Name)
		}
		list = append(list, v)
	}
	if asJSON {
		if err := w.t.printJSON(list); err != nil {
			return err
		}
	}
	if failed != nil {
		return withHint(errVerify{failed}, "remove what is damaged with serve rm, and pull it again")
	}
	return nil
}

// errVerify keeps the kinds of many errors under one line of text.
type errVerify struct{ error }

func (errVerify) Error() string   { return "not all models are right" }
func (e errVerify) Unwrap() error { return e.error }

func verifyModel(ctx context.Context, store *models.Store, local *models.Local) (unknown int, err error) {
	unknown, err = store.Verify(ctx, local, true)
	if err != nil {
		return unknown, err
	}
	if _, err := models.ReadModel(local.Parts()); err != nil {
		return unknown, err
	}
	if local.Projector != nil {
		_, err = models.ReadHeader(local.Projector.Name)
	}
	return unknown, err
}
