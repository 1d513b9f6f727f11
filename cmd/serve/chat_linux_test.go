package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"serve/chatclient"
)

// ptyProgram is a program at a pseudo-terminal.
type ptyProgram struct {
	t    *testing.T
	cmd  *exec.Cmd
	keys *os.File
	tty  *os.File // the program's end, kept open to see how it leaves it

	mu   sync.Mutex
	said bytes.Buffer
	seen int // of what it said, by await
	more chan struct{}
}

// openPty runs serve at a terminal.
func openPty(t *testing.T, environ []string, args ...string) *ptyProgram {
	t.Helper()
	return openPtyFor(t, environ, "", args...)
}

// openPtyFor is openPty with stdout in a file, unless that is "".
func openPtyFor(t *testing.T, environ []string, file string, args ...string) *ptyProgram {
	t.Helper()
	keys, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}

	c := &ptyProgram{t: t, cmd: process(t, environ, args...), keys: keys, tty: tty, more: make(chan struct{}, 1)}
	if err := pty.Setsize(keys, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}

	c.cmd.Stdin = tty
	c.cmd.Stdout = tty
	c.cmd.Stderr = tty
	if file != "" {
		out, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		c.cmd.Stdout = out
	}

	c.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}

	go func() {
		for buf := make([]byte, 4096); ; {
			n, err := keys.Read(buf)
			c.mu.Lock()
			c.said.Write(buf[:n])
			c.mu.Unlock()
			select {
			case c.more <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()

	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		tty.Close()
		keys.Close()
	})

	return c
}

func (c *ptyProgram) press(keys string) {
	c.t.Helper()
	if _, err := c.keys.WriteString(keys); err != nil {
		c.t.Fatal(err)
	}
}

// await waits until the program says something after what was awaited before.
func (c *ptyProgram) await(text string) string {
	c.t.Helper()
	late := time.After(30 * time.Second)
	for {
		c.mu.Lock()
		said := c.said.String()
		if i := strings.Index(said[c.seen:], text); i >= 0 {
			before := said[c.seen : c.seen+i]
			c.seen += i + len(text)
			c.mu.Unlock()
			return before
		}
		c.mu.Unlock()
		select {
		case <-c.more:
		case <-late:
			c.t.Fatalf("it does not say %q; the last that it says is %q", text, said[max(0, len(said)-500):])
		}
	}
}

// end waits for the program to end well, and looks how it leaves the terminal.
func (c *ptyProgram) end() {
	c.t.Helper()
	done := make(chan error, 1)
	go func() { done <- c.cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			c.t.Errorf("it ends with %v", err)
		}
	case <-time.After(30 * time.Second):
		c.t.Fatal("it does not end")
	}
	state, err := unix.IoctlGetTermios(int(c.tty.Fd()), unix.TCGETS)
	if err != nil || state.Lflag&unix.ICANON == 0 || state.Lflag&unix.ECHO == 0 || state.Lflag&unix.ISIG == 0 {
		c.t.Errorf("the terminal is left as it should not be: %+v %v", state, err)
	}
}

