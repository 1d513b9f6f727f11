//go:build !linux

package main

// freeMemory returns 0: llama.cpp's own figure is taken.
func freeMemory() uint64 { return 0 }

// memoryLimit returns 0: there is none.
func memoryLimit() uint64 { return 0 }

// residentMemory returns 0: it is not known.
func residentMemory(int) uint64 { return 0 }

// residentFiles returns 0: it is not known.
func residentFiles() uint64 { return 0 }

// cpuQuota returns 0: there is none.
func cpuQuota() float64 { return 0 }
