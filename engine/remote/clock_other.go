//go:build !linux

package remote

import "time"

// threadClock is the time since it was made: the CPU time of another thread is not to be had here.
type threadClock time.Time

func clockOfThread() threadClock { return threadClock(time.Now()) }

func (c threadClock) read() time.Duration { return time.Since(time.Time(c)) }
