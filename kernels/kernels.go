// Package kernels chooses the code that a model computes with on the processor, and remembers why: how fast each
// kind was when it was measured here, and which ones failed. It computes nothing itself.
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

// Kind is one kind of kernels that the build has.
type Kind struct {
	Name  string
	Score int // how many instruction sets they use; 0 where this processor lacks one of them
}

// Timing is how fast kernels were, in tokens a second.
type Timing struct {
	Kernels string  `json:"kernels"`
	Prefill float64 `json:"prefill"`  // of a prompt
	Decode  float64 `json:"decode"`   // of one sequence
	Decode8 float64 `json:"decode_8"` // of eight together
}

// Speed weighs the three alike: it is their geometric mean.
func (t Timing) Speed() float64 { return math.Cbrt(t.Prefill * t.Decode * t.Decode8) }

// Refusal says why kernels are not used on a machine.
type Refusal struct {
	Reason string    `json:"reason"`
	Model  string    `json:"model"` // that showed it
	Time   time.Time `json:"time"`
}

// Machine is what a measurement holds for: another processor, build or number of threads is measured anew.
type Machine struct {
	Processor string `json:"processor"`
	Build     string `json:"build"`
	Threads   int    `json:"threads"`
}

// entry is what is known on one machine.
type entry struct {
	Machine

	Models  map[string][]Timing `json:"models"` // by shape
	Refused map[string]Refusal  `json:"refused"`
	Used    time.Time           `json:"used"`
}

// Limits of the file: what was used least recently goes first.
const (
	maxMachines = 32
	maxModels   = 256
)

// Record is what is known of kernels on this machine. It is safe for use by many goroutines.
type Record struct {
	path string

	mu    sync.Mutex
	here  *entry
	other []*entry // of other machines that have the same home folder
}

// Open reads the record of a machine, from a file in serve's home folder. A file that makes no sense is replaced when
// there is something to remember. With an error, which says that it cannot be read, the record is an empty one.
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

// Refused returns which kernels are not used here, and why.
func (r *Record) Refused() map[string]Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.here.Refused)
}

// Timings returns what was measured with models of a shape, the fastest first; none if nothing was.
func (r *Record) Timings(shape string) []Timing {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.here.Models[shape])
}

// All gives what was measured here, by shape.
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

// Choice is what a model computes with, and why.
type Choice struct {
	Name    string             `json:"name"`
	Timings []Timing           `json:"timings"` // the fastest first; none where nothing was measured
	Refused map[string]Refusal `json:"refused"` // here, with any model
}

// Fastest returns timings in the order of their speed.
func Fastest(timings []Timing) []Timing {
	timings = slices.Clone(timings)
	slices.SortStableFunc(timings, func(a, b Timing) int { return cmp.Compare(b.Speed(), a.Speed()) })
	return timings
}

// Remember keeps what was measured with models of a shape.
func (r *Record) Remember(shape string, timings []Timing) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.here.Models) >= maxModels && r.here.Models[shape] == nil {
		clear(r.here.Models) // measured again when they come
	}
	r.here.Models[shape] = Fastest(timings)
	return r.write()
}

// Refuse keeps that kernels are not to be used here.
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

// Usable returns the kernels that this processor has the instructions for and that are not refused, those that use
// the most first.
func Usable(build []Kind, refused map[string]Refusal) []string {
	build = slices.Clone(build)
	slices.SortStableFunc(build, func(a, b Kind) int { return cmp.Compare(b.Score, a.Score) })
	var names []string
	for _, k := range build {
		if _, no := refused[k.Name]; k.Score > 0 && !no {
			names = append(names, k.Name)
		}
	}
	return names
}

// Order returns usable kernels in the order in which they are to be tried for a model: the fastest first, and after
// each the next that uses less of the processor. Kernels that were not measured come last.
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
