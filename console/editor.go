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

// editor reads what a person writes, and shows what is answered. Close may be called twice.
type editor interface {
	io.Writer
	// Line returns the next lines that belong together; io.EOF at the end.
	Line(prompt string) (string, error)
	// Watch returns a context that ends when the person interrupts, until stop is called.
	Watch(ctx context.Context) (watched context.Context, stop func())
	Close()
}

// newEditor edits lines if in and out are a terminal that can, and otherwise reads them as they
// come: from a pipe, or a terminal that knows no escapes.
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
		e.ask = os.Stderr // the answers go into a file: what else is said does not belong there
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
	keyEnd       = 5  // the cursor goes to the line's end
	keyKill      = 21 // what is before it goes
)

// lineEditor is a terminal in raw mode: a key comes when it is pressed, and Ctrl-C is one
// of them.
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

// interruption is what Ctrl-C ends: an answer, while one is written.
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

// interrupt ends an answer; false if none is written.
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

// read takes keys as they come, so that an interruption is seen while nobody reads a line.
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
			return // and what was typed ahead is not meant any more
		}
		// To the terminal it is an empty line: it would take its own key for the end.
		e.broken.Store(true)
		keys = append([]byte{keyEnd, keyKill, '\r'}, keys[i+1:]...)
	}
	select {
	case e.keys <- keys:
	default: // more is typed ahead than anybody can mean
	}
}

// keyReader gives a lineEditor's keys to its terminal.
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

// plainEditor reads lines and no keys.
type plainEditor struct {
	lines   *bufio.Reader
	out     *os.File
	ask     *os.File // where prompts go
	prompts bool     // a person sees them
	signals chan os.Signal
	interruption
}

// listen hears Ctrl-C, which is a signal here.
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
