package schema

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"serve/steps"
)

// TestCorpus compiles the schemas in a folder, which TEST_CORPUS names, each as a request would, and reports the CPU
// time that they take. With TEST_VERDICTS it writes what became of each to a file, to compare versions by.
func TestCorpus(t *testing.T) {
	folder := os.Getenv("TEST_CORPUS")
	if folder == "" {
		t.Skip("TEST_CORPUS names no folder")
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal("no schemas: ", err)
	}

	var times []time.Duration
	var verdicts strings.Builder
	accepted := 0
	for _, name := range files {
		document, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		before := cpuTime(t)
		g, err := Compile(document, Options{
			Prefix: "j",
			Closed: true,
			Budget: steps.New(context.Background(), steps.PerRequest),
		})
		took := cpuTime(t) - before
		times = append(times, took)
		if errors.Is(err, steps.ErrSpent) {
			t.Logf("%s: %d bytes, %v: %v", filepath.Base(name), len(document), took, err)
		}

		verdict := fmt.Sprint(err)
		if err == nil {
			accepted++
			verdict = "enforced"
			if len(g.Loose) > 0 {
				verdict = "not enforced " + strings.Join(g.Loose, " ")
			}
		}
		fmt.Fprintf(&verdicts, "%s %s\n", filepath.Base(name), verdict)
	}

	slices.SortFunc(times, cmp.Compare[time.Duration])
	t.Logf("%d schemas, %d accepted; CPU: p50 %v, p90 %v, p99 %v, max %v", len(files), accepted,
		times[len(times)/2], times[len(times)*9/10], times[len(times)*99/100], times[len(times)-1])
	if name := os.Getenv("TEST_VERDICTS"); name != "" {
		if err := os.WriteFile(name, []byte(verdicts.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// cpuTime is what this process has taken so far.
func cpuTime(t *testing.T) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
