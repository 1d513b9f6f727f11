// Package registry is how a program finds the servers that run on this machine: each keeps a file
// while it does.
package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"serve/hub"
)

// folder is that of the files, below the home folder.
const folder = "run"

// Server is one that runs on this machine.
type Server struct {
	PID int    `json:"pid"`
	URL string `json:"url"`
}

// Add makes this process's server known, and returns what takes that back.
func Add(home string, address net.Addr) (remove func(), err error) {
	s := Server{PID: os.Getpid(), URL: "http://" + Address(address)}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}

	dir := filepath.Join(home, folder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address.String())
	path := filepath.Join(dir, fmt.Sprintf("%d-%s.json", s.PID, port))

	// Whole or not at all: what List cannot read, it takes for what a killed server left.
	if err := hub.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return nil, err
	}
	return func() { os.Remove(path) }, nil
}

// Address returns an address as a client on this machine writes it.
func Address(address net.Addr) string {
	tcp, ok := address.(*net.TCPAddr)
	switch {
	case !ok:
		return address.String()
	case tcp.IP.IsUnspecified():
		return net.JoinHostPort("localhost", strconv.Itoa(tcp.Port))
	}
	return tcp.String()
}

// List returns the servers that run, and removes the files of those that were killed.
func List(home string) ([]Server, error) {
	dir := filepath.Join(home, folder)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}

	var list []Server
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		text, err := os.ReadFile(path)
		if err != nil || !strings.HasSuffix(path, ".json") {
			continue
		}
		var s Server
		if json.Unmarshal(text, &s) != nil || !isRunning(s.PID) {
			os.Remove(path)
			continue
		}
		list = append(list, s)
	}
	return list, nil
}

// Owner returns the process of a server in a list that listens on a port.
func Owner(list []Server, port int) (pid int, found bool) {
	for _, s := range list {
		if strings.HasSuffix(s.URL, ":"+strconv.Itoa(port)) {
			return s.PID, true
		}
	}
	return 0, false
}

// isRunning reports whether there is such a process, whoever's it is.
func isRunning(pid int) bool {
	if pid <= 0 {
		return false
	}
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
