package sandbox

import (
	"bytes"
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

// TestMain lets this binary be what a test starts: a process that tries one act, or one
// that tries to reach a network on many threads.
func TestMain(m *testing.M) {
	if name := os.Getenv("TEST_ACT"); name != "" {
		os.Exit(try(name, os.Getenv("TEST_FOLDER")))
	}
	if os.Getenv("TEST_THREADS") != "" {
		os.Exit(tryThreads())
	}
	os.Exit(m.Run())
}

// act is something that a process tries.
type act struct {
	name string
	do   func(folder string) error

	// want is what comes of it in the sandbox; without one, all acts succeed.
	want error

	// asRoot is for what nobody else may do anyhow.
	asRoot bool
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

func dial(network, address string) error {
	c, err := net.Dial(network, address)
	if err == nil {
		c.Close()
	}
	return err
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

// acts are what drivers do, and what nobody is to do.
var acts = []act{
	{name: "name a thread", do: func(string) error { return nameThread("self") }},
	{name: "name a thread by the process's number", do: func(string) error { return nameThread(fmt.Sprint(os.Getpid())) }},
	{name: "memory file", do: useMemory},
	{name: "netlink", do: askKernel},
	{name: "command to a device", do: controlDevice},
	{name: "shared memory", do: func(string) error { return keep(fmt.Sprintf("/dev/shm/serve-test-%d", os.Getpid())) }},
	{name: "cache", do: below(keep, "cache/cuda")},
	{name: "between folders of the cache", do: func(folder string) error {
		from := filepath.Join(folder, "cache", "tmp", "one")
		to := filepath.Join(folder, "cache", "mesa", "one")
		return errors.Join(write(from), os.Rename(from, to), os.Remove(to))
	}},
	{name: "MPS's socket", do: func(folder string) error { return dial("unix", filepath.Join(folder, "mps", "control")) }},
	{name: "MPS's pipe", do: below(write, "mps/pipe")},
	{name: "list MPS's folder", do: below(list, "mps")},

	{name: "read the model", do: below(read, "model")},
	{name: "read a file of the system", do: below(read, "/etc/passwd")},
	{name: "read of a process", do: below(read, "/proc/self/maps")},
	{name: "list drivers", do: below(list, "/proc/driver")},
	{name: "list modules", do: below(list, "/sys/module")},
	{name: "list devices of the bus", do: below(list, "/sys/bus/pci/devices")},
	{name: "list the system's nodes", do: below(list, "/sys/devices/system/node")},
	{name: "read a node of the system", do: below(read, "/sys/devices/system/node/online")},
	{name: "list libraries", do: below(list, "/opt")},
	{name: "read a library beside the program", do: beside(read, "lib/libcublas.so.13")},
	{name: "read a library that is installed with the program", do: beside(read, "../lib/serve/libcublas.so.13")},
	{name: "list devices", do: below(list, "/dev")},

	{name: "read a file at home", do: below(read, "home/secret"), want: unix.EACCES},
	{name: "list a home", do: below(list, "home"), want: unix.EACCES},
	{name: "change a file at home", do: below(write, "home/secret"), want: unix.EACCES},
	{name: "truncate a file at home", do: below(truncate, "home/secret"), want: unix.EACCES},
	{name: "make a file at home", do: below(write, "home/new"), want: unix.EACCES},
	{name: "remove a file at home", do: below(os.Remove, "home/old"), want: unix.EACCES},
	{name: "read another file beside the program's libraries", do: beside(read, "lib/secret"), want: unix.EACCES},
	{name: "list temporary files", do: below(list, "/tmp"), want: unix.EACCES},
	{name: "make a temporary file", do: func(string) error {
		path := fmt.Sprintf("/tmp/serve-test-%d", os.Getpid())
		defer os.Remove(path)
		return write(path)
	}, want: unix.EACCES},
	{name: "change the model", do: below(write, "model"), want: unix.EACCES},
	{name: "truncate the model", do: below(truncate, "model"), want: unix.EACCES},
	{name: "truncate a file of the system", do: below(truncate, "/etc/passwd"), want: unix.EACCES, asRoot: true},
	{name: "make a file in MPS's folder", do: below(write, "mps/new"), want: unix.EACCES},
	{name: "make a link in the cache", do: func(folder string) error {
		link := filepath.Join(folder, "cache", "tmp", "link")
		defer os.Remove(link)
		return os.Symlink("/etc/passwd", link)
	}, want: unix.EACCES},
	{name: "run what is in the cache", do: func(folder string) error {
		program := filepath.Join(folder, "cache", "tmp", "program")
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
			return err
		}
		return exec.Command(program).Run()
	}, want: unix.EACCES},

	{name: "TCP", do: func(string) error { return dial("tcp", os.Getenv("TEST_ADDRESS")) }, want: unix.EACCES},
	{name: "UDP", do: func(string) error { return dial("udp", "127.0.0.1:9") }, want: unix.EACCES},
}

// try is what this program does as a child of TestActs: an act, confined if that is asked
// for. It writes what comes of it.
func try(name, folder string) int {
	i := slices.IndexFunc(acts, func(a act) bool { return a.name == name })
	if i < 0 {
		fmt.Println("there is no such act")
		return 1
	}

	if os.Getenv("TEST_FORBID") != "" {
		if err := ForbidNetwork(); err != nil {
			fmt.Println("cannot forbid the network:", err)
			return 1
		}
	}

	err := acts[i].do(folder)
	if want := acts[i].want; err != nil && want != nil && errors.Is(err, want) {
		fmt.Print("refused")
	} else if err != nil {
		fmt.Println("unexpected:", err)
	} else {
		fmt.Print("done")
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

// TestActs tries each act in a process confined as engines are, as this user and, where
// this is root, as another; and, so that a refusal is known to be the sandbox's, in one
// that is not confined.
func TestActs(t *testing.T) {
	if _, err := Version(); err != nil {
		t.Skip(err)
	}
	program := copyProgram(t)
	users := map[string]*syscall.Credential{"this user": nil}
	if os.Geteuid() == 0 {
		users["nobody"] = &syscall.Credential{Uid: 65534, Gid: 65534}
	}

	for name, user := range users {
		t.Run(name, func(t *testing.T) {
			for _, a := range acts {
				if a.asRoot && (user != nil || os.Geteuid() != 0) {
					continue
				}
				t.Run(a.name, func(t *testing.T) {
					folder, address := stage(t, user)
					want := "done"
					if a.want != nil {
						want = "refused"
					}
					command := func(more ...string) (*exec.Cmd, *bytes.Buffer) {
						cmd := exec.Command(program)
						cmd.Dir = "/"
						// The race detector would wait a second at each exit.
						cmd.Env = append(more, "TEST_ACT="+a.name, "TEST_FOLDER="+folder, "TEST_ADDRESS="+address,
							"PATH="+os.Getenv("PATH"), "CUDA_MPS_PIPE_DIRECTORY="+filepath.Join(folder, "mps"),
							"GORACE=atexit_sleep_ms=0")
						cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
						out := new(bytes.Buffer)
						cmd.Stdout = out
						cmd.Stderr = out
						return cmd, out
					}

					// Confined first: unconfined some are done.
					cmd, out := command("TEST_FORBID=1")
					rules := Rules{Files: []string{filepath.Join(folder, "model")}, Cache: filepath.Join(folder, "cache")}
					unconfined, err := Start(cmd, rules)
					if err != nil || unconfined != nil {
						t.Fatal(unconfined, err)
					}
					if err := cmd.Wait(); err != nil || out.String() != want {
						t.Errorf("confined: %v, %s; want %q", err, out, want)
					}

					cmd, out = command()
					if err := cmd.Run(); err != nil || out.String() != "done" {
						t.Errorf("not confined: %v, %s", err, out)
					}
				})
			}
		})
	}
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
		name string
		rule rule
		open string
		want error
	}{
		{"its own", rule{path: target, rights: mayUse, guarded: true}, file, nil},
		{"a link", rule{path: link, rights: mayUse, guarded: true}, file, unix.EACCES},
		{"a link that is asked for", rule{path: link, rights: mayUse}, file, nil},
		{"a file", rule{path: file, rights: mayUse, guarded: true}, file, unix.EACCES},
		{"another user's", rule{path: foreign, rights: mayUse, guarded: true}, filepath.Join(foreign, "file"), unix.EACCES},
	} {
		if c.name == "another user's" && os.Geteuid() != 0 {
			continue
		}
		got := make(chan error)
		go func() { // the thread ends with it
			runtime.LockOSThread()
			err := confine([]rule{c.rule})
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

// tryThreads is what this program does as a child of TestForbidNetwork: it says which
// sockets it can open, on threads that were there before and on new ones.
func tryThreads() int {
	var wg sync.WaitGroup
	start := make(chan struct{})
	results := make(chan string, 64)
	attempt := func() {
		runtime.LockOSThread()
		_, tcp := net.Dial("tcp", "127.0.0.1:9")
		_, udp := net.Dial("udp", "[::1]:9")
		if !errors.Is(tcp, unix.EACCES) || !errors.Is(udp, unix.EACCES) {
			results <- fmt.Sprint("a network can be reached: ", tcp, udp)
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
			attempt()
		})
	}
	if err := ForbidNetwork(); err != nil {
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

// TestForbidNetwork forbids it to all threads.
func TestForbidNetwork(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "TEST_THREADS=1")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v %s", err, out)
	}
}

// TestStartLeavesThisFree confines what is started, and not what starts it.
func TestStartLeavesThisFree(t *testing.T) {
	cmd := exec.Command("true")
	if _, err := Start(cmd, Rules{}); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}

	// On every thread that there is.
	var wg sync.WaitGroup
	folder := t.TempDir()
	for i := range 16 {
		wg.Go(func() {
			runtime.LockOSThread()
			if err := write(filepath.Join(folder, fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestSystemIsNoHome has nobody add a place of people's own to the system's.
func TestSystemIsNoHome(t *testing.T) {
	for _, r := range system {
		for _, private := range []string{"/", "/home", "/root", "/tmp", "/var", "/mnt", "/media"} {
			if r.path == private || strings.HasPrefix(r.path, private+"/") && private != "/" {
				t.Errorf("%s can be reached", r.path)
			}
		}
	}
}
