package loader

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"serve/engine/llama"
	"serve/engine/remote"
	"serve/kernels"
	"serve/machine"
	"serve/models"
	"serve/sandbox"
	"serve/worker"
)

// timingLimit is how long a process may time kernels. It takes a second or two, more on a slow disk.
const timingLimit = time.Minute

// busyTiming is a duration that timing kernels exceeds only if other programs keep the CPU busy: such
// a measurement is used, but not stored.
const busyTiming = 10 * time.Second

// KernelsFile is the file with measurements and failures of kernels, in the home folder.
const KernelsFile = "kernels.json"

// OpenRecord opens the record of kernels on this machine, for a number of threads; 0 for the
// default. It can be used even if there is an error: kernels are then measured again.
func OpenRecord(home string, threads int) (*kernels.Record, error) {
	return kernels.Open(filepath.Join(home, KernelsFile), kernels.Machine{
		Processor: machine.ProcessorName(),
		Build:     llama.KernelsBuild(),
		Threads:   cmp.Or(threads, llama.Threads()),
	})
}

// isKernelFailure reports whether kernels crashed the process that tried them, or computed wrong results.
func isKernelFailure(err error) bool {
	var died *remote.DiedError
	return errors.As(err, &died) && died.Exit.Fault || errors.Is(err, llama.ErrWrong)
}

// trial has the kernels that a load tries, in order, and why others failed.
type trial struct {
	order  []string
	failed map[string]string
	choice kernels.Choice
}

// chooseKernels returns the kernels to try for a model. It measures them for the first model of a
// shape.
func (l *Loader) chooseKernels(ctx context.Context, q *request, files []string) *trial {
	t := &trial{failed: map[string]string{}}
	if l.o.Model.Kernels != AutoKernels {
		t.order = []string{l.o.Model.Kernels}
		return t
	}

	usable := kernels.Usable(llama.Kernels(), l.kernels.Refused())
	if l.o.Model.Reproducible {
		// A measurement may come out otherwise next time, and other kernels round otherwise.
		t.order = usable
		return t
	}
	t.choice.Timings = l.kernels.Timings(q.Shape)
	if len(t.choice.Timings) == 0 && len(usable) > 1 {
		t.choice.Timings = kernels.Fastest(l.measureKernels(ctx, q, files, usable, t.failed))
	}

	t.order = kernels.Order(usable, t.choice.Timings)
	if len(t.failed) < len(usable) { // otherwise loading the model will report what is wrong
		t.order = slices.DeleteFunc(t.order, func(name string) bool { return t.failed[name] != "" })
	}
	return t
}

// measureKernels times kernels and stores the results. Those that crash the process are added to
// failed.
func (l *Loader) measureKernels(
	ctx context.Context, q *request, files, names []string, failed map[string]string,
) []kernels.Timing {
	l.o.Reporter.Fact("measuring", "the CPU's kernels (first start only)")
	began := time.Now()
	timings, err := l.timeKernels(ctx, q, files, names, failed)
	took := time.Since(began)

	switch {
	case ctx.Err() != nil: // the load was canceled, which open reports
		return nil
	case err != nil:
		l.o.Reporter.Warn("the kernels could not be measured with %s: %v", q.Name, err)
	case took > busyTiming:
		l.o.Reporter.Warn("this machine is busy: the kernels will be measured again when %s is next loaded", q.Name)
	default:
		if err := l.kernels.Remember(q.Shape, timings); err != nil {
			l.o.Reporter.Warn("%v", err)
		}
	}
	l.o.Reporter.Fact("measured", "the CPU's kernels, in %s", took.Round(time.Millisecond))
	return timings
}

// refuse records kernels that failed while others worked: a failure of all kernels is the model's
// fault.
func (l *Loader) refuse(model string, failed map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		why := kernels.Refusal{
			Reason: failed[name],
			Model:  model,
			Time:   time.Now(),
		}
		l.o.Reporter.Warn("the kernels %s failed (%s) and are no longer used on this CPU", name, why.Reason)
		if err := l.kernels.Refuse(name, why); err != nil {
			l.o.Reporter.Warn("%v", err)
		}
	}
}

// DescribeKernels describes the kernels of a model and their speed.
func DescribeKernels(c kernels.Choice) string {
	text := c.Name
	for _, t := range c.Timings {
		if t.Kernels == c.Name && t.Speed() > 0 {
			text += fmt.Sprintf(" (%s)", DescribeTiming(t))
		}
	}
	return text
}

// DescribeTiming describes the speed of kernels.
func DescribeTiming(t kernels.Timing) string {
	if t.Speed() == 0 {
		return "too slow to measure"
	}
	return fmt.Sprintf("about %s prompt tokens/s, %s tokens/s for one sequence, %s for eight",
		rate(t.Prefill), rate(t.Decode), rate(t.Decode8))
}

