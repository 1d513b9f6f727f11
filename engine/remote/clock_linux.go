package remote

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadClock is the CPU time of one thread of this process.
type threadClock int32

// clockOfThread returns the clock of the calling thread.
func clockOfThread() threadClock {
	// As pthread_getcpuclockid makes it: the scheduler's clock (2) of a thread (4).
	return threadClock(^unix.Gettid()<<3 | 2 | 4)
}

// read returns the time; 0 if the thread has ended.
func (c threadClock) read() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(c), &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
