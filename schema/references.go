package schema

import (
	"strconv"
	"strings"
)

// resolve follows a reference within the document.
func (c *compiler) resolve(v, r *value) *value {
	if r.kind != text {
		c.fail(r, "$ref must be a string")
		return nil
	}

	target := strings.TrimPrefix(r.text, c.id())
	if target == "" {
		return c.root
	}

	fragment, ok := strings.CutPrefix(target, "#")
	if !ok {
		c.fail(r, "the reference %.100q points outside the schema", r.text)
		return nil
	}

	fragment = unescapePercent(fragment)
	if fragment == "" {
		return c.root
	}
	if anchor := c.anchors[fragment]; anchor != nil {
		return anchor
	}

	at := c.root
	for part := range strings.SplitSeq(strings.TrimPrefix(fragment, "/"), "/") {
		part = unescapePointer(part)
		next := at.members[part]
		if at.kind == array {
			if i, err := strconv.Atoi(part); err == nil && i >= 0 && i < len(at.items) {
				next = at.items[i]
			}
		}
		if at = next; at == nil || fragment[0] != '/' {
			c.fail(r, "the reference %.100q does not resolve", r.text)
			return nil
		}
	}

	return at
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
