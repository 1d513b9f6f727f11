package flagset

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Size declares a flag whose value is a number of bytes, such as 32MiB.
func Size(s Set, p *int64, name string, value int64, b Bounds[int64], usage string) {
	*p = value
	format := func(n int64) string { return FormatSize(uint64(n)) }
	parse := func(text string) (int64, error) {
		n, err := ParseSize(text)
		if err != nil {
			return 0, err
		}
		return int64(n), b.check(int64(n), format)
	}
	Parsed(s, p, name, "size", parse, format, usage)
}

// FormatSize formats a number of bytes as ParseSize reads it: with the largest unit that it is a multiple of.
func FormatSize(n uint64) string {
	for _, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if shift := sizeUnits[strings.ToLower(unit)]; n > 0 && n%(1<<shift) == 0 {
			return strconv.FormatUint(n>>shift, 10) + unit
		}
	}
	return strconv.FormatUint(n, 10)
}

// sizeUnits has the units as powers of two; a bare letter is a power of two as well.
var sizeUnits = map[string]uint{
	"": 0, "b": 0, "k": 10, "kib": 10, "m": 20, "mib": 20, "g": 30, "gib": 30, "t": 40, "tib": 40,
}

// ParseSize parses a number of bytes: 512MiB, 1.5GiB, 2G.
func ParseSize(text string) (uint64, error) {
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	shift, known := sizeUnits[strings.ToLower(text[len(number):])]

	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !known || !(n >= 0) {
		return 0, errors.New("must be a size such as 512MiB or 2GiB")
	}

	bytes := n * float64(uint64(1)<<shift)
	if bytes > math.MaxInt64/2 {
		return 0, errors.New("is more memory than any machine has")
	}
	return uint64(bytes), nil
}
