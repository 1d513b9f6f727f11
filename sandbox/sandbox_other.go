//go:build !linux

package sandbox

import (
	"errors"
	"os/exec"
)

// ForbidNetwork returns an error: it is not supported on this system.
func ForbidNetwork() error { return errors.New("only on Linux") }

// Start starts a command without confining it.
func Start(cmd *exec.Cmd, _ Rules) (unconfined, err error) {
	return errors.New("files: only on Linux"), cmd.Start()
}

// Version returns an error: there is no Landlock on this system.
func Version() (int, error) { return 0, errors.New("only on Linux") }
