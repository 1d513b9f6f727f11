package main

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

// autoKernels is the flag's value that leaves the choice to a measurement.
const autoKernels = "auto"

// timingLimit is how long a process may time kernels. It takes a second or two, on a slow disk more.
const timingLimit = time.Minute

// busyTiming is how long timing kernels takes where others keep the processor busy: what was measured then is used,
// and not remembered.
const busyTiming = 10 * time.Second

// beforeKernels is called in a process that computes before it uses kernels. Tests make some fail there.
var beforeKernels = func(name string) error { return nil }

// checkKernels refuses kernels that this build does not have, or that this processor cannot run.
func checkKernels(name string) error {
	if name == autoKernels {
		return nil
	}
	var names []string
	for _, k := range llama.Kernels() {
		if k.Name == name && k.Score == 0 {
			return fmt.Errorf("%w: --kernels %s: this processor lacks instructions that they use", errUsage, name)
		}
		if k.Name == name {
			return nil
		}
		names = append(names, k.Name)
	}
	return fmt.Errorf("%w: --kernels %q: auto or one of %s", errUsage, name, strings.Join(names, ", "))
}

// kernelsRecord opens what is known of kernels on this machine. Where it cannot be read they are measured again.
func (w *workplace) kernelsRecord(home string, threads int) *kernels.Record {
	here := kernels.Machine{
		Processor: machine.ProcessorName(),
		Build:     llama.KernelsBuild(),
		Threads:   cmp.Or(threads, llama.Threads()),
	}
	record, err := kernels.Open(filepath.Join(home, "kernels.json"), here)
	if err != nil {
		w.t.note("warning: %v; kernels are measured again", err)
	}
	return record
}

// kernelsFailure says that kernels ended the process that tried them, or computed nonsense.
func kernelsFailure(err error) bool {
	var died *remote.DiedError
	return errors.As(err, &died) && died.Exit.Fault || errors.Is(err, llama.ErrWrong)
}

// kernelsTrial is what a load learns of kernels: those to try, in their order, and why others failed.
type kernelsTrial struct {
	order  []string
	failed map[string]string
	choice kernels.Choice
}

// chooseKernels says which kernels a model is to be tried with. It measures them when the first model of a shape
// comes.
func (l *library) chooseKernels(ctx context.Context, q *loadRequest, files []string) *kernelsTrial {
	t := &kernelsTrial{failed: map[string]string{}}
	if l.o.kernels != autoKernels {
		t.order = []string{l.o.kernels}
		return t
	}
	usable := kernels.Usable(llama.Kernels(), l.kernels.Refused())
	t.choice.Timings = l.kernels.Timings(q.Shape)
	if len(t.choice.Timings) == 0 && len(usable) > 1 {
		began := time.Now()
		timings, err := l.timeKernels(ctx, q, files, usable, t.failed)
		switch {
		case err != nil:
			l.w.t.note("warning: kernels could not be measured with %s: %v", q.Name, err)
		case time.Since(began) > busyTiming:
			l.w.t.note("warning: this machine is busy: its kernels are measured again when %s is loaded again", q.Name)
		default:
			if err := l.kernels.Remember(q.Shape, timings); err != nil {
				l.w.t.note("warning: %v", err)
			}
		}
		t.choice.Timings = kernels.Fastest(timings)
	}
	t.order = kernels.Order(usable, t.choice.Timings)
	if len(t.failed) < len(usable) {
		t.order = slices.DeleteFunc(t.order, func(name string) bool { return t.failed[name] != "" })
	} // else the model itself shall say what is wrong
	return t
}

// refuse keeps that kernels failed which others did not: what fails with all of them is the model's fault.
func (l *library) refuse(model string, failed map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		why := kernels.Refusal{
			Reason: failed[name],
			Model:  model,
			Time:   time.Now(),
		}
		l.w.t.note("warning: the kernels %s failed (%s) and are not used on this processor any more", name, why.Reason)
		if err := l.kernels.Refuse(name, why); err != nil {
			l.w.t.note("warning: %v", err)
		}
	}
}

// kernelsText says what a model computes with, and how fast that and others were.
func kernelsText(c kernels.Choice) string {
	text := c.Name
	for _, t := range c.Timings {
		if t.Kernels == c.Name && t.Speed() > 0 {
			text += fmt.Sprintf(" (%s)", speedText(t))
		}
	}
	return text
}

