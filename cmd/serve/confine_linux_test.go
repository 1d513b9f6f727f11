package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// beForbidden is what this program does as a child of TestForbidNetwork: it says which
// sockets it can open, on threads that were there before and on new ones.
func beForbidden() {
	var wg sync.WaitGroup
	start := make(chan struct{})
	results := make(chan string, 64)
	try := func() {
		runtime.LockOSThread()
		_, dial := net.Dial("tcp", "127.0.0.1:9")
		_, dial6 := net.Dial("udp", "[::1]:9")
		if !errors.Is(dial, unix.EACCES) || !errors.Is(dial6, unix.EACCES) {
			results <- fmt.Sprint("a network can be reached: ", dial, dial6)
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			results <- fmt.Sprint("a socket of this machine cannot be opened: ", err)
		}
		unix.Close(fd)
	}
	for range 8 {
		wg.Go(func() {
			runtime.LockOSThread()
			<-start
			try()
		})
	}
	if err := forbidNetwork(); err != nil {
		fmt.Println("cannot confine: ", err)
		os.Exit(1)
	}
	close(start)
	for range 8 {
		wg.Go(try)
	}
	wg.Wait()
	close(results)
	for r := range results {
		fmt.Println(r)
	}
	os.Exit(0)
}

func TestForbidNetwork(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "TEST_FORBIDDEN=1")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v %s", err, out)
	}
	// And the engine is such a process.
	r := startServe(t, modelFile(t), "--ctx-size", "128")
	s := &soaked{cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.engine()))
	if err != nil {
		t.Fatal(err, r.errOut)
	}
	for _, want := range []string{`(?m)^NoNewPrivs:\s1$`, `(?m)^Seccomp:\s2$`} {
		if !regexp.MustCompile(want).Match(status) {
			t.Errorf("the engine's process has not %s:\n%s", want, status)
		}
	}
}

// beConfined is what this program does as a child of TestConfineFiles: it says what it can
// do that it should not, and cannot that it should.
func beConfined() {
	model, other := os.Getenv("TEST_MODEL"), os.Getenv("TEST_OTHER")
	expect := func(what string, err error, allowed bool) {
		if allowed && err != nil || !allowed && !errors.Is(err, unix.EACCES) {
			fmt.Printf("%s: %v\n", what, err)
		}
	}
	read := func(path string) error { _, err := os.ReadFile(path); return err }
	expect("read the model", read(model), true)
	expect("read what belongs to the system", read("/etc/passwd"), true)
	expect("read another file", read(other), false)
	expect("write the model", os.WriteFile(model, nil, 0o600), false)
	expect("write another file", os.WriteFile(other, nil, 0o600), false)
	expect("make a file", os.WriteFile(other+"2", nil, 0o600), false)
	expect("remove a file", os.Remove(other), false)
	_, err := os.ReadDir(filepath.Dir(other))
	expect("list a folder", err, false)
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	expect("use a device", err, true)
	null.Close()
	os.Exit(0)
}

func TestConfineFiles(t *testing.T) {
	if _, err := landlockVersion(); err != nil {
		t.Skip(err)
	}
	folder := t.TempDir()
	model, other := filepath.Join(folder, "model"), filepath.Join(folder, "other")
	for _, path := range []string{model, other} {
		if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "TEST_CONFINED=1", "TEST_MODEL="+model, "TEST_OTHER="+other)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	loose, err := startConfined(cmd, []string{model})
	if err != nil || loose != nil {
		t.Fatal(loose, err)
	}
	if err := cmd.Wait(); err != nil || out.Len() > 0 {
		t.Errorf("%v\n%s", err, out.String())
	}
	// This process is as free as before.
	if err := os.WriteFile(other, []byte("more"), 0o600); err != nil {
		t.Error(err)
	}
}
