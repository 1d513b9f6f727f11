package registry

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// TestList lists the servers that run, and forgets those that were killed.
func TestList(t *testing.T) {
	home := t.TempDir()
	if list, err := List(home); err != nil || len(list) > 0 {
		t.Fatalf("none was added: %v, %v", list, err)
	}

	server := Server{PID: os.Getpid(), URL: "http://" + Address(&net.TCPAddr{IP: net.IPv4zero, Port: 8080})}
	remove, err := Add(home, server)
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(home, folder, "999999999-1.json")
	if err := os.WriteFile(dead, []byte(`{"pid":999999999,"url":"http://127.0.0.1:1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := List(home)
	server.Started = startOf(os.Getpid())
	if err != nil || len(list) != 1 || list[0] != server || server.URL != "http://127.0.0.1:8080" {
		t.Errorf("got %+v, %v", list, err)
	}
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("the killed server's file is still there: %v", err)
	}

	remove()
	if list, err := List(home); err != nil || len(list) > 0 {
		t.Errorf("it was removed: %v, %v", list, err)
	}
}

// TestReusedPID forgets a server whose process ID belongs to another process now, which may let anybody have its port.
func TestReusedPID(t *testing.T) {
	if startOf(os.Getpid()) == "" {
		t.Skip("this system does not tell when a process was started")
	}
	home := t.TempDir()
	if _, err := Add(home, Server{PID: os.Getpid(), URL: "http://127.0.0.1:8080"}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(home, folder, fmt.Sprintf("%d-8080.json", os.Getpid()))
	for _, started := range []string{"", startOf(os.Getppid())} {
		text := fmt.Sprintf(`{"pid":%d,"started":%q,"url":"http://127.0.0.1:8080"}`, os.Getpid(), started)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if list, err := List(home); err != nil || len(list) > 0 {
			t.Errorf("started %q: %+v, %v", started, list, err)
		}
	}
}

// TestAddress never is a name, which may have an address that belongs to another program.
func TestAddress(t *testing.T) {
	for text, want := range map[string]string{
		"0.0.0.0:1":    "127.0.0.1:1",
		"[::]:1":       "127.0.0.1:1",
		"127.0.0.1:1":  "127.0.0.1:1",
		"192.0.2.1:80": "192.0.2.1:80",
	} {
		address := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(text))
		if got := Address(address); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
}
