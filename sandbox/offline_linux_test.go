//go:build amd64 || arm64

package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// networkStage opens the sockets of a scene, and returns what has arrived at them besides questions for names.
func networkStage(t *testing.T) (s NetworkScene, arrived func() int) {
	t.Helper()
	folder, err := os.MkdirTemp("", "serve-network-*")
	if err == nil {
		err = os.Chmod(folder, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })

	var mu sync.Mutex
	count := 0
	add := func() {
		mu.Lock()
		defer mu.Unlock()
		count++
	}
	stream := func(network, address string) string {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Logf("no %s: %v", network, err)
			return ""
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				add()
				c.Close()
			}
		}()
		return l.Addr().String()
	}
	packets := func(network, address string) string {
		c, err := net.ListenPacket(network, address)
		if err != nil {
			t.Logf("no %s: %v", network, err)
			return ""
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			var b [512]byte
			for {
				n, from, err := c.ReadFrom(b[:])
				if err != nil {
					return
				}
				add()
				if n > 12 { // a question: there is no such name
					b[2] |= 0x80
					b[3] = 3
					_, _ = c.WriteTo(b[:n], from)
				}
			}
		}()
		return c.LocalAddr().String()
	}

	name := fmt.Sprintf("@serve-test-%d-%s", os.Getpid(), filepath.Base(folder))
	s = NetworkScene{
		TCP:      stream("tcp", "127.0.0.1:0"),
		TCP6:     stream("tcp", "[::1]:0"),
		UDP:      packets("udp", "127.0.0.1:0"),
		UDP6:     packets("udp", "[::1]:0"),
		Unix:     stream("unix", filepath.Join(folder, "socket")),
		Abstract: stream("unix", name),
		Datagram: packets("unixgram", name+"-packets"),
	}
	if s.TCP == "" || s.UDP == "" || s.Unix == "" || s.Abstract == "" || s.Datagram == "" {
		t.Fatalf("the scene is not complete: %+v", s)
	}
	if err := os.Chmod(s.Unix, 0o777); err != nil {
		t.Fatal(err)
	}
	return s, func() int {
		mu.Lock()
		defer mu.Unlock()
		return count
	}
}

// offlineReport is what a process of TestOffline tells.
type offlineReport struct {
	Results map[string][]Result // by where they were tried
	Served  string              // what a client of it has sent
	Failed  string
}

func init() { children["offline"] = tryOffline }

// tryOffline is what this program does as a child of TestOffline: it listens as a server, disconnects itself in steps,
// and tries all ways in each, on threads that were there before, on new ones, and in a process that it starts.
func tryOffline(arguments []string) int {
	var r offlineReport
	if err := r.run(arguments[0], arguments[1]); err != nil {
		r.Failed = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return 1
	}
	return 0
}

func (r *offlineReport) run(text, how string) error {
	var s NetworkScene
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	r.Results = map[string][]Result{}
	if how == "child" {
		r.Results["child"] = ProbeNetwork(s)
		return nil
	}
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}

	// A thread from before.
	begin := make(chan struct{})
	tried := make(chan []Result)
	go func() {
		runtime.LockOSThread()
		<-begin
		tried <- ProbeNetwork(s)
	}()

	if how == "offline" {
		if err := Disconnect(Offline{Listens: true}); err != nil {
			return err
		}
	}
	r.Results["start"] = ProbeNetwork(s)
	local, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("it may still listen: %w", err)
	}
	local.Close()

	if how == "offline" {
		if err := Disconnect(Offline{}); err != nil {
			return err
		}
		if local, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
			local.Close()
			return errors.New("it may still open sockets of TCP")
		}
	}
	return r.afterwards(listener, s, text, func() []Result { close(begin); return <-tried })
}

