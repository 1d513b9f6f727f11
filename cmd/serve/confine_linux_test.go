package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
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
