package console

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/term"
)

// editor reads the user's input and shows answers. Close may be called twice.
type editor interface {
	io.Writer
	// Line returns the next message, which may have several lines; io.EOF at the end.
	Line(prompt string) (string, error)
	// Watch returns a context that is canceled when the user interrupts, until stop is called.
	Watch(ctx context.Context) (watched context.Context, stop func())
	Close()
}

// newEditor returns a line editor if in and out are a capable terminal, and otherwise a plain
// reader: for a pipe, or a terminal without escape sequences.
func newEditor(in, out *os.File, lookup func(string) string) (editor, error) {
	reads := term.IsTerminal(int(in.Fd()))
	writes := term.IsTerminal(int(out.Fd()))
	if reads && writes && lookup("TERM") != "dumb" {
		return newLineEditor(in, out)
	}

	e := &plainEditor{
		lines:   bufio.NewReader(in),
		out:     out,
		ask:     out,
		prompts: reads,
		signals: make(chan os.Signal, 1),
	}
	if !writes {
		e.ask = os.Stderr // answers go to a file, where prompts do not belong
	}
	if e.prompts {
		signal.Notify(e.signals, os.Interrupt)
		go e.listen()
	}
	return e, nil
}

// newLineEditor puts a terminal into raw mode.
func newLineEditor(in, out *os.File) (editor, error) {
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, err
	}

	e := &lineEditor{
		in:      in,
		out:     out,
		before:  before,
		keys:    make(chan []byte, 64),
		resized: make(chan os.Signal, 1),
	}
	e.terminal = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{keyReader{e}, out}, "")
	e.terminal.SetBracketedPasteMode(true)
	e.fit()

	signal.Notify(e.resized, syscall.SIGWINCH)
	go func() {
		for range e.resized {
			e.fit()
		}
	}()
	go e.read()
	return e, nil
}

// Keys, as a terminal sends them.
const (
	keyInterrupt = 3
	keyEnd       = 5  // move the cursor to the end of the line
	keyKill      = 21 // delete everything before the cursor
)

// lineEditor is a terminal in raw mode: it receives each key when it is pressed, including
// Ctrl-C.
type lineEditor struct {
	in, out  *os.File
	before   *term.State
	terminal *term.Terminal
	keys     chan []byte // closed at the end
	rest     []byte      // of the last keys
	resized  chan os.Signal
	interruption

	broken atomic.Bool // the line that is being read was interrupted
}

// interruption cancels the current answer on Ctrl-C.
type interruption struct {
	mu     sync.Mutex
	cancel context.CancelFunc
}

// Watch implements editor.
func (i *interruption) Watch(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cancel = cancel
	return ctx, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.cancel = nil
		cancel()
	}
}

// interrupt cancels the current answer; it returns false if there is none.
func (i *interruption) interrupt() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.cancel == nil {
		return false
	}
	i.cancel()
	return true
}

func (e *lineEditor) fit() {
	if width, height, err := term.GetSize(int(e.out.Fd())); err == nil && width > 0 {
		_ = e.terminal.SetSize(width, height)
	}
}

// read receives keys at all times, so that Ctrl-C works while no line is read.
func (e *lineEditor) read() {
	defer close(e.keys)
	for {
		buf := make([]byte, 1024)
		n, err := e.in.Read(buf)
		if n > 0 {
			e.take(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

func (e *lineEditor) take(keys []byte) {
	if i := strings.IndexByte(string(keys), keyInterrupt); i >= 0 {
		if e.interrupt() {
			return // and what was typed ahead is discarded
		}
		// Send the terminal an empty line: it would treat Ctrl-C itself as the end of input.
		e.broken.Store(true)
		keys = append([]byte{keyEnd, keyKill, '\r'}, keys[i+1:]...)
	}
	select {
	case e.keys <- keys:
	default: // too much was typed ahead: drop it
	}
}

// keyReader passes a lineEditor's keys to its terminal.
type keyReader struct{ *lineEditor }

func (e keyReader) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		keys, ok := <-e.keys
		if !ok {
			return 0, io.EOF
		}
		e.rest = keys
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// Write implements io.Writer.
func (e *lineEditor) Write(p []byte) (int, error) { return e.terminal.Write(p) }

func (e *lineEditor) Line(prompt string) (string, error) {
	var lines []string
	e.terminal.SetPrompt(prompt)
	for {
		line, err := e.terminal.ReadLine()
		switch {
		case e.broken.Swap(false):
			return "", nil
		case err != nil && !errors.Is(err, term.ErrPasteIndicator):
			return "", err
		}
		text, goesOn := strings.CutSuffix(line, "\\")
		lines = append(lines, text)
		if err == nil && !goesOn {
			return strings.Join(lines, "\n"), nil
		}
		e.terminal.SetPrompt(strings.Repeat(".", max(1, len(prompt)-1)) + " ")
	}
}

func (e *lineEditor) Close() {
	signal.Stop(e.resized)
	e.terminal.SetBracketedPasteMode(false)
	_ = term.Restore(int(e.in.Fd()), e.before)
}

// plainEditor reads lines, without editing.
type plainEditor struct {
	lines   *bufio.Reader
	out     *os.File
	ask     *os.File // where prompts go
	prompts bool     // print prompts for a user
	signals chan os.Signal
	interruption
}

// listen handles Ctrl-C, which is a signal here.
func (e *plainEditor) listen() {
	for range e.signals {
		if !e.interrupt() {
			fmt.Fprint(e.ask, "\nCtrl-D exits\n")
		}
	}
}

func (e *plainEditor) Write(p []byte) (int, error) { return e.out.Write(p) }

func (e *plainEditor) Line(prompt string) (string, error) {
	var lines []string
	for {
		if e.prompts {
			fmt.Fprint(e.ask, prompt)
		}
		line, err := e.lines.ReadString('\n')
		if err != nil && (line == "" || !errors.Is(err, io.EOF)) {
			return "", err
		}
		text, goesOn := strings.CutSuffix(strings.TrimRight(line, "\r\n"), "\\")
		lines = append(lines, text)
		if !goesOn {
			return strings.Join(lines, "\n"), nil
		}
	}
}

func (e *plainEditor) Close() { signal.Stop(e.signals) }
