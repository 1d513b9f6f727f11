package main

import (
	"errors"
	"io/fs"
	"syscall"

	"serve/models"
)

// Exit codes.
const (
	exitOK     = 0
	exitError  = 1 // anything without a code of its own
	exitUsage  = 2 // a flag or an argument makes no sense
	exitModel  = 3 // a model file is missing, damaged or of an unknown kind
	exitMemory = 4 // no room for the model
	exitListen = 5 // the address cannot be listened on
)

var (
	errUsage  = errors.New("usage")
	errMemory = errors.New("not enough memory")
	errModel  = errors.New("unusable model")
)

// exitCode is the one table from errors to exit codes.
func exitCode(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, errMemory):
		return exitMemory
	case errors.Is(err, syscall.EADDRINUSE), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EACCES) && !errors.Is(err, errModel):
		return exitListen
	case errors.Is(err, models.ErrFormat), errors.Is(err, errModel), errors.Is(err, fs.ErrNotExist):
		return exitModel
	}
	return exitError
}
