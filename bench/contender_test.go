package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"serve/bench/launch"
	"serve/models"
)

// pretend is a variable that makes this test program a server: its model's name is the command that started it.
const pretend = "BENCH_PRETEND"

func TestMain(m *testing.M) {
	if os.Getenv(pretend) == "" {
		os.Exit(m.Run())
	}
	port := os.Args[slices.Index(os.Args, "--port")+1]
	if slices.Contains(os.Args, "broken") {
		fmt.Fprintln(os.Stderr, "no such model")
		os.Exit(1)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/v1/models", func(w http.ResponseWriter, _ *http.Request) {
		id, _ := json.Marshal(fmt.Sprint(os.Getpid(), " ", strings.Join(os.Args, " ")))
		fmt.Fprintf(w, `{"data":[{"id":%s}]}`, id)
	})
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		os.Exit(1)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt)
	go func() {
		<-stop
		os.Exit(0)
	}()
	_ = http.Serve(l, mux)
}

// pretenders are options whose programs are this one.
func pretenders(t *testing.T, args ...string) *options {
	t.Helper()
	t.Setenv(pretend, "1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	peers := t.TempDir()
	if err := os.Symlink(self, filepath.Join(peers, "llama-server")); err != nil {
		t.Fatal(err)
	}
	return testOptions(t, append([]string{"-serve", self, "-peers", peers}, args...)...)
}

// TestContenders starts each with its flags.
func TestContenders(t *testing.T) {
	o := pretenders(t, "-serve-flags", "--x 1", "-threads", "3")
	o.beside = []string{plain, tuned, tunedBS, oneBuffer, "flags:--isolate=false --kernels zen4", "serve:" + o.serve, bare}
	all, err := o.contenders("m.gguf", "t.jinja")
	if err != nil {
		t.Fatal(err)
	}
	if want := append([]string{"serve"}, o.beside...); !slices.Equal(names(all), want) {
		t.Fatalf("%v, not %v", names(all), want)
	}

	need := need{slots: 5, context: 100, serveFlags: []string{"--y"}, tools: true}
	const ours = " m.gguf --parallel 5 --ctx-size 100 --threads 3 --log-level warn --y"
	const theirs = " -m m.gguf -t 3 -lv 1 --chat-template-file t.jinja"
	for i, want := range []string{
		ours + " --x 1",
		theirs,
		theirs + " -np 5 -c 500 --no-kv-unified",
		theirs + " -np 5 -c 500 --no-kv-unified --backend-sampling",
		ours + " --kv-cells 436 --x 1",
		ours + " --isolate=false --kernels zen4 --x 1",
		ours + " --x 1",
	} {
		s, err := all[i].start(need)
		if err != nil {
			t.Fatal(all[i].name, err)
		}
		if !strings.Contains(s.Model, want+" --port ") {
			t.Errorf("%s: %s", all[i].name, s.Model)
		}
		s.Stop()
	}

	for _, beside := range []string{"nginx", "tuned,tuned"} {
		o.beside = list(beside)
		if _, err := o.contenders("m.gguf", ""); err == nil {
			t.Errorf("%s: not refused", beside)
		}
	}
}

// TestProcesses end and start again on the same port.
func TestProcesses(t *testing.T) {
	o := pretenders(t)
	s, err := launch.Command{Name: "llama-server", Path: o.serve, Args: []string{"m.gguf"}}.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	seen := map[string]bool{s.Model: true}
	for _, again := range []func() error{s.Crash, s.Restart} {
		if err := again(); err != nil {
			t.Fatal(err)
		}
		list, err := s.Client.Models(t.Context())
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		seen[list[0]] = true
	}
	if len(seen) != 3 {
		t.Errorf("not three processes: %v", seen)
	}

	broken := launch.Command{Name: "serve", Path: o.serve, Args: []string{"broken"}}
	if _, err := broken.Start(); err == nil || !strings.Contains(err.Error(), "no such model") {
		t.Error(err)
	}
	absent := launch.Command{Name: "serve", Path: filepath.Join(t.TempDir(), "absent")}
	if _, err := absent.Start(); err == nil {
		t.Error("a file that does not exist was started")
	}
}

func TestEngine(t *testing.T) {
	line := `{"n_kv_max": 2, "speed_pp": 7.5, "speed_tg": 3.25, "t": 1.5, "speed": 9}`
	row, ok := parseEngine([]byte("\nsomething\n" + line + "\n"))
	if !ok || row != (engineRow{7.5, 3.25, 1.5}) {
		t.Errorf("%+v", row)
	}
	for _, text := range []string{"", "{}", `{"n_kv_max": 2, "t": 0}`, `{"n_kv_max": 2, "t"`} {
		if _, ok := parseEngine([]byte(text)); ok {
			t.Errorf("%q: not refused", text)
		}
	}
}

// TestTemplate is for models whose own has no tools.
func TestTemplate(t *testing.T) {
	folder := t.TempDir()
	file, err := templateFor(&models.Header{}, folder)
	if err != nil || filepath.Dir(file) != folder {
		t.Fatal(file, err)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "<tool_call>") {
		t.Errorf("%s %v", text, err)
	}
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{
		{"-workloads", "singles"}, {"-rounds", "0"}, {"-clients", "8,x"}, {"-depths", "0"}, {"-conversations", "3"},
		{"-crowd"},
	} {
		if _, _, err := parse(args, t.Output()); err == nil {
			t.Errorf("%v: not refused", args)
		}
	}
	o, files, err := parse([]string{"-workloads", "all", "a.gguf"}, t.Output())
	if err != nil || len(o.workloads) != len(workloads) || !slices.Equal(files, []string{"a.gguf"}) {
		t.Error(o, files, err)
	}
	if o, _, err := parse(nil, t.Output()); err != nil || strings.Join(o.workloads, " ") !=
		"single crowd shared agent restart depth repeat tools" {
		t.Error(o, err)
	}
}
