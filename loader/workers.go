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

// EngineCommand is the argument with which this program is an engine's process, or another that
// looks at the machine and ends. The flags after it are these.
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

// Workers starts this program as the processes that compute and look at devices.
type Workers struct {
	hardware *Hardware
	environ  []string
	home     string
	cache    func() (string, error)
}

// NewWorkers returns Workers with an environment for the processes. What drivers compile is kept
// in a folder below home.
func NewWorkers(h *Hardware, environ []string, home string) *Workers {
	w := &Workers{hardware: h, environ: environ, home: home}
	w.cache = sync.OnceValues(w.createCache)
	return w
}

// Cache returns the folder for what drivers keep, and creates it; empty if this build has no
// driver to keep anything.
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

// command returns this program as an engine's process. Without a folder to keep anything, drivers
// compile at every start.
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

// quiet are the flags of a process that looks at something and ends.
func quiet(flag string, more ...string) []string {
	return append(append([]string{"--" + flag}, more...), "--"+FlagLogLevel, "error")
}

// confined runs a command that is confined by the rules to its end. Whether the kernel can enforce
// them is reported by those who look for that: Loader and CheckSandbox.
func confined(ctx context.Context, cmd *exec.Cmd, rules sandbox.Rules) (out []byte, said []string, err error) {
	return worker.Output(ctx, cmd, func() error {
		_, err := sandbox.Start(cmd, rules)
		return err
	})
}

// SandboxReport says how an engine's process is confined.
type SandboxReport struct {
	Cache      string // the one folder that it can write in; empty for none
	NoCache    error  // why that folder could not be created
	NoNetwork  string // why the process can open sockets; empty if it cannot
	Unconfined error  // why it can open any file; nil if it cannot
}

// sandboxTime is how long a process may take to say how it is confined.
const sandboxTime = 20 * time.Second

// CheckSandbox starts a process as engines are, and asks how it is confined.
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

// sandboxLine is what a confined process says of itself.
type sandboxLine struct {
	Network string // why it can open sockets; empty if it cannot
}

// forbidNetwork confines this process, and says why it is not confined if it is not.
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

// errParent is for processes that somebody starts who is not this program.
func errParent(err error) error {
	return fmt.Errorf("%w: this command is started by serve itself: %w", ErrOptions, err)
}
