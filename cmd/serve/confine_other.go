//go:build !linux

package main

import (
	"errors"
	"os/exec"
)

func forbidNetwork() error { return errors.New("only on Linux") }

// startConfined starts a command, which is not confined.
func startConfined(cmd *exec.Cmd, _ []string) (loose, err error) {
	return errors.New("files: only on Linux"), cmd.Start()
}

func landlockVersion() (int, error) { return 0, errors.New("only on Linux") }