// TestChatAtATerminal talks, stops an answer, interrupts a line, pastes many lines, changes
// the terminal's size, and keeps what was said.
func TestChatAtATerminal(t *testing.T) {
	r := startServe(t, modelFile(t), "--ctx-size", "32768", "--parallel", "1")
	home := t.TempDir()
	c := openPty(t, []string{"HOME=" + home, "TERM=xterm", "OPENAI_API_KEY=sk-x"}, "chat", "--url", r.url)
	c.await("tiny; /help")
	c.await("> ")
	c.press("/params max_tokens 4\r")
	c.await("> ")
	c.press("hello\r")
	c.await("serve: truncated")
	c.await("> ")

	c.press("/params max_tokens 30000\r/params ignore_eos true\r")
	c.await("true")
	c.await("> ")
	c.press("tell me all\r")
	c.await("\r\n")
	c.await(" ") // of the answer
	c.press("\x03")
	c.await("serve: stopped")
	c.await("> ")
	c.press("/params max_tokens 3\r")
	c.await("> ")

	// At the prompt Ctrl-C gives up the line, and the program goes on.
	c.press("/exit\x03")
	c.await("> ")
	if err := pty.Setsize(c.keys, &pty.Winsize{Rows: 10, Cols: 20}); err != nil {
		t.Fatal(err)
	}
	c.press("\x1b[200~one\ntwo\r\nthree\x1b[201~ and four\r")
	c.await("serve: truncated")
	c.await("> ")
	// An arrow, as in a shell: the last line again.
	c.press("\x1b[A\r")
	c.await("serve: truncated")
	c.await("> ")
	c.press("/nothing\r")
	c.await("unknown command")
	c.await("> ")
	c.press("/save ~/kept.json\r")
	c.await("> ")
	c.press("\x04")
	c.end()

	kept, err := chatclient.Load(filepath.Join(home, "kept.json"))
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	for i, m := range kept.Messages {
		if want := []string{"user", "assistant"}[i%2]; m.Role != want {
			t.Errorf("message %d is %s's", i, m.Role)
		}
		if m.Role == "user" {
			asked = append(asked, m.Text)
		}
	}
	if got := strings.Join(asked, "|"); got != "hello|tell me all|one\ntwo\nthree and four|three and four" {
		t.Errorf("it was asked %q", got)
	}
	if info, err := os.Stat(filepath.Join(home, "kept.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others can read it: %v %v", info.Mode(), err)
	}
}

// TestChatAtADumbTerminal sends it no escapes; Ctrl-C still stops the answer and not the
// program.
func TestChatAtADumbTerminal(t *testing.T) {
	r := startServe(t, modelFile(t), "--ctx-size", "32768", "--parallel", "1")
	c := openPty(t, []string{"HOME=" + t.TempDir(), "TERM=dumb"},
		"chat", "tiny", "--url", r.url, "--param", "ignore_eos=true")
	c.await("> ")
	c.press("tell me all\n")
	c.await("tell me all\r\n")
	c.await(" ")
	c.press("\x03")
	c.await("stopped")
	c.await("> ")
	c.press("\x03") // with nothing to stop
	c.await("Ctrl-D exits")
	c.press("/exit\n")
	c.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.Contains(c.said.String(), "\x1b") {
		t.Error("it sends an escape")
	}
}

// TestChatIntoAFile asks at the terminal, and keeps nothing but the answers.
func TestChatIntoAFile(t *testing.T) {
	r := startServe(t, modelFile(t), "--ctx-size", "256")
	path := filepath.Join(t.TempDir(), "answers")
	c := openPtyFor(t, []string{"HOME=" + t.TempDir(), "TERM=xterm"}, path,
		"chat", "tiny", "--url", r.url, "--param", "max_tokens=5")
	c.await("> ")
	c.press("hello\n")
	c.await("> ")
	c.press("/exit\n")
	c.end()
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 || strings.Contains(string(b), "> ") {
		t.Errorf("%q %v", b, err)
	}
}

// TestColors are for a terminal, and for nobody who does not want them.
func TestColors(t *testing.T) {
	const painted = "\x1b[1;31merror:\x1b[0m"
	for _, tt := range []struct {
		environ []string
		want    bool
	}{
		{[]string{"TERM=xterm"}, true}, {[]string{"TERM=xterm", "NO_COLOR=1"}, false}, {[]string{"TERM=dumb"}, false},
		{nil, false},
	} {
		c := openPty(t, append(tt.environ, "HOME="+t.TempDir()), "show", "no-such-model")
		c.await("hint:")
		_ = c.cmd.Wait()
		c.mu.Lock()
		said := c.said.String()
		c.mu.Unlock()
		if strings.Contains(said, painted) != tt.want || strings.Contains(said, "\x1b") != tt.want {
			t.Errorf("%v: %q", tt.environ, said)
		}
	}

	// A pipe is no terminal.
	code, _, said := command([]string{"TERM=xterm", "HOME=" + t.TempDir()}, "show", "no-such-model")
	if code != exitNotFound ||
		strings.Contains(said, "\x1b") {
		t.Errorf("in a pipe: %d %q", code, said)
	}
}

