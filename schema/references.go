package schema

import (
	"strconv"
	"strings"
)

// resolve follows a reference within the document, which localize has made a pointer.
func (c *compiler) resolve(v, r *value) *value {
	if r.kind != text {
		c.fail(r, "$ref must be a string")
		return nil
	}

	fragment, ok := strings.CutPrefix(r.text, "#")
	if !ok {
		c.fail(r, "the reference %.100q points outside the schema", r.text)
		return nil
	}

	fragment = unescapePercent(fragment)
	if fragment == "" {
		return c.root
	}
	var target *value
	if fragment[0] == '/' {
		target = c.root.lookup(fragment)
	}
	if target == nil {
		c.fail(r, "the reference %.100q does not resolve", r.text)
	}
	return target
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
