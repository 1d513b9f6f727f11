package llama

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// command runs a program and returns what it prints.
func command(t *testing.T, environ []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), environ...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestForeignBackends sees that a library in the working folder that is called as ggml's backends are is not loaded:
// who starts serve among somebody else's files does not run them.
func TestForeignBackends(t *testing.T) {
	if os.Getenv("TEST_FOREIGN_BACKENDS") != "" {
		if _, err := Devices(); err != nil {
			t.Fatal(err)
		}
		return
	}

	folder := t.TempDir()
	source := filepath.Join(folder, "backend.c")
	const code = "#include <stdlib.h>\n__attribute__((constructor)) static void run(void) { _Exit(7); }\n"
	if err := os.WriteFile(source, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"blas", "cpu", "cuda"} {
		library := filepath.Join(folder, "libggml-"+name+"-x.so")
		command(t, nil, "cc", "-shared", "-fPIC", "-o", library, source)
	}

	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run", "^TestForeignBackends$")
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "TEST_FOREIGN_BACKENDS=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("a backend in the working folder was run: %v\n%s", err, out)
	}
}
