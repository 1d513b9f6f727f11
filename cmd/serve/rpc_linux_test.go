package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// rpcWorker is a serve rpc that runs in this process; its clients' devices are in processes of their own.
type rpcWorker struct {
	address string
	said    *syncBuffer
	cancel  context.CancelFunc
	done    chan int
}

var workerLine = regexp.MustCompile(`(?m)^serve: ready +(127\.0\.0\.1:\d+)$`)

// startWorker offers the CPU on an address until the test ends, or stop is called. With one thread: those of several
// processes would otherwise wait for each other on few cores.
func startWorker(t *testing.T, address string, flags ...string) *rpcWorker {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &rpcWorker{said: newSyncBuffer(), cancel: cancel, done: make(chan int, 1)}
	args := append([]string{"rpc", "--listen", address, "--threads", "1"}, flags...)
	go func() { w.done <- run(ctx, args, withHome(nil), w.said, w.said) }()
	t.Cleanup(func() { w.stop(t) })

	for {
		if m := workerLine.FindStringSubmatch(w.said.String()); m != nil {
			w.address = m[1]
			return w
		}
		select {
		case <-w.said.more:
		case code := <-w.done:
			w.done <- code
			t.Fatalf("serve rpc ended with %d:\n%s", code, w.said)
		}
	}
}

// stop ends a worker and the processes of its clients.
func (w *rpcWorker) stop(t *testing.T) {
	t.Helper()
	w.cancel()
	code := <-w.done
	w.done <- code
	if code != 0 && code != exitInterrupted {
		t.Errorf("serve rpc ended with %d:\n%s", code, w.said)
	}
}

// placed is what /status tells of where a model lies.
type placed struct {
	Process int
	Devices []struct{ Name, Description string }
	Memory  []struct {
		Device  string
		Planned uint64 `json:"planned_bytes"`
		Taken   uint64 `json:"taken_bytes"`
	}
}

func (r *running) placed(t *testing.T) placed {
	t.Helper()
	_, text := r.send(t, "GET", "/status", "")
	var status struct{ Models []placed }
	if err := json.Unmarshal([]byte(text), &status); err != nil || len(status.Models) != 1 {
		t.Fatal(err, text)
	}
	return status.Models[0]
}

// check compares which devices compute a model, "" for those of workers alone, and what is taken of them with the plan.
func (p placed) check(t *testing.T, name, devices string) {
	t.Helper()
	var names []string
	for _, d := range p.Devices {
		names = append(names, d.Name)
	}
	got := strings.Join(names, " ")
	if devices == "" && (got == "" || strings.Contains(got, "CPU")) || devices != "" && got != devices {
		t.Errorf("%s: %q compute it, not %q", name, got, devices)
	}

	workers := 0
	for _, m := range p.Memory {
		if !strings.HasPrefix(m.Device, "RPC") {
			continue
		}
		workers++
		// llama.cpp's layout has copies of what one device hands to the next, and does not always make them.
		if m.Taken > m.Planned || m.Taken < m.Planned*4/5 {
			t.Errorf("%s: %d bytes of %s are planned, and %d taken", name, m.Planned, m.Device, m.Taken)
		}
	}
	if workers == 0 {
		t.Errorf("%s: no memory of a worker is planned: %+v", name, p.Memory)
	}
}

// rpcCanaries are the prompts that answers are compared for.
const rpcCanaries = 24

// wideAnswers returns the CPU's answers whose every token stands out; the others may turn with the order of a sum.
func wideAnswers(t *testing.T, path string) map[int]string {
	t.Helper()
	r := startServe(t, path, "--parallel", "1", "--ctx-size", "256", "--threads", "1", "--log-level", "warn")
	answers := map[int]string{}
	for i := range rpcCanaries {
		text, margin, err := r.answer(i)
		if err != nil {
			t.Fatal(err)
		}
		if margin > 0.1 {
			answers[i] = text
		}
	}
	r.stop()
	if len(answers) < rpcCanaries/4 {
		t.Fatalf("only %d answers are clear enough to be compared", len(answers))
	}
	return answers
}

// TestRPC has a model on the devices of two other processes, in parts, where they have too little memory, and whole:
// the answers are the CPU's, and what is planned is taken. Then one of the devices dies.
func TestRPC(t *testing.T) {
	path := modelFile(t)
	answers := wideAnswers(t, path)
	second := startWorker(t, "127.0.0.1:0", "--memory", "1GiB")
	workers := startWorker(t, "127.0.0.1:0").address + "," + second.address

	for _, c := range []struct {
		name    string
		flags   []string
		says    string // the plan
		devices string
	}{
		{"one layer on the second", []string{"--device", "RPC1", "--gpu-layers", "2"},
			"plan      1 of 3 layers on RPC1", "RPC1 CPU"},
		{"more cells than they may take",
			[]string{"--parallel", "16", "--ctx-size", "1024", "--device-memory", "10MiB"}, "of 16384 KV cells", ""},
		{twoShare, []string{"--tensor-split", "1,1"}, "on RPC0, RPC1", "RPC0 RPC1"},
	} {
		flags := []string{path, "--rpc", workers, "--ctx-size", "256", "--parallel", "4", "--threads", "1"}
		flags = append(flags, c.flags...)
		r := startServe(t, flags...)
		if said := r.errOut.String(); !strings.Contains(said, c.says) {
			t.Errorf("%s: it does not say %q:\n%s", c.name, c.says, said)
		}

		at := r.placed(t)
		at.check(t, c.name, c.devices)
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", at.Process))
		if err != nil || !strings.Contains(string(status), "\nSeccomp:\t2\n") {
			t.Errorf("%s: the engine is not confined: %v\n%s", c.name, err, status)
		}
		r.compare(t, c.name, answers)
		if c.name == twoShare {
			r.loseDevices(t, second, answers)
		}
		r.stop()
	}
}

