//go:build !linux

package sandbox

import "errors"

// Disconnect returns an error: it is not supported on this system.
func Disconnect(Offline) error { return errors.New("only on Linux") }

// ProbeNetwork tries nothing: nothing is refused on this system.
func ProbeNetwork(NetworkScene) []Result { return nil }
