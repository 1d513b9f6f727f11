package engine

import (
	"bytes"
	"unicode/utf8"
)

// answerText decides how much of what a model wrote may be shown: nothing of a
// stop string, not even its beginning, and no part of a UTF-8 character.
type answerText struct {
	stops   []string
	held    []byte // written and not yet shown
	matched string // the stop string that ended the answer; empty if none did
}

// add takes a token's bytes. It returns what may now be shown, valid until the
// next call, and whether a stop string ended the answer, which none does before
// stops is true.
func (a *answerText) add(piece []byte, stops bool) (show []byte, stopped bool) {
	a.held = append(a.held, piece...)
	if !stops {
		return a.take(len(a.held) - partialRune(a.held)), false
	}
	if end, stop := a.findStop(); end >= 0 {
		a.matched = stop
		return a.take(end), true
	}
	return a.take(len(a.held) - max(a.stopPrefix(), partialRune(a.held))), false
}

// rest returns what is held when the answer ends without a stop string.
func (a *answerText) rest() []byte { return a.take(len(a.held)) }

// take removes the first n held bytes. It moves the others to the front, so that
// a long answer does not grow the buffer.
func (a *answerText) take(n int) []byte {
	if n == len(a.held) {
		show := a.held
		a.held = a.held[:0]
		return show
	}
	show := bytes.Clone(a.held[:n])
	a.held = append(a.held[:0], a.held[n:]...)
	return show
}

// findStop returns the stop string that begins first and where it begins, or -1. Of several that
// begin in one place it is the one that the request lists first.
func (a *answerText) findStop() (first int, stop string) {
	first = -1
	for _, s := range a.stops {
		if i := bytes.Index(a.held, []byte(s)); i >= 0 && (first < 0 || i < first) {
			first = i
			stop = s
		}
	}
	return first, stop
}

// stopPrefix returns the length of the longest end of the held bytes that a stop
// string begins with.
func (a *answerText) stopPrefix() int {
	longest := 0
	for _, s := range a.stops {
		for n := min(len(s)-1, len(a.held)); n > longest; n-- {
			if string(a.held[len(a.held)-n:]) == s[:n] {
				longest = n
			}
		}
	}
	return longest
}

// partialRune returns how many bytes at the end of b begin a UTF-8 character
// that is not complete. Bytes that can begin none are nobody's to wait for.
func partialRune(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		tail := b[len(b)-n:]
		if utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return n
			}
			return 0
		}
	}
	return 0
}