func speedText(t kernels.Timing) string {
	if t.Speed() == 0 {
		return "too slow to be measured to the end"
	}
	return fmt.Sprintf("about %s tokens/s of a prompt, %s of one sequence, %s of eight",
		rate(t.Prefill), rate(t.Decode), rate(t.Decode8))
}

// rate rounds a speed: more than three digits would say more than was measured.
func rate(perSecond float64) string {
	if perSecond >= 100 {
		return strconv.FormatFloat(perSecond, 'f', 0, 64)
	}
	return strconv.FormatFloat(perSecond, 'g', 3, 64)
}

// timingRequest says what a process is to time.
type timingRequest struct {
	Files   []string
	Kernels []string
	Options llama.Options
}

// timingLine is a line of what that process says: which kernels come next, or how it went.
type timingLine struct {
	Trying  string           `json:",omitempty"`
	Timings []kernels.Timing `json:",omitempty"`
	Error   string           `json:",omitempty"`
}

// timeKernels measures kernels on an excerpt of a model, in a process of its own unless that is not wanted. Those
// that end the process are added to failed, and the others measured without them.
func (l *library) timeKernels(
	ctx context.Context, q *loadRequest, files, names []string, failed map[string]string,
) ([]kernels.Timing, error) {
	began := time.Now()
	defer func() {
		l.w.t.fact("measured", "the processor's kernels, in %s", time.Since(began).Round(time.Millisecond))
	}()

	request := timingRequest{
		Files:   q.Parts,
		Kernels: names,
		Options: llama.Options{
			Context:   defaultContext,
			Sequences: q.Options.Parallel,
			Threads:   q.Options.Threads,
			KVType:    q.Options.KVType,
		},
	}
	if !l.o.isolate {
		return llama.TimeKernels(request.Files, request.Options, names, func(string) {})
	}
	for len(request.Kernels) > 0 {
		timings, trying, err := l.timeInChild(ctx, request, files)
		if err == nil || trying == "" || !worker.Crashed(err) {
			return timings, err
		}
		failed[trying] = err.Error()
		request.Kernels = slices.DeleteFunc(slices.Clone(request.Kernels), func(name string) bool { return name == trying })
	}
	return nil, errors.New("each of them ended the process")
}

// timeInChild has a process time kernels. Trying is what it was about when it ended.
func (l *library) timeInChild(
	ctx context.Context, q timingRequest, files []string,
) (timings []kernels.Timing, trying string, err error) {
	request, err := json.Marshal(q)
	if err != nil {
		return nil, "", err
	}
	cache := l.cache()
	cmd, err := engineCommand(cache, "--time-kernels", "--log-level", "error")
	if err != nil {
		return nil, "", err
	}
	cmd.Stdin = bytes.NewReader(request)

	ctx, cancel := context.WithTimeout(ctx, timingLimit)
	defer cancel()
	out, _, err := confinedOutput(ctx, cmd, sandbox.Rules{Files: files, Cache: cache})

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

// timeForParent is the process that times kernels: a request in, lines out.
func timeForParent(in io.Reader, out io.Writer) error {
	var q timingRequest
	if err := json.NewDecoder(in).Decode(&q); err != nil {
		return fmt.Errorf("%w: serve starts this command itself: %w", errUsage, err)
	}
	lines := json.NewEncoder(out)
	timings, err := llama.TimeKernels(q.Files, q.Options, q.Kernels, func(name string) {
		_ = lines.Encode(timingLine{Trying: name}) // nobody is there to read it only when this process is to end
		_ = beforeKernels(name)
	})
	if err != nil {
		return lines.Encode(timingLine{Error: err.Error()})
	}
	return lines.Encode(timingLine{Timings: timings})
}

// shape tells models apart whose weights have other shapes or types: what is measured with one model holds for all
// of its shape.
func shape(h *models.Header, kvType string) string {
	hash := sha256.New()
	for _, t := range h.Tensors {
		fmt.Fprintf(hash, "%s %v %d\n", t.Name, t.Dims, t.Type)
	}
	arch := h.Architecture()
	return fmt.Sprintf("%s %dx%d kv %s %s", arch, h.Uint(arch+".block_count"), h.Uint(arch+".embedding_length"), kvType,
		hex.EncodeToString(hash.Sum(nil)[:6]))
}
