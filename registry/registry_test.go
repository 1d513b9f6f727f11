package registry

import (
	"net"
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
	if err != nil || len(list) != 1 || list[0] != server || server.URL != "http://localhost:8080" {
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
