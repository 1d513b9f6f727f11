//go:build !linux

package quota

import "time"

// threadClock returns a clock of real time, of which a thread's CPU time is at most as much.
func threadClock() func() time.Duration {
	began := time.Now()
	return func() time.Duration { return time.Since(began) }
}
