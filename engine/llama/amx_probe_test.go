package llama

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// TestAMXProbe tells a compiler that keeps the tile configuration from one that throws it away, by what they wrote.
// The listings are GCC 12's: of the intrinsic as it is there, and with amx_tile_config.h.
func TestAMXProbe(t *testing.T) {
	const kept, dropped, unknown = 0, 1, 2
	writes := func(name string) string { return "cat testdata/amx/" + name + " >$out" }
	// As it is, with other rows, with other columns: $code is what the compiler was given.
	answers := func(asIs, rows, columns string) string {
		return "case $code in *rows*) " + writes(rows) + ";; *columns*) " + writes(columns) +
			";; *) " + writes(asIs) + ";; esac"
	}

	tests := map[string]struct {
		compiler string // a script that writes its listing to $out
		want     int
	}{
		"keeps all":         {answers("kept.s", "kept-rows.s", "kept-columns.s"), kept},
		"drops all":         {writes("dropped.s"), dropped},
		"drops the columns": {answers("kept.s", "kept-rows.s", "kept.s"), dropped},
		"drops the rows":    {answers("kept.s", "kept.s", "kept-columns.s"), dropped},
		"does not know AMX": {`echo "unrecognized option -mamx-tile" >&2; exit 1`, unknown},
	}

	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			compiler := filepath.Join(t.TempDir(), "c++")
			script := "#!/bin/sh\n" +
				"for code; do [ \"$previous\" != -o ] || out=$code; previous=$code; done\n" +
				test.compiler + "\n"
			if err := os.WriteFile(compiler, []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
			if got := probe(t, "testdata/amx/mmq.cpp", compiler); got != test.want {
				t.Errorf("exit code %d, want %d", got, test.want)
			}
		})
	}

	t.Run("no tile configuration", func(t *testing.T) {
		if got := probe(t, "amx_probe_test.go", "true"); got != unknown {
			t.Errorf("exit code %d, want %d", got, unknown)
		}
	})
}

// TestAMXWorkaround sees that with the header the compiler of this machine keeps the configuration, whatever it
// does without.
func TestAMXWorkaround(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("AMX is x86-64's")
	}
	header, err := filepath.Abs("amx_tile_config.h")
	if err != nil {
		t.Fatal(err)
	}
	const source = "../../build/llama/src/ggml/src/ggml-cpu/amx/mmq.cpp"
	if got := probe(t, source, "c++", "-include", header); got != 0 {
		t.Errorf("exit code %d: the configuration is dropped in spite of the header", got)
	}
}

func probe(t *testing.T, arguments ...string) int {
	t.Helper()
	out, err := exec.Command("./amx-probe.sh", arguments...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Logf("%s", out)
		return exit.ExitCode()
	}
	if err != nil {
		t.Fatal(fmt.Errorf("amx-probe.sh: %w", err))
	}
	return 0
}
