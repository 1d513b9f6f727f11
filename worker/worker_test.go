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
	"testing/synctest"
	"time"
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
	if text := shown.String(); !strings.Contains(text, LinePrefix+"line 0\n") ||
		!strings.HasSuffix(text, LinePrefix+"panic: something\n") {
		t.Errorf("shown: %q", text)
	}
}

// TestHostileLog has a worker write what could be taken for something else, or what never ends.
func TestHostileLog(t *testing.T) {
	for _, c := range []struct{ name, wrote, shown string }{
		{"a terminal's commands", "\x1b[2J\x1b]0;title\x07\n", `engine: \x1b[2J\x1b]0;title\a` + "\n"},
		{"as if serve had written it", "ready\rerror: no\n", `engine: ready\rerror: no` + "\n"},
		{"other ends of lines", "a\u2028b\u0085c\vd\n", `engine: a\u2028b\u0085c\vd` + "\n"},
		{"another direction", "a\u202eb\n", `engine: a\u202eb` + "\n"},
		{"no UTF-8", "a\xff\x9bb\n", `engine: a\xff\x9bb` + "\n"},
		{"text", "größer\t10 %\n", "engine: größer\t10 %\n"},
		{"a line without end", strings.Repeat("x", 1<<20), ""},
		{"a long line", strings.Repeat("x", 1<<20) + "\nnext\n",
			"engine: " + strings.Repeat("x", maxLine) + " [cut]\nengine: next\n"},
	} {
		var shown strings.Builder
		log := NewLog(&shown)
		for part := range slices.Chunk([]byte(c.wrote), 1000) {
			if _, err := log.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if shown.String() != c.shown {
			t.Errorf("%s: %.200q, want %.200q", c.name, shown.String(), c.shown)
		}
		if len(log.partial) > maxLine {
			t.Errorf("%s: it keeps %d bytes", c.name, len(log.partial))
		}
	}
}

// TestFlood shows so many lines a second, and says how many it does not show.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shown strings.Builder
		log := NewLog(&shown)
		for range 1000 {
			fmt.Fprintln(log, "line")
		}
		if n := strings.Count(shown.String(), "\n"); n != maxLines {
			t.Errorf("%d lines at once", n)
		}

		time.Sleep(time.Second)
		fmt.Fprintln(log, "later")
		fmt.Fprintln(log, "end")
		want := "engine: [900 lines were dropped: more than 100 a second]\nengine: later\nengine: end\n"
		if !strings.HasSuffix(shown.String(), want) {
			t.Errorf("then: %q", shown.String()[len(shown.String())-200:])
		}

		for range 200 {
			fmt.Fprintln(log, "line")
		}
		log.Lines()
		if !strings.HasSuffix(shown.String(), "engine: [102 lines were dropped: more than 100 a second]\n") {
			t.Errorf("at the end: %q", shown.String()[len(shown.String())-200:])
		}
	})
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