// rate rounds a speed to three digits: the measurement is not more accurate.
func rate(perSecond float64) string {
	if perSecond >= 100 {
		return strconv.FormatFloat(perSecond, 'f', 0, 64)
	}
	return strconv.FormatFloat(perSecond, 'g', 3, 64)
}

// timingRequest tells a process what to time.
type timingRequest struct {
	Files   []string
	Kernels []string
	Options llama.Options
}

// timingLine is a line in the output of that process: which kernels come next, or the results.
type timingLine struct {
	Trying  string           `json:",omitempty"`
	Timings []kernels.Timing `json:",omitempty"`
	Error   string           `json:",omitempty"`
}

// timeKernels measures kernels on an excerpt of a model, in a separate process unless isolation is
// off. Those that crash the process are added to failed, and the others are measured without them.
func (l *Loader) timeKernels(
	ctx context.Context, q *request, files, names []string, failed map[string]string,
) ([]kernels.Timing, error) {
	tr := timingRequest{
		Files:   q.Parts,
		Kernels: names,
		Options: llama.Options{
			Context:   DefaultContext,
			Sequences: q.Options.Parallel,
			Threads:   q.Options.Threads,
			KVType:    q.Options.typeOfKeys(),
			VType:     q.Options.typeOfValues(),
			FlashAttn: q.Options.FlashAttn,
		},
	}
	if !l.o.Isolate {
		return l.o.Hardware.TimeKernels(tr.Files, tr.Options, names, func(string) {})
	}

	for len(tr.Kernels) > 0 {
		timings, trying, err := l.workers.timeKernels(ctx, tr, files)
		if err == nil || trying == "" || !worker.Crashed(err) {
			return timings, err
		}
		failed[trying] = err.Error()
		tr.Kernels = slices.DeleteFunc(slices.Clone(tr.Kernels), func(name string) bool { return name == trying })
	}
	return nil, errors.New("each of them crashed the process")
}

// timeKernels has a process time kernels. trying names the kernels that were running when it ended.
func (w *Workers) timeKernels(
	ctx context.Context, tr timingRequest, files []string,
) (timings []kernels.Timing, trying string, err error) {
	text, err := json.Marshal(tr)
	if err != nil {
		return nil, "", err
	}
	cmd, cache, err := w.command(quiet(FlagTimeKernels)...)
	if err != nil {
		return nil, "", err
	}
	cmd.Stdin = bytes.NewReader(text)

	ctx, cancel := context.WithTimeout(ctx, timingLimit)
	defer cancel()
	out, _, err := confined(ctx, cmd, sandbox.Rules{Files: files, Cache: cache, Scratch: true})

	var last timingLine
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var line timingLine
		if json.Unmarshal(lines.Bytes(), &line) == nil {
			trying = cmp.Or(line.Trying, trying)
			last = line
		}
	}
	if err == nil && last.Error != "" {
		err = errors.New(last.Error)
	}
	return last.Timings, trying, err
}

// WriteTimings is the process that times kernels: a request in, lines out.
func WriteTimings(h *Hardware, in io.Reader, out io.Writer) error {
	_ = sandbox.Seal() // an engine reports it if that fails
	var tr timingRequest
	if err := json.NewDecoder(in).Decode(&tr); err != nil {
		return errParent(err)
	}

	lines := json.NewEncoder(out)
	timings, err := h.TimeKernels(tr.Files, tr.Options, tr.Kernels, func(name string) {
		_ = lines.Encode(timingLine{Trying: name}) // fails only if the reader has gone, which ends this process
	})
	if err != nil {
		return lines.Encode(timingLine{Error: err.Error()})
	}
	return lines.Encode(timingLine{Timings: timings})
}

// shape identifies the shapes and types of a model's weights: a measurement with one model is valid
// for all models of its shape.
func shape(h *models.Header, kvType string) string {
	hash := sha256.New()
	for _, t := range h.Tensors {
		fmt.Fprintf(hash, "%s %v %d\n", t.Name, t.Dims, t.Type)
	}
	arch := h.Architecture()
	return fmt.Sprintf("%s %dx%d kv %s %s", arch, h.Uint(arch+".block_count"), h.Uint(arch+".embedding_length"), kvType,
		hex.EncodeToString(hash.Sum(nil)[:6]))
}

// ValidKernels returns an error for kernels that this build does not have, or that this CPU cannot run.
func ValidKernels(name string) error {
	if name == AutoKernels {
		return nil
	}

	var names []string
	for _, k := range llama.Kernels() {
		if k.Name == name && k.Score == 0 {
			return errors.New("this CPU lacks instructions that they use")
		}
		if k.Name == name {
			return nil
		}
		names = append(names, k.Name)
	}
	return fmt.Errorf("must be %s or one of %s", AutoKernels, strings.Join(names, ", "))
}
