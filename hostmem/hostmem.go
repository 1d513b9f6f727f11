// Package hostmem is memory of the host that a process shares with its children, and that outlives them: a file in
// memory, of which a process maps only what it is about to read or write.
package hostmem

import (
	"errors"
	"fmt"
)

// ErrUnsupported says that this system has no such memory.
var ErrUnsupported = errors.New("this system has no memory that can be handed to a process")

// Check fails if a region is not one of a memory's of so many bytes, or does not begin at a multiple of a page's size.
func check(at, n, size, page int64) error {
	if at < 0 || n <= 0 || at > size || n > size-at || at%page != 0 {
		return fmt.Errorf("%d bytes at %d of %d", n, at, size)
	}
	return nil
}
