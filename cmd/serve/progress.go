package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"serve/hub"
	"serve/machine"
)

// newProgress shows downloads: a bar a file on a terminal, plain lines elsewhere.
func newProgress(t *terminal) hub.Progress {
	if f, ok := t.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &bars{t: t, w: f}
	}
	return &lines{t: t, now: time.Now}
}

// newCounter shows how many of some things are done, on a terminal; elsewhere it is nil.
func newCounter(t *terminal, of int) *progressbar.ProgressBar {
	f, ok := t.err.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return progressbar.NewOptions(of, progressbar.OptionSetWriter(f), progressbar.OptionShowCount(), progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionUseANSICodes(true))
}

// bars draws one bar after another.
type bars struct {
	t   *terminal
	w   io.Writer
	mu  sync.Mutex
	bar *progressbar.ProgressBar
}

func (b *bars) Start(file string, size, have int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bar = progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(b.w), progressbar.OptionSetDescription(shorten(file, 36)), progressbar.OptionShowBytes(true),
		progressbar.OptionUseIECUnits(true), progressbar.OptionShowTotalBytes(true), progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionUseANSICodes(true))
	if have > 0 {
		_ = b.bar.Set64(have)
		b.bar.Reset() // the speed is that of this call
		_ = b.bar.Set64(have)
	}
}

func (b *bars) Add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Add64(n)
	}
}

func (b *bars) Note(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Clear()
	}
	b.t.note("%s", text)
}

func (b *bars) Done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Exit()
		fmt.Fprintln(b.w)
	}
	b.bar = nil
}

// shorten keeps the end of a name, which tells more.
func shorten(name string, most int) string {
	if len(name) <= most {
		return name
	}
	return "…" + name[len(name)-most+1:]
}

// lines prints a line at every tenth of a file.
type lines struct {
	t     *terminal
	now   func() time.Time
	mu    sync.Mutex
	file  string
	size  int64
	done  int64
	begun int64 // bytes that were there at the start
	start time.Time
	tenth int64
}

func (l *lines) Start(file string, bytes, have int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file, l.size, l.done, l.begun, l.start = file, bytes, have, have, l.now()
	l.tenth = have * 10 / max(bytes, 1)
	if have > 0 {
		l.t.note("%s: %s, of which %s are here", file, machine.FormatSize(uint64(bytes)), machine.FormatSize(uint64(have)))
	} else {
		l.t.note("%s: %s", file, machine.FormatSize(uint64(bytes)))
	}
}

func (l *lines) Add(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done += n
	// A small file needs no news.
	tenth := l.done * 10 / max(l.size, 1)
	if tenth <= l.tenth || l.size < 64<<20 {
		return
	}
	l.tenth = tenth
	seconds := l.now().Sub(l.start).Seconds()
	if fetched := l.done - l.begun; seconds > 0 && fetched > 0 {
		speed := float64(fetched) / seconds
		left := time.Duration(float64(l.size-l.done) / speed * float64(time.Second)).Round(time.Second)
		l.t.note("%s: %d %%, %s/s, %s left", l.file, tenth*10, machine.FormatSize(uint64(speed)), left)
	}
}

func (l *lines) Note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t.note("%s", text)
}

func (l *lines) Done() {}
