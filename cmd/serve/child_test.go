package main

import (
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestExits tells the ends that are a process's own fault from those that are not.
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
		c := &childProcess{cmd: exec.Command("sh", "-c", script), ended: make(chan struct{}), log: &tail{to: &terminal{err: io.Discard}}}
		c.cmd.Stderr = c.log
		if err := c.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go c.wait()
		<-c.ended
		c.kill(true) // when it is noticed, it is too late
		if c.exit.Fault != fault || c.exit.How == "" {
			t.Errorf("%s: %+v", script, c.exit)
		}
		if strings.Contains(script, "last") && !slices.Contains(c.exit.Log, "last") {
			t.Errorf("%s: its last line is not there: %q", script, c.exit.Log)
		}
	}
}

// TestTail keeps what came before a crash, and the first of what came of it.
func TestTail(t *testing.T) {
	var shown strings.Builder
	log := &tail{to: &terminal{err: &shown}}
	for i := range 100 {
		fmt.Fprintf(log, "line %d\n", i)
	}
	fmt.Fprint(log, "panic: something\n\ngoroutine 1:\n")
	for i := range 200 {
		fmt.Fprintf(log, "stack %d\n", i)
	}
	kept := log.lines()
	if len(kept) != keptLines+lastLines-1 || kept[0] != "line 51" || !slices.Contains(kept, "panic: something") || !slices.Contains(kept, "stack 0") {
		t.Errorf("kept %d lines, from %q on: %q", len(kept), kept[0], kept)
	}
	if text := shown.String(); !strings.Contains(text, "line 0\n") || !strings.HasSuffix(text, "panic: something\n") {
		t.Errorf("shown: %q", text)
	}
}

func TestChildrenHaveNoSecrets(t *testing.T) {
	got := withoutSecrets([]string{"HOME=/h", "HF_TOKEN=secret", "HF_TOKEN_PATH=/t", "HUGGING_FACE_HUB_TOKEN=secret", "CUDA_VISIBLE_DEVICES=0"})
	if !slices.Equal(got, []string{"HOME=/h", "CUDA_VISIBLE_DEVICES=0"}) {
		t.Errorf("got %q", got)
	}
}
