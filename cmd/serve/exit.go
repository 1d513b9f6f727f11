package main

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"serve/hub"
	"serve/models"
)

// Exit codes; README.md has the same table.
const (
	exitOK          = 0
	exitError       = 1   // anything without a code of its own
	exitUsage       = 2   // a flag or an argument makes no sense
	exitModel       = 3   // a model file is missing, or is no model that can be loaded
	exitMemory      = 4   // no room for the model in memory
	exitListen      = 5   // the address cannot be listened on
	exitNotFound    = 6   // no such model: a mistyped name, or none on the Hub or, offline, on this machine
	exitNetwork     = 7   // the Hub cannot be reached, or does not answer as it should
	exitIntegrity   = 8   // bytes, or a signature, are not what they should be
	exitAccess      = 9   // the Hub refuses access: a token or the acceptance of terms is missing
	exitDisk        = 10  // no room on the disk
	exitDevice      = 11  // a GPU that is there cannot be used
	exitInterrupted = 130 // by a signal, before it was done
)

var (
	errUsage  = errors.New("usage")
	errMemory = errors.New("not enough memory")
	errModel  = errors.New("unusable model")
	errDevice = errors.New("unusable GPU")
)

// exitCode is the one table from errors to exit codes.
func exitCode(err error) int {
	is := func(targets ...error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
	switch {
	case err == nil:
		return exitOK
	case is(errUsage):
		return exitUsage
	case is(context.Canceled):
		return exitInterrupted
	case is(errMemory):
		return exitMemory
	case is(errDevice):
		return exitDevice
	case is(hub.ErrIntegrity):
		return exitIntegrity
	case is(hub.ErrAccess):
		return exitAccess
	case is(hub.ErrDisk):
		return exitDisk
	case is(models.ErrReference, models.ErrUnserved, models.ErrNotHere, hub.ErrNotFound, hub.ErrOffline):
		return exitNotFound
	case is(hub.ErrNetwork):
		return exitNetwork
	case is(syscall.EADDRINUSE, syscall.EADDRNOTAVAIL), is(syscall.EACCES) && !is(errModel):
		return exitListen
	case is(models.ErrFormat, errModel, fs.ErrNotExist):
		return exitModel
	}
	return exitError
}
