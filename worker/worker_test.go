package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestExits distinguishes the ends that are a process's own fault from those that are not.
func TestExits(t *testing.T) {
	for script, fault := range map[string]bool{
		"exit 0":                false,
		"exit 2":                true,
		"kill -s ABRT $$":       true,
		"kill -s SEGV $$":       true,
		"kill -s KILL $$":       false,
		"kill -s TERM $$":       false,
		"echo last >&2; exit 1": true,
	} {
		cmd := exec.Command("sh", "-c", script)
		p, err := Start(cmd, NewLog(io.Discard), cmd.Start)
		if err != nil {
			t.Fatal(err)
		}

		exit := p.Wait()
		p.Kill(true) // of a process that has ended: no harm
		if exit.Fault != fault || exit.How == "" {
			t.Errorf("%s: %+v", script, exit)
		}
		if strings.Contains(script, "last") && !slices.Contains(exit.Log, "last") {
			t.Errorf("%s: its last line is not there: %q", script, exit.Log)
		}
	}
}

// TestLog keeps what came before a crash, and the first lines of the crash.
func TestLog(t *testing.T) {
	var shown strings.Builder
	log := NewLog(&shown)
	for i := range 100 {
		fmt.Fprintf(log, "line %d\n", i)
	}
	fmt.Fprint(log, "panic: something\n\ngoroutine 1:\n")
	for i := range 200 {
		fmt.Fprintf(log, "stack %d\n", i)
	}

	said, stacks := log.Lines()
	if said[len(said)-1] != "panic: something" || !slices.Contains(stacks, "stack 0") {
		t.Errorf("said %q, stacks %q", said, stacks)
	}
	kept := slices.Concat(said, stacks)
	if len(kept) != keptLines+crashLines-1 || kept[0] != "line 51" {
		t.Errorf("kept %d lines, from %q on: %q", len(kept), kept[0], kept)
	}
	if text := shown.String(); !strings.Contains(text, "line 0\n") || !strings.HasSuffix(text, "panic: something\n") {
		t.Errorf("shown: %q", text)
	}
}

// TestOutput runs commands to their end, and past their time.
func TestOutput(t *testing.T) {
	for _, test := range []struct {
		script  string
		out     string
		said    string // the last line
		failed  string // words of the error
		crashed bool
	}{
		{script: "echo out; echo err >&2", out: "out\n", said: "err"},
		{script: "echo 'panic: x' >&2; echo stack >&2; exit 2", said: "panic: x", failed: "exit status 2", crashed: true},
		{script: "kill -s ILL $$", failed: "illegal instruction", crashed: true},
		{script: "exit 1", failed: "exit status 1"},
		{script: "head -c 2000000 /dev/zero", failed: "exit status"},
	} {
		cmd := exec.Command("sh", "-c", test.script)
		out, said, err := Output(t.Context(), cmd, cmd.Start)
		last := ""
		if len(said) > 0 {
			last = said[len(said)-1]
		}
		if test.out != "" && string(out) != test.out || last != test.said || Crashed(err) != test.crashed {
			t.Errorf("%s: %q, %q, %v", test.script, out, said, err)
		}
		if (err == nil) != (test.failed == "") || err != nil && !strings.Contains(err.Error(), test.failed) {
			t.Errorf("%s: %v", test.script, err)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 1) // is over at once
	defer cancel()
	cmd := exec.Command("sleep", "600")
	if _, _, err := Output(ctx, cmd, cmd.Start); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("past its time: %v", err)
	}
}

func TestWorkersHaveNoSecrets(t *testing.T) {
	environ := []string{
		"HOME=/h", "HF_TOKEN=secret", "HF_TOKEN_PATH=/t", "HUGGING_FACE_HUB_TOKEN=secret", "CUDA_VISIBLE_DEVICES=0",
	}
	cmd, err := Command(environ, "engine")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(cmd.Env, []string{"HOME=/h", "CUDA_VISIBLE_DEVICES=0", "GOTRACEBACK=single"}) {
		t.Errorf("got %q", cmd.Env)
	}
	if environ[1] != "HF_TOKEN=secret" {
		t.Errorf("the parent's environment was changed: %q", environ)
	}
}
