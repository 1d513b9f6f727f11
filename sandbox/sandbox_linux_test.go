package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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

// TestMain lets this binary be what a test starts: a process that tries one act, all acts of a
// probe, or to reach a network on many threads.
func TestMain(m *testing.M) {
	Enter()
	if len(os.Args) > 1 {
		if child := children[os.Args[1]]; child != nil {
			os.Exit(child(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// children are what this program is if its first argument says so.
var children = map[string]func(arguments []string) int{
	"act":     tryAct,
	"probe":   tryAll,
	"threads": tryThreads,
}

// need is something that an engine does, and that must succeed in the sandbox.
type need struct {
	name string
	do   func(folder string) error

	devices bool // only engines that use devices need it: others are refused it
}

// nameThread opens another thread's name below a folder of /proc, as CUDA's driver does.
func nameThread(process string) error {
	ids := make(chan int)
	end := make(chan struct{})
	defer close(end)
	go func() {
		runtime.LockOSThread()
		ids <- unix.Gettid()
		<-end
	}()

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	other := <-ids
	if other == unix.Gettid() {
		return errors.New("it is the same thread")
	}

	path := fmt.Sprintf("/proc/%s/task/%d/comm", process, other)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.WriteString("cuda00001"); err != nil {
		return err
	}

	name, err := os.ReadFile(path)
	if err == nil && string(name) != "cuda00001\n" {
		err = fmt.Errorf("the thread is called %q", name)
	}
	return err
}

// useMemory makes a file that is nowhere, and writes to it.
func useMemory(string) error {
	fd, err := unix.MemfdCreate("driver", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, 1<<16); err != nil {
		return err
	}
	memory, err := unix.Mmap(fd, 0, 1<<16, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	memory[0] = 1
	return unix.Munmap(memory)
}

// askKernel asks by netlink, as libraries do that look for devices.
func askKernel(string) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// controlDevice sends a device a command that it does not know, and is told so by it.
func controlDevice(string) error {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	if _, err = unix.IoctlGetTermios(int(null.Fd()), unix.TCGETS); errors.Is(err, unix.ENOTTY) {
		return nil
	}
	return err
}

// keep does in a folder what a cache does: it makes folders and files, replaces one by
// another from elsewhere, and removes all.
func keep(folder string) error {
	inner := filepath.Join(folder, "a", "b")
	if err := os.MkdirAll(inner, 0o700); err != nil {
		return err
	}
	index := filepath.Join(folder, "a", "index")
	next := filepath.Join(inner, "next")
	for _, path := range []string{index, next, index} { // the last time it is truncated
		if err := os.WriteFile(path, []byte(path), 0o600); err != nil {
			return err
		}
	}
	if err := os.Rename(next, index); err != nil {
		return err
	}
	if text, err := os.ReadFile(index); err != nil || string(text) != next {
		return fmt.Errorf("read %q: %w", text, err)
	}
	if _, err := os.ReadDir(inner); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(folder, "a"))
}

func read(path string) error {
	_, err := os.ReadFile(path)
	return err
}

func list(path string) error {
	_, err := os.ReadDir(path)
	return err
}

// write makes a file, or replaces what is in it.
func write(path string) error { return os.WriteFile(path, []byte("text"), 0o666) }

// truncate gives a file the length that it has.
func truncate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, info.Size())
}

// below makes an act of one on a path in the test's folder, or, if that begins with a
// slash, on that.
func below(do func(string) error, path string) func(string) error {
	return func(folder string) error {
		if !filepath.IsAbs(path) {
			path = filepath.Join(folder, path)
		}
		return do(path)
	}
}

// beside makes an act of one on a path that begins at this program's folder.
func beside(do func(string) error, path string) func(string) error {
	return func(string) error {
		program, err := os.Executable()
		if err != nil {
			return err
		}
		return do(filepath.Join(filepath.Dir(program), path))
	}
}

// connect connects to a socket of UNIX.
func connect(path string) error {
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
	}
	return err
}

// useThreads has a thread begin and end.
func useThreads(string) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // it ends with the goroutine
	}()
	<-done
	return nil
}

