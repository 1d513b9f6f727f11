package loader

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"time"

	"serve/sandbox"
)

// SandboxReport says how an engine's process is confined.
type SandboxReport struct {
	Cache      string // the only folder that it can write to; empty for none
	NoCache    error  // why that folder could not be created
	Unconfined string // what the kernel cannot enforce; empty if it enforces all
	Results    []sandbox.Result
}

// sandboxTime is how long a process may take to report how it is confined.
const sandboxTime = 20 * time.Second

// CheckSandbox starts a process like an engine, which tries what the sandbox refuses, and returns what came of it.
func (w *Workers) CheckSandbox(ctx context.Context) (r SandboxReport, err error) {
	_, r.NoCache = w.cache()
	cmd, cache, err := w.command(quiet(FlagSandbox)...)
	if err != nil {
		return r, err
	}
	r.Cache = cache

	scene, tearDown, err := setScene()
	if err != nil {
		return r, err
	}
	defer tearDown()
	text, err := json.Marshal(scene)
	if err != nil {
		return r, err
	}
	cmd.Stdin = bytes.NewReader(text)

	ctx, cancel := context.WithTimeout(ctx, sandboxTime)
	defer cancel()
	out, _, err := confined(ctx, cmd, w.rules(cache))
	var said sandboxLine
	if err == nil {
		err = json.Unmarshal(out, &said)
	}
	r.Unconfined = said.Unconfined
	r.Results = said.Results
	return r, err
}

// sandboxLine is the report of a confined process.
type sandboxLine struct {
	Unconfined string // what is not in force
	Results    []sandbox.Result
}

// setScene makes what a process is to reach for: a file and a folder of this user, a socket of UNIX and one of TCP on
// which this process listens.
func setScene() (s sandbox.Scene, tearDown func(), err error) {
	folder, err := os.MkdirTemp("", "serve-sandbox-*")
	if err != nil {
		return s, nil, err
	}
	s.Process = os.Getpid()
	s.Folder = folder
	s.File = filepath.Join(folder, "file")
	s.Socket = filepath.Join(folder, "socket")

	err = os.WriteFile(s.File, []byte("text"), 0o600)
	local, noLocal := net.Listen("unix", s.Socket)
	web, noWeb := net.Listen("tcp", "127.0.0.1:0")
	tearDown = func() {
		if local != nil {
			local.Close()
		}
		if web != nil {
			web.Close()
		}
		_ = os.RemoveAll(folder)
	}

	if err := errors.Join(err, noLocal, noWeb); err != nil {
		tearDown()
		return s, nil, err
	}
	s.Address = web.Addr().String()
	return s, tearDown, nil
}
