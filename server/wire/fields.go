package wire

import (
	"math"

	"serve/fault"
)

// Accepted is for a field whose loss nobody can observe: its type is checked and no more.
func Accepted[T any](check func(Value) *fault.Error) Setter[T] {
	return func(_ *T, v Value) *fault.Error { return check(v) }
}

// Refused is for a field that would change the answer and that cannot be honoured. The values
// named mean the same as leaving it out, and pass.
func Refused[T any](why string, harmless ...string) Setter[T] {
	return func(_ *T, v Value) *fault.Error {
		for _, h := range harmless {
			if string(v.Raw) == h {
				return nil
			}
		}
		return fault.New(fault.Unsupported, v.Name, "Unsupported parameter: '%s'. %s", v.Name, why)
	}
}

// maxElements bounds an array that nobody reads.
const maxElements = 4096

// IsString is for Accepted, as those that follow.
func IsString(v Value) *fault.Error { _, e := v.Text(); return e }

// IsBool checks for a boolean.
func IsBool(v Value) *fault.Error { _, e := v.Bool(); return e }

// IsObject checks for an object.
func IsObject(v Value) *fault.Error { _, e := v.Object(); return e }

// IsArray checks for an array.
func IsArray(v Value) *fault.Error { _, e := v.Array(maxElements); return e }

// IsCount checks for a whole number that is not negative.
func IsCount(v Value) *fault.Error { _, e := v.Integer(0, math.MaxInt32); return e }
