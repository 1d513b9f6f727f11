//go:build !linux

package main

// freeMemory returns 0: llama.cpp's own figure is taken.
func freeMemory() uint64 { return 0 }
