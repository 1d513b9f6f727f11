package main

import (
	"context"

	"github.com/spf13/cobra"

	"serve/library"
	"serve/loader"
	"serve/models"
)

type showOptions struct {
	modelConfig
	template bool
	json     bool
}

func newShowCommand(w *cli) *cobra.Command {
	var o showOptions
	cmd := &cobra.Command{
		Use:   "show MODEL",
		Short: "show a model's metadata and the memory that it needs",
		Long: `show prints what is known about a model without loading it: its origin, license,
hash, chat template and metadata, and the memory that serve would need for it with
the same flags.`,
		Args:              arguments(1, 1, "one model"),
		ValidArgsFunction: w.completeModels,
		RunE:              func(cmd *cobra.Command, args []string) error { return runShow(cmd.Context(), w, o, args[0]) },
	}

	f := flagsOf(cmd)
	o.declare(f)
	f.Toggle(&o.template, "template", false, "print only the chat template")
	f.JSON(&o.json)
	for _, name := range []string{"threads", "no-mmap"} { // these have no effect on the result
		f.Lookup(name).Hidden = true
	}
	return cmd
}

func runShow(ctx context.Context, w *cli, o showOptions, name string) error {
	lib, err := w.library()
	if err != nil {
		return err
	}
	local, err := lib.Find(name)
	if err != nil {
		return err
	}
	unknown, err := lib.Store.Verify(ctx, local, false)
	if err != nil {
		return err
	}
	h, err := models.ReadModel(local.Parts())
	if err != nil {
		return err
	}

	given := loader.Projectors(o.mmproj)
	if err := lib.ChooseProjector(&given, local, true); err != nil {
		return err
	}
	if err := given.Check(); err != nil {
		return err
	}

	s := &library.Details{Info: local.Info(), HeaderFacts: h.Facts(), Verified: unknown == 0}
	if o.template {
		w.t.Text(s.Template)
		return nil
	}
	plan, memory, err := loader.Plan(local, h, o.model)
	if memory == nil {
		return err
	}
	s.AddPlan(plan, memory)
	if o.json {
		return w.t.PrintJSON(s)
	}
	return s.Print(w.t, memory, err)
}
