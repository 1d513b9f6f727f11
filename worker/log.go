package worker

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Number of lines that a Log keeps: the last before a crash, and the first of a crash's message and stacks.
const (
	keptLines  = 50
	crashLines = 60
)

// crashMessage is the beginning of the Go runtime's message when it crashes.
var crashMessage = regexp.MustCompile(`^(panic|fatal error|unexpected fault address|SIG[A-Z]+): `)

// Log forwards the lines that a worker writes to stderr, and keeps the last of them. From a
// crash on, it keeps them without forwarding.
type Log struct {
	to io.Writer

	mu      sync.Mutex
	partial string // of a line
	kept    []string
	muted   bool
	left    int // lines of a crash that are still kept; 0 before one
}

// NewLog returns a Log that forwards lines to a writer.
func NewLog(to io.Writer) *Log { return &Log{to: to} }

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.partial += string(p)
	for {
		line, rest, whole := strings.Cut(l.partial, "\n")
		if !whole {
			return len(p), nil
		}
		l.partial = rest
		if !l.muted {
			fmt.Fprintln(l.to, line)
		}
		l.keep(line)

		// Stacks follow, for a report: the first ones are the most useful.
		if l.left == 0 && crashMessage.MatchString(line) {
			l.muted = true
			l.left = crashLines
		}
	}
}

// keep keeps the last lines before a crash, and the first lines of the crash.
func (l *Log) keep(line string) {
	switch {
	case l.left == 0:
		l.kept = append(l.kept, line)
		if len(l.kept) > keptLines {
			l.kept = l.kept[1:]
		}
	case l.left > 1:
		l.kept = append(l.kept, line)
		l.left--
	}
}

// mute stops forwarding lines.
func (l *Log) mute() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.muted = true
}

// Lines returns the lines that were kept, up to a crash's message, and the stacks after that.
func (l *Log) Lines() (said, stacks []string) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.partial != "" {
		l.keep(l.partial)
		l.partial = ""
	}
	if i := slices.IndexFunc(l.kept, crashMessage.MatchString); i >= 0 {
		return l.kept[:i+1], l.kept[i+1:]
	}
	return l.kept, nil
}
