package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"serve/doctor"
	"serve/engine/llama"
	"serve/machine"
	"serve/sandbox"
)

// A made-up driver: TEST_DRIVER is a file that it opens, as a driver opens its device.
// Where it can, there is a GPU, which does what the file says. TEST_CARD puts a card into
// the machine, whatever drivers say, and either makes this a build with CUDA.
const madeUp = "CUDA0"

// playDriver lets a made-up driver take part. Without its variables all is as it is.
func playDriver() {
	actual := *hardware
	driver := func() string { return os.Getenv("TEST_DRIVER") }

	hardware.Backends = func() []string {
		if driver() != "" {
			return []string{"CUDA"}
		}
		return actual.Backends()
	}
	hardware.Nodes = func(ctx context.Context) error {
		if driver() != "" {
			return nil
		}
		return actual.Nodes(ctx)
	}
	hardware.Devices = func() ([]llama.Device, error) {
		list, err := actual.Devices()
		text, failed := os.ReadFile(driver())
		if driver() == "" || failed != nil || err != nil {
			return list, err
		}
		if string(text) == "hang" {
			select {}
		}
		return append([]llama.Device{{Name: madeUp, Description: "Made-up GPU", Type: "gpu"}}, list...), nil
	}
	hardware.Warnings = func() []string {
		if _, err := os.ReadFile(driver()); driver() != "" && err != nil {
			return []string{"made-up driver: " + err.Error()}
		}
		return actual.Warnings()
	}
	hardware.GPUs = func() []machine.GPU {
		if where := os.Getenv("TEST_CARD"); where != "" {
			return []machine.GPU{{Vendor: machine.NVIDIA, Where: where}}
		}
		return actual.GPUs()
	}
	hardware.LoadCUBLAS = func() error {
		if text, _ := os.ReadFile(driver()); driver() != "" && string(text) == "no cublas" {
			return errors.New("cuBLAS cannot be loaded: made-up reason")
		}
		return actual.LoadCUBLAS()
	}
	hardware.UseKernels = func(name string) error {
		if text, _ := os.ReadFile(driver()); driver() != "" && string(text) == "full" {
			_ = os.WriteFile(driver(), nil, 0o600) // for the next one
			fmt.Fprintln(os.Stderr, "CUDA error: out of memory")
			fmt.Fprintln(os.Stderr, "  current device: 0, in function alloc at made-up.cu:1")
			_ = syscall.Kill(os.Getpid(), syscall.SIGABRT)
			select {}
		}
		return actual.UseKernels(name)
	}
	hardware.Probe = func(device int, before func(string)) (free, total uint64, err error) {
		text, err := os.ReadFile(driver())
		if driver() == "" || err != nil {
			return actual.Probe(device, before)
		}
		if device > 0 {
			return actual.Probe(device-1, before)
		}
		before(llama.ActInit)
		before(llama.ActCompute)
		switch string(text) {
		case "crash":
			fmt.Fprintln(os.Stderr, "CUDA error: no kernel image is available")
			_ = syscall.Kill(os.Getpid(), syscall.SIGABRT)
			select {}
		case "wrong":
			return 1 << 30, 2 << 30, errors.New("compute: it computes wrong numbers")
		}
		return 1 << 30, 2 << 30, nil
	}
}

// driverAt makes a made-up driver's file; in the engines' cache they can open it, too.
func driverAt(t *testing.T, path, does string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(does), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TEST_DRIVER", path)
}

// needLandlock skips a test where engines can open whatever they like.
func needLandlock(t *testing.T) {
	t.Helper()
	if _, err := sandbox.Version(); err != nil {
		t.Skip(err)
	}
}

