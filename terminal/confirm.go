package terminal

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Interactive reports whether questions would be seen: messages go to a terminal.
func (t *Terminal) Interactive() bool {
	f, ok := t.Err.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Confirm asks a question and reads the answer. Anything but yes is no. If the context ends first, a read of in
// remains.
func (t *Terminal) Confirm(ctx context.Context, in io.Reader, question string) (bool, error) {
	fmt.Fprintf(t.Err, "serve: %s Type yes or no: ", line(question))
	answer := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(io.LimitReader(in, 1024)).ReadString('\n') // no answer is no
		answer <- text
	}()
	select {
	case text := <-answer:
		return strings.EqualFold(strings.TrimSpace(text), "yes"), nil
	case <-ctx.Done():
		fmt.Fprintln(t.Err)
		return false, context.Cause(ctx)
	}
}