// signalItself sends this process a signal, as Go does to interrupt a thread.
func signalItself(string) error { return unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGURG) }

// needs are what the loader, Go and drivers do.
var needs = []need{
	{name: "name a thread", do: func(string) error { return nameThread("self") }},
	{name: "name a thread by the process's number", do: func(string) error { return nameThread(fmt.Sprint(os.Getpid())) }},
	{name: "start a thread", do: useThreads},
	{name: "signal itself", do: signalItself},
	{name: "command to a device", do: controlDevice},
	{name: "read the model", do: below(read, "model")},
	{name: "read of a process", do: below(read, "/proc/self/maps")},
	{name: "read the limits of memory", do: below(read, "/proc/self/cgroup")},
	{name: "read of the processor", do: below(read, "/proc/cpuinfo")},
	{name: "read a node of the system", do: below(read, "/sys/devices/system/node/online")},
	{name: "list the system's nodes", do: below(list, "/sys/devices/system/node")},
	{name: "read randomness", do: func(string) error {
		file, err := os.Open("/dev/urandom")
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = file.Read(make([]byte, 8))
		return err
	}},
	{name: "read a library beside the program", do: beside(read, "lib/libcublas.so.13")},
	{name: "read a library that is installed with the program", do: beside(read, "../lib/serve/libcublas.so.13")},

	{name: "memory file", do: useMemory, devices: true},
	{name: "netlink", do: askKernel, devices: true},
	{name: "shared memory", do: func(string) error { return keep(fmt.Sprintf("/dev/shm/serve-test-%d", os.Getpid())) },
		devices: true},
	{name: "cache", do: below(keep, "cache/cuda"), devices: true},
	{name: "between folders of the cache", do: func(folder string) error {
		from := filepath.Join(folder, "cache", "tmp", "one")
		to := filepath.Join(folder, "cache", "mesa", "one")
		return errors.Join(write(from), os.Rename(from, to), os.Remove(to))
	}, devices: true},
	{name: "MPS's socket", do: func(folder string) error { return connect(filepath.Join(folder, "mps", "control")) },
		devices: true},
	{name: "MPS's pipe", do: below(write, "mps/pipe"), devices: true},
	{name: "list MPS's folder", do: below(list, "mps"), devices: true},
	{name: "list modules", do: below(list, "/sys/module"), devices: true},
	{name: "list devices of the bus", do: below(list, "/sys/bus/pci/devices"), devices: true},
	{name: "list drivers", do: below(list, "/proc/driver"), devices: true},
	{name: "list devices", do: below(list, "/dev"), devices: true},
}

// denials are what only this test's scene has.
var denials = []need{
	{name: "change the model", do: below(write, "model")},
	{name: "truncate the model", do: below(truncate, "model")},
	{name: "read another file beside the program's libraries", do: beside(read, "lib/secret")},
	{name: "make a file in MPS's folder", do: below(write, "mps/new")},
	{name: "make a link in the cache", do: func(folder string) error {
		link := filepath.Join(folder, "cache", "tmp", "link")
		defer os.Remove(link)
		return os.Symlink("/etc/hostname", link)
	}},
	{name: "run what is in the cache", do: func(folder string) error {
		program := filepath.Join(folder, "cache", "tmp", "program")
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
			return err
		}
		return exec.Command(program).Run()
	}},
}

// tryAct does a need or what is denied, and writes what comes of it.
func tryAct(arguments []string) int {
	name := arguments[0]
	folder := arguments[1]
	confined := arguments[2] != ""
	list := slices.Concat(needs, denials)
	i := slices.IndexFunc(list, func(n need) bool { return n.name == name })
	if confined {
		if err := Seal(); err != nil {
			fmt.Println("cannot seal:", err)
			return 1
		}
	}

	switch err := list[i].do(folder); {
	case err == nil:
		fmt.Print("done")
	case refused(err):
		fmt.Print("refused")
	default:
		fmt.Println("unexpected:", err)
	}
	return 0
}