// TestDriverFailsInTheSandbox has a driver that works in the parent and fails in the
// child: that is an error, unless the processor was asked for.
func TestDriverFailsInTheSandbox(t *testing.T) {
	needLandlock(t)
	environ, _ := homeOf(t)
	model := modelFile(t)
	driverAt(t, filepath.Join(t.TempDir(), "device"), "")
	t.Setenv("TEST_CARD", "0000:01:00.0")

	code, _, said := command(environ, model, "--port", "0", "--ctx-size", "128")
	if code != exitDevice {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		"CUDA0 (Made-up GPU)", "made-up driver: open ", "permission denied", "hint: ", "--gpu-layers 0", "serve doctor",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if strings.Contains(said, "ready") {
		t.Errorf("it was ready:\n%s", said)
	}

	// On the processor, as asked, and every place says so.
	r := startServeIn(t, environ, model, "--ctx-size", "128", "--gpu-layers", "0")
	const why = "the GPU is turned off by --gpu-layers 0"
	if said := r.errOut.String(); !strings.Contains(said, "threads; "+why) {
		t.Errorf("the device line:\n%s", said)
	}
	if _, out, _ := command(environ, "ps"); !strings.Contains(out, "CPU ("+why+")") {
		t.Errorf("ps: %s", out)
	}
	for path, wants := range map[string][]string{
		"/status":  {`"why_processor":"` + why + `"`, `"devices":[{"name":"CPU"`},
		"/metrics": {`serve_model_gpu_unused{model="tiny"} 1`, `serve_model_device{device="CPU",model="tiny"} 1`},
	} {
		_, body := r.send(t, "GET", path, "")
		for _, want := range wants {
			if !strings.Contains(body, want) {
				t.Errorf("%s does not say %s: %s", path, want, body)
			}
		}
	}
}

// TestDeviceGoneAtRestart has a device that is there for the first child, not for the
// next, and then there again.
func TestDeviceGoneAtRestart(t *testing.T) {
	environ, home := homeOf(t)
	device := filepath.Join(home, "driver-cache", "device")
	driverAt(t, device, "")

	r := startServeIn(t, environ, modelFile(t), "--ctx-size", "128")
	if status, body := r.send(t, "GET", "/readyz", ""); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	if err := os.Remove(device); err != nil {
		t.Fatal(err)
	}
	_, text := r.send(t, "GET", "/status", "")
	var status struct {
		Models []struct{ Process int }
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil || len(status.Models) != 1 {
		t.Fatal(err, text)
	}
	if err := syscall.Kill(status.Models[0].Process, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// Whether it comes before the engine is given up or after, the reason is the same.
	code, body := r.post(t, "/v1/completions", `{"model":"tiny","prompt":"a","max_tokens":3}`)
	if code != 503 || !strings.Contains(body, `"code":"device_unavailable"`) {
		t.Errorf("a request: %d %s", code, body)
	}
	r.awaits(t, "an engine has failed")

	code, body = r.send(t, "GET", "/readyz", "")
	for _, want := range []string{`"tiny":"device missing"`, "CUDA0 (Made-up GPU)", "no such file"} {
		if code != 503 || !strings.Contains(body, want) {
			t.Errorf("/readyz: %d, without %s: %s", code, want, body)
		}
	}
	code, body = r.post(t, "/v1/completions", `{"model":"tiny","prompt":"a","max_tokens":3}`)
	if code != 503 || !strings.Contains(body, `"code":"device_unavailable"`) {
		t.Errorf("a request: %d %s", code, body)
	}
	if _, out, _ := command(environ, "ps"); !strings.Contains(out, "device missing") {
		t.Errorf("ps: %s", out)
	}

	driverAt(t, device, "")
	if code, body := r.post(t, "/v1/completions", `{"model":"tiny","prompt":"a","max_tokens":3}`); code != 200 {
		t.Errorf("with the device again: %d %s", code, body)
	}
	if code, body := r.send(t, "GET", "/readyz", ""); code != 200 || strings.Contains(body, "reasons") {
		t.Errorf("/readyz: %d %s", code, body)
	}
}

// TestDeviceOutOfMemory has a device that runs out of memory while a model is loaded, and again when its engine is
// restarted: each time the next plan leaves more free there, and says so.
func TestDeviceOutOfMemory(t *testing.T) {
	environ, home := homeOf(t)
	device := filepath.Join(home, "driver-cache", "device")
	driverAt(t, device, "full")
	r := startServeIn(t, environ, modelFile(t), "--ctx-size", "128")
	const first = "CUDA0 ran out of memory, and 512.0 MiB more are left free there: it is planned again"
	if said := r.errOut.String(); !strings.Contains(said, first) {
		t.Errorf("it does not say %q:\n%s", first, said)
	}

	driverAt(t, device, "full")
	_, text := r.send(t, "GET", "/status", "")
	var status struct {
		Models []struct{ Process int }
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil || len(status.Models) != 1 {
		t.Fatal(err, text)
	}
	if err := syscall.Kill(status.Models[0].Process, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code, body := r.post(t, "/v1/completions", `{"model":"tiny","prompt":"a","max_tokens":3}`); code != 200 {
		t.Errorf("a request: %d %s", code, body)
	}
	r.awaits(t, "CUDA0 ran out of memory, and 1.0 GiB more are left free there: the plan is as before")
}

// awaits waits until a server says something.
func (r *running) awaits(t *testing.T, words string) {
	t.Helper()
	r.awaitsTimes(t, words, 1)
}

// awaitsTimes waits until a server has said something n times.
func (r *running) awaitsTimes(t *testing.T, words string, n int) {
	t.Helper()
	for strings.Count(r.errOut.String(), words) < n {
		select {
		case <-r.errOut.more:
		case code := <-r.done:
			r.done <- code
			t.Fatalf("it ended with %d and did not say %q:\n%s", code, words, r.errOut)
		}
	}
}

// TestDoctorTriesDevices looks at drivers that work, and at those that do not.
func TestDoctorTriesDevices(t *testing.T) {
	environ, home := homeOf(t)
	inside := filepath.Join(home, "driver-cache", "device")
	outside := filepath.Join(t.TempDir(), "device")

	for _, c := range []struct {
		name, path, does, card string
		severity               doctor.Severity
		seen                   string
	}{
		{"it works", inside, "", "", doctor.Fine,
			"CUDA0 Made-up GPU, 1.0 GiB free: initializes, allocates and computes in the sandbox"},
		{"it computes nonsense", inside, "wrong", "", doctor.Broken,
			"CUDA0 Made-up GPU cannot be used: compute: it computes wrong numbers"},
		{"it ends the process", inside, "crash", "", doctor.Broken, "CUDA0 Made-up GPU cannot be used: compute: " +
			"the process ended: exit status 2: CUDA error: no kernel image is available; SIGABRT: abort"},
		{"it fails in the sandbox", outside, "", "", doctor.Broken,
			"CUDA0 (Made-up GPU) is on this machine, but not visible in the sandbox: made-up driver: open "},
		{"a card that it does not show", filepath.Join(home, "none"), "", "0000:01:00.0", doctor.Broken,
			"the NVIDIA GPU (0000:01:00.0) is not used: CUDA finds no device: made-up driver: open "},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.path == outside {
				needLandlock(t)
			}
			driverAt(t, c.path, c.does)
			if c.card != "" {
				os.Remove(c.path)
			}
			t.Setenv("TEST_CARD", c.card)

			code, out, said := command(environ, "doctor", "--port", "0", "--json")
			var list []doctor.Finding
			if err := json.Unmarshal([]byte(out), &list); err != nil {
				t.Fatal(err, out, said)
			}
			list = slices.DeleteFunc(list, func(f doctor.Finding) bool { return f.About != "gpu" })
			if len(list) != 1 {
				t.Fatalf("found %+v", list)
			}
			f := list[0]
			if f.Severity != c.severity || !strings.HasPrefix(f.Seen, c.seen) || (f.Do == "") != (c.severity == doctor.Fine) {
				t.Errorf("found %+v", f)
			}
			if want := map[bool]int{true: exitError, false: exitOK}[c.severity == doctor.Broken]; code != want {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// TestDoctorTriesCUBLAS warns where a card is and the library is not: only some models
// need it.
func TestDoctorTriesCUBLAS(t *testing.T) {
	environ, home := homeOf(t)
	driverAt(t, filepath.Join(home, "driver-cache", "device"), "no cublas")

	code, out, said := command(environ, "doctor", "--port", "0", "--json")
	var list []doctor.Finding
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err, out, said)
	}
	list = slices.DeleteFunc(list, func(f doctor.Finding) bool { return f.About != "cublas" })
	if len(list) != 1 || list[0].Severity != doctor.Warning || list[0].Do == "" ||
		list[0].Seen != "cuBLAS cannot be loaded: made-up reason" || code != exitOK {
		t.Errorf("exit code %d, found %+v", code, list)
	}
}
