package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"serve/hub/hubtest"
)

// TestFullDisk fills the disk while a model is fetched.
func TestFullDisk(t *testing.T) {
	h := newHub(t)
	model := large(48 << 20)
	h.Add(tinyRepo, hubtest.Repo{Files: map[string][]byte{"m-Q4_K_M.gguf": model}})
	dir := t.TempDir()
	cmd := process(t, []string{"HOME=" + dir, "HF_ENDPOINT=" + h.URL}, "pull", tinyRepo)
	// A small disk of its own, in a mount namespace that ends with the process.
	self := cmd.Path
	cmd.Path = "/bin/sh"
	cmd.Args = []string{
		"sh",
		"-c",
		`mount -t tmpfs -o size=60m none "$HOME" && "$0" pull "$1"; code=$?; rm -f "$HOME/ballast"; [ $code = 10 ] && ` +
			`exec "$0" pull "$1"; exit $code`,
		self,
		tinyRepo,
	}
	cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{
			{HostID: os.Getuid(), Size: 1},
		},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	var once sync.Once
	started := make(chan int, 1)
	h.Fail("cdn", func(http.ResponseWriter, *http.Request) bool {
		// The disk had room when the download began.
		once.Do(func() {
			root := fmt.Sprintf("/proc/%d/root%s", <-started, dir)
			if err := os.WriteFile(root+"/ballast", make([]byte, 30<<20), 0o644); err != nil {
				t.Error(err)
			}
		})
		return false
	})

	var out bytes.Buffer
	cmd.Stdout = &out
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
			t.Skip("this machine lets nobody make a disk of their own: ", err)
		}
		t.Fatal(err)
	}

	started <- cmd.Process.Pid
	err := cmd.Wait()
	if strings.Contains(out.String(), "mount: ") {
		t.Skip("this machine lets nobody make a disk of their own: ", out.String())
	}
	if err != nil || !strings.Contains(out.String(), "no space left on device") ||
		!strings.Contains(out.String(), "free up space") {
		t.Errorf("%v:\n%s", err, &out)
	}
	// With room again it went on, and ended well.
	if !strings.Contains(out.String(), "already downloaded") || !strings.Contains(out.String(), "serve: stored ") {
		t.Errorf("it did not go on:\n%s", &out)
	}
}

// TestNoRoomToBegin refuses a model that the disk cannot hold before anything is
// fetched.
func TestNoRoomToBegin(t *testing.T) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(t.TempDir(), &s); err != nil {
		t.Fatal(err)
	}
	h := newHub(t)
	h.Fail("hub", func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"sha":%q,"siblings":[{"rfilename":"m-Q4_K_M.gguf","size":%d,"lfs":{"sha256":%q,"size":%d}}]}`,
			strings.Repeat("a", 40), s.Blocks*uint64(s.Bsize), strings.Repeat("b", 64), s.Blocks*uint64(s.Bsize))
		return true
	})
	code, _, errOut := command(environ(t, h), "pull", tinyRepo)
	if code != exitDisk || !strings.Contains(errOut, "has ") || len(h.Requests()) != 1 {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}

// connects are the system calls by which bytes could leave.
var connects = regexp.MustCompile(`(?m)^.*\b(connect|sendto|sendmsg|sendmmsg)\(.*AF_INET.*$`)

// TestOfflineOpensNoSocket watches every network call of the process while it
// serves offline: it listens, and connects to nobody.
func TestOfflineOpensNoSocket(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("strace is not installed; make test installs it: ", err)
	}

	h := newHub(t)
	env := environ(t, h)
	must(t, env, "pull", tinyRepo)
	home := t.TempDir()
	for _, offline := range []struct {
		name     string
		env      []string
		args     []string
		connects bool
	}{
		{"a flag", nil, []string{tinyRepo, "--offline"}, false},
		{"a flag, and TLS", []string{"SERVE_HOME=" + home}, []string{tinyRepo, "--offline", "--tls-self-signed"}, false},
		{"HF_HUB_OFFLINE", []string{"HF_HUB_OFFLINE=1"}, []string{tinyRepo}, false},
		{"SERVE_OFFLINE", []string{"SERVE_OFFLINE=1"}, []string{tinyRepo}, false},
		{"a model that is here", nil, []string{tinyRepo}, false},
		{"a model that is not here", []string{"HF_HUB_OFFLINE=1"}, []string{"mistral-7b"}, false},
		{"a model that is not here, and may be fetched", nil, []string{"tests/None"}, true},
		// the trace does show connections
	} {
		t.Run(offline.name, func(t *testing.T) {
			trace := filepath.Join(t.TempDir(), "trace")
			cmd := process(
				t,
				append(slices.Clone(env), offline.env...),
				append(offline.args, "--port", "0", "--ctx-size", "128")...)
			cmd.Args = append([]string{"strace", "-f", "-qq", "-e", "trace=network", "-o", trace, cmd.Path}, cmd.Args[1:]...)
			cmd.Path = strace
			errOut := newSyncBuffer()
			cmd.Stderr = errOut
			// strace itself takes no signal; what it watches is in its group.
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { cmd.Wait(); close(ended) }()
			if url, _, ok := awaitReady(errOut, ended); ok {
				if strings.HasPrefix(url, "https:") {
					ca := filepath.Join(home, "tls", "self-signed.pem")
					if out, ok := judge(t, "curl", "--fail", "--cacert", ca, url+"/v1/models"); !ok {
						t.Error(out)
					}
				} else {
					sayHello(t, &running{url: url}, tinyRepo)
				}
				syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
				<-ended
			}
			b, err := os.ReadFile(trace)
			if err != nil || !bytes.Contains(b, []byte("socket(")) && !strings.Contains(errOut.String(), "offline mode") {
				t.Fatalf("the trace shows nothing: %v\n%s", err, errOut)
			}
			if found := connects.FindAllString(string(b), -1); len(found) > 0 != offline.connects {
				t.Errorf("connections: %q", found)
			}
		})
	}
}
