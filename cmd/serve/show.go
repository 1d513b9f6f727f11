package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"serve/engine/llama"
	"serve/loader"
	"serve/machine"
	"serve/models"
	"serve/terminal"
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
		Long: `show reads a model's header without loading the model: its origin, license, hash
and chat template, and the memory that serve would plan for it with the same
flags.`,
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

// shown is the result of show.
type shown struct {
	models.Info
	models.Facts
	Verified bool          `json:"verified"` // its bytes match the Hub's hashes
	Context  int           `json:"ctx_size"`
	Parallel int           `json:"parallel"`
	Cells    int           `json:"kv_cells,omitempty"` // shared by the requests, unless each has its own
	Memory   []shownMemory `json:"memory"`
}

type shownMemory struct {
	Device  string `json:"device"`
	Weights uint64 `json:"weights_bytes"`
	KV      uint64 `json:"kv_bytes"`
	Compute uint64 `json:"compute_bytes"`
	Base    uint64 `json:"base_bytes"`  // of the process, or of the driver's context
	Later   uint64 `json:"later_bytes"` // for embeddings, when they are first asked for
	Free    uint64 `json:"free_bytes"`
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

	s := &shown{Info: local.Info(), Facts: h.Facts(), Verified: unknown == 0}
	if o.template {
		fmt.Fprintln(w.t.Out, s.Template)
		return nil
	}
	plan, memory, err := loader.Plan(local, h, o.model)
	if memory == nil {
		return err
	}
	s.add(plan, memory)
	if o.json {
		return w.t.PrintJSON(s)
	}
	return s.print(w.t, memory, err)
}

// add records how the model would be loaded.
func (s *shown) add(plan llama.Options, memory *llama.Memory) {
	s.Context = plan.Context
	s.Parallel = plan.Sequences
	s.Cells = plan.Cells
	for _, d := range memory.Devices {
		s.Memory = append(s.Memory, shownMemory{
			Device:  d.Name,
			Weights: d.Weights,
			KV:      d.KV,
			Compute: d.Compute,
			Base:    d.Base,
			Later:   d.Later,
			Free:    loader.Usable(d),
		})
	}
}

// maxHeaderValue is how many characters of a header's value are shown.
const maxHeaderValue = 100

// print prints a table. short is why the model could not be loaded now.
func (s *shown) print(t *terminal.Terminal, memory *llama.Memory, short error) error {
	rows := [][]string{{"name", s.Name}, {"path", s.Path}}
	add := func(label, format string, args ...any) {
		rows = append(rows, []string{label, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")})
	}

	s.printOrigin(add)
	add("model", "%s, %s parameters in %d tensors, %s", strings.TrimSpace(s.Architecture+" "+s.Quant),
		terminal.FormatCount(s.Parameters), s.Tensors, machine.FormatSize(uint64(s.Bytes)))
	add("trained for", "%d tokens", s.TrainContext)
	if s.Template == "" {
		add("template", "none")
	} else {
		add("template", "%d bytes, sha256 %s; --template prints it", len(s.Template), s.TemplateSHA256)
	}

	shared := ""
	if s.Cells > 0 {
		shared = fmt.Sprintf(", sharing %d KV cells", s.Cells)
	}
	add("planned for", "%d concurrent requests of %d tokens%s", s.Parallel, s.Context, shared)
	for _, d := range memory.Devices {
		if d.Needs() > 0 {
			add("memory", "%s: %s", d.Name, loader.DescribeMemory(d))
		}
	}
	if short != nil {
		add("", "does not fit now: %v", short)
	}

	for _, key := range slices.Sorted(maps.Keys(s.Header)) {
		add(key, "%s", terminal.KeepStart(fmt.Sprint(s.Header[key]), maxHeaderValue))
	}
	return t.Table(rows)
}

// printOrigin adds where the files come from and whether their hashes match.
func (s *shown) printOrigin(add func(label, format string, args ...any)) {
	if s.Repo != "" {
		add("repository", "%s at %s", s.Repo, s.Commit)
		add("license", "%s %s", s.License, s.LicenseLink)
	}
	for _, f := range s.Files {
		switch {
		case f.SHA256 != "":
			add("sha256", "%s %s, verified", f.SHA256, machine.FormatSize(uint64(f.Bytes)))
		case s.Repo == "":
			add("sha256", "unknown: the file does not come from the Hub")
		}
	}
}
