// Package kernels chooses the CPU kernels for a model, and stores the reasons: how fast each kind was when it was
// measured on this machine, and which ones failed. It runs no kernels itself.
package kernels

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"serve/hub"
)

// Variant is one kind of kernels in the build.
type Variant struct {
	Name  string
	Score int // number of instruction sets that they use; 0 if this processor lacks one of them
}

// Timing is the measured speed of kernels, in tokens per second.
type Timing struct {
	Kernels string  `json:"kernels"`
	Prefill float64 `json:"prefill"`  // of a prompt
	Decode  float64 `json:"decode"`   // of one sequence
	Decode8 float64 `json:"decode_8"` // of eight together
}

// Speed returns the geometric mean of the three.
func (t Timing) Speed() float64 { return math.Cbrt(t.Prefill * t.Decode * t.Decode8) }

// Refusal is the reason why kernels are not used on a machine.
type Refusal struct {
	Reason string    `json:"reason"`
	Model  string    `json:"model"` // with which they failed
	Time   time.Time `json:"time"`
}

// Machine identifies what a measurement is valid for: another processor, build or number of threads is measured again.
type Machine struct {
	Processor string `json:"processor"`
	Build     string `json:"build"`
	Threads   int    `json:"threads"`
}

// entry is the record of one machine.
type entry struct {
	Machine

	Models  map[string][]Timing `json:"models"` // by shape
	Refused map[string]Refusal  `json:"refused"`
	Used    time.Time           `json:"used"`
}

// Limits of the file: the least recently used entries are dropped first.
const (
	maxMachines = 32
	maxModels   = 256
)

// Record has the measurements and failures of kernels on this machine. It is safe for concurrent use.
type Record struct {
	path string

	mu    sync.Mutex
	here  *entry
	other []*entry // of other machines that share the home folder
}

// Open reads the record of a machine from a file in serve's home folder. An invalid file is replaced by the next write.
// If the file cannot be read, Open returns an error and an empty record.
func Open(path string, m Machine) (*Record, error) {
	r := &Record{
		path: path,
		here: &entry{Machine: m},
	}

	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("read kernel measurements: %w", err)
	}

	var all []*entry
	if json.Unmarshal(text, &all) != nil {
		all = nil
	}
	for _, e := range all {
		switch {
		case e == nil:
		case e.Machine == m:
			r.here = e
		default:
			r.other = append(r.other, e)
		}
	}

	if r.here.Models == nil {
		r.here.Models = map[string][]Timing{}
	}
	if r.here.Refused == nil {
		r.here.Refused = map[string]Refusal{}
	}
	return r, err
}

// Refused returns the kernels that are not used on this machine, and why.
func (r *Record) Refused() map[string]Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.here.Refused)
}

// Timings returns the measurements with models of a shape, the fastest first; nil if there are none.
func (r *Record) Timings(shape string) []Timing {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.here.Models[shape])
}

// All yields the measurements on this machine, by shape.
func (r *Record) All() iter.Seq2[string, []Timing] {
	r.mu.Lock()
	defer r.mu.Unlock()
	measured := maps.Clone(r.here.Models)
	return func(yield func(string, []Timing) bool) {
		for _, shape := range slices.Sorted(maps.Keys(measured)) {
			if !yield(shape, measured[shape]) {
				return
			}
		}
	}
}

// Choice is the choice of kernels for a model, and the reasons.
type Choice struct {
	Name    string             `json:"name"`
	Timings []Timing           `json:"timings"` // the fastest first; nil if nothing was measured
	Refused map[string]Refusal `json:"refused"` // on this machine, with any model
}

// Fastest returns timings sorted by speed, the fastest first.
func Fastest(timings []Timing) []Timing {
	timings = slices.Clone(timings)
	slices.SortStableFunc(timings, func(a, b Timing) int { return cmp.Compare(b.Speed(), a.Speed()) })
	return timings
}

// Remember stores measurements with models of a shape.
func (r *Record) Remember(shape string, timings []Timing) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.here.Models) >= maxModels && r.here.Models[shape] == nil {
		clear(r.here.Models) // measured again when they are next loaded
	}
	r.here.Models[shape] = Fastest(timings)
	return r.write()
}

// Refuse records that kernels must not be used on this machine.
func (r *Record) Refuse(name string, why Refusal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.here.Refused[name] = why
	return r.write()
}

func (r *Record) write() error {
	r.here.Used = time.Now()
	slices.SortFunc(r.other, func(a, b *entry) int { return b.Used.Compare(a.Used) })
	all := append([]*entry{r.here}, r.other[:min(len(r.other), maxMachines-1)]...)
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.path), 0o700); err != nil {
		return fmt.Errorf("save kernel measurements: %w", err)
	}
	if err := hub.WriteFile(r.path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("save kernel measurements: %w", err)
	}
	return nil
}

// Usable returns the kernels that this processor supports and that are not refused; those that use the most
// instruction sets come first.
func Usable(build []Variant, refused map[string]Refusal) []string {
	build = slices.Clone(build)
	slices.SortStableFunc(build, func(a, b Variant) int { return cmp.Compare(b.Score, a.Score) })
	var names []string
	for _, k := range build {
		if _, no := refused[k.Name]; k.Score > 0 && !no {
			names = append(names, k.Name)
		}
	}
	return names
}

// Order returns usable kernels in the order in which to try them for a model: the fastest first, and after each the
// next that uses fewer instruction sets. Kernels that were not measured come last.
func Order(usable []string, timings []Timing) []string {
	if len(usable) == 0 {
		return nil
	}
	first := usable[0]
	for _, t := range timings { // the fastest first
		if slices.Contains(usable, t.Kernels) {
			first = t.Kernels
			break
		}
	}
	at := slices.Index(usable, first)
	order := append([]string{first}, usable[at+1:]...)
	return append(order, usable[:at]...)
}
