package remote

import (
	"runtime"
	"sync"
	"time"

	"serve/thread"
)

// clocks watch the CPU time of a child's calls. Time that a thread waits for a CPU does not count: a busy machine
// makes nobody's call too long.
type clocks struct {
	mu       sync.Mutex
	running  map[*clock]bool
	watching bool // a goroutine reads them
}

// clock is one call's.
type clock struct {
	clocks *clocks
	thread thread.Clock
	until  time.Duration
	late   func()
}

// clockTick is how often the clocks are read.
const clockTick = 20 * time.Millisecond

// start calls late, once, if the calling goroutine takes more CPU time than limit before it calls stop. It keeps its
// thread until then.
func (c *clocks) start(limit time.Duration, late func()) *clock {
	runtime.LockOSThread()
	k := &clock{
		clocks: c,
		thread: thread.CPUTime(),
		late:   late,
	}
	k.until = k.thread.Read() + limit

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		c.running = map[*clock]bool{}
	}
	if !c.watching {
		c.watching = true
		go c.watch()
	}
	c.running[k] = true
	return k
}

// stop reports whether it was called in time. A call without a limit, which has no clock, always is.
func (k *clock) stop() bool {
	if k == nil {
		return true
	}
	defer runtime.UnlockOSThread()
	k.clocks.mu.Lock()
	defer k.clocks.mu.Unlock()
	inTime := k.clocks.running[k]
	delete(k.clocks.running, k)
	return inTime
}

// move has the clock count the time of the calling thread from now on.
func (k *clock) move() {
	if k == nil {
		return
	}
	k.clocks.mu.Lock()
	defer k.clocks.mu.Unlock()
	left := k.until - k.thread.Read()
	k.thread = thread.CPUTime()
	k.until = k.thread.Read() + left
}

// watch reads the clocks as long as there are some.
func (c *clocks) watch() {
	ticker := time.NewTicker(clockTick)
	defer ticker.Stop()
	for range ticker.C {
		late, done := c.expire()
		for _, k := range late {
			k.late()
		}
		if done {
			return
		}
	}
}

// expire takes out the clocks whose time is over, and reports whether none are left.
func (c *clocks) expire() (late []*clock, done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.running {
		if k.thread.Read() > k.until {
			late = append(late, k)
			delete(c.running, k)
		}
	}
	c.watching = len(c.running) > 0
	return late, !c.watching
}
