//go:build !linux && !darwin

package models

import "io/fs"

// fileID returns nothing on this system: size and time must suffice.
func fileID(fs.FileInfo) (device, inode uint64, changed int64) { return 0, 0, 0 }
