//go:build !linux

package machine

import "math"

// FreeMemory returns 0, unknown: llama.cpp's own figure is used.
func FreeMemory() uint64 { return 0 }

// Memory returns 0: unknown.
func Memory() uint64 { return 0 }

// MemoryLimit returns 0: there is none.
func MemoryLimit() uint64 { return 0 }

// LockLimit returns the most that there can be: nobody asks the system.
func LockLimit() uint64 { return math.MaxUint64 }

// ResidentMemory returns 0: unknown.
func ResidentMemory(int) uint64 { return 0 }

// PrivateMemory returns 0: unknown.
func PrivateMemory(int) uint64 { return 0 }

// ResidentFiles returns 0: unknown.
func ResidentFiles() uint64 { return 0 }

// CPUQuota returns 0: there is none.
func CPUQuota() float64 { return 0 }
