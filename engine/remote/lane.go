package remote

import "serve/thread"

// longCall is how many bytes a call sends that is known to take long. C++ splits common text of this size in 3 ms.
const longCall = 16 << 10

// lane is where a call computes. Short calls, and the engine's steps, come before long ones.
type lane struct {
	long  bool
	clock *clock // nil for a call without a limit
}

// run calls f. A long call's has a thread of its own, whose priority is low and which ends with it. All else of the
// call stays on other threads: one that computes rarely must not keep the lock of a socket, or Go's collector, waiting.
func (l lane) run(f func()) {
	if !l.long {
		f()
		return
	}

	thread.RunLast(func() {
		l.clock.move()
		f()
	})
}
