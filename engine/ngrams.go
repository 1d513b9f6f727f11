package engine

import "math/bits"

const (
	// gram is how many tokens must have come before in the same order for what followed them to be a guess.
	gram = 3

	// mostMatch is how far back a match is followed: what has repeated so many tokens goes on alike in any case.
	mostMatch = 32

	// mostPlaces is how many places where the last tokens have come before are compared, the latest first.
	mostPlaces = 16

	// mostIndexed is how many tokens are added to an index at a time: a long prompt's take several steps.
	mostIndexed = 1 << 15
)

// ngrams is an index of a text that grows: where the last few tokens of a sequence have come before. It has at most 16
// bytes for each token of the text.
type ngrams struct {
	latest []int32 // by hash of gram tokens: the place after where they came last, 0 for none
	before []int32 // by place: the place before it with the same hash
}

func (x *ngrams) slot(tokens []Token) *int32 {
	h := uint64(0)
	for _, t := range tokens {
		h = (h ^ uint64(uint32(t))) * 0x9e3779b97f4a7c15
	}
	return &x.latest[h>>(64-bits.Len(uint(len(x.latest)-1)))]
}

// extend adds what the text has more than before, if that is much only a part of it.
func (x *ngrams) extend(text []Token) {
	if len(text) > len(x.latest) {
		size := 256
		for size < len(text) {
			size *= 2
		}
		x.latest = make([]int32, size)
		x.before = x.before[:0]
	}

	n := min(len(text), len(x.before)+mostIndexed)
	for i := len(x.before); i < n; i++ {
		if i < gram {
			x.before = append(x.before, 0)
			continue
		}
		at := x.slot(text[i-gram : i])
		x.before = append(x.before, *at)
		*at = int32(i)
	}
}

// find returns the place in the text after tokens that a sequence ends with, and how many those are: the most there are
// among the latest places, of equally many the latest. It returns 0, 0 if there is none.
func (x *ngrams) find(text, sequence []Token) (place, match int) {
	if len(sequence) < gram || len(x.latest) == 0 {
		return 0, 0
	}
	at := int(*x.slot(sequence[len(sequence)-gram:]))
	for range mostPlaces {
		if at == 0 {
			break
		}
		if n := commonEnd(text[:at], sequence); n >= gram && n > match {
			place = at
			match = n
		}
		if match == mostMatch {
			break
		}
		at = int(x.before[at])
	}
	return place, match
}

// commonEnd returns the length of the longest common end, at most mostMatch.
func commonEnd(a, b []Token) int {
	n := min(len(a), len(b), mostMatch)
	for i := 1; i <= n; i++ {
		if a[len(a)-i] != b[len(b)-i] {
			return i - 1
		}
	}
	return n
}
