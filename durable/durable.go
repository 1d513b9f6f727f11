// Package durable makes changes of folders outlive a loss of power.
package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// SyncFolder makes the names in a folder durable, as far as the file system can.
func SyncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}

	err = f.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil // the file system cannot
	}
	return errors.Join(err, f.Close())
}