// afterwards tries all where there are no more sockets to be had, and answers a client.
func (r *offlineReport) afterwards(l net.Listener, s NetworkScene, text string, onOldThread func() []Result) error {
	r.Results["old thread"] = onOldThread()

	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return fmt.Errorf("an engine's sockets: %w", err)
	}
	unix.Close(fds[0])
	unix.Close(fds[1])

	out, err := exec.Command("/proc/self/exe", "offline", text, "child").Output()
	if err != nil {
		return fmt.Errorf("a child: %w", err)
	}
	var child offlineReport
	if err := json.Unmarshal(out, &child); err != nil || child.Failed != "" {
		return fmt.Errorf("a child: %w, %s", err, child.Failed)
	}
	r.Results["child"] = child.Results["child"]

	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	var question [5]byte
	if _, err := io.ReadFull(c, question[:]); err != nil {
		return err
	}
	r.Served = string(question[:])
	if _, err := c.Write([]byte("answer")); err != nil {
		return err
	}

	file, err := c.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	defer file.Close()
	s.Accepted = int(file.Fd())
	r.Results["end"] = ProbeNetwork(s)
	return nil
}

// TestOffline has a process without connections try all ways to reach somebody, each of which the kernel refuses, while
// its clients are answered; and, so that this is known to be the filter's work, one that was not disconnected, whose
// attempts arrive.
func TestOffline(t *testing.T) {
	program := copyProgram(t)
	for name, user := range users() {
		for _, how := range []string{"offline", "connected"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				scene, arrived := networkStage(t)
				r := playOffline(t, program, user, scene, how)
				places := []string{"start", "old thread", "child", "end"}
				for _, place := range places {
					checkWays(t, place, r.Results[place], how == "offline", user != nil || os.Geteuid() != 0)
				}
				if got := arrived(); (got > 0) == (how == "offline") {
					t.Errorf("%d attempts arrived", got)
				}
			})
		}
	}
}

// checkWays checks the results of a probe.
func checkWays(t *testing.T, place string, results []Result, offline, unprivileged bool) {
	t.Helper()
	if len(results) < len(outwards)-3 { // IPv6 twice, a client's connection
		t.Errorf("%s: %d results of %d ways", place, len(results), len(outwards))
	}
	for _, r := range results {
		i := slices.IndexFunc(outwards, func(o outward) bool { return o.name == r.Act })
		mayFail := outwards[i].lacking || outwards[i].privileged && unprivileged
		switch {
		case offline && !r.Refused:
			t.Errorf("%s: %s is not refused: %s", place, r.Act, r.Said)
		case !offline && r.Refused && !mayFail:
			t.Errorf("%s: %s is refused by the kernel alone: %s", place, r.Act, r.Said)
		}
	}
}

// playOffline starts a process that tries, and is its client.
func playOffline(
	t *testing.T, program string, user *syscall.Credential, scene NetworkScene, how string,
) (r offlineReport) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	text, err := json.Marshal(scene)
	if err != nil {
		t.Fatal(err)
	}

	c, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	cmd, out := child(program, user, "offline", string(text), how)
	cmd.ExtraFiles = []*os.File{file}
	if err := cmd.Run(); err != nil {
		t.Fatal(err, out)
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || r.Failed != "" {
		t.Fatal(err, r.Failed, out)
	}
	var answer bytes.Buffer
	if _, err := io.CopyN(&answer, c, 6); err != nil || answer.String() != "answer" || r.Served != "hello" {
		t.Errorf("a client: %q, %v, %q", r.Served, err, &answer)
	}
	return r
}

