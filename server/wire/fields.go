package wire

import "serve/fault"

// refused is for an unsupported field that would change the answer. The harmless values, which are
// equivalent to omitting the field, are accepted.
func refused[T any](why string, harmless ...string) Setter[T] {
	return func(_ *T, v Value) *fault.Error {
		for _, h := range harmless {
			if string(v.Raw) == h {
				return nil
			}
		}
		return fault.New(fault.Unsupported, v.Name, "Unsupported parameter: '%s'. %s", v.Name, why)
	}
}

// maxElements is the maximum length of an array that is only checked.
const maxElements = 4096

// IsBool checks for a boolean.
func IsBool(v Value) *fault.Error { _, e := v.Bool(); return e }

// IsObject checks for an object.
func IsObject(v Value) *fault.Error { _, e := v.Object(); return e }

// IsArray checks for an array.
func IsArray(v Value) *fault.Error { _, e := v.Array(maxElements); return e }
