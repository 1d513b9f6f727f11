package thread

import (
	"time"

	"golang.org/x/sys/unix"
)

// Clock is the CPU time of one thread of this process, which any thread may read.
type Clock int32

// CPUTime returns the clock of the calling thread.
func CPUTime() Clock {
	// As pthread_getcpuclockid makes it: the scheduler's clock (2) of a thread (4).
	return Clock(^unix.Gettid()<<3 | 2 | 4)
}

// Read returns the time; 0 if the thread has ended.
func (c Clock) Read() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(c), &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// longNice is by how much the niceness of a thread grows that computes for long: of a processor that others want, too,
// it gets a tenth.
const longNice = 10

// Of niceness: the lowest priority, and what the system call returns for none.
const (
	lowest = 19
	none   = 20
)

// Niceness returns the calling thread's.
func Niceness() (int, error) {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	return none - n, err
}

// lowerPriority has the calling thread give way to others, for ever. If that cannot be, nothing depends on it but how
// long others wait.
func lowerPriority() {
	if n, err := Niceness(); err == nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, min(n+longNice, lowest))
	}
}
