package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"serve/hub"
)

// instance is a serve that runs on this machine, as others find it: in a file of
// SERVE_HOME/run named by its process.
type instance struct {
	PID int    `json:"pid"`
	URL string `json:"url"`
}

// register makes this serve known, and returns what takes that back.
func register(home string, address net.Addr) (forget func(), err error) {
	in := instance{PID: os.Getpid(), URL: "http://" + reachable(address)}
	text, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(home, "run")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address.String())
	path := filepath.Join(folder, fmt.Sprintf("%d-%s.json", in.PID, port))
	// Whole or not at all: what ps cannot read, it takes for the rest of a killed serve.
	if err := hub.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return nil, err
	}
	return func() { os.Remove(path) }, nil
}

// reachable is an address as a client on this machine writes it.
func reachable(address net.Addr) string {
	tcp, ok := address.(*net.TCPAddr)
	switch {
	case !ok:
		return address.String()
	case tcp.IP.IsUnspecified():
		return net.JoinHostPort("localhost", strconv.Itoa(tcp.Port))
	}
	return tcp.String()
}

// instances lists those that run, and forgets those that were killed.
func instances(home string) ([]instance, error) {
	folder := filepath.Join(home, "run")
	entries, err := os.ReadDir(folder)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var list []instance
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		text, err := os.ReadFile(path)
		if err != nil || !strings.HasSuffix(path, ".json") {
			continue
		}
		var in instance
		if json.Unmarshal(text, &in) != nil || !runs(in.PID) {
			os.Remove(path)
			continue
		}
		list = append(list, in)
	}
	return list, nil
}

// runs reports whether there is such a process, of anyone's.
func runs(pid int) bool {
	if pid <= 0 {
		return false
	}
	err := syscall.Kill(pid, 0)
	return err == nil || err == syscall.EPERM
}
