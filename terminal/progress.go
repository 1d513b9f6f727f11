package terminal

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

// redraw is the minimum interval between redraws of a bar.
const redraw = 100 * time.Millisecond

// Progress shows downloads: a bar for each file on a terminal, plain lines elsewhere.
func (t *Terminal) Progress() hub.Progress {
	if f, ok := t.Err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &bars{t: t, w: f}
	}
	return &lines{t: t, now: time.Now}
}

// Counter returns a bar that counts completed items; nil unless Err is a terminal.
func (t *Terminal) Counter(of int) *progressbar.ProgressBar {
	f, ok := t.Err.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return progressbar.NewOptions(of,
		progressbar.OptionSetWriter(f),
		progressbar.OptionShowCount(),
		progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(redraw),
		progressbar.OptionUseANSICodes(true),
	)
}

// bars draws one bar after another.
type bars struct {
	t   *Terminal
	w   io.Writer
	mu  sync.Mutex
	bar *progressbar.ProgressBar
}

// maxName is the maximum length of a file's name before its bar.
const maxName = 36

// Start implements hub.Progress, as do the methods after it.
func (b *bars) Start(file string, size, have int64) {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.bar = progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(b.w),
		progressbar.OptionSetDescription(cell(keepEnd(file, maxName))),
		progressbar.OptionShowBytes(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionShowTotalBytes(true),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(redraw),
		progressbar.OptionUseANSICodes(true),
	)
	if have > 0 {
		_ = b.bar.Set64(have)
		b.bar.Reset() // measure the speed of this call only
		_ = b.bar.Set64(have)
	}
}

// Add counts bytes.
func (b *bars) Add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Add64(n)
	}
}

// Note prints a line in place of the bar, which is drawn again below.
func (b *bars) Note(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Clear()
	}
	b.t.Note("%s", text)
}

// Done ends the bar.
func (b *bars) Done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Exit()
		fmt.Fprintln(b.w)
	}
	b.bar = nil
}

// keepEnd keeps the end of a name, which is more informative than its beginning.
func keepEnd(name string, most int) string {
	if len(name) <= most {
		return name
	}
	return "…" + name[len(name)-most+1:]
}

// smallFile is the size up to which no progress is printed for a file.
const smallFile = 64 << 20

// lines prints a line for every tenth of a file.
type lines struct {
	t   *Terminal
	now func() time.Time

	mu    sync.Mutex
	file  string
	size  int64
	done  int64
	begun int64 // bytes already downloaded at the start
	start time.Time
	tenth int64
}

// Start implements hub.Progress, as do the methods after it.
func (l *lines) Start(file string, bytes, have int64) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.file = file
	l.size = bytes
	l.done = have
	l.begun = have
	l.start = l.now()
	l.tenth = have * 10 / max(bytes, 1)
	if have > 0 {
		l.t.Note("%s: %s, %s already downloaded",
			file, machine.FormatSize(uint64(bytes)), machine.FormatSize(uint64(have)))
		return
	}
	l.t.Note("%s: %s", file, machine.FormatSize(uint64(bytes)))
}

// Add counts bytes.
func (l *lines) Add(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.done += n
	tenth := l.done * 10 / max(l.size, 1)
	if tenth <= l.tenth || l.size < smallFile {
		return
	}
	l.tenth = tenth

	seconds := l.now().Sub(l.start).Seconds()
	if fetched := l.done - l.begun; seconds > 0 && fetched > 0 {
		speed := float64(fetched) / seconds
		left := time.Duration(float64(l.size-l.done) / speed * float64(time.Second)).Round(time.Second)
		l.t.Note("%s: %d%%, %s/s, %s left", l.file, tenth*10, machine.FormatSize(uint64(speed)), left)
	}
}

// Note prints a line.
func (l *lines) Note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t.Note("%s", text)
}

// Done does nothing: the last line has reported it.
func (l *lines) Done() {}
