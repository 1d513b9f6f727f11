package schema

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
)

// maxPattern is the length of patterns, in bytes; longer ones are not enforced.
const maxPattern = 10_000

// ecmaSpace is what \s means in ECMAScript, as the inside of a class.
const ecmaSpace = `\t\n\v\f\r \x{a0}\x{feff}\x{2028}\x{2029}\p{Zs}`

// translate writes an ECMAScript regular expression in Go's syntax.
func translate(p string) (string, error) {
	if len(p) > maxPattern {
		return "", errTooLarge
	}

	var b strings.Builder
	inClass := false
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case c == '\\' && i+1 < len(p):
			n, err := translateEscape(&b, p[i:], inClass)
			if err != nil {
				return "", err
			}
			i += n - 1
			continue
		case c == '[' && !inClass:
			inClass = true
			if strings.HasPrefix(p[i:], "[^]") {
				b.WriteString(`[\x{0}-\x{10ffff}]`)
				inClass = false
				i += 2
				continue
			}
		case c == '[':
			b.WriteString(`\[`)
			continue
		case c == ']' && inClass:
			inClass = false
		case c == '.' && !inClass:
			b.WriteString(`[^\n\r\x{2028}\x{2029}]`)
			continue
		case c == '(' && !inClass && strings.HasPrefix(p[i:], "(?<") && i+3 < len(p) && p[i+3] != '=' && p[i+3] != '!':
			b.WriteString("(?P<")
			i += 2
			continue
		}
		b.WriteByte(c)
	}

	return b.String(), nil
}

// Escapes of ECMAScript that Go writes otherwise: a character by its number, one by its surrogates, and one of a
// script or a category.
var (
	braced          = regexp.MustCompile(`^\\u\{([0-9a-fA-F]{1,6})\}`)
	surrogates      = regexp.MustCompile(`^\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})`)
	emojiProperty   = regexp.MustCompile(`^\\[pP]\{(E[A-Za-z_]+)\}`)
	unicodeProperty = regexp.MustCompile(
		`^\\[pP]\{(?:Script|sc|Script_Extensions|scx|General_Category|gc)=([A-Za-z_]+)\}`)
)

// translateEscape writes the escape that p begins with and returns its length.
func translateEscape(b *strings.Builder, p string, inClass bool) (int, error) {
	switch c := p[1]; {
	case c == 's' && inClass:
		b.WriteString(ecmaSpace)
	case c == 's':
		b.WriteString("[" + ecmaSpace + "]")
	case c == 'S' && !inClass:
		b.WriteString("[^" + ecmaSpace + "]")
	case c == 'S':
		return 0, fmt.Errorf(`\S in a class`)
	case c == 'u' && braced.MatchString(p):
		digits := braced.FindStringSubmatch(p)[1]
		b.WriteString(`\x{` + digits + "}")
		return len(digits) + 4, nil
	case c == 'u' && surrogates.MatchString(p):
		pair := surrogates.FindStringSubmatch(p)
		high, _ := strconv.ParseUint(pair[1], 16, 16)
		low, _ := strconv.ParseUint(pair[2], 16, 16)
		fmt.Fprintf(b, `\x{%x}`, utf16.DecodeRune(rune(high), rune(low)))
		return len(pair[0]), nil

	case (c == 'p' || c == 'P') && emojiProperty.MatchString(p):
		named := emojiProperty.FindStringSubmatch(p)
		class := emojiClass(named[1], c == 'p')
		if class == "" {
			return 0, fmt.Errorf("%s", named[0])
		}
		if !inClass {
			class = "[" + class + "]"
		}
		b.WriteString(class)
		return len(named[0]), nil
	case (c == 'p' || c == 'P') && unicodeProperty.MatchString(p):
		named := unicodeProperty.FindStringSubmatch(p)
		b.WriteString(p[:2] + "{" + named[1] + "}")
		return len(named[0]), nil
	case c == 'u' && len(p) >= 6 && isHex(p[2:6]):
		b.WriteString(`\x{` + p[2:6] + "}")
		return 6, nil
	case c == 'c' && len(p) >= 3 && unicode.IsLetter(rune(p[2])):
		fmt.Fprintf(b, `\x%02x`, p[2]&31)
		return 3, nil
	case c == '0' && (len(p) < 3 || p[2] < '0' || p[2] > '9'):
		b.WriteString(`\x00`)
	case c >= '1' && c <= '9', c == 'k', c == 'b' && !inClass, c == 'B':
		return 0, fmt.Errorf("\\%c", c)
	case c == 'b':
		b.WriteString(`\x08`)
	case c == 'p' || c == 'P':
		b.WriteString(strings.Replace(strings.Replace(p[:2], "p{Letter}", "pL", 1), "P{Letter}", "PL", 1))
	case c < 0x80 && (unicode.IsLetter(rune(c)) || unicode.IsDigit(rune(c))):
		b.WriteString(p[:2]) // d, D, w, W, t, n, v, f, r, x
	default:
		b.WriteString(`\` + p[1:2])
	}

	return 2, nil
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) {
			return false
		}
	}
	return true
}