// TestOfflineFilter decides on calls that a probe does not make.
func TestOfflineFilter(t *testing.T) {
	server := Offline{Listens: true}
	closed := Offline{}
	devices := Offline{Devices: true}
	eperm := seccompErrno | uint32(unix.EPERM)
	enosys := seccompErrno | uint32(unix.ENOSYS)
	arch := arches[runtime.GOARCH]

	for _, c := range []struct {
		name      string
		rules     Offline
		mps       bool
		arch      uint32
		number    uint32
		arguments []uint64
		want      uint32
	}{
		{"read", closed, false, arch, unix.SYS_READ, nil, seccompAllow},
		{"accept", closed, false, arch, unix.SYS_ACCEPT4, nil, seccompAllow},
		{"a process", closed, false, arch, unix.SYS_CLONE, []uint64{uint64(unix.SIGCHLD)}, seccompAllow},
		{"connect", server, false, arch, unix.SYS_CONNECT, nil, eperm},
		{"connect to MPS", devices, true, arch, unix.SYS_CONNECT, nil, seccompAllow},
		{"send", closed, false, arch, unix.SYS_SENDTO, []uint64{3, 1, 1, unix.MSG_NOSIGNAL, 0, 0}, seccompAllow},
		{"send to an address", closed, false, arch, unix.SYS_SENDTO, []uint64{3, 1, 1, 0, 0x7fff0010, 16}, eperm},
		{"send to an address whose lower half is zero", closed, false, arch, unix.SYS_SENDTO,
			[]uint64{3, 1, 1, 0, 0x7f_0000_0000, 16}, eperm},
		{"fast open", closed, false, arch, unix.SYS_SENDMSG, []uint64{3, 1, unix.MSG_FASTOPEN | unix.MSG_NOSIGNAL}, eperm},
		{"fast open to nobody", closed, false, arch, unix.SYS_SENDTO, []uint64{3, 1, 1, unix.MSG_FASTOPEN, 0, 0}, eperm},
		{"a message", closed, false, arch, unix.SYS_SENDMSG, []uint64{3, 1, unix.MSG_NOSIGNAL}, seccompAllow},
		{"TCP, to listen", server, false, arch, unix.SYS_SOCKET, []uint64{unix.AF_INET6, unix.SOCK_STREAM |
			unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK, unix.IPPROTO_MPTCP}, seccompAllow},
		{"TCP, not to listen", closed, false, arch, unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_STREAM, 0}, eperm},
		{"SCTP", server, false, arch, unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}, eperm},
		{"UDP", server, false, arch, unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_DGRAM, 0}, eperm},
		{"UNIX", server, false, arch, unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_STREAM, 0}, seccompAllow},
		{"UNIX, for drivers", devices, false, arch, unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_SEQPACKET, 0},
			seccompAllow},
		{"UNIX, not needed", closed, false, arch, unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_STREAM, 0}, eperm},
		{"UNIX datagrams", devices, false, arch, unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_DGRAM, 0}, eperm},
		{"a pair", closed, false, arch, unix.SYS_SOCKETPAIR, []uint64{unix.AF_UNIX, unix.SOCK_STREAM, 0}, seccompAllow},
		{"a pair for datagrams", closed, false, arch, unix.SYS_SOCKETPAIR, []uint64{unix.AF_UNIX, unix.SOCK_DGRAM, 0}, eperm},
		{"addresses", closed, false, arch, unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE},
			seccompAllow},
		{"packets", server, false, arch, unix.SYS_SOCKET, []uint64{unix.AF_PACKET, unix.SOCK_RAW, 0}, eperm},
		{"io_uring", server, false, arch, unix.SYS_IO_URING_SETUP, nil, enosys},
		{"another architecture's", closed, false, unix.AUDIT_ARCH_I386, unix.SYS_READ, nil, enosys},
		{"x32's", closed, false, arch, 0x40000000 | unix.SYS_READ, nil, enosys},
		{"one that nobody knows", closed, false, arch, lastKnown + 1, nil, enosys},
	} {
		filter, err := offlineFilter(runtime.GOARCH, c.rules, c.mps)
		if err != nil {
			t.Fatal(err)
		}
		if got := decide(t, filter, c.arch, c.number, c.arguments...); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}

	if _, err := offlineFilter("riscv64", closed, false); err == nil || !strings.Contains(err.Error(), "not supported") {
		t.Errorf("an architecture without lists: %v", err)
	}
}
