//go:build unix

package hub

import (
	"math"

	"golang.org/x/sys/unix"
)

// freeSpace returns the bytes that we can still write in a folder.
func freeSpace(dir string) (int64, bool) {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil {
		return 0, false
	}
	free := float64(s.Bavail) * float64(s.Bsize) // the fields' types differ by system
	return int64(min(free, math.MaxInt64/2)), true
}
