// Package thread is about threads of the operating system: the CPU time of one, and its priority.
package thread

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Thread is the one that Run's function runs on.
type Thread struct{ low bool }

// LowerPriority has all other threads of the machine come before this one. It may be called again. Only the function
// that Run has called may call it.
func (t *Thread) LowerPriority() {
	if !t.low {
		t.low = true
		lowerPriority()
	}
}

// Run calls f on a goroutine of its own that keeps its thread, and returns when f does. A thread whose priority was
// lowered ends then: none may raise its own again. If f panics, so does Run, with an error that has f's stack.
func Run(f func(*Thread)) {
	ended := make(chan any, 1) // what f panics with, or nil
	go func() {
		defer func() { ended <- recovered(recover()) }()
		var t Thread
		runtime.LockOSThread()
		f(&t)
		if !t.low {
			runtime.UnlockOSThread()
		}
	}()
	if p := <-ended; p != nil {
		panic(p)
	}
}

// RunLast is Run on a thread that all others of the machine come before.
func RunLast(f func()) {
	Run(func(own *Thread) {
		own.LowerPriority()
		f()
	})
}

// recovered returns what a goroutine has panicked with and where it did.
func recovered(p any) any {
	switch p := p.(type) {
	case nil:
		return nil
	case error:
		return fmt.Errorf("%w\n%s", p, debug.Stack())
	}
	return fmt.Errorf("%v\n%s", p, debug.Stack())
}
