package schema

import (
	"fmt"
	"strconv"
	"strings"
)

// lost says why a reference leads nowhere.
func lost(r *value) string {
	if strings.HasPrefix(r.text, "#") {
		return fmt.Sprintf("the reference %.100q does not resolve", r.text)
	}
	return fmt.Sprintf("the reference %.100q points outside the schema", r.text)
}

func unescapePercent(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1:i+3]) {
			n, _ := strconv.ParseUint(s[i+1:i+3], 16, 8)
			b.WriteByte(byte(n))
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
