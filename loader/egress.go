package loader

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"serve/sandbox"
)

// EgressReport says what came of trying to reach somebody from where nobody can be reached.
type EgressReport struct {
	Free       []sandbox.Result // of this process, which may
	Server     []sandbox.Result // of one that is restricted as a server with --offline
	Engine     []sandbox.Result // of an engine that it started
	Unenforced string           // what the kernel does not enforce; empty if it enforces all
	Answered   bool             // a client of the restricted process had an answer
	Arrived    int              // attempts of the restricted processes that arrived
}

// egressOrder is what a process of FlagEgress is to do.
type egressOrder struct {
	Scene  sandbox.NetworkScene
	Engine bool   // it is an engine
	Brief  bool   // it only restricts itself
	Home   string // of Workers
}

// egressLine is the report of such a process.
type egressLine struct {
	Results    []sandbox.Result
	Engine     []sandbox.Result
	Unenforced string
	Asked      string // what a client has sent
}

// Texts of the client of the restricted process, and of its answer.
const (
	egressQuestion = "hello"
	egressAnswer   = "answer"
)

// CheckEgress starts a process that is restricted as a server with --offline, which starts an engine, and has both try
// to reach sockets of this process in every way. This process tries the same before, so that a refusal is known to be
// the restriction's.
func (w *Workers) CheckEgress(ctx context.Context) (r EgressReport, err error) {
	scene, err := newNetworkScene()
	if err != nil {
		return r, err
	}
	defer scene.close()
	r.Free = sandbox.ProbeNetwork(scene.NetworkScene)
	scene.settle()
	before := scene.arrived()

	c, served, err := scene.client()
	if err != nil {
		return r, err
	}
	defer c.Close()
	defer served.Close()
	cmd, _, err := w.command(quiet(FlagEgress)...)
	if err != nil {
		return r, err
	}
	text, err := json.Marshal(egressOrder{Scene: scene.NetworkScene, Home: w.home})
	if err != nil {
		return r, err
	}
	cmd.Stdin = bytes.NewReader(text)
	cmd.ExtraFiles = []*os.File{served}

	ctx, cancel := context.WithTimeout(ctx, sandboxTime)
	defer cancel()
	var line egressLine
	if err := output(ctx, cmd, &line); err != nil {
		return r, err
	}

	answer := make([]byte, len(egressAnswer))
	_, err = io.ReadFull(c, answer)
	r.Answered = err == nil && string(answer) == egressAnswer && line.Asked == egressQuestion
	r.Server = line.Results
	r.Engine = line.Engine
	r.Unenforced = line.Unenforced
	scene.settle()
	r.Arrived = scene.arrived() - before
	return r, nil
}

// CheckOffline returns what of --offline the kernel does not enforce; empty if it enforces all.
func (w *Workers) CheckOffline(ctx context.Context) (unenforced string, err error) {
	cmd, _, err := w.command(quiet(FlagEgress)...)
	if err != nil {
		return "", err
	}
	cmd.Stdin = strings.NewReader(`{"Brief": true}`)
	ctx, cancel := context.WithTimeout(ctx, sandboxTime)
	defer cancel()
	var line egressLine
	err = output(ctx, cmd, &line)
	return line.Unenforced, err
}

// WriteEgress tries to reach others, in a process that CheckEgress starts, and in an engine that this one starts.
func WriteEgress(h *Hardware, in io.Reader, out io.Writer) error {
	var order egressOrder
	if err := json.NewDecoder(in).Decode(&order); err != nil {
		return errParent(err)
	}
	var line egressLine
	var err error
	switch {
	case order.Brief:
		line.restrict(h)
	case order.Engine:
		if err := sandbox.Seal(); err != nil {
			line.Unenforced = oneLine(err)
		}
		line.Results = sandbox.ProbeNetwork(order.Scene)
	default:
		err = line.serve(h, order)
	}
	return errors.Join(err, json.NewEncoder(out).Encode(line))
}

// serve does what a server with --offline does about the network, and tries.
func (l *egressLine) serve(h *Hardware, order egressOrder) error {
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return errParent(err)
	}
	defer listener.Close()
	l.restrict(h)
	if err := l.engine(h, order); err != nil {
		return fmt.Errorf("an engine: %w", err)
	}
	return l.answer(listener, order.Scene)
}

// restrict restricts this process as a server, in the same steps.
func (l *egressLine) restrict(h *Hardware) {
	devices := len(h.Backends()) > 0
	for _, step := range []sandbox.Offline{{Listens: true, Devices: devices}, {Devices: devices}} {
		if err := sandbox.Disconnect(step); err != nil {
			l.Unenforced = oneLine(err)
		}
	}
}

// engine starts an engine that tries.
func (l *egressLine) engine(h *Hardware, order egressOrder) error {
	w := NewWorkers(h, os.Environ(), order.Home)
	cmd, cache, err := w.command(quiet(FlagEgress)...)
	if err != nil {
		return err
	}
	order.Engine = true
	text, err := json.Marshal(order)
	if err != nil {
		return err
	}
	cmd.Stdin = bytes.NewReader(text)

	ctx, cancel := context.WithTimeout(context.Background(), sandboxTime)
	defer cancel()
	out, _, err := confined(ctx, cmd, w.rules(cache))
	var said egressLine
	if err == nil {
		err = json.Unmarshal(out, &said)
	}
	l.Engine = said.Results
	return err
}

// answer answers a client, and tries.
func (l *egressLine) answer(listener net.Listener, scene sandbox.NetworkScene) error {
	c, err := listener.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	question := make([]byte, len(egressQuestion))
	if _, err := io.ReadFull(c, question); err != nil {
		return err
	}
	l.Asked = string(question)
	if _, err := io.WriteString(c, egressAnswer); err != nil {
		return err
	}

	file, err := c.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	defer file.Close()
	scene.Accepted = int(file.Fd())
	l.Results = sandbox.ProbeNetwork(scene)
	return nil
}

// networkSceneName begins the names of sockets that have no path.
func networkSceneName(folder string) string { return "@" + filepath.Base(folder) }
