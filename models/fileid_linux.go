package models

import (
	"io/fs"
	"syscall"
)

// fileID returns the numbers that identify a file on this system, and when it was changed last, in nanoseconds
// since 1970: unlike the time of its content, nobody can set that.
func fileID(info fs.FileInfo) (device, inode uint64, changed int64) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Dev, s.Ino, s.Ctim.Nano()
	}
	return 0, 0, 0
}