// twoShare names the case of TestRPC in which a device dies.
const twoShare = "two devices share it"

// compare asks for each of the answers.
func (r *running) compare(t *testing.T, name string, answers map[int]string) {
	t.Helper()
	for i, want := range answers {
		if got, _, err := r.answer(i); err != nil || got != want {
			t.Errorf("%s: answer %d: %v\n%s\nnot\n%s", name, i, err, got, want)
		}
	}
}

// loseDevices has clients ask while a device dies and comes back: an answer is right or an error that says what to do,
// and in the end all is as before. DEVICE_DEATHS says how often; once by default.
func (r *running) loseDevices(t *testing.T, w *rpcWorker, answers map[int]string) {
	t.Helper()
	deaths := 1
	if text := os.Getenv("DEVICE_DEATHS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		deaths = n
	}
	for i := range deaths {
		w = r.loseDevice(t, w, answers, i+1)
	}
	r.compare(t, "in the end", answers)
}

// loseDevice ends a worker while clients ask, and starts another in its place. It is the nth to be lost.
func (r *running) loseDevice(t *testing.T, w *rpcWorker, answers map[int]string, nth int) *rpcWorker {
	t.Helper()
	var clients sync.WaitGroup
	enough := make(chan struct{})
	for client := range 4 {
		clients.Go(func() {
			for i := client; ; i = (i + 1) % rpcCanaries {
				select {
				case <-enough:
					return
				default:
				}
				r.checkAnswer(t, i, answers[i])
			}
		})
	}

	w.stop(t)
	code, body := r.post(t, "/v1/completions", `{"model":"tiny","prompt":"a","max_tokens":3}`)
	for _, want := range []string{`"code":"device_unavailable"`, w.address, "start serve rpc there"} {
		if code != 503 || !strings.Contains(body, want) {
			t.Errorf("without a device: %d, without %s: %s", code, want, body)
		}
	}
	r.awaitsTimes(t, "an engine has failed", nth)
	if code, body := r.send(t, "GET", "/readyz", ""); code != 503 || !strings.Contains(body, "start serve rpc there") {
		t.Errorf("/readyz without a device: %d %s", code, body)
	}

	again := startWorker(t, w.address)
	if code, body := r.post(t, "/v1/completions", `{"model":"tiny","prompt":"a","max_tokens":3}`); code != 200 {
		t.Errorf("with the device again: %d %s", code, body)
	}
	close(enough)
	clients.Wait()
	if code, body := r.send(t, "GET", "/readyz", ""); code != 200 {
		t.Errorf("/readyz with the device again: %d %s", code, body)
	}
	return again
}

// checkAnswer asks, and accepts the right answer or that a device is missing.
func (r *running) checkAnswer(t *testing.T, canary int, want string) {
	got, _, err := r.answer(canary)
	switch {
	case err != nil && !strings.Contains(err.Error(), "GPU cannot be used"):
		t.Errorf("answer %d: %v", canary, err)
	case err == nil && want != "" && got != want:
		t.Errorf("answer %d:\n%s\nnot\n%s", canary, got, want)
	}
}

// TestRPCRefused has flags and addresses that are refused in a sentence.
func TestRPCRefused(t *testing.T) {
	path := modelFile(t)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{path, "--rpc", "8.8.8.8:50052"}, exitUsage, "public address"},
		{[]string{path, "--rpc", "127.0.0.1"}, exitUsage, "HOST:PORT"},
		{[]string{path, "--rpc", "127.0.0.1:1,127.0.0.1:1"}, exitUsage, "twice"},
		{[]string{path, "--rpc", "127.0.0.1:1", "--gpu-layers", "0"}, exitUsage, "leaves them alone"},
		{[]string{path, "--rpc", "127.0.0.1:1", "--reproducible"}, exitUsage, "--reproducible cannot be held"},
		{[]string{path, "--rpc", "127.0.0.1:1", "--isolate=false"}, exitUsage, "needs an engine's process"},
		{[]string{path, "--rpc", "127.0.0.1:1"}, exitDevice, "start serve rpc there"},
		{[]string{"rpc", "--listen", "0.0.0.0:0"}, exitUsage, "no authentication"},
	} {
		code, said := runOnce(t, nil, c.args...)
		if code != c.code || !strings.Contains(said, c.says) {
			t.Errorf("%s: %d, without %q:\n%s", strings.Join(c.args[1:], " "), code, c.says, said)
		}
	}
}

// TestRPCOffline has the kernel refuse what --rpc needs, and serve say so first.
func TestRPCOffline(t *testing.T) {
	cmd := process(t, withHome(nil), modelFile(t), "--port", "0", "--rpc", "127.0.0.1:1", "--offline")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "which --offline forbids") {
		t.Errorf("%v: %s", err, out)
	}
}
