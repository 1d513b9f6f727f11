//go:build !linux

package thread

import (
	"errors"
	"time"
)

// Clock is the time since it was made: the CPU time of another thread is not to be had here.
type Clock time.Time

// CPUTime returns a clock of real time, of which a thread's CPU time is at most as much.
func CPUTime() Clock { return Clock(time.Now()) }

// Read returns the time.
func (c Clock) Read() time.Duration { return time.Since(time.Time(c)) }

// Niceness fails: elsewhere it is a process's.
func Niceness() (int, error) { return 0, errors.ErrUnsupported }

// lowerPriority does nothing.
func lowerPriority() {}
