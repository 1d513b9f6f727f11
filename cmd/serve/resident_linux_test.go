package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"serve/machine"
	"serve/models/testmodel"
	"serve/pool"
	"serve/server/ops"
)

// answered is a model's memory after its first answers: a prompt that fills batches, and one
// that does not.
func (r *running) answered(t *testing.T) (memory pool.MemoryUse, resident uint64) {
	t.Helper()
	status := func() ops.ModelStatus {
		code, text := r.send(t, "GET", "/status", "")
		var s ops.Status
		err := json.Unmarshal([]byte(text), &s)
		if code != 200 || err != nil || len(s.Models) != 1 ||
			len(s.Models[0].Memory) == 0 {
			t.Fatalf("%d %v %s", code, err, text)
		}
		return s.Models[0]
	}
	m := status()
	for _, words := range []int{min(600, m.Context/8), 1} {
		body := fmt.Sprintf(`{"model":%q,"prompt":%q,"max_tokens":8}`, m.ID, strings.Repeat("word ", words))
		if code, text := r.post(t, "/v1/completions", body); code != 200 {
			t.Fatalf("%d %s", code, text)
		}
	}
	m = status()
	resident = rollup(t, m.Process, "Rss")
	here := &soaked{cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}}
	for _, pid := range here.children() {
		if readsText(pid) {
			resident += rollup(t, pid, "Anonymous")
		}
	}
	return m.Memory[len(m.Memory)-1], resident
}

// rollup is what the system says in another place of what a process has in memory: all of it, or without files.
func rollup(t *testing.T, pid int, kind string) uint64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}

	_, rest, _ := strings.Cut(string(text), "\n"+kind+":")
	var kib uint64
	if n, _ := fmt.Sscan(rest, &kib); n != 1 || kib == 0 {
		t.Fatalf("the system does not say what the engine's process has in memory:\n%s", text)
	}
	return kib << 10
}

// TestResidentMemory compares what the engine's process has in memory after its first answers with
// the plan. The models are so small that the process is nearly all of it, and what the system maps of
// the program is its own choice: so the bound is not a part of the plan, but 32 MiB.
func TestResidentMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector takes more than the engine")
	}

	const bound = 32 << 20
	large := filepath.Join(t.TempDir(), "large.gguf")
	if err := testmodel.Write(large, testmodel.Options{ChatTemplate: testmodel.ChatML}); err != nil {
		t.Fatal(err)
	}

	for name, flags := range map[string][]string{
		"as it is":      nil,
		"read":          {"--no-mmap"},
		"not repacked":  {"--no-repack"},
		"many KV cells": {"--ctx-size", "65536", "--parallel", "16"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startServe(t, append([]string{large}, flags...)...)
			memory, resident := r.answered(t)
			off := max(memory.Planned, resident) - min(memory.Planned, resident)
			t.Logf("%s planned, %s resident", machine.FormatSize(memory.Planned), machine.FormatSize(resident))
			if off > bound {
				t.Errorf("%s planned, %s resident", machine.FormatSize(memory.Planned), machine.FormatSize(resident))
			}
			if apart := max(memory.Taken, resident) - min(memory.Taken, resident); apart > 4<<20 {
				t.Errorf("/status says that it takes %s, the system %s",
					machine.FormatSize(memory.Taken), machine.FormatSize(resident))
			}
			if said := r.errOut.String(); strings.Contains(said, "planned") {
				t.Errorf("it says that the plan does not hold:\n%s", said)
			}
		})
	}
}

// TestMemoryOfModels does the same for models of a size that people use, and their bound is 5 % of
// the plan: MEMORY_MODELS names files. `make memory` prints the table.
func TestMemoryOfModels(t *testing.T) {
	files := strings.Fields(os.Getenv("MEMORY_MODELS"))
	if len(files) == 0 {
		t.Skip("MEMORY_MODELS names no files")
	}
	for _, file := range files {
		for _, flags := range [][]string{nil, {"--no-repack"}, {"--no-mmap"}} {
			name := strings.Join(append([]string{filepath.Base(file)}, flags...), " ")
			t.Run(name, func(t *testing.T) {
				r := startServe(t, append([]string{file}, flags...)...)
				memory, resident := r.answered(t)
				off := 100 * (float64(resident)/float64(memory.Planned) - 1)
				fmt.Printf("| %-34s | %8.1f MiB | %8.1f MiB | %+.1f %% |\n",
					name, float64(memory.Planned)/(1<<20), float64(resident)/(1<<20), off)
				if off > 5 || off < -5 {
					t.Errorf("%+.1f %%", off)
				}
			})
		}
	}
}
