package loader

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"

	"serve/sandbox"
	"serve/worker"
)

// EngineCommand is the command that runs this program as an engine's process, or as one that
// examines the machine and exits. Its flags follow.
const EngineCommand = "engine"

// Flags of EngineCommand; without one the process serves an engine.
const (
	FlagDevices      = "devices"       // WriteDevices
	FlagProbe        = "probe"         // WriteProbe
	FlagSandbox      = "check"         // WriteSandbox
	FlagTimeKernels  = "time-kernels"  // WriteTimings
	FlagCheckKernels = "check-kernels" // WriteKernelChecks; its value names the kernels
	FlagFirstKernel  = "first-kernel"  // how many of them to skip
	FlagEgress       = "egress"        // WriteEgress
	FlagText         = "text"          // ServeText
	FlagRPC          = "rpc"           // of WriteDevices: workers whose connections it is handed
	FlagRPCWorker    = "rpc-worker"    // ServeRPC
	FlagLogLevel     = "log-level"
)

// Workers starts the processes that run models and examine devices.
type Workers struct {
	hardware *Hardware
	environ  []string
	home     string
	cache    func() (string, error)
}

// NewWorkers returns Workers with an environment for the processes. Code compiled by drivers is
// stored in a folder in home.
func NewWorkers(h *Hardware, environ []string, home string) *Workers {
	w := &Workers{hardware: h, environ: environ, home: home}
	w.cache = sync.OnceValues(w.createCache)
	return w
}

// Cache returns the folder for the drivers' caches, and creates it; empty if this build uses no
// drivers.
func (w *Workers) Cache() (string, error) { return w.cache() }

func (w *Workers) createCache() (string, error) {
	if len(w.hardware.Backends()) == 0 {
		return "", nil
	}

	folder := filepath.Join(w.home, "driver-cache")
	if err := sandbox.CreateCache(folder); err != nil {
		return "", err
	}
	return folder, nil
}

// command returns the command for an engine's process. Without a cache, drivers compile their code
// at every start.
func (w *Workers) command(args ...string) (cmd *exec.Cmd, cache string, err error) {
	cache, err = w.cache()
	if err != nil {
		cache = ""
	}

	environ := sandbox.Environ(w.environ, cache, w.hardware.Variables...)
	cmd, err = worker.Command(environ, append([]string{EngineCommand}, args...)...)
	return cmd, cache, err
}

// quiet returns the flags of a process that examines something and exits.
func quiet(flag string, more ...string) []string {
	return append(append([]string{"--" + flag}, more...), "--"+FlagLogLevel, "error")
}

// rules are those of a process that examines devices, and needs no files.
func (w *Workers) rules(cache string) sandbox.Rules {
	return sandbox.Rules{Cache: cache, Devices: len(w.hardware.Backends()) > 0, Variables: w.hardware.Variables}
}

// confined runs a command, confined by the rules, to its end. It does not report whether the kernel
// can enforce them: Loader and CheckSandbox do.
func confined(ctx context.Context, cmd *exec.Cmd, rules sandbox.Rules) (out []byte, said []string, err error) {
	return worker.Output(ctx, cmd, func() error { return sandbox.Start(cmd, rules) })
}

// output runs a command that is not confined, and decodes what it writes.
func output(ctx context.Context, cmd *exec.Cmd, into any) error {
	out, said, err := worker.Output(ctx, cmd, cmd.Start)
	if err != nil {
		return fmt.Errorf("%w%s", err, JoinWarnings(said))
	}
	return json.Unmarshal(out, into)
}

// errParent is the error of engine processes that were not started by this program.
func errParent(err error) error {
	text := fmt.Sprintf("serve %s is an internal command and cannot be run by hand (%v)", EngineCommand, err)
	return &childError{text, ErrOptions}
}
