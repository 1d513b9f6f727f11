// Package worker runs this program as a child process that does part of the work, and
// reports how it ended.
package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Command returns a command that runs this program with arguments, in its own process group:
// Ctrl-C in a terminal is for the parent. Whether the environment holds secrets is for the caller to see to.
func Command(environ []string, args ...string) (*exec.Cmd, error) {
	path, err := program()
	if err != nil {
		return nil, err
	}

	cmd := exec.Command(path, args...)
	cmd.Env = append(slices.Clone(environ), "GOTRACEBACK=single")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, nil
}

// program returns the path of this program's file, even if it has been replaced since.
func program() (string, error) {
	const self = "/proc/self/exe"
	path, err := os.Executable()
	if err != nil || runtime.GOOS != "linux" {
		return path, err
	}

	named, err := os.Stat(path)
	running, ours := os.Stat(self)
	if err != nil || ours != nil || !os.SameFile(named, running) {
		return self, nil
	}
	return path, nil
}

// Exit describes how a process ended.
type Exit struct {
	How    string   // such as "signal: killed"
	Fault  bool     // the process itself failed: a crash, or an exit code other than 0
	Paused bool     // it was stopped (SIGSTOP) when it was killed
	Log    []string // the last lines of its stderr, up to a crash's message
	Stacks []string // the first lines after that
}

// Process is a running worker.
type Process struct {
	cmd   *exec.Cmd
	log   *Log
	ended chan struct{}
	exit  Exit // set when ended is closed

	mu     sync.Mutex
	paused bool
}

// Start starts a command by calling start, which is cmd.Start or a function that, for
// example, also confines the process. The command's stderr goes to log.
func Start(cmd *exec.Cmd, log *Log, start func() error) (*Process, error) {
	cmd.Stderr = log
	if err := start(); err != nil {
		return nil, err
	}

	dieFirst(cmd.Process.Pid)
	p := &Process{cmd: cmd, log: log, ended: make(chan struct{})}
	go p.reap()
	return p, nil
}

// killScore is added to the score by which the kernel chooses what it kills when there is no memory left: half of the
// maximum.
const killScore = "500"

// dieFirst has the kernel kill a worker before its parent, which starts another and loses nothing. Where that cannot
// be said the worker usually is the larger process.
func dieFirst(pid int) {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(killScore), 0)
}

// ID returns the process ID.
func (p *Process) ID() int { return p.cmd.Process.Pid }

// Wait waits until the process has ended.
func (p *Process) Wait() Exit {
	<-p.ended
	return p.exit
}

// dumpTime is how long a process may take to write its stacks before it is killed.
const dumpTime = time.Second

// Kill ends the process. With dump, it first writes the stacks of its goroutines to the log,
// which stops forwarding lines.
func (p *Process) Kill(dump bool) {
	p.mu.Lock()
	p.paused = p.paused || isPaused(p.cmd.Process.Pid)
	paused := p.paused
	p.mu.Unlock()

	if dump && !paused {
		p.log.mute() // hundreds of lines, for a report
		_ = p.cmd.Process.Signal(syscall.SIGQUIT)
		select {
		case <-p.ended:
		case <-time.After(dumpTime):
		}
	}
	_ = p.cmd.Process.Kill()
}

// reap waits for the process and records how it ended.
func (p *Process) reap() {
	_ = p.cmd.Wait() // ProcessState has more details
	p.mu.Lock()
	defer p.mu.Unlock()

	state := p.cmd.ProcessState
	p.exit = Exit{How: state.String(), Paused: p.paused}
	p.exit.Log, p.exit.Stacks = p.log.Lines()
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		p.exit.Fault = faults[status.Signal()]
	} else {
		p.exit.Fault = !state.Success() // it exited by itself: we kill with a signal
	}
	close(p.ended)
}

// isPaused reports whether a process has been stopped by a signal, and could be continued.
func isPaused(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, found := strings.Cut(string(stat), ") ")
	return err == nil && found && strings.HasPrefix(rest, "T")
}

// faults has the signals that a program's own errors raise.
var faults = map[syscall.Signal]bool{
	syscall.SIGSEGV: true,
	syscall.SIGABRT: true,
	syscall.SIGBUS:  true,
	syscall.SIGILL:  true,
	syscall.SIGFPE:  true,
	syscall.SIGTRAP: true,
	syscall.SIGSYS:  true,
}

// goFatal is the exit code of a Go program ended by the runtime, as after a fault in C.
const goFatal = 2

// Crashed reports whether an error from Output means that the process crashed.
func Crashed(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
		return false
	case status.Signaled():
		return faults[status.Signal()]
	}
	return status.Exited() && status.ExitStatus() == goFatal
}

const (
	maxOutput = 1 << 20 // maximum bytes that Output reads
	maxSaid   = 5       // maximum lines of stderr that Output returns
)

// Output runs a command until it ends or ctx is done. It returns the command's stdout, and
// the last lines of its stderr: up to a crash's message if there was one, since stacks
// follow it. For start, see Start.
func Output(ctx context.Context, cmd *exec.Cmd, start func() error) (out []byte, said []string, err error) {
	var stdout bytes.Buffer
	log := NewLog(io.Discard)
	cmd.Stdout = &limitedWriter{to: &stdout, left: maxOutput}
	cmd.Stderr = log
	cmd.WaitDelay = time.Second
	if err := start(); err != nil {
		return nil, nil, err
	}

	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), <-ended)
	}

	said, _ = log.Lines()
	return stdout.Bytes(), said[max(0, len(said)-maxSaid):], err
}

// limitedWriter accepts a limited number of bytes, and then fails.
type limitedWriter struct {
	to   io.Writer
	left int
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		return 0, errors.New("too much output")
	}
	w.left -= len(p)
	return w.to.Write(p)
}
