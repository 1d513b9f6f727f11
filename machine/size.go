package machine

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// FormatSize formats a number of bytes with a suitable unit.
func FormatSize(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
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
		return 0, fmt.Errorf("%q is not a size such as 512MiB or 2GiB", text)
	}

	bytes := n * float64(uint64(1)<<shift)
	if bytes > math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is more memory than any machine has", text)
	}
	return uint64(bytes), nil
}
