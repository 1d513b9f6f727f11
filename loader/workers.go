package loader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

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

	environ, _ := sandbox.DriverEnviron(w.environ)
	if cache != "" {
		environ = sandbox.Environ(environ, cache)
	}
	cmd, err = worker.Command(environ, append([]string{EngineCommand}, args...)...)
	return cmd, cache, err
}

// quiet returns the flags of a process that examines something and exits.
func quiet(flag string, more ...string) []string {
	return append(append([]string{"--" + flag}, more...), "--"+FlagLogLevel, "error")
}

// confined runs a command, confined by the rules, to its end. It does not report whether the kernel
// can enforce them: Loader and CheckSandbox do.
func confined(ctx context.Context, cmd *exec.Cmd, rules sandbox.Rules) (out []byte, said []string, err error) {
	return worker.Output(ctx, cmd, func() error {
		_, err := sandbox.Start(cmd, rules)
		return err
	})
}

// SandboxReport says how an engine's process is confined.
type SandboxReport struct {
	Cache      string // the only folder that it can write to; empty for none
	NoCache    error  // why that folder could not be created
	NoNetwork  string // why the process can open sockets; empty if it cannot
	Unconfined error  // why it can open any file; nil if it cannot
}

// sandboxTime is how long a process may take to report how it is confined.
const sandboxTime = 20 * time.Second

// CheckSandbox starts a process like an engine, and returns how it is confined.
func (w *Workers) CheckSandbox(ctx context.Context) (r SandboxReport, err error) {
	_, r.NoCache = w.cache()
	cmd, cache, err := w.command("--" + FlagSandbox)
	if err != nil {
		return r, err
	}
	r.Cache = cache

	ctx, cancel := context.WithTimeout(ctx, sandboxTime)
	defer cancel()
	out, _, err := worker.Output(ctx, cmd, func() (err error) {
		r.Unconfined, err = sandbox.Start(cmd, sandbox.Rules{Cache: cache})
		return err
	})

	var said sandboxLine
	if err == nil {
		err = json.Unmarshal(out, &said)
	}
	r.NoNetwork = said.Network
	return r, err
}

// sandboxLine is the report of a confined process.
type sandboxLine struct {
	Network string // why it can open sockets; empty if it cannot
}

// forbidNetwork confines this process, and verifies it; the error says why it is not confined.
func forbidNetwork() error {
	if err := sandbox.ForbidNetwork(); err != nil {
		return err
	}
	c, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		return nil
	}
	return errors.Join(errors.New("a socket could be opened"), c.Close())
}

// errParent is the error of engine processes that were not started by this program.
func errParent(err error) error {
	text := fmt.Sprintf("serve %s is an internal command and cannot be run by hand (%v)", EngineCommand, err)
	return &childError{text, ErrOptions}
}
