package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"serve/dial"
	"serve/doctor"
	"serve/machine"
	"serve/sandbox"
)

// homeOf is an environment with folders of its own.
func homeOf(t *testing.T) (environ []string, home string) {
	t.Helper()
	home = t.TempDir()
	return []string{"SERVE_HOME=" + home, "HF_HUB_CACHE=" + filepath.Join(home, "hub"), "HOME=" + home}, home
}

// TestPs finds a server, says what its model does, and forgets one that was killed.
func TestPs(t *testing.T) {
	environ, home := homeOf(t)
	code, out, said := command(environ, "ps")
	if code != 0 || out != "" ||
		!strings.Contains(said, "no server is running") {
		t.Errorf("with none: %d %q %q", code, out, said)
	}

	r := startServeIn(t, environ, modelFile(t), "--ctx-size", "128")
	err := os.WriteFile(
		filepath.Join(home, "run", "999999999-1.json"),
		[]byte(`{"pid":999999999,"url":"http://127.0.0.1:1"}`),
		0o600,
	)
	if err != nil {
		t.Fatal(err)
	}

	r.post(t, "/v1/completions", `{"model":"tiny","prompt":"a","max_tokens":3}`)
	var list []dial.Status
	code, out, said = command(environ, "ps", "--json")
	err = json.Unmarshal([]byte(out), &list)
	if code != 0 || err != nil || len(list) != 1 || list[0].Status == nil ||
		len(list[0].Models) != 1 {
		t.Fatalf("%d %v %s%s", code, err, out, said)
	}
	if m := list[0].Models[0]; len(m.Devices) != 1 || m.Devices[0].Name != "CPU" || m.WhyProcessor != "" {
		t.Errorf("it computes on %+v, %q", m.Devices, m.WhyProcessor)
	}

	m := list[0].Models[0]
	if list[0].URL != r.url || list[0].PID != os.Getpid() || m.ID != "tiny" ||
		m.State != "ready" || m.Process == 0 || m.Process == os.Getpid() {
		t.Errorf("%+v", list[0])
	}
	if want := machine.ResidentMemory(m.Process); want > 0 && m.ResidentBytes < 1<<20 {
		t.Errorf("it takes %d bytes, the system says %d", m.ResidentBytes, want)
	}

	if _, out, _ := command(environ, "ps"); !strings.Contains(out, "tiny") || strings.Count(out, "\n") != 2 {
		t.Errorf("the table: %s", out)
	}
	if _, out, _ = command(environ, "ps", "--offline", "--url", r.url+"/v1"); !strings.Contains(out, "tiny") {
		t.Errorf("by its address: %s", out)
	}
	if code, _, said := command(environ, "ps", "--offline", "--url", "http://192.0.2.1:80"); code != exitUsage {
		t.Errorf("another machine, offline: %d %s", code, said)
	}
	code, _, said = command(environ, "ps", "--url", "http://127.0.0.1:1")
	if code != exitError ||
		!strings.Contains(said, "refused") {
		t.Errorf("nobody there: %d %s", code, said)
	}

	r.stop()
	r.done <- <-r.done
	if entries, err := os.ReadDir(filepath.Join(home, "run")); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

// TestDoctor has it look at a machine that is well, and at what is not.
func TestDoctor(t *testing.T) {
	environ, home := homeOf(t)
	examine := func(args ...string) (int, map[string]doctor.Finding) {
		t.Helper()
		code, out, said := command(environ, append([]string{"doctor", "--json"}, args...)...)
		var list []doctor.Finding
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatal(err, out, said)
		}
		found := map[string]doctor.Finding{}
		for _, f := range list {
			found[f.About] = f
			if (f.Severity == doctor.Fine) != (f.Do == "") {
				t.Errorf("%+v: what is wrong needs something to do, and nothing else does", f)
			}
		}
		return code, found
	}
	code, found := examine("--port", "0")
	for _, about := range []string{"processor", "kernels", "results", "compute", "gpu", "memory", "open files",
		"cache", "models", "home", "crashes", "port", "network", "files", "offline"} {
		if _, ok := found[about]; !ok {
			t.Errorf("it does not look at %s", about)
		}
	}
	if k := found["results"]; k.Severity != doctor.Fine || !strings.Contains(k.Seen, "largest error ") {
		t.Errorf("%+v", k)
	}
	if code != 0 || found["cache"].Severity == doctor.Broken || found["port"].Severity != doctor.Fine {
		t.Errorf("%d %+v", code, found)
	}
	if f := found["compute"]; f.Severity != doctor.Fine || !strings.Contains(f.Seen, "works in the sandbox") {
		t.Errorf("the processor: %+v", f)
	}
	if _, err := sandbox.Version(); err == nil &&
		(found["files"].Severity != doctor.Fine || found["network"].Severity != doctor.Fine) {
		t.Errorf("%+v %+v", found["files"], found["network"])
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	if code, found := examine("--port", port); code != exitError || found["port"].Severity != doctor.Broken {
		t.Errorf("a port that is taken: %d %+v", code, found["port"])
	}
	if err := os.MkdirAll(filepath.Join(home, "crashes"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "crashes", "one.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	environ = append(environ, "HF_HUB_CACHE=/dev/null/hub")
	code, found = examine("--port", "0")
	if code != exitError || found["cache"].Severity != doctor.Broken || found["crashes"].Severity != doctor.Warning {
		t.Errorf("no cache, and a crash: %d %+v", code, found)
	}
}

// TestServiceManager reads what a service manager is told from the start to the end.
func TestServiceManager(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "30000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	told := make(chan string, 10000)
	go func() {
		defer close(told)
		for buf := make([]byte, 4096); ; {
			n, err := socket.Read(buf)
			if err != nil {
				return
			}
			told <- string(buf[:n])
		}
	}()

	r := startServe(t, modelFile(t), "--ctx-size", "128")
	var heard []string
	for len(heard) < 4 { // it is ready, and goes on to be well
		heard = append(heard, <-told)
	}

	r.stop()
	r.done <- <-r.done
	socket.Close()
	for s := range told {
		heard = append(heard, s)
	}

	if heard[0] != "READY=1" || heard[1] != "WATCHDOG=1" || !slices.Contains(heard, "STOPPING=1") {
		t.Errorf("%q", heard)
	}
}

// TestCompletion asks as a shell does.
func TestCompletion(t *testing.T) {
	h := newHub(t)
	environ := environ(t, h)
	must(t, environ, "pull", tinyRepo)
	for _, c := range []struct {
		args []string
		want string
		not  string
	}{
		{[]string{""}, "mistral-7b\t", ""},
		{[]string{"chat", "mistral-"}, "mistral-7b\t", "llama"},
		{[]string{"chat", "mistral-7b", ""}, ":4", "mistral"},
		{[]string{"rm", ""}, tinyRepo, "mistral"},
		{[]string{"show", "tests/"}, tinyRepo, "mistral"},
		{[]string{"mistral-7b", "--kv-"}, "--kv-type", ""},
	} {
		code, out, said := command(environ, append([]string{"__complete"}, c.args...)...)
		if code != 0 || !strings.Contains(out, c.want) || c.not != "" && strings.Contains(out, c.not) {
			t.Errorf("%q: %d %s%s", c.args, code, out, said)
		}
	}
}

// TestManual has a page of every command that is shown.
func TestManual(t *testing.T) {
	folder := t.TempDir()
	must(t, nil, "man", folder)
	for page, want := range map[string]string{
		"serve.1": "OpenAI", "serve-chat.1": "Ctrl-D", "serve-ps.1": "--json", "serve-doctor.1": "--port",
		"serve-bundle-export.1": "--sign",
	} {
		text, err := os.ReadFile(filepath.Join(folder, page))
		if plain := strings.ReplaceAll(string(text), "\\-", "-"); err != nil || !strings.Contains(plain, want) {
			t.Errorf("%s: %v, without %q", page, err, want)
		}
	}
	main, err := os.ReadFile(filepath.Join(folder, "serve.1"))
	row := `qwen3.5:9b                      an Ollama name`
	if err != nil || !strings.Contains(string(main), row) {
		t.Errorf("serve.1 has no row %q: %v", row, err)
	}
	if _, err := os.Stat(filepath.Join(folder, "serve-engine.1")); !os.IsNotExist(err) {
		t.Error("a command that is not for people has a page")
	}
}
