package audit

import "bytes"

// spaces do not matter around a text: they get lost when people copy it.
const spaces = " \t\r\n"

// Text is the digest of a text that comes in parts, without the spaces around it.
type Text struct {
	d       *Digest
	begun   bool
	pending []byte // spaces that are inside if something follows
}

// NewText returns a digest of a text with no parts yet.
func NewText(d *Digest) *Text { return &Text{d: d} }

// Write adds a part.
func (t *Text) Write(part []byte) (int, error) {
	n := len(part)
	if !t.begun {
		part = bytes.TrimLeft(part, spaces)
		t.begun = len(part) > 0
	}
	solid := bytes.TrimRight(part, spaces)
	if len(solid) > 0 {
		t.d.Write(t.pending)
		t.d.Write(solid)
		t.pending = t.pending[:0]
	}
	t.pending = append(t.pending, part[len(solid):]...)
	return n, nil
}

// String returns the digest.
func (t *Text) String() string { return t.d.String() }
