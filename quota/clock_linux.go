package quota

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadClock returns the clock of the calling thread's CPU time, which any thread may read.
func threadClock() func() time.Duration {
	// A CPU clock's number consists of the thread's, inverted, and of what it counts: 4 for a thread's time, 2 for
	// the time that the scheduler has counted (include/linux/posix-timers.h).
	clock := int32(^unix.Gettid()<<3 | 4 | 2)
	return func() time.Duration {
		var t unix.Timespec
		if err := unix.ClockGettime(clock, &t); err != nil {
			return 0
		}
		return time.Duration(t.Nano())
	}
}
