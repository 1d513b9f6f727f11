package main

import (
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
	"serve/kernels"
)

// failKernels makes this process, if it computes, die of the first kernels named and compute nonsense with the others,
// or die with the words of a card's driver.
func failKernels(crashing, wrong, refusing string) {
	before := func(name string) error {
		if slices.Contains(strings.Split(crashing, ","), name) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGILL)
			select {} // the signal is on its way
		}
		if slices.Contains(strings.Split(wrong, ","), name) {
			return fmt.Errorf("%w: made to, by a test", llama.ErrWrong)
		}
		return nil
	}

	use := hardware.UseKernels
	timing := hardware.TimeKernels
	hardware.UseKernels = func(name string) error {
		if refusing != "" {
			fmt.Fprintln(os.Stderr, refusing)
			_ = syscall.Kill(os.Getpid(), syscall.SIGABRT)
			select {}
		}
		return errors.Join(before(name), use(name))
	}
	hardware.TimeKernels = func(
		paths []string, o llama.Options, names []string, trying func(string),
	) ([]kernels.Timing, error) {
		return timing(paths, o, names, func(name string) {
			trying(name)
			_ = before(name)
		})
	}
}

// usableKernels are those of this processor, of which the tests need two.
func usableKernels(t *testing.T) []string {
	t.Helper()
	usable := kernels.Usable(llama.Kernels(), nil)
	if len(usable) < 2 {
		t.Skip("this build has one kind of kernels: ", usable)
	}
	return usable
}

// auto lets serve choose kernels, as it does unless it is told.
const auto = "SERVE_KERNELS=auto"

// TestMeasuredKernels measures kernels when the first model of a shape comes, and tells everywhere what it found.
func TestMeasuredKernels(t *testing.T) {
	usable := usableKernels(t)
	environ, home := homeOf(t)
	environ = append(environ, auto)
	model := modelFile(t)

	r := startServeIn(t, environ, model, "--ctx-size", "128")
	if !strings.Contains(r.errOut.String(), "serve: measured") || !strings.Contains(r.errOut.String(), "serve: kernels") {
		t.Errorf("at the start it says nothing of kernels:\n%s", r.errOut)
	}
	chosen := statusOf(t, r).Models[0].Kernels
	if chosen == nil || chosen.Name != chosen.Timings[0].Kernels || len(chosen.Timings) != len(usable) {
		t.Fatalf("of %v the status says %+v", usable, chosen)
	}
	_, metrics := r.send(t, "GET", "/metrics", "")
	if !strings.Contains(metrics, `serve_model_kernels{kernels="`+chosen.Name+`",model="tiny"} 1`) {
		t.Error("the metrics do not name the kernels")
	}
	if _, out, _ := command(environ, "doctor", "--port", "0"); !strings.Contains(out, chosen.Name+": about") {
		t.Errorf("doctor does not tell what was measured:\n%s", out)
	}
	r.stop()
	r.done <- <-r.done

	again := startServeIn(t, environ, model, "--ctx-size", "128")
	if strings.Contains(again.errOut.String(), "serve: measured") {
		t.Errorf("what was measured is not remembered in %s:\n%s", home, again.errOut)
	}
	if name := statusOf(t, again).Models[0].Kernels.Name; name != chosen.Name {
		t.Errorf("%s the first time, %s the second", chosen.Name, name)
	}
}

