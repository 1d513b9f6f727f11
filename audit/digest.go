package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"hash"
	"strconv"
)

// DigestVersion is the version of the digests that are made now. docs/audit.md defines it and those before it. Records
// say which version theirs have.
const DigestVersion = 2

// Subject is what a digest is of. The same text has other digests as other subjects.
type Subject string

// The subjects.
const (
	OfMessage   Subject = "message"   // the last one of a conversation
	OfPrompt    Subject = "prompt"    // as the model read it
	OfPicture   Subject = "picture"   // a file, or an address
	OfAnswer    Subject = "answer"    // the visible text of an answer
	OfReasoning Subject = "reasoning" // of an answer
	OfCalls     Subject = "calls"     // of tools, in an answer
)

// Digest is the keyed digest of what comes in parts.
type Digest struct{ hash.Hash }

// String returns the digest.
func (d *Digest) String() string { return base64.RawURLEncoding.EncodeToString(d.Sum(nil)) }

// NewDigest returns the digest of a subject without content.
func (k *Keys) NewDigest(of Subject) *Digest { return k.digestOf(DigestVersion, of) }

// digestOf returns the digest of a subject without content, in a version. In the first one, subjects were not told
// apart.
func (k *Keys) digestOf(version int, of Subject) *Digest {
	d := &Digest{hmac.New(sha256.New, k.digest)}
	if version > 1 {
		d.Write([]byte("serve audit digest " + strconv.Itoa(version) + "\n" + string(of) + "\n"))
	}
	return d
}

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

// said returns the digest, or nothing for a text that has only spaces.
func (t *Text) said() string {
	if !t.begun {
		return ""
	}
	return t.String()
}

// Answer has the digests of what one answer says. What it does not say is empty.
type Answer struct {
	Text      string // visible; all that counts in version 1
	Reasoning string
	Calls     string

	first bool // as records of version 1 have it
}

// answerFields is an Answer in JSON.
type answerFields struct {
	Text      string `json:"text,omitempty"`
	Reasoning string `json:"reasoning,omitempty"`
	Calls     string `json:"calls,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (a Answer) MarshalJSON() ([]byte, error) {
	if a.first {
		return json.Marshal(a.Text)
	}
	return json.Marshal(answerFields{a.Text, a.Reasoning, a.Calls})
}

// UnmarshalJSON implements json.Unmarshaler.
func (a *Answer) UnmarshalJSON(b []byte) error {
	*a = Answer{}
	if bytes.HasPrefix(b, []byte(`"`)) {
		a.first = true
		return json.Unmarshal(b, &a.Text)
	}
	var f answerFields
	err := json.Unmarshal(b, &f)
	*a = Answer{Text: f.Text, Reasoning: f.Reasoning, Calls: f.Calls}
	return err
}

// AnswerDigest makes the digests of an answer that comes in parts.
type AnswerDigest struct {
	text      *Text
	reasoning *Text
	calls     *Digest
	list      []Call
}

// NewAnswerDigest returns one that digest makes the digests of.
func NewAnswerDigest(digest func(Subject) *Digest) *AnswerDigest {
	return &AnswerDigest{
		text:      NewText(digest(OfAnswer)),
		reasoning: NewText(digest(OfReasoning)),
		calls:     digest(OfCalls),
	}
}

// Say adds a part of the visible text.
func (a *AnswerDigest) Say(part string) { _, _ = a.text.Write([]byte(part)) }

// Think adds a part of the reasoning.
func (a *AnswerDigest) Think(part string) { _, _ = a.reasoning.Write([]byte(part)) }

// maxCalls bounds the calls of an answer.
const maxCalls = 1 << 12

// Call adds a part of the call with an index: of its name, of its arguments, or of both.
func (a *AnswerDigest) Call(index int, name, arguments string) {
	if index < 0 || index >= maxCalls {
		return
	}
	for len(a.list) <= index {
		a.list = append(a.list, Call{})
	}
	c := &a.list[index]
	c.Name += name
	c.arguments = append(c.arguments, arguments...)
}

// Answer returns the digests. Nothing can be added after it.
func (a *AnswerDigest) Answer() Answer {
	said := Answer{Text: a.text.said(), Reasoning: a.reasoning.said()}
	if len(a.list) > 0 {
		writeCalls(a.calls, a.list)
		said.Calls = a.calls.String()
	}
	return said
}
