package library

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"serve/engine/llama"
	"serve/loader"
	"serve/machine"
	"serve/models"
	"serve/terminal"
)

// Details is what a model's header says, and how the model would be loaded.
type Details struct {
	models.Info
	models.HeaderFacts
	Verified bool            `json:"verified"` // its bytes match the Hub's hashes
	Context  int             `json:"ctx_size"`
	Parallel int             `json:"parallel"`
	Cells    int             `json:"kv_cells,omitempty"` // shared by the requests, unless each has its own
	Plan     string          `json:"plan"`
	Cost     string          `json:"plan_cost,omitempty"` // in comparison with a machine that has room for all
	Memory   []MemoryDetails `json:"memory"`
}

// MemoryDetails is the memory that a model would take on a device, in bytes.
type MemoryDetails struct {
	Device  string `json:"device"`
	Weights uint64 `json:"weights_bytes"`
	KV      uint64 `json:"kv_bytes"`
	Compute uint64 `json:"compute_bytes"`
	Base    uint64 `json:"base_bytes"`  // of the process, or of the driver's context
	Later   uint64 `json:"later_bytes"` // for embeddings, when they are first asked for
	Free    uint64 `json:"free_bytes"`
}

// AddPlan records how the model would be loaded.
func (s *Details) AddPlan(planned *loader.Planned) {
	plan := planned.Options
	s.Plan = planned.Decision.Choice
	s.Cost = planned.Decision.Cost
	s.Context = plan.Context
	s.Parallel = plan.Sequences
	s.Cells = plan.Cells
	for _, d := range planned.Memory.Devices {
		s.Memory = append(s.Memory, MemoryDetails{
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

// Print prints a table. Short is why the model could not be loaded now; nil if it could.
func (s *Details) Print(t *terminal.Terminal, memory *llama.Memory, short error) error {
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

	s.addPlanRows(add, memory, short)
	for _, key := range slices.Sorted(maps.Keys(s.Header)) {
		add(key, "%s", terminal.KeepStart(fmt.Sprint(s.Header[key]), maxHeaderValue))
	}
	return t.Table(rows)
}

// PrintPlan prints a table of how the model would be loaded.
func (s *Details) PrintPlan(t *terminal.Terminal, memory *llama.Memory, short error) error {
	var rows [][]string
	s.addPlanRows(func(label, format string, args ...any) {
		rows = append(rows, []string{label, fmt.Sprintf(format, args...)})
	}, memory, short)
	return t.Table(rows)
}

// addPlanRows adds how the model would be loaded.
func (s *Details) addPlanRows(add func(label, format string, args ...any), memory *llama.Memory, short error) {
	shared := ""
	if s.Cells > 0 {
		shared = fmt.Sprintf(", sharing %d KV cells", s.Cells)
	}
	add("planned for", "%d concurrent requests of %d tokens%s", s.Parallel, s.Context, shared)
	if short == nil {
		add("plan", "%s", loader.Decision{Choice: s.Plan, Cost: s.Cost})
	}
	for _, d := range memory.Devices {
		if d.Needs() > 0 {
			add("memory", "%s: %s", d.Name, loader.DescribeMemory(d))
		}
	}
	if short != nil {
		add("", "does not fit now: %v", short)
	}
}

// printOrigin adds where the files come from and whether their hashes match.
func (s *Details) printOrigin(add func(label, format string, args ...any)) {
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
