//go:build !linux

package sandbox

import (
	"errors"
	"os"
)

// Enter does nothing: this system has no means to confine a process.
func Enter() {
	_ = os.Unsetenv(rulesVariable)
}

// Seal returns an error: it is not supported on this system.
func Seal() error { return errors.New("only on Linux") }

// Version returns an error: there is no Landlock on this system.
func Version() (int, error) { return 0, errors.New("only on Linux") }

// Lacks returns nothing: there are no versions of Landlock on this system.
func Lacks(int) []string { return nil }

// Probe tries nothing: nothing is refused on this system.
func Probe(Scene) []Result { return nil }
