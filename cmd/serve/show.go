package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"serve/engine/llama"
	"serve/loader"
	"serve/machine"
	"serve/models"
)

type showOptions struct {
	modelOptions
	template bool
	json     bool
}

func newShowCommand(w *workplace) *cobra.Command {
	var o showOptions
	cmd := &cobra.Command{
		Use:   "show MODEL",
		Short: "show what a model is, and the memory it would take",
		Long: `show reads a model's header without loading it: where it comes from, under which
licence, its hash, its chat template, and the memory that serve would plan for it
with the same flags.`,
		Args:              arguments(1, 1, "one model"),
		ValidArgsFunction: w.completeModels,
		RunE:              func(cmd *cobra.Command, args []string) error { return runShow(cmd.Context(), w, o, args[0]) },
	}
	o.memoryFlags(cmd.Flags())
	cmd.Flags().BoolVar(&o.template, "template", false, "print the chat template and nothing else")
	jsonFlag(cmd, &o.json)
	hideAll(cmd.Flags(), "threads", "no-mmap")
	return cmd
}

// hideAll keeps flags out of the help that make no difference to what is shown.
func hideAll(f *pflag.FlagSet, names ...string) {
	for _, name := range names {
		f.Lookup(name).Hidden = true
	}
}

// shown is what show tells.
type shown struct {
	modelInfo
	Verified       bool           `json:"verified"` // its bytes were compared with the Hub's hashes
	Architecture   string         `json:"architecture"`
	Parameters     uint64         `json:"parameters"`
	TrainContext   int            `json:"train_context"`
	Tensors        int            `json:"tensors"`
	TemplateSHA256 string         `json:"chat_template_sha256,omitempty"`
	Template       string         `json:"chat_template,omitempty"`
	Header         map[string]any `json:"header"`
	Context        int            `json:"ctx_size"`
	Parallel       int            `json:"parallel"`
	Cells          int            `json:"kv_cells,omitempty"` // that the requests share, if not all have their own
	Memory         []shownMemory  `json:"memory"`
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

func runShow(ctx context.Context, w *workplace, o showOptions, name string) error {
	if err := o.check(); err != nil {
		return err
	}
	store, err := w.store()
	if err != nil {
		return err
	}
	local, err := w.find(store, name)
	if err != nil {
		return err
	}
	unknown, err := store.Verify(ctx, local, false)
	if err != nil {
		return err
	}
	h, err := models.ReadModel(local.Parts())
	if err != nil {
		return err
	}
	given := projectors(o.mmproj)
	if err := given.choose(w.t, local, true); err != nil {
		return err
	}
	if err := given.check(); err != nil {
		return err
	}
	s := describeHeader(local, h)
	s.Verified = unknown == 0
	if o.template {
		fmt.Fprintln(w.t.out, s.Template)
		return nil
	}
	lo, memory, err := loader.Plan(local, h, o.modelOptions.ModelOptions)
	if memory == nil {
		return err
	}
	s.Context, s.Parallel, s.Cells = lo.Context, lo.Sequences, lo.Cells
	for _, d := range memory.Devices {
		s.Memory = append(s.Memory, shownMemory{d.Name, d.Weights, d.KV, d.Compute, d.Base, d.Later, loader.Usable(d)})
	}
	if o.json {
		return w.t.printJSON(s)
	}
	return printShown(w.t, s, memory, err)
}

func describeHeader(local *models.Local, h *models.Header) *shown {
	s := &shown{modelInfo: info(local), Architecture: h.Architecture(), TrainContext: h.TrainContext(), Tensors: len(h.Tensors),
		Template: h.String("tokenizer.chat_template"), Header: map[string]any{}}
	for _, t := range h.Tensors {
		n := uint64(1)
		for _, d := range t.Dims {
			n *= d
		}
		s.Parameters += n
	}
	if s.Template != "" {
		sum := sha256.Sum256([]byte(s.Template))
		s.TemplateSHA256 = hex.EncodeToString(sum[:])
	}
	for key, v := range h.Values {
		if !strings.HasPrefix(key, "tokenizer.chat_template") {
			s.Header[key] = v
		}
	}
	for key, n := range h.ArrayLengths {
		s.Header[key] = fmt.Sprintf("array of %d", n)
	}
	return s
}

// printShown prints for people. short is why the model could not be loaded now.
func printShown(t *terminal, s *shown, memory *llama.Memory, short error) error {
	rows := [][]string{{"name", s.Name}, {"path", s.Path}}
	add := func(label, format string, args ...any) {
		rows = append(rows, []string{label, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")})
	}
	if s.Repo != "" {
		add("repository", "%s at %s", s.Repo, s.Commit)
		add("licence", "%s %s", s.License, s.LicenseLink)
	}
	for _, f := range s.Files {
		switch {
		case f.SHA256 != "":
			add("sha256", "%s %s, verified", f.SHA256, machine.FormatSize(uint64(f.Bytes)))
		case s.Repo == "":
			add("sha256", "not known: the file does not come from the Hub")
		}
	}
	add("model", "%s, %s parameters in %d tensors, %s", strings.TrimSpace(s.Architecture+" "+s.Quant), count(s.Parameters), s.Tensors, machine.FormatSize(uint64(s.Bytes)))
	add("trained for", "%d tokens", s.TrainContext)
	if s.Template == "" {
		add("template", "none")
	} else {
		add("template", "%d bytes, sha256 %s; --template prints it", len(s.Template), s.TemplateSHA256)
	}
	shared := ""
	if s.Cells > 0 {
		shared = fmt.Sprintf(", which share %d KV cells", s.Cells)
	}
	add("planned for", "%d requests at a time of %d tokens%s", s.Parallel, s.Context, shared)
	for _, d := range memory.Devices {
		if d.Needs() > 0 {
			add("memory", "%s: %s", d.Name, loader.DescribeMemory(d))
		}
	}
	if short != nil {
		add("", "it does not fit now: %v", short)
	}
	for _, key := range slices.Sorted(maps.Keys(s.Header)) {
		add(key, "%s", shortenText(fmt.Sprint(s.Header[key]), 100))
	}
	return t.table(rows)
}

// shortenText keeps the beginning of a text.
func shortenText(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
