//go:build unix

package models

import (
	"io/fs"
	"syscall"
)

// fileID returns the numbers that identify a file on this system.
func fileID(info fs.FileInfo) (device, inode uint64) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Dev), uint64(s.Ino)
	}
	return 0, 0
}
