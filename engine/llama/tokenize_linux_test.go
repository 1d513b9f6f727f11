package llama

import (
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"serve/engine"
)

// TestLongWordsCount splits a long word on the thread that asks: the clock of that thread is the one that ends calls
// which take too long.
func TestLongWordsCount(t *testing.T) {
	m := loadPre(t, "tekken")
	text := strings.Repeat("a", 256<<10)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	taken := func(clock int32) int64 {
		var now unix.Timespec
		if err := unix.ClockGettime(clock, &now); err != nil {
			t.Fatal(err)
		}
		return now.Nano()
	}

	thread := taken(unix.CLOCK_THREAD_CPUTIME_ID)
	process := taken(unix.CLOCK_PROCESS_CPUTIME_ID)
	tokens, err := m.Tokenize(text, engine.Reading{})
	thread = taken(unix.CLOCK_THREAD_CPUTIME_ID) - thread
	process = taken(unix.CLOCK_PROCESS_CPUTIME_ID) - process
	if err != nil || len(tokens) == 0 {
		t.Fatal(len(tokens), err)
	}
	if thread < process/2 {
		t.Errorf("of %d ns that the process took, its thread took %d", process, thread)
	}
}
