package loader

import (
	"errors"
	"fmt"

	"serve/engine"
	"serve/engine/llama"
	"serve/machine"
)

// Kinds of errors of this package.
var (
	ErrOptions = errors.New("invalid flags")
	ErrMemory  = errors.New("not enough memory")
	ErrModel   = errors.New("unusable model")
	ErrDevice  = engine.ErrDevice
)

// MemoryError means that a plan does not fit in a device's memory. It is an ErrMemory.
type MemoryError struct {
	Device   string
	Needs    llama.DeviceMemory
	Free     uint64
	Reserved uint64 // of what is free
	Limit    uint64 // of --device-memory; 0 for none
	Short    uint64 // bytes that are missing

	// The plan's options, for advice.
	Context   int
	Parallel  int
	Projector bool
}

// Error implements error.
func (e *MemoryError) Error() string {
	later := ""
	if e.Needs.Later > 0 {
		later = fmt.Sprintf(", and %s for embeddings", machine.FormatSize(e.Needs.Later))
	}
	if e.Needs.Saved > 0 {
		later += fmt.Sprintf(", and %s for the prefix cache", machine.FormatSize(e.Needs.Saved))
	}
	limit := ""
	if e.Limit > 0 {
		limit = fmt.Sprintf(", and --device-memory allows %s", machine.FormatSize(e.Limit))
	}
	return fmt.Sprintf("%v: %s needs %s%s; %s is free, of which %s is reserved%s", ErrMemory,
		e.Device, describeParts(e.Needs), later, machine.FormatSize(e.Free), machine.FormatSize(e.Reserved), limit)
}

// Unwrap implements the interface of package errors.
func (e *MemoryError) Unwrap() error { return ErrMemory }

// DeviceError means that a GPU which exists, or existed, cannot be used. The model does not
// fall back to another device. It is an ErrDevice.
type DeviceError struct {
	Text string

	// Todo is what to do about it; empty if that depends on the driver.
	Todo string

	// Missing is set if the driver works, but not in the engine's process; otherwise the driver
	// cannot be queried.
	Missing bool
}

// Error implements error.
func (e *DeviceError) Error() string { return fmt.Sprintf("%v: %s", ErrDevice, e.Text) }

// Unwrap implements the interface of package errors.
func (e *DeviceError) Unwrap() error { return ErrDevice }

// Hint says what to do about the error, if that is known.
func (e *DeviceError) Hint() string { return e.Todo }

// StartError means that an engine's process ended before it had loaded its model. It is an
// ErrModel.
type StartError struct {
	Err  error
	GPUs bool // it would have used GPUs
}

// Error implements error.
func (e *StartError) Error() string { return fmt.Sprintf("%v: %v", ErrModel, e.Err) }

// Unwrap implements the interface of package errors.
func (e *StartError) Unwrap() []error { return []error{ErrModel, e.Err} }

// fileError means that a model's file cannot be used: Err says which one and why. It is an ErrModel.
type fileError struct{ err error }

// Error implements error.
func (e *fileError) Error() string { return e.err.Error() }

// Unwrap implements the interface of package errors.
func (e *fileError) Unwrap() []error { return []error{ErrModel, e.err} }

// failure is an error in a form that can be sent to another process.
type failure struct {
	Text    string
	Options bool // it is an ErrOptions; otherwise an ErrModel, unless one of the following is set
	NoRoom  *MemoryError
	Device  *DeviceError
	Wrong   bool // the model was loaded, and computed wrong results
}

func failureOf(err error) *failure {
	f := &failure{
		Text:    err.Error(),
		Options: errors.Is(err, ErrOptions),
		Wrong:   errors.Is(err, llama.ErrWrong),
	}
	_ = errors.As(err, &f.NoRoom)
	_ = errors.As(err, &f.Device)
	return f
}

// err converts a failure back to an error.
func (f *failure) err() error {
	switch {
	case f.NoRoom != nil:
		return f.NoRoom
	case f.Device != nil:
		return f.Device
	case f.Options:
		return &childError{f.Text, ErrOptions}
	case f.Wrong:
		return &childError{f.Text, errors.Join(ErrModel, llama.ErrWrong)}
	}
	return &childError{f.Text, ErrModel}
}

// badOption returns an ErrOptions. Its text names the flag.
func badOption(format string, args ...any) error {
	return &childError{fmt.Sprintf(format, args...), ErrOptions}
}

// childError is an error that has the text and the kind alone, such as one from another process.
type childError struct {
	text string
	kind error
}

func (e *childError) Error() string { return e.text }
func (e *childError) Unwrap() error { return e.kind }
