package flagset

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"
)

// Command is a command with its flags, for who makes one of cobra's of it.
type Command struct {
	Use   string
	Short string
	// Least and Most are how many arguments it takes, and What describes them.
	Least, Most int
	What        string
	Declare     func(Set) // declares its flags; nil for none
	Run         func(ctx context.Context, args []string) error
}

// ErrUsage is what every UsageError is.
var ErrUsage = errors.New("invalid flags or arguments")

// UsageError is an error in the flags or arguments of a command.
type UsageError struct{ error }

// Usagef returns a UsageError.
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// Is implements the interface of package errors.
func (UsageError) Is(target error) bool { return target == ErrUsage }

// Unwrap returns the error itself.
func (e UsageError) Unwrap() error { return e.error }

// Given returns the values of the flags that were given, by their names.
func (s Set) Given() map[string]string {
	given := map[string]string{}
	s.Visit(func(f *pflag.Flag) { given[f.Name] = f.Value.String() })
	return given
}
