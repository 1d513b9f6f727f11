// Package registry finds the servers that run on this machine: each has a file while it
// runs.
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

// folder is the folder of these files, in the home folder.
const folder = "run"

// Server is a server that can be reached.
type Server struct {
	PID int `json:"pid"` // 0 for one that is not in the registry, but was named by its URL
	// Started is when the process was started, as startOf writes it: a process ID is used again. Add sets it.
	Started     string `json:"started"`
	URL         string `json:"url"`
	Fingerprint string `json:"fingerprint,omitempty"` // SHA-256 of its certificate, as certs.Fingerprint writes it
}

// Add registers a server of this process, and returns a function that removes it again. A server that is added again
// replaces the entry with the same port.
func Add(home string, s Server) (remove func(), err error) {
	u, err := ParseURL(s.URL)
	if err != nil {
		return nil, err
	}
	s.Started = startOf(s.PID)
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}

	dir := filepath.Join(home, folder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, fmt.Sprintf("%d-%s.json", s.PID, u.Port()))

	// Written atomically: List removes files that it cannot read as leftovers of killed servers.
	if err := hub.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return nil, err
	}
	return func() { os.Remove(path) }, nil
}

// Address returns the address that a client on this machine uses.
func Address(address net.Addr) string {
	tcp, ok := address.(*net.TCPAddr)
	switch {
	case !ok:
		return address.String()
	case tcp.IP.IsUnspecified():
		// Not localhost, whose IPv6 address another user's program may have where the server has none. Go listens on
		// both, if there are both.
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	return tcp.String()
}

// List returns the running servers, and removes the files of servers that were killed. Nobody else can have the port of
// one that is listed: it has it as long as it is registered. So clients may send it their key.
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
		if json.Unmarshal(text, &s) != nil || !isRunning(s.PID) || s.Started != startOf(s.PID) {
			os.Remove(path)
			continue
		}
		list = append(list, s)
	}
	return list, nil
}

// Owner returns the process ID of the server in a list that listens on a port.
func Owner(list []Server, port int) (pid int, found bool) {
	for _, s := range list {
		if strings.HasSuffix(s.URL, ":"+strconv.Itoa(port)) {
			return s.PID, true
		}
	}
	return 0, false
}

// isRunning reports whether a process exists, whoever owns it.
func isRunning(pid int) bool {
	if pid <= 0 {
		return false
	}
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