// tryAll probes, and writes the results.
func tryAll(arguments []string) int {
	var s Scene
	if err := json.Unmarshal([]byte(arguments[0]), &s); err != nil {
		fmt.Println(err)
		return 1
	}
	if arguments[1] != "" {
		if err := Seal(); err != nil {
			fmt.Println("cannot seal:", err)
			return 1
		}
	}
	return writeResults(Probe(s))
}

func writeResults(results []Result) int {
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		return 1
	}
	return 0
}

// stage makes the folder in which the acts play, where another user can do all that is
// not confined, with listeners on a socket and at an address.
func stage(t *testing.T, user *syscall.Credential) (folder, address string) {
	t.Helper()
	folder, err := os.MkdirTemp("", "serve-sandbox-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })

	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(CreateCache(filepath.Join(folder, "cache")))
	for _, name := range []string{"home", "mps"} {
		must(os.Mkdir(filepath.Join(folder, name), 0o700))
	}
	for _, name := range []string{"home/secret", "home/old", "mps/pipe", "model"} {
		must(os.WriteFile(filepath.Join(folder, name), []byte("text"), 0o600))
	}

	listener, err := net.Listen("unix", filepath.Join(folder, "mps", "control"))
	must(err)
	t.Cleanup(func() { listener.Close() })
	web, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	t.Cleanup(func() { web.Close() })

	if user != nil {
		must(filepath.WalkDir(folder, func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Chown(path, int(user.Uid), int(user.Gid)))
		}))
	}
	return folder, web.Addr().String()
}

// copyProgram copies this program to where a user can run it who has no access to go
// test's folder, with files that are called as libraries, and one that is not.
func copyProgram(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "serve-sandbox-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })

	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(folder, "bin", "program")
	libraries := []string{filepath.Join(folder, "bin", "lib"), filepath.Join(folder, "lib", "serve")}
	err = errors.Join(os.Chmod(folder, 0o755), os.Mkdir(filepath.Dir(program), 0o755))
	err = errors.Join(err, os.WriteFile(program, binary, 0o755))
	for _, library := range libraries {
		err = errors.Join(err, os.MkdirAll(library, 0o755), write(filepath.Join(library, "libcublas.so.13")))
	}
	if err := errors.Join(err, write(filepath.Join(libraries[0], "secret"))); err != nil {
		t.Fatal(err)
	}
	return program
}

// users are those as whom processes are started: this one, and another where this is root.
func users() map[string]*syscall.Credential {
	list := map[string]*syscall.Credential{"this user": nil}
	if os.Geteuid() == 0 {
		list["nobody"] = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	return list
}

// child is a command of this program.
func child(program string, user *syscall.Credential, arguments ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.Command(program, arguments...)
	cmd.Dir = "/"
	// The race detector would wait a second at each exit.
	cmd.Env = []string{"GORACE=atexit_sleep_ms=0"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user, Setpgid: true}
	out := new(bytes.Buffer)
	cmd.Stdout = out
	cmd.Stderr = out
	return cmd, out
}

// TestNeeds does what engines need in a process confined like them, with devices and without, as this user and,
// where this is root, as another; and, so that a refusal is known to be the sandbox's, in one that is not confined.
func TestNeeds(t *testing.T) {
	if _, err := Version(); err != nil {
		t.Skip(err)
	}
	program := copyProgram(t)

	for name, user := range users() {
		for _, n := range slices.Concat(needs, denials) {
			for _, devices := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/devices %v", name, n.name, devices), func(t *testing.T) {
					folder, _ := stage(t, user)
					want := "refused"
					if slices.ContainsFunc(needs, func(other need) bool { return other.name == n.name }) && (devices || !n.devices) {
						want = "done"
					}

					// Confined first: unconfined some are done.
					cmd, out := child(program, user, "act", n.name, folder, "confined")
					cmd.Env = append(cmd.Env, "CUDA_MPS_PIPE_DIRECTORY="+filepath.Join(folder, "mps"))
					rules := Rules{Files: []string{filepath.Join(folder, "model")}, Devices: devices}
					if devices {
						rules.Cache = filepath.Join(folder, "cache")
					}
					if err := Start(cmd, rules); err != nil {
						t.Fatal(err)
					}
					if err := cmd.Wait(); err != nil || out.String() != want {
						t.Errorf("confined: %v, %s; want %q", err, out, want)
					}

					cmd, out = child(program, user, "act", n.name, folder, "")
					if err := cmd.Run(); err != nil || out.String() != "done" {
						t.Errorf("not confined: %v, %s", err, out)
					}
				})
			}
		}
	}
}