// TestErrorsForScripts are JSON where that was asked for, and text besides.
func TestErrorsForScripts(t *testing.T) {
	environ, _ := homeOf(t)
	code, out, said := command(environ, "show", "no-such-model", "--json")
	var doc struct {
		Error struct {
			Message, Hint string
			Code          int `json:"exit_code"`
		}
	}
	err := json.Unmarshal([]byte(out), &doc)
	if err != nil || code != exitNotFound || doc.Error.Code != code || doc.Error.Hint == "" ||
		!strings.Contains(said, doc.Error.Message) {
		t.Errorf("%d %s%s %v", code, out, said, err)
	}
	if _, out, _ := command(environ, "show", "no-such-model"); out != "" {
		t.Errorf("for a person: %s", out)
	}
	if _, out, _ := command(environ, "show", "--json", "--no-such-flag"); !strings.Contains(out, "exit_code\": 2") {
		t.Errorf("a flag: %s", out)
	}
}

// TestChatInAPipe reads a question and prints an answer, and loads the model for it.
func TestChatInAPipe(t *testing.T) {
	model := modelFile(t)
	for _, args := range [][]string{{}, {"hello", "there"}} {
		cmd := process(
			t,
			[]string{"HOME=" + t.TempDir()},
			append(
				[]string{"chat", model, "--ctx-size", "256", "--param", "max_tokens=5", "--stats", "--system", "Be brief."},
				args...)...)
		if len(args) == 0 {
			cmd.Stdin = strings.NewReader("hello\nthere\n")
		}
		var out, errOut bytes.Buffer
		cmd.Stdout = &out
		cmd.Stderr = &errOut
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v %s", err, &errOut)
		}
		if strings.Contains(out.String(), "serve:") || !strings.Contains(errOut.String(), "prompt tokens") ||
			!strings.Contains(errOut.String(), "5 generated") {
			t.Errorf("stdout %q, stderr %q", &out, &errOut)
		}
	}

	cmd := process(t, []string{"HOME=" + t.TempDir()}, "chat", model)
	cmd.Stdin = strings.NewReader("\n")
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitUsage {
		t.Errorf("nothing to ask: %v", err)
	}
}

// TestChatFindsAServer takes one that runs, and the demo if there is none.
func TestChatFindsAServer(t *testing.T) {
	environ, _ := homeOf(t)
	alone := process(t, environ, "chat", "--param", "temperature=0")
	alone.Stdin = strings.NewReader("Who are you?")
	var answer, notes bytes.Buffer
	alone.Stdout = &answer
	alone.Stderr = &notes
	if err := alone.Run(); err != nil || !strings.Contains(answer.String(), "demo") ||
		!strings.Contains(notes.String(), "no model was named; using demo") {
		t.Errorf("with none: %v %s%s", err, &answer, &notes)
	}

	startServeIn(t, environ, modelFile(t), "--ctx-size", "256")
	cmd := process(t, environ, "chat", "tiny", "hello", "--param", "max_tokens=3")
	var out, errOut bytes.Buffer
	cmd.Stdout = &out
	cmd.Stderr = &errOut
	if err := cmd.Run(); err != nil || strings.Contains(errOut.String(), "loaded") {
		t.Errorf("%v %s", err, &errOut)
	}

	cmd = process(t, environ, "chat", "tiny", "hello", "--param", "temperature=9")
	errOut.Reset()
	cmd.Stderr = &errOut
	if err := cmd.Run(); err == nil || !strings.Contains(errOut.String(), "temperature") {
		t.Errorf("what the server refuses: %v %s", err, &errOut)
	}
	code, _, said := command(environ, "chat", "tiny", "hello", "--offline", "--url", "http://192.0.2.1")
	if code != exitUsage {
		t.Errorf("another machine, offline: %d %s", code, said)
	}
}
