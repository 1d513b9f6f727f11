//go:build !linux

package sandbox

import (
	"errors"
	"os/exec"
)

// ForbidNetwork does nothing here, and says so.
func ForbidNetwork() error { return errors.New("only on Linux") }

// Start starts a command, which is not confined.
func Start(cmd *exec.Cmd, _ Rules) (unconfined, err error) {
	return errors.New("files: only on Linux"), cmd.Start()
}

// Version returns the kernel's version of Landlock, of which there is none.
func Version() (int, error) { return 0, errors.New("only on Linux") }
