// Package thread is about the operating system's thread that a goroutine runs on, which has to be locked to it
// (runtime.LockOSThread): its CPU time, and its priority.
package thread
