package audit

import (
	"slices"
	"time"
)

// Review is what the file that a server writes has, compared with what was signed. The files before it were closed:
// Verify compares all of them.
type Review struct {
	Origin     string    `json:"log"`
	File       string    `json:"file"`
	First      int64     `json:"first"`   // record of the file
	Records    int64     `json:"records"` // of the log, that were signed
	Checkpoint string    `json:"checkpoint"`
	Verified   time.Time `json:"verified"` // when the file was read
	Problems   []Problem `json:"problems"`
	// Last are records of the file, the newest first.
	Last []*Record `json:"-"`
}

// Reviewer is a Recorder that can say what it has written last.
type Reviewer interface {
	// Review reads and verifies the file that is written. It returns at most n of its records, those that are wanted.
	Review(n int, wanted func(*Record) bool) (*Review, error)
}

// reviewTries is how often a file is read whose end is not signed: the server may be writing it just then.
const reviewTries = 3

// Review implements Reviewer. Its cost is that of reading and verifying a segment.
func (l *Log) Review(n int, wanted func(*Record) bool) (*Review, error) {
	for try := 1; ; try++ {
		r, err := l.review(n, wanted)
		if err != nil {
			return nil, err
		}
		isTail := func(p Problem) bool { return p.Tail }
		if try == reviewTries || !slices.ContainsFunc(r.Problems, isTail) {
			return r, nil
		}
	}
}

// review reads the file once.
func (l *Log) review(n int, wanted func(*Record) bool) (*Review, error) {
	written := l.State().Records
	r := &Review{
		Origin:   l.keys.verifier.Name(),
		Verified: now(),
	}
	list, err := segments(l.disk)
	if err != nil {
		return nil, err
	}

	c := &checker{key: l.keys.verifier, tag: l.keys.tag}
	c.each = func(record *Record) {
		if n <= 0 || !wanted(record) {
			return
		}
		if len(r.Last) == n {
			r.Last = r.Last[1:]
		}
		r.Last = append(r.Last, record)
	}
	if len(list) > 0 {
		last := list[len(list)-1]
		r.File = last.name
		r.First = last.first
		if err := c.check(l.disk, last, -1); err != nil {
			return nil, err
		}
	}

	// Whoever removes the end of the file, or all of it, leaves what was signed.
	if c.tree.size < written {
		c.report(0, c.tree.size, "%s: the server has written %d", missing(c.tree.size, written), written)
	}
	r.Records = c.tree.size
	r.Problems = append([]Problem{}, c.problems...)
	if c.last != nil {
		r.Checkpoint = c.last.Note
	}
	slices.Reverse(r.Last)
	return r, nil
}
