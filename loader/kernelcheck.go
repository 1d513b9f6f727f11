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

// kernelLine is a line in the output of a process that checks kernels: which one is next, or
// its result.
type kernelLine struct {
	Begins *kernelBegins      `json:"begins,omitempty"`
	Done   *llama.KernelCheck `json:"done,omitempty"`
}

type kernelBegins struct {
	Index  int    `json:"index"`
	Kernel string `json:"kernel"`
}

// WriteKernelChecks checks each of the named kernels except the first few, in the process that
// CheckKernels starts. It writes a line before each, since a kernel may crash the process.
func WriteKernelChecks(h *Hardware, to io.Writer, name string, first int) error {
	_ = sandbox.Seal() // an engine reports it if that fails
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
	kernelTime    = time.Minute // enough for a busy machine
	kernelCrashes = 8           // maximum number of crashes
)

// KernelReport has the results of checking all kernels of a kind.
type KernelReport struct {
	Checks  []llama.KernelCheck
	Crashes []string // "q4_K in AMX: signal: illegal instruction"
}

// CheckKernels checks each of the named kernels, in a process confined like an engine; after a
// crash, another process continues with the next kernel.
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

// checkKernelsFrom starts a process and reads its results. last is the kernel that was running
// when it failed, if any.
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
		err = fmt.Errorf("%w: %s", err, said[len(said)-1]) // Go's runtime turns the signal into an exit code
	}
	return last, err
}
