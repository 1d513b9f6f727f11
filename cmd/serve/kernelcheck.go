package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"serve/engine/llama"
	"serve/kernels"
	"serve/sandbox"
)

// kernelLine is a line of a process that computes with each kernel: which one is next, or
// what came of it.
type kernelLine struct {
	Begins *kernelBegins      `json:"begins,omitempty"`
	Done   *llama.KernelCheck `json:"done,omitempty"`
}

type kernelBegins struct {
	Index  int    `json:"index"`
	Kernel string `json:"kernel"`
}

// beforeKernel is called before a kernel computes. Tests make some crash there.
var beforeKernel = func(string) {}

// computeForParent is the process that computes with each of the kernels named. A line is
// written before each: one that the processor cannot run ends the process.
func computeForParent(out io.Writer, name string, first int) error {
	if err := llama.UseKernels(name); err != nil {
		return err
	}
	lines := json.NewEncoder(out)
	return llama.CheckKernels(llama.CheckOptions{
		First: first,
		Begin: func(i int, kernel string) error {
			if err := lines.Encode(kernelLine{Begins: &kernelBegins{i, kernel}}); err != nil {
				return err
			}
			beforeKernel(kernel)
			return nil
		},
		Done: func(k llama.KernelCheck) error { return lines.Encode(kernelLine{Done: &k}) },
	})
}

// Limits of a check of kernels.
const (
	kernelTime    = time.Minute // on a machine that has other work, too
	kernelCrashes = 8           // after which no more kernels are tried
)

// kernelReport is what came of all kernels.
type kernelReport struct {
	checks  []llama.KernelCheck
	crashes []string // "q4_K in AMX: signal: illegal instruction"
}

// computeWith computes with each of the kernels named, in a process as engines are, and in
// another one after a crash, from the next kernel on.
func computeWith(ctx context.Context, name string) (r kernelReport, err error) {
	ctx, cancel := context.WithTimeout(ctx, kernelTime)
	defer cancel()
	for first := 0; len(r.crashes) < kernelCrashes; {
		last, err := r.run(ctx, name, first)
		var exit *exec.ExitError
		switch {
		case err == nil:
			return r, nil
		case last == nil:
			return r, err
		case !errors.As(err, &exit):
			return r, fmt.Errorf("%s: %w", last.Kernel, err)
		}
		r.crashes = append(r.crashes, fmt.Sprintf("%s: %v", last.Kernel, err))
		first = last.Index + 1
	}
	return r, nil
}

// run starts a process and reads what came of it. Last is the kernel that it was about
// when it failed, if that was one.
func (r *kernelReport) run(ctx context.Context, name string, first int) (last *kernelBegins, err error) {
	cmd, err := engineCommand("", "--check-kernels", name, "--first-kernel", strconv.Itoa(first), "--log-level", "error")
	if err != nil {
		return nil, err
	}
	out, said, err := confinedOutput(ctx, cmd, sandbox.Rules{})

	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var line kernelLine
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue // of the library's, to nobody
		}
		last = line.Begins
		if line.Done != nil {
			r.checks = append(r.checks, *line.Done)
		}
	}
	if err != nil && len(said) > 0 {
		err = fmt.Errorf("%w: %s", err, said[len(said)-1]) // Go's runtime makes an exit code of a signal
	}
	return last, err
}

// allKernels is the flag's value that checks what no model uses here, too.
const allKernels = "all"

// seeResults computes with the kernels that models compute with.
func (w *workplace) seeResults(ctx context.Context, o doctorOptions) (list []finding) {
	for _, name := range w.kernelsToCheck(o.kernels) {
		report, err := computeWith(ctx, name)
		f := report.finding(name)
		if err != nil {
			f = finding{"results", broken, fmt.Sprintf("%s: the check did not end: %v", name, err), repairKernels}
		}
		list = append(list, f)
	}
	return list
}

// kernelsToCheck returns those that the flag says: with auto the fastest of each model that
// was measured here, or those that the first model will be tried with.
func (w *workplace) kernelsToCheck(flag string) (names []string) {
	store, err := w.store()
	if err != nil {
		return nil // seeCache says so
	}
	switch flag {
	case autoKernels:
		record := w.kernelsRecord(store.Home, 0)
		usable := kernels.Usable(llama.Kernels(), record.Refused())
		for _, timings := range record.All() {
			names = append(names, kernels.Order(usable, timings)[:min(1, len(usable))]...)
		}
		if len(names) == 0 {
			names = usable[:min(1, len(usable))]
		}
		slices.Sort(names)
		return slices.Compact(names)
	case allKernels:
		return kernels.Usable(llama.Kernels(), nil)
	}
	return []string{flag}
}

// repairKernels is what helps where results are wrong.
const repairKernels = "choose others with --kernels (serve doctor --kernels all checks each), " +
	"or build serve with another compiler; and report this line"

// shownKernels is how many kernels a line names.
const shownKernels = 5

// finding says what of a report matters: what is wrong, or how near to it the worst is.
func (r kernelReport) finding(name string) finding {
	types := map[string]bool{}
	worst, wrong := llama.KernelCheck{}, r.crashes
	for _, k := range r.checks {
		kind, _, _ := strings.Cut(k.Kernel, " ")
		types[kind] = true
		if k.Difference/k.Tolerance >= worst.Difference/worst.Tolerance || worst.Kernel == "" {
			worst = k
		}
		switch {
		case !k.Finite:
			wrong = append(wrong, fmt.Sprintf("%s: no numbers at %d rows", k.Kernel, k.Rows))
		case !k.Right():
			wrong = append(wrong, fmt.Sprintf("%s: off by %.1e at %d rows, where %.1e is allowed",
				k.Kernel, k.Difference, k.Rows, k.Tolerance))
		}
	}

	if len(wrong) > shownKernels {
		wrong = append(wrong[:shownKernels:shownKernels], fmt.Sprintf("and %d more", len(wrong)-shownKernels))
	}
	switch {
	case len(wrong) > 0:
		return finding{"results", broken, name + " is wrong here: " + strings.Join(wrong, "; "), repairKernels}
	case len(types) == 0:
		return finding{"results", broken, name + " computes nothing", repairKernels}
	}
	return finding{About: "results", Severity: fine, Seen: fmt.Sprintf("%s: %d types, worst %s %.1e of %.1e allowed",
		name, len(types), worst.Kernel, worst.Difference, worst.Tolerance)}
}
