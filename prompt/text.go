package prompt

import (
	"encoding/json"
	"strconv"
	"strings"
)

// readable reports whether a text is JSON that llama.cpp reads, too: its numbers must fit a double.
func readable(text string) bool {
	if !json.Valid([]byte(text)) {
		return false
	}
	return hugeNumber([]byte(text)) == ""
}

// hugeNumber returns the first number of a JSON text that does not fit a double, or "".
func hugeNumber(text []byte) string {
	if !strings.ContainsAny(string(text), "eE") && len(text) < 300 {
		return "" // too short for one
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err != nil {
			return ""
		}
		if n, ok := token.(json.Number); ok {
			if _, err := strconv.ParseFloat(string(n), 64); err != nil {
				return string(n)
			}
		}
	}
}

// mendSurrogates replaces halves of surrogate pairs in a JSON text, which are no characters, by U+FFFD. The
// result is as valid as the text.
func mendSurrogates(text string) string {
	if !strings.Contains(text, `\u`) {
		return text
	}

	var b strings.Builder
	for i := 0; i < len(text); {
		if text[i] != '\\' || i+1 >= len(text) {
			b.WriteByte(text[i])
			i++
			continue
		}

		unit := escapedUnit(text[i:])
		switch {
		case unit >= 0xD800 && unit < 0xDC00 && low(escapedUnit(text[i+6:])):
			b.WriteString(text[i : i+12])
			i += 12
		case unit >= 0xD800 && unit < 0xE000:
			b.WriteString(`\ufffd`)
			i += 6
		default:
			b.WriteString(text[i : i+2])
			i += 2
		}
	}
	return b.String()
}

func low(unit int) bool { return unit >= 0xDC00 && unit < 0xE000 }

// escapedUnit returns the unit of UTF-16 that a text begins with as \uXXXX, or -1.
func escapedUnit(text string) int {
	if len(text) < 6 || text[:2] != `\u` {
		return -1
	}
	unit, err := strconv.ParseUint(text[2:6], 16, 16)
	if err != nil {
		return -1
	}
	return int(unit)
}
