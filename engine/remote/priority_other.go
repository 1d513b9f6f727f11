//go:build !linux

package remote

// lowerPriority does nothing: elsewhere a priority is a process's.
func lowerPriority() {}