// TestFailingKernels has kernels end the engine, or compute nonsense: others serve, and all places tell.
func TestFailingKernels(t *testing.T) {
	for name, variable := range map[string]string{
		"crashing": "TEST_CRASHING_KERNELS",
		"wrong":    "TEST_WRONG_KERNELS",
	} {
		t.Run(name, func(t *testing.T) {
			usable := usableKernels(t)
			bad := usable[:len(usable)-1]
			t.Setenv(variable, strings.Join(bad, ","))
			environ, _ := homeOf(t)
			environ = append(environ, auto)

			r := startServeIn(t, environ, modelFile(t), "--ctx-size", "128")
			r.post(t, "/v1/completions", `{"model":"tiny","prompt":"a","max_tokens":3}`)
			said := statusOf(t, r).Models[0].Kernels
			if said.Name != usable[len(usable)-1] {
				t.Errorf("%q serve", said.Name)
			}
			_, metrics := r.send(t, "GET", "/metrics", "")
			_, doctor, _ := command(environ, "doctor", "--port", "0")
			if fastest := said.Timings[0].Kernels; fastest != said.Name && said.Refused[fastest].Reason == "" {
				t.Errorf("the status does not say that %s failed: %+v", fastest, said)
			}
			for b := range said.Refused {
				if !strings.Contains(metrics, `serve_kernels_refused{kernels="`+b+`"`) ||
					!strings.Contains(doctor, b+" is not used") ||
					!strings.Contains(r.errOut.String(), "the kernels "+b+" failed") {
					t.Errorf("%s failed, and not all places say so:\n%s\n%s", b, doctor, r.errOut)
				}
			}
			if len(said.Refused) == 0 {
				t.Error("nothing is said to have failed")
			}
		})
	}
}

// TestRefusingCard does not look for other kernels of the CPU where a card's driver is at fault.
func TestRefusingCard(t *testing.T) {
	for refusal, advice := range map[string]string{
		"CUDA error: out of memory": "nvidia-smi",
		"CUDA error: the provided PTX was compiled with an unsupported toolchain.": "update the driver",
	} {
		t.Setenv("TEST_REFUSING_CARD", refusal)
		environ, _ := homeOf(t)
		code, said := runOnce(t, environ, modelFile(t), "--port", "0")
		if code != exitDevice || !strings.Contains(said, "unusable GPU: the GPU's driver failed: "+refusal) ||
			!strings.Contains(said, advice) || strings.Contains(said, "trying") || strings.Contains(said, "goroutine") {
			t.Errorf("exit code %d:\n%s", code, said)
		}
	}
}

// TestNoKernels never becomes ready where no kernels compute.
func TestNoKernels(t *testing.T) {
	usable := usableKernels(t)
	for name, test := range map[string]struct {
		variable string
		flags    []string
		says     string
	}{
		"all crash":           {"TEST_CRASHING_KERNELS", nil, "illegal instruction"},
		"all compute wrongly": {"TEST_WRONG_KERNELS", nil, "wrong results"},
		"the one asked for":   {"TEST_CRASHING_KERNELS", []string{"--kernels", usable[0]}, "illegal instruction"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(test.variable, strings.Join(usable, ","))
			environ, home := homeOf(t)
			code, said := runOnce(t, environ, append([]string{modelFile(t), "--port", "0"}, test.flags...)...)
			if code != exitModel || strings.Contains(said, "serve: ready") || !strings.Contains(said, test.says) {
				t.Errorf("exit code %d:\n%s", code, said)
			}

			// What fails with all of them may be the model's fault.
			text, err := os.ReadFile(filepath.Join(home, "kernels.json"))
			if err == nil && strings.Contains(string(text), "reason") {
				t.Errorf("kernels are refused for good:\n%s", text)
			}
		})
	}

	code, said := runOnce(t, nil, modelFile(t), "--kernels", "abacus")
	if code != exitUsage || !strings.Contains(said, usable[0]) {
		t.Errorf("unknown kernels: exit code %d:\n%s", code, said)
	}
}

func statusOf(t *testing.T, r *running) (status struct {
	Models []struct {
		Kernels *kernels.Choice `json:"kernels"`
	} `json:"models"`
}) {
	t.Helper()
	_, text := r.send(t, "GET", "/status", "")
	if err := json.Unmarshal([]byte(text), &status); err != nil || len(status.Models) == 0 {
		t.Fatal(err, text)
	}
	return status
}
