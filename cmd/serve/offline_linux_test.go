package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"serve/doctor"
)

// filtered is the status of a thread whose system calls are filtered.
var filtered = regexp.MustCompile(`(?m)^Seccomp:\s2$`)

// filters returns the number of filters that decide on the calls of each thread of a process.
func filters(t *testing.T, pid int) (counts []string) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("process %d has no threads: %v", pid, err)
	}
	for _, path := range threads {
		status, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue // the thread has ended
		}
		if err != nil || !filtered.Match(status) {
			t.Errorf("%s: its calls are not filtered: %v\n%s", path, err, status)
		}
		counts = append(counts, string(regexp.MustCompile(`(?m)^Seccomp_filters:\s\d+$`).Find(status)))
	}
	return counts
}

// TestOfflineIsEnforced looks at the threads of a server with --offline, and asks it by commands with --offline.
func TestOfflineIsEnforced(t *testing.T) {
	environ, _ := homeOf(t)
	environ[0] = "SERVE_HOME=" + testHome // where the kernels have been measured
	socket := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()

	cmd := process(t, append(slices.Clone(environ), "NOTIFY_SOCKET="+socket), modelFile(t), "--offline", "--port", "0",
		"--ctx-size", "128")
	said := newSyncBuffer()
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	url, end, ok := awaitReady(said, ended)
	if !ok {
		t.Fatal(end, said)
	}
	if text := said.String(); strings.Contains(text, "not fully enforced") || strings.Contains(text, "could not be done") {
		t.Errorf("it warns:\n%s", text)
	}

	// One filter of the start, and one since it listens; the engine has one more.
	for _, count := range filters(t, cmd.Process.Pid) {
		if count != "" && !strings.HasSuffix(count, "\t2") {
			t.Errorf("a thread of the server: %s", count)
		}
	}
	s := &soaked{cmd: cmd}
	for _, count := range filters(t, s.engine()) {
		if count != "" && !strings.HasSuffix(count, "\t3") {
			t.Errorf("a thread of the engine: %s", count)
		}
	}

	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"ps"}, "tiny"},
		{[]string{"ps", "--url", url}, "tiny"},
		{[]string{"ps", "--url", strings.Replace(url, "127.0.0.1", "localhost", 1)}, "tiny"},
		{[]string{"chat", "--url", url, "--param", "max_tokens=4", "--param", "temperature=0", "hello"}, ""},
		{[]string{"list", "--json"}, "["},
	} {
		asked := process(t, environ, append(c.args, "--offline")...)
		out, err := asked.Output()
		if err != nil || !strings.Contains(string(out), c.want) || len(out) == 0 {
			t.Errorf("serve %v: %v %q", c.args, err, out)
		}
	}
	remote := process(t, environ, "ps", "--url", "http://192.0.2.1", "--offline")
	if out, err := remote.CombinedOutput(); err == nil || !strings.Contains(string(out), "forbids") {
		t.Errorf("another machine: %v %s", err, out)
	}

	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err, said)
	}
	var text [64]byte
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		if n, err := manager.Read(text[:]); err != nil || string(text[:n]) != want {
			t.Errorf("the service manager is told %q, %v; want %s", text[:n], err, want)
		}
	}
}

// TestDoctorEgress has doctor try every way from a restricted server and its engine.
func TestDoctorEgress(t *testing.T) {
	environ, _ := homeOf(t)
	out, err := process(t, environ, "doctor", "--egress", "--json", "--offline").Output()
	var list []doctor.Finding
	if failed := json.Unmarshal(out, &list); err != nil || failed != nil {
		t.Fatal(err, failed, string(out))
	}

	ways := 0
	for _, f := range list {
		if f.Severity != doctor.Fine {
			t.Errorf("%+v", f)
		}
		if f.About == "egress" {
			ways++
		}
		if strings.HasPrefix(f.Seen, "TCP over IPv4:") && (!strings.Contains(f.Seen, "without --offline: done") ||
			!strings.Contains(f.Seen, "engine: refused")) {
			t.Errorf("there is nothing to compare with: %s", f.Seen)
		}
	}
	if ways < 18 {
		t.Errorf("%d ways:\n%s", ways, out)
	}
}
