// Package launch starts servers that are measured or tried: serve, and others with OpenAI's API.
package launch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"serve/loadgen"
)

// Server is a server under measurement.
type Server struct {
	Name    string
	Client  *loadgen.Client
	Model   string       // its name of the model
	Crash   func() error // ends what computes as a crash does, and returns when the server is ready again
	Restart func() error // stops the server in order, starts it, and returns when it is ready
	Stop    func()
	Log     func() string // the last of what it wrote
}

// Command is how a server is started. It is given a port besides.
type Command struct {
	Name string
	Path string
	Args []string
	Env  []string // besides this process's
}

// process is a server's process.
type process struct {
	command Command
	url     string
	cmd     *exec.Cmd
	log     *output
	done    chan struct{} // closed when it has ended
}

// output is what a process writes: its last part, which says why it ended.
type output struct {
	mu   sync.Mutex
	last []byte
}

func (o *output) Write(b []byte) (int, error) {
	const enough = 64 << 10
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = append(o.last, b...)
	o.last = bytes.Clone(o.last[max(0, len(o.last)-enough):])
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.last)
}

// Start starts a server on a free port, and returns when it is ready.
func (c Command) Start() (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	c.Args = slices.Concat(c.Args, []string{"--port", port})
	p := &process{command: c, url: "http://127.0.0.1:" + port}
	if err := p.start(); err != nil {
		return nil, err
	}

	s := &Server{
		Name:   c.Name,
		Client: &loadgen.Client{URL: p.url, HTTP: loadgen.NewHTTP(&http.Transport{})},
		Stop:   p.kill,
		Log:    func() string { return p.log.String() },
	}
	s.Crash = func() error {
		p.kill()
		return p.start()
	}
	s.Restart = func() error {
		p.end(os.Interrupt)
		return p.start()
	}

	list, err := s.Client.Models(context.Background())
	if err == nil && len(list) == 0 {
		err = errors.New("it has no model")
	}
	if err != nil {
		p.kill()
		return nil, err
	}
	s.Model = list[0]
	return s, nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// patience is how long a server may take until it is ready: a large model is read from the disk.
const patience = 5 * time.Minute

// start starts the process, and returns when the server is ready.
func (p *process) start() error {
	p.log = &output{}
	p.cmd = exec.Command(p.command.Path, p.command.Args...)
	p.cmd.Env = append(os.Environ(), p.command.Env...)
	p.cmd.Stdout = p.log
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.done = make(chan struct{})
	go func() {
		_ = p.cmd.Wait() // its log says why it ended
		close(p.done)
	}()

	if await(p.ready, p.done) {
		return nil
	}
	p.kill()
	return fmt.Errorf("it does not get ready: %s", p.log)
}

func (p *process) ready() bool {
	res, err := http.Get(p.url + "/health")
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// await polls until something is so, and reports whether it is. It gives up when done is closed, which may be nil.
func await(so func() bool, done <-chan struct{}) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !so() {
		select {
		case <-tick.C:
		case <-done:
			return false
		case <-late:
			return false
		}
	}
	return true
}

func (p *process) kill() { p.end(os.Kill) }

// end sends a signal, and returns when the process has ended.
func (p *process) end(signal os.Signal) {
	_ = p.cmd.Process.Signal(signal) // it may have ended
	<-p.done
}

// CrashEngine kills the process in which serve computes, and waits for the next one.
func (s *Server) CrashEngine() error {
	before, err := s.EngineProcess()
	if err != nil {
		return err
	}
	if before == 0 {
		return errors.New("/status names no process of an engine")
	}
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		return err
	}

	again := func() bool {
		now, err := s.EngineProcess()
		return err == nil && now != before && now != 0
	}
	if !await(again, nil) {
		return errors.New("the engine was killed, and none came back")
	}
	return nil
}

// EngineProcess returns the process in which serve computes; 0 while there is none that is ready.
func (s *Server) EngineProcess() (int, error) {
	res, err := s.Client.HTTP.Get(strings.TrimSuffix(s.Client.URL, "/v1") + "/status")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var status struct {
		Models []struct {
			State   string
			Process int
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&status); err != nil {
		return 0, fmt.Errorf("/status: %w", err)
	}
	if len(status.Models) == 0 || status.Models[0].State != "ready" {
		return 0, nil
	}
	return status.Models[0].Process, nil
}
