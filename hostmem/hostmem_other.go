//go:build !linux

package hostmem

import "os"

// Arena does not exist on this system: New and Handed fail.
type Arena struct{}

// New fails.
func New() (*Arena, error) { return nil, ErrUnsupported }

// Handed fails.
func Handed(int) (*Arena, error) { return nil, ErrUnsupported }

// File returns nil.
func (m *Arena) File() *os.File { return nil }

// Limit fails, as do the methods after it.
func (m *Arena) Limit(int64) error { return ErrUnsupported }

// Read fails.
func (m *Arena) Read(int64, int64, func([]byte) error) error { return ErrUnsupported }

// Write fails.
func (m *Arena) Write(int64, int64, func([]byte) error) error { return ErrUnsupported }

// Discard fails.
func (m *Arena) Discard(int64, int64) error { return ErrUnsupported }

// Prepare fails.
func (m *Arena) Prepare(int64, int64) error { return ErrUnsupported }

// Taken fails.
func (m *Arena) Taken() (int64, error) { return 0, ErrUnsupported }

// Close does nothing.
func (m *Arena) Close() error { return nil }