// TestProbe has a process try all that is forbidden, each of which is refused; and, so that this is known to be the
// sandbox's work, one that is not confined, to which the kernel refuses only what it refuses anyhow.
func TestProbe(t *testing.T) {
	if _, err := Version(); err != nil {
		t.Skip(err)
	}
	program := copyProgram(t)
	for name, user := range users() {
		folder, address := stage(t, user)
		scene, err := json.Marshal(Scene{
			Process: os.Getpid(),
			File:    filepath.Join(folder, "home", "secret"),
			Folder:  filepath.Join(folder, "home"),
			Socket:  filepath.Join(folder, "mps", "control"),
			Address: address,
		})
		if err != nil {
			t.Fatal(err)
		}

		for _, devices := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/devices %v", name, devices), func(t *testing.T) {
				cmd, out := child(program, user, "probe", string(scene), "confined")
				if err := Start(cmd, Rules{Devices: devices}); err != nil {
					t.Fatal(err)
				}
				results := probed(t, cmd, out)
				for i, a := range acts() {
					switch r := results[i]; {
					case r.Granted != (a.granted && devices):
						t.Errorf("%s: granted %v", r.Act, r.Granted)
					case r.Refused == r.Granted:
						t.Errorf("%s, %s: refused %v: %s", r.Group, r.Act, r.Refused, r.Said)
					}
				}
			})
		}

		t.Run(name+"/not confined", func(t *testing.T) {
			cmd, out := child(program, user, "probe", string(scene), "")
			cmd.Env = append(cmd.Env, "AWS_SECRET_ACCESS_KEY=secret")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			results := probed(t, cmd, out)
			for i, a := range acts() {
				mayFail := a.lacking || a.privileged && (user != nil || os.Geteuid() != 0)
				if user != nil && toParent(a.name) {
					mayFail = true // which is another user's
				}
				if r := results[i]; r.Refused && !mayFail {
					t.Errorf("%s, %s: refused by the kernel alone: %s", r.Group, r.Act, r.Said)
				}
			}
		})
	}
}

// toParent reports whether an act is one on the parent.
func toParent(name string) bool {
	return strings.Contains(name, "parent") || strings.Contains(name, "kill") || strings.Contains(name, "sigqueueinfo")
}

// probed waits for a probe, and returns its results.
func probed(t *testing.T, cmd *exec.Cmd, out *bytes.Buffer) (results []Result) {
	t.Helper()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := json.Unmarshal(out.Bytes(), &results); err != nil || len(results) != len(acts()) {
		t.Fatalf("%d results of %d: %v: %s", len(results), len(acts()), err, out)
	}
	return results
}

