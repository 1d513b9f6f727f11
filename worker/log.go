package worker

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// Number of lines that a Log keeps: the last before a crash, and the first of a crash's message and stacks.
const (
	keptLines  = 50
	crashLines = 60
)

// Limits of what a worker can have forwarded: a worker that somebody has taken over writes what that one likes.
const (
	maxLine  = 4 << 10 // bytes of a line; the rest is dropped
	maxLines = 100     // in a second; the rest is counted
)

// LinePrefix begins every line that a Log forwards, so that no worker can write a line as if serve had written it.
const LinePrefix = "engine: "

// crashMessage is the beginning of the Go runtime's message when it crashes.
var crashMessage = regexp.MustCompile(`^(panic|fatal error|unexpected fault address|SIG[A-Z]+): `)

// Log forwards the lines that a worker writes to stderr, and keeps the last of them. From a
// crash on, it keeps them without forwarding. What is not printable is escaped.
type Log struct {
	to io.Writer

	mu      sync.Mutex
	partial []byte // of a line, at most maxLine
	cut     bool   // that line is longer
	kept    []string
	muted   bool
	left    int // lines of a crash that are still kept; 0 before one

	second  time.Time // in which lines are counted
	shown   int       // in that second
	dropped int       // since the last that was shown
}

// NewLog returns a Log that forwards lines to a writer.
func NewLog(to io.Writer) *Log { return &Log{to: to} }

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	for rest := p; len(rest) > 0; {
		part, after, whole := bytes.Cut(rest, []byte{'\n'})
		l.collect(part)
		if whole {
			l.line(l.take())
		}
		rest = after
	}
	return len(p), nil
}

// collect adds to the line that is being written.
func (l *Log) collect(part []byte) {
	room := maxLine - len(l.partial)
	if len(part) > room {
		part = part[:room]
		l.cut = true
	}
	l.partial = append(l.partial, part...)
}

// take returns the line that has been written, fit to be shown.
func (l *Log) take() string {
	line := Printable(string(l.partial))
	if l.cut {
		line += " [cut]"
	}
	l.partial = l.partial[:0]
	l.cut = false
	return line
}

// line forwards and keeps a line.
func (l *Log) line(line string) {
	crash := l.left == 0 && crashMessage.MatchString(line)
	if !l.muted {
		l.forward(line, crash)
	}
	l.keep(line)

	// Stacks follow, for a report: the first ones are the most useful.
	if crash {
		l.muted = true
		l.left = crashLines
	}
}

// forward shows a line, unless there were too many in this second and the line is not the last that is shown.
func (l *Log) forward(line string, last bool) {
	if now := time.Now(); now.Sub(l.second) >= time.Second {
		l.second = now
		l.shown = 0
		l.tellDropped()
	}
	if l.shown == maxLines && !last {
		l.dropped++
		return
	}
	l.shown++
	fmt.Fprintln(l.to, LinePrefix+line)
}

// tellDropped says how many lines were not shown.
func (l *Log) tellDropped() {
	if l.dropped > 0 {
		fmt.Fprintf(l.to, "%s[%d lines were dropped: more than %d a second]\n", LinePrefix, l.dropped, maxLines)
		l.dropped = 0
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

// Lines returns the lines that were kept, up to a crash's message, and the stacks after that. It is for a worker that
// has ended.
func (l *Log) Lines() (said, stacks []string) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if len(l.partial) > 0 {
		l.keep(l.take())
	}
	l.tellDropped()
	if i := slices.IndexFunc(l.kept, crashMessage.MatchString); i >= 0 {
		return l.kept[:i+1], l.kept[i+1:]
	}
	return l.kept, nil
}

// Printable returns a line with everything escaped that a terminal or a reader of logs could take for more than text:
// control characters, bytes that are no UTF-8, and characters that turn the direction or cannot be seen. Tabs stay.
func Printable(line string) string {
	if !strings.ContainsFunc(line, func(r rune) bool { return !plain(r) }) {
		return line
	}

	var b strings.Builder
	for i := 0; i < len(line); {
		r, size := utf8.DecodeRuneInString(line[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, line[i])
		case plain(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += size
	}
	return b.String()
}

// joiners are invisible, but part of many words and emoji.
const joiners = "\u200c\u200d"

func plain(r rune) bool {
	return r == '\t' || r != utf8.RuneError && unicode.IsPrint(r) || unicode.Is(unicode.Zs, r) ||
		strings.ContainsRune(joiners, r)
}
