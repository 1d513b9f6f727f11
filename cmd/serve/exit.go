package main

import (
	"errors"
	"fmt"
	"io/fs"

	"serve/audit"
	"serve/dial"
	"serve/flagset"
	"serve/host"
	"serve/hub"
	"serve/loader"
	"serve/models"
	"serve/oms"
	"serve/provenance"
	"serve/registry"
)

// Exit codes; README.md has the same table.
const (
	exitOK          = 0
	exitError       = 1   // any other failure
	exitUsage       = 2   // invalid flags or arguments
	exitModel       = 3   // a model file is missing, or cannot be loaded
	exitMemory      = 4   // not enough memory for the model
	exitListen      = 5   // the server cannot listen on the address
	exitNotFound    = 6   // no such model: a mistyped name, or none on the Hub or, offline, on this machine
	exitNetwork     = 7   // the Hub cannot be reached, or returns an unexpected response
	exitIntegrity   = 8   // a hash or a signature does not match
	exitAccess      = 9   // the Hub refuses access: a token is missing, or terms were not accepted, there or here
	exitDisk        = 10  // the disk is full
	exitDevice      = 11  // a GPU on this machine cannot be used
	exitRefused     = 12  // the policy does not admit the model
	exitInterrupted = 130 // by a signal, before it was done
)

// Kinds of errors of commands.
var (
	errUsage       = errors.New("invalid flags or arguments")
	errInterrupted = errors.New("interrupted")
)

// usageError is an error in the flags or arguments of a command: an errUsage.
type usageError struct{ error }

// Is implements the interface of package errors.
func (usageError) Is(target error) bool { return target == errUsage }
func (e usageError) Unwrap() error      { return e.error }

// usagef returns a usageError.
func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// outcomes maps errors to exit codes; the first match wins.
var outcomes = []struct {
	code  int
	kinds []error
}{
	{exitUsage, []error{errUsage, flagset.ErrUsage, loader.ErrOptions, dial.ErrUsage, audit.ErrKey, provenance.ErrUsage}},
	{exitInterrupted, []error{errInterrupted}},
	{exitMemory, []error{loader.ErrMemory}},
	{exitDevice, []error{loader.ErrDevice}},
	{exitRefused, []error{models.ErrRefused}},
	{exitIntegrity, []error{hub.ErrIntegrity, audit.ErrProof, oms.ErrSignature}},
	{exitAccess, []error{hub.ErrAccess, models.ErrTerms}},
	{exitDisk, []error{hub.ErrDisk}},
	{exitNotFound, []error{models.ErrReference, models.ErrUnserved, models.ErrNotHere}},
	{exitNotFound, []error{hub.ErrNotFound, hub.ErrOffline}},
	{exitNetwork, []error{hub.ErrNetwork}},
	{exitListen, []error{host.ErrListen}},
	{exitModel, []error{models.ErrFormat, loader.ErrModel, fs.ErrNotExist}},
}

// exitCode returns the exit code for an error.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	for _, o := range outcomes {
		for _, kind := range o.kinds {
			if errors.Is(err, kind) {
				return o.code
			}
		}
	}
	return exitError
}

// hinted is an error with advice about it.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }
func (h *hinted) Hint() string  { return h.hint }

// withHint adds advice to an error that has none of its own.
func withHint(err error, format string, args ...any) error {
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// memoryHint returns advice on making a model fit.
func memoryHint(short *loader.MemoryError) string {
	images := ""
	if short.Projector {
		images = "--mmproj none, "
	}
	return fmt.Sprintf("try a smaller --ctx-size (now %d), --parallel (now %d) or --memory-reserve, "+
		"--kv-type q8_0, %sor a smaller model", short.Context, short.Parallel, images)
}

// hintOf returns advice about an error, or "" if there is none.
func hintOf(err error) string {
	var known interface{ Hint() string }
	if errors.As(err, &known) && known.Hint() != "" {
		return known.Hint()
	}

	var short *loader.MemoryError
	var device *loader.DeviceError
	var start *loader.StartError
	switch {
	case errors.As(err, &short):
		return memoryHint(short)
	case errors.As(err, &device) && device.Missing:
		return "serve doctor tests the driver in the sandbox; if it works only outside, use --isolate=false; " +
			"--gpu-layers 0 uses the CPU"
	case errors.As(err, &device):
		return "try the driver's own tool, such as nvidia-smi; --gpu-layers 0 uses the CPU"
	case errors.As(err, &start) && start.GPUs:
		return "serve doctor tests the GPU's driver in the sandbox"
	}
	return registry.HintOf(err)
}
