//go:build !linux

package hostmem

import "os"

// Memory does not exist on this system: New and Handed fail.
type Memory struct{}

// New fails.
func New() (*Memory, error) { return nil, ErrUnsupported }

// Handed fails.
func Handed(int) (*Memory, error) { return nil, ErrUnsupported }

// File returns nil.
func (m *Memory) File() *os.File { return nil }

// Limit fails, as do the methods after it.
func (m *Memory) Limit(int64) error { return ErrUnsupported }

// Read fails.
func (m *Memory) Read(int64, int64, func([]byte) error) error { return ErrUnsupported }

// Write fails.
func (m *Memory) Write(int64, int64, func([]byte) error) error { return ErrUnsupported }

// Discard fails.
func (m *Memory) Discard(int64, int64) error { return ErrUnsupported }

// Taken fails.
func (m *Memory) Taken() (int64, error) { return 0, ErrUnsupported }

// Close does nothing.
func (m *Memory) Close() error { return nil }
