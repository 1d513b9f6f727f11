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
	plan     bool
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
	f.Toggle(&o.plan, "plan", false, "print only how the model would be loaded, what that costs, and the memory")
	f.JSON(&o.json)
	for _, name := range []string{"threads", "no-mmap", "mlock", "numa"} { // these have no effect on the result
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
	planned, err := loader.Plan(ctx, local, h, o.model, w.workers())
	if planned == nil || planned.Memory == nil {
		return err
	}
	s.AddPlan(planned)
	switch {
	case o.json:
		return w.t.PrintJSON(s)
	case o.plan:
		return s.PrintPlan(w.t, planned.Memory, err)
	}
	return s.Print(w.t, planned.Memory, err)
}