// TestOthersFolder gives no right to a folder that somebody else could have put where
// MPS's is looked for.
func TestOthersFolder(t *testing.T) {
	if _, err := Version(); err != nil {
		t.Skip(err)
	}
	folder := t.TempDir()
	target := filepath.Join(folder, "target")
	link := filepath.Join(folder, "link")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(target, "file")
	if err := write(file); err != nil {
		t.Fatal(err)
	}
	foreign := target
	if os.Geteuid() == 0 {
		foreign = filepath.Join(folder, "foreign")
		err := errors.Join(os.Mkdir(foreign, 0o777), os.Chown(foreign, 65534, 65534), write(filepath.Join(foreign, "file")))
		if err != nil {
			t.Fatal(err)
		}
	}

	for _, c := range []struct {
		name  string
		place place
		open  string
		want  error
	}{
		{"its own", place{path: target, rights: mayUse, guarded: true}, file, nil},
		{"a link", place{path: link, rights: mayUse, guarded: true}, file, unix.EACCES},
		{"a link that is asked for", place{path: link, rights: mayUse}, file, nil},
		{"a file", place{path: file, rights: mayUse, guarded: true}, file, unix.EACCES},
		{"another user's", place{path: foreign, rights: mayUse, guarded: true}, filepath.Join(foreign, "file"), unix.EACCES},
	} {
		if c.name == "another user's" && os.Geteuid() != 0 {
			continue
		}
		got := make(chan error)
		go func() { // the thread ends with it
			runtime.LockOSThread()
			err := confine([]place{c.place})
			if err == nil {
				err = read(c.open)
			}
			got <- err
		}()
		if err := <-got; !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// tryThreads is what this program does as a child of TestSeal: it says which sockets it can open, on threads that
// were there before and on new ones.
func tryThreads([]string) int {
	var wg sync.WaitGroup
	start := make(chan struct{})
	results := make(chan string, 64)
	attempt := func() {
		runtime.LockOSThread()
		_, tcp := net.Dial("tcp", "127.0.0.1:9")
		_, udp := net.Dial("udp", "[::1]:9")
		fd, local := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if !refused(tcp) || !refused(udp) || !refused(local) {
			results <- fmt.Sprint("a socket can be opened: ", tcp, udp, local, fd)
		}
	}

	for range 8 {
		wg.Go(func() {
			runtime.LockOSThread()
			<-start
			attempt()
		})
	}
	if err := Seal(); err != nil {
		fmt.Println("cannot confine: ", err)
		return 1
	}
	close(start)
	for range 8 {
		wg.Go(attempt)
	}
	wg.Wait()
	close(results)

	for r := range results {
		fmt.Println(r)
	}
	return 0
}

// TestSeal confines all threads.
func TestSeal(t *testing.T) {
	if _, err := Version(); err != nil {
		t.Skip(err)
	}
	cmd, out := child(copyProgram(t), nil, "threads")
	if err := Start(cmd, Rules{}); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || out.Len() > 0 {
		t.Errorf("%v %s", err, out)
	}
}

// TestUnreadable says which file an engine of root cannot read, since it is a user like any other.
func TestUnreadable(t *testing.T) {
	if _, err := Version(); err != nil || os.Geteuid() != 0 {
		t.Skip("for root, where there is Landlock: ", err)
	}
	folder, _ := stage(t, &syscall.Credential{Uid: 65534, Gid: 65534})
	model := filepath.Join(folder, "model")
	cmd, out := child(copyProgram(t), nil, "act", "start a thread", folder, "confined")
	if err := Start(cmd, Rules{Files: []string{model}}); err != nil {
		t.Fatal(err)
	}
	want := model + " cannot be read: engines have no privileges"
	if err := cmd.Wait(); err != nil || !strings.HasPrefix(out.String(), want) {
		t.Errorf("%v: %s", err, out)
	}
}

// TestNotStarted says of a process that Start did not start that it is not confined.
func TestNotStarted(t *testing.T) {
	cmd, out := child(copyProgram(t), nil, "threads")
	if err := cmd.Run(); err == nil || !strings.Contains(out.String(), "not started in a sandbox") {
		t.Errorf("%v %s", err, out)
	}
}

// TestSystemIsNoHome has nobody add a place of people's own to the system's.
func TestSystemIsNoHome(t *testing.T) {
	homes := map[string]bool{"/home": true, "/root": true, "/tmp": true, "/var": true, "/mnt": true, "/media": true}
	for _, r := range slices.Concat(system, devices) {
		for _, private := range []string{
			"/", "/etc", "/run", "/proc", "/proc/sys", "/home", "/root", "/tmp", "/var", "/mnt", "/media",
		} {
			if _, err := filepath.Match(r.path, ""); err != nil {
				t.Errorf("%s: %v", r.path, err)
			}
			if r.path == private || strings.HasPrefix(r.path, private+"/") && homes[private] {
				t.Errorf("%s can be reached", r.path)
			}
		}
	}
}
