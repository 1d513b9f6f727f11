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
	actual := hardware
	driver := func() string { return os.Getenv("TEST_DRIVER") }

	hardware.backends = func() []string {
		if driver() != "" {
			return []string{"CUDA"}
		}
		return actual.backends()
	}
	hardware.nodes = func(ctx context.Context) error {
		if driver() != "" {
			return nil
		}
		return actual.nodes(ctx)
	}
	hardware.devices = func() ([]llama.Device, error) {
		list, err := actual.devices()
		text, failed := os.ReadFile(driver())
		if driver() == "" || failed != nil || err != nil {
			return list, err
		}
		if string(text) == "hang" {
			select {}
		}
		return append([]llama.Device{{Name: madeUp, Description: "Made-up GPU", Type: "gpu"}}, list...), nil
	}
	hardware.warnings = func() []string {
		if _, err := os.ReadFile(driver()); driver() != "" && err != nil {
			return []string{"made-up driver: " + err.Error()}
		}
		return actual.warnings()
	}
	hardware.gpus = func() []machine.GPU {
		if where := os.Getenv("TEST_CARD"); where != "" {
			return []machine.GPU{{Vendor: machine.NVIDIA, Where: where}}
		}
		return actual.gpus()
	}
	hardware.cublas = func() error {
		if text, _ := os.ReadFile(driver()); driver() != "" && string(text) == "no cublas" {
			return errors.New("cuBLAS cannot be loaded: made-up reason")
		}
		return actual.cublas()
	}
	hardware.probe = func(device int, before func(string)) (free, total uint64, err error) {
		text, err := os.ReadFile(driver())
		if driver() == "" || err != nil {
			return actual.probe(device, before)
		}
		if device > 0 {
			return actual.probe(device-1, before)
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
	_, body := r.send(t, "GET", "/status", "")
	var status struct {
		Models []struct{ Process int }
	}
	if err := json.Unmarshal([]byte(body), &status); err != nil || len(status.Models) != 1 {
		t.Fatal(err, body)
	}
	if err := syscall.Kill(status.Models[0].Process, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.awaits(t, "an engine has failed")

	code, body := r.send(t, "GET", "/readyz", "")
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

// awaits waits until a server says something.
func (r *running) awaits(t *testing.T, words string) {
	t.Helper()
	for !strings.Contains(r.errOut.String(), words) {
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
	inside, outside := filepath.Join(home, "driver-cache", "device"), filepath.Join(t.TempDir(), "device")

	for _, c := range []struct {
		name, path, does, card string
		severity               severity
		seen                   string
	}{
		{"it works", inside, "", "", fine,
			"CUDA0 Made-up GPU, 1.0 GiB free: initializes, allocates and computes in the sandbox"},
		{"it computes nonsense", inside, "wrong", "", broken,
			"CUDA0 Made-up GPU cannot be used: compute: it computes wrong numbers"},
		{"it ends the process", inside, "crash", "", broken, "CUDA0 Made-up GPU cannot be used: compute: " +
			"the process ended: exit status 2: CUDA error: no kernel image is available; SIGABRT: abort"},
		{"it fails in the sandbox", outside, "", "", broken,
			"CUDA0 (Made-up GPU) is on this machine, but not there in the sandbox: made-up driver: open "},
		{"a card that it does not show", filepath.Join(home, "none"), "", "0000:01:00.0", broken,
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
			var list []finding
			if err := json.Unmarshal([]byte(out), &list); err != nil {
				t.Fatal(err, out, said)
			}
			list = slices.DeleteFunc(list, func(f finding) bool { return f.About != "gpu" })
			if len(list) != 1 {
				t.Fatalf("found %+v", list)
			}
			f := list[0]
			if f.Severity != c.severity || !strings.HasPrefix(f.Seen, c.seen) || (f.Do == "") != (c.severity == fine) {
				t.Errorf("found %+v", f)
			}
			if want := map[bool]int{true: exitError, false: exitOK}[c.severity == broken]; code != want {
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
	var list []finding
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err, out, said)
	}
	list = slices.DeleteFunc(list, func(f finding) bool { return f.About != "cublas" })
	if len(list) != 1 || list[0].Severity != warning || list[0].Do == "" ||
		list[0].Seen != "cuBLAS cannot be loaded: made-up reason" || code != exitOK {
		t.Errorf("exit code %d, found %+v", code, list)
	}
}

// TestReadProbe reads what a process said before it ended.
func TestReadProbe(t *testing.T) {
	const seen = `{"Seen":{"Devices":[{"name":"CUDA0","type":"gpu"}],"Warnings":["slow"]}}`
	died, cuda := errors.New("signal: aborted"), llama.Device{Name: "CUDA0"}
	for _, c := range []struct {
		name, out string
		err       error
		results   []deviceResult
		failed    string
	}{
		{"it works", seen + `{"Device":{"name":"CUDA0"},"Act":"init"}{"Device":{"name":"CUDA0"},"Done":true,"Free":7}`,
			nil, []deviceResult{{cuda, 7, ""}}, ""},
		{"it died", seen + `{"Device":{"name":"CUDA0"},"Act":"init"}{"Device":{"name":"CUDA0"},"Act":"allocate"}{"Dev`,
			died, []deviceResult{{cuda, 0, "allocate: the process ended: signal: aborted: last words"}}, ""},
		{"it died before", "", died, nil, "the process that asks drivers ended: signal: aborted: last words"},
		{"it says nonsense", seen + "what", nil, nil, "invalid character"},
	} {
		list, results, err := readProbe([]byte(c.out), c.err, []string{"last words"})
		if !slices.Equal(results, c.results) {
			t.Errorf("%s: %+v", c.name, results)
		}
		if (err == nil) != (c.failed == "") || err != nil && !strings.Contains(err.Error(), c.failed) {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.out != "" && (len(list.Devices) != 1 || len(list.Warnings) != 1) {
			t.Errorf("%s: it saw %+v", c.name, list)
		}
	}
}

// TestSlowDriver gives up on one that does not answer, with an error.
func TestSlowDriver(t *testing.T) {
	driverAt(t, filepath.Join(t.TempDir(), "device"), "hang")
	ctx, cancel := context.WithTimeout(t.Context(), 1) // is over at once
	defer cancel()
	if _, err := listDevices(ctx, ""); !errors.Is(err, errDevice) || !strings.Contains(err.Error(), "did not answer") {
		t.Errorf("got %v", err)
	}
}

func TestUnusedGPU(t *testing.T) {
	before := hardware
	defer func() { hardware = before }()
	cuda := []llama.Device{{Name: "CUDA0", Type: "gpu"}, {Name: "CPU", Type: "cpu"}}
	vulkan := []llama.Device{{Name: "Vulkan0", Type: "gpu"}}
	card := []machine.GPU{{Vendor: machine.NVIDIA, Where: "x"}}
	both := []string{"CUDA", "Vulkan"}

	for _, c := range []struct {
		name     string
		backends []string
		gpus     []machine.GPU
		devices  []llama.Device
		what     string
		advice   string
		broken   bool
	}{
		{"no GPU", nil, nil, nil, "", "", false},
		{"NVIDIA's, and a build without", nil, card, nil, "the NVIDIA GPU (x) is not used: this build", "make CUDA=1", false},
		{"AMD's, and a build without", nil, []machine.GPU{{Vendor: machine.AMD, Where: "x"}}, nil,
			"the AMD GPU (x)", "make VULKAN=1", false},
		{"it is seen", both[:1], card, cuda, "", "", false},
		{"it is not", both[:1], card, cuda[1:], "CUDA finds no device: words", "nvidia-smi", true},
		{"by another backend", both[1:], card, vulkan, "", "", false},
		{"by the other backend alone", both, card, vulkan, "CUDA finds no device", "nvidia-smi", true},
		{"another's", []string{"CUDA"}, []machine.GPU{{Vendor: machine.Intel, Where: "x"}}, nil, "", "", false},
	} {
		hardware.backends = func() []string { return c.backends }
		hardware.gpus = func() []machine.GPU { return c.gpus }
		u, found := unusedGPU(deviceList{Devices: c.devices, Warnings: []string{"words"}})
		if found != (c.what != "") || u.broken != c.broken {
			t.Errorf("%s: %t, %+v", c.name, found, u)
		}
		if !strings.Contains(u.what, c.what) || !strings.Contains(u.advice, c.advice) {
			t.Errorf("%s: %+v", c.name, u)
		}
	}

	t.Setenv("CUDA_VISIBLE_DEVICES", "-1")
	if advice := nvidiaAdvice(); !strings.Contains(advice, "CUDA_VISIBLE_DEVICES=-1") {
		t.Errorf("a variable hides it: %s", advice)
	}
}

func TestComputing(t *testing.T) {
	devices := []llama.Device{
		{Name: "CUDA0", Type: "gpu"}, {Name: "CUDA1", Type: "gpu"}, {Name: "BLAS", Type: "accel"}, {Name: "CPU", Type: "cpu"},
	}
	takes := func(name string, bytes uint64) llama.DeviceMemory {
		return llama.DeviceMemory{Name: name, Weights: bytes}
	}
	host := takes("host", 1)

	for _, c := range []struct {
		name   string
		memory []llama.DeviceMemory
		layers int
		want   []string
	}{
		{"no GPU", []llama.DeviceMemory{host}, -1, []string{"CPU"}},
		{"all layers on one", []llama.DeviceMemory{takes("CUDA0", 1), host}, -1, []string{"CUDA0"}},
		{"on both", []llama.DeviceMemory{takes("CUDA0", 1), takes("CUDA1", 1), host}, -1, []string{"CUDA0", "CUDA1"}},
		{"some layers", []llama.DeviceMemory{takes("CUDA0", 1), takes("CUDA1", 0), host}, 5, []string{"CUDA0", "CPU"}},
		{"none fits", []llama.DeviceMemory{takes("CUDA0", 1), host}, 0, []string{"CPU"}},
	} {
		var got []string
		for _, d := range computing(devices, &llama.Memory{Devices: c.memory}, c.layers) {
			got = append(got, d.Name)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
