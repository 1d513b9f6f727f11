package loader

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"time"

	"serve/engine/llama"
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

// WriteKernelChecks computes with each of the kernels named but the first, in the process that
// CheckKernels starts. A line is written before each: one that the CPU cannot run ends the process.
func WriteKernelChecks(h *Hardware, to io.Writer, name string, first int) error {
	_ = sandbox.ForbidNetwork() // an engine reports it if that fails
	if err := h.UseKernels(name); err != nil {
		return err
	}

	lines := json.NewEncoder(to)
	return h.CheckKernels(llama.CheckOptions{
		First: first,
		Begin: func(i int, kernel string) error {
			return lines.Encode(kernelLine{Begins: &kernelBegins{i, kernel}})
		},
		Done: func(k llama.KernelCheck) error { return lines.Encode(kernelLine{Done: &k}) },
	})
}

// Limits of a check of kernels.
const (
	kernelTime    = time.Minute // on a machine that has other work, too
	kernelCrashes = 8           // after which no more kernels are tried
)

// KernelReport is what came of computing with all kernels of a kind.
type KernelReport struct {
	Checks  []llama.KernelCheck
	Crashes []string // "q4_K in AMX: signal: illegal instruction"
}

// CheckKernels computes with each of the kernels named, in a process as engines are, and in
// another one after a crash, from the next kernel on.
func (w *Workers) CheckKernels(ctx context.Context, name string) (r KernelReport, err error) {
	ctx, cancel := context.WithTimeout(ctx, kernelTime)
	defer cancel()

	for first := 0; len(r.Crashes) < kernelCrashes; {
		last, err := w.checkKernelsFrom(ctx, &r, name, first)
		var exit *exec.ExitError
		switch {
		case err == nil:
			return r, nil
		case last == nil:
			return r, err
		case !errors.As(err, &exit):
			return r, fmt.Errorf("%s: %w", last.Kernel, err)
		}
		r.Crashes = append(r.Crashes, fmt.Sprintf("%s: %v", last.Kernel, err))
		first = last.Index + 1
	}
	return r, nil
}

// checkKernelsFrom starts a process and reads what came of it. Last is the kernel that it was
// about when it failed, if that was one.
func (w *Workers) checkKernelsFrom(
	ctx context.Context, r *KernelReport, name string, first int,
) (last *kernelBegins, err error) {
	args := quiet(FlagCheckKernels, name, "--"+FlagFirstKernel, strconv.Itoa(first))
	cmd, _, err := w.command(args...)
	if err != nil {
		return nil, err
	}
	out, said, err := confined(ctx, cmd, sandbox.Rules{})

	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var line kernelLine
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue // written by a library
		}
		last = line.Begins
		if line.Done != nil {
			r.Checks = append(r.Checks, *line.Done)
		}
	}
	if err != nil && len(said) > 0 {
		err = fmt.Errorf("%w: %s", err, said[len(said)-1]) // Go's runtime makes an exit code of a signal
	}
	return last, err
}
