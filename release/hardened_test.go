package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// copyingProgram has a buffer on the stack, and copies to it as much as it is told.
const copyingProgram = `
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv) {
	char buffer[64];
	memcpy(buffer, argv[0], (size_t)atoi(argv[1]));
	return buffer[argc];
}
`

// TestHardening finds what a program lacks.
func TestHardening(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("programs of Linux")
	}
	all := []string{"-O2", "-fPIE", "-pie", "-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3",
		"-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack"}
	folder := t.TempDir()
	source := filepath.Join(folder, "program.c")
	if err := os.WriteFile(source, []byte(copyingProgram), 0o600); err != nil {
		t.Fatal(err)
	}

	for name, c := range map[string]struct {
		without, with []string
		lacks         string
	}{
		"nothing": {},
		"a place": {without: []string{"-fPIE", "-pie"}, with: []string{"-no-pie", "-fno-pie"}, lacks: "-buildmode=pie"},
		"binding": {without: []string{"-Wl,-z,now"}, with: []string{"-Wl,-z,lazy"}, lacks: "-z now"},
		"tables":  {without: []string{"-Wl,-z,relro"}, with: []string{"-Wl,-z,norelro"}, lacks: "-z relro"},
		"a stack": {without: all[3:4], with: []string{"-fno-stack-protector"}, lacks: "-fstack-protector-strong"},
		"sizes":   {without: all[5:6], lacks: "-D_FORTIFY_SOURCE=3"},
		"a stack to execute": {without: []string{"-Wl,-z,noexecstack"}, with: []string{"-Wl,-z,execstack"},
			lacks: "written to and executed"},
	} {
		program := filepath.Join(folder, strings.ReplaceAll(name, " ", "-"))
		flags := slices.DeleteFunc(slices.Clone(all), func(flag string) bool { return slices.Contains(c.without, flag) })
		args := slices.Concat(flags, c.with, []string{"-o", program, source})
		if out, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}

		err := checkHardening(program)
		if (err == nil) != (c.lacks == "") || err != nil && !strings.Contains(err.Error(), c.lacks) {
			t.Errorf("without %s: %v, want %q", name, err, c.lacks)
		}
		if hardened([]string{program}) == nil {
			t.Errorf("%s: a program in C has assertions of C++", name)
		}
	}
}
