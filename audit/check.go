package audit

import (
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Problem is something in a log that its key has not signed so.
type Problem struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Record int64  `json:"record"` // its number; -1 for none
	Text   string `json:"problem"`
	// Tail says that it is about lines behind the last checkpoint: of a commit that was not acknowledged, or added.
	Tail bool `json:"tail,omitempty"`
}

// String returns the problem in words.
func (p Problem) String() string {
	where := p.File
	if p.Line > 0 {
		where = fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return where + ": " + p.Text
}

// checker compares the lines of a log with what was signed.
type checker struct {
	key  note.Verifier
	tag  func(seq int64, leaf tlog.Hash) []byte // nil without the secret key
	each func(*Record)                          // gets every record that was signed; nil for nobody
	grow func(*tree)                            // is called with every size of the tree; nil for nobody

	problems []Problem
	tree     tree
	trusted  bool        // the tree is what was signed
	last     *Checkpoint // that verified
	end      int64       // offset behind its line
	ends     []int64     // offsets behind lines with checkpoints

	segment  segment
	found    []found     // lines since the last checkpoint
	expected []tlog.Hash // of their records, as the log says
}

// found is a line that is a record, or cannot be read.
type found struct {
	line   int
	seq    int64 // -1 if it cannot be read
	leaf   tlog.Hash
	record *Record
	right  bool // it is one that was signed
}

func (c *checker) report(line int, record int64, format string, args ...any) {
	c.problems = append(c.problems, Problem{
		File:   c.segment.name,
		Line:   line,
		Record: record,
		Text:   fmt.Sprintf(format, args...),
	})
}

// check reads a segment up to an offset; a negative one stands for its end.
func (c *checker) check(d disk, s segment, limit int64) error {
	c.segment = s
	c.found = nil
	c.expected = nil
	c.end = 0
	c.ends = nil
	headed := false
	for l, err := range lines(d, s) {
		if err != nil {
			return err
		}
		if limit >= 0 && l.offset >= limit {
			break
		}
		switch {
		case l.number == 1:
			c.head(l)
			headed = true
		case l.record != nil:
			c.found = append(c.found, found{
				line:   l.number,
				seq:    int64(l.record.Seq),
				leaf:   leafOf(l.text),
				record: l.record,
			})
		case l.seal != nil && l.seal.Segment == nil:
			c.seal(l)
		default:
			c.found = append(c.found, found{line: l.number, seq: -1, leaf: leafOf(l.text)})
		}
	}

	if !headed {
		c.report(0, -1, "the file is empty")
		c.trusted = false
	}

	c.tail()
	return nil
}

// tail reports what is behind the last checkpoint.
func (c *checker) tail() {
	if len(c.found) == 0 && len(c.expected) == 0 {
		return
	}
	p := Problem{File: c.segment.name, Record: -1, Tail: true, Text: "the last checkpoint is missing"}
	if len(c.found) > 0 {
		p.Line = c.found[0].line
		p.Record = c.found[0].seq
		p.Text = fmt.Sprintf("%d lines behind the last checkpoint are not signed: they were added, or were being written "+
			"when the server ended", len(c.found))
	}
	c.problems = append(c.problems, p)
}

// head checks the first line of a segment. The tree that it has may stand for one that cannot be relied upon.
func (c *checker) head(l *line) {
	first := c.segment.first
	var given tree
	err := l.err
	if err == nil && (l.seal == nil || l.seal.Segment == nil) {
		err = fmt.Errorf("it is not the head of a segment")
	}
	var signed *Checkpoint
	if err == nil {
		signed, err = ParseCheckpoint(l.seal.Checkpoint, c.key)
	}
	if err == nil {
		given, err = l.seal.Segment.tree()
	}
	if err == nil && (!signed.matches(&given) || given.size != first) {
		err = fmt.Errorf("it is not what was signed")
	}
	if err != nil {
		c.report(l.number, -1, "the head of the file cannot be used: %v", err)
		c.trusted = c.trusted && c.tree.size == first
		return
	}
	c.end = l.offset + int64(len(l.text)) + 1
	c.ends = append(c.ends, c.end)

	switch {
	case c.trusted && given.size > c.tree.size:
		c.report(0, c.tree.size, "%s before this file", missing(c.tree.size, given.size))
	case c.trusted && given.size < c.tree.size:
		c.report(0, given.size, "the file begins with record %d, but there are %d before it", given.size, c.tree.size)
	case c.trusted && given.root() != c.tree.root():
		c.report(l.number, -1, "the file goes on from another log than the files before it")
	}
	c.tree = given
	c.trusted = true
	c.last = signed
	if c.grow != nil {
		c.grow(&c.tree)
	}
}

// missing names records that are not there.
func missing(from, to int64) string {
	if to-from == 1 {
		return fmt.Sprintf("record %d is missing", from)
	}
	return fmt.Sprintf("records %d to %d are missing", from, to-1)
}

// seal checks a line that says what was signed of the records before it.
func (c *checker) seal(l *line) {
	c.expected = append(c.expected, l.seal.Leaves...)
	if l.seal.Checkpoint == "" {
		return
	}
	end := l.offset + int64(len(l.text)) + 1
	c.ends = append(c.ends, end)
	actual := c.found
	expected := c.expected
	c.found = nil
	c.expected = nil

	signed, err := ParseCheckpoint(l.seal.Checkpoint, c.key)
	if err != nil {
		c.report(l.number, -1, "%v", err)
		// The records may still be right; the next checkpoint says.
		c.found = actual
		return
	}
	if !c.trusted {
		c.compareTags(actual, l.seal.Tags, signed.Size-int64(len(expected)))
		return
	}
	gap := signed.Size - int64(len(expected)) - c.tree.size
	switch {
	case gap < 0:
		c.report(l.number, signed.Size-1, "a checkpoint of %d records comes again", signed.Size)
		for _, f := range actual {
			c.report(f.line, f.seq, "record %d was added, or is there again", f.seq)
		}
		return
	case gap > 0:
		if expected = c.fill(l, actual, expected, gap); expected == nil {
			return
		}
	}

	t := c.tree.clone()
	for _, leaf := range expected {
		t.add(leaf, nil)
	}
	if !signed.matches(&t) {
		c.mismatch(l, signed, actual)
		return
	}
	c.accept(signed, end, expected)
	if !c.segment.pruned {
		c.compare(l, actual, expected, signed.Size-int64(len(expected)))
	}
}

// accept makes leaves that were signed part of the tree.
func (c *checker) accept(signed *Checkpoint, end int64, leaves []tlog.Hash) {
	for _, leaf := range leaves {
		c.tree.add(leaf, nil)
		if c.grow != nil {
			c.grow(&c.tree)
		}
	}
	c.last = signed
	c.end = end
}

// fill returns the hashes of records whose own checkpoint is gone, and those behind them; nil if it cannot know them.
func (c *checker) fill(l *line, actual []found, expected []tlog.Hash, gap int64) []tlog.Hash {
	base := c.tree.size
	leaves := make([]tlog.Hash, gap)
	have := make([]bool, gap)
	for _, f := range actual {
		if i := f.seq - base; f.seq >= base && i < gap && !have[i] {
			leaves[i] = f.leaf
			have[i] = true
		}
	}

	complete := true
	for i, ok := range have {
		if !ok {
			c.report(l.number, base+int64(i), "%s, or cannot be read", missing(base+int64(i), base+int64(i)+1))
			complete = false
		}
	}

	if !complete {
		c.trusted = false
		c.report(l.number, -1, "nothing behind these can be checked in this file without them")
		return nil
	}

	c.report(l.number, base+gap-1, "the checkpoint behind record %d is missing or damaged", base+gap-1)
	return append(leaves, expected...)
}

// mismatch reports records of which the log says other hashes than were signed.
func (c *checker) mismatch(l *line, signed *Checkpoint, actual []found) {
	// Perhaps only what the log says of them is wrong.
	t := c.tree.clone()
	var leaves []tlog.Hash
	for _, f := range actual {
		t.add(f.leaf, nil)
		leaves = append(leaves, f.leaf)
	}
	base := c.tree.size
	if signed.matches(&t) {
		c.report(l.number, -1, "the hashes of records %d to %d were changed; the records are as they were signed",
			base, signed.Size-1)
		c.accept(signed, l.offset+int64(len(l.text))+1, leaves)
		c.give(actual)
		return
	}

	c.trusted = false
	if c.segment.pruned {
		c.report(l.number, base, "the hashes of the pruned records %d to %d are not those that were signed",
			base, signed.Size-1)
		return
	}
	if c.compareTags(actual, l.seal.Tags, base) > 0 {
		return
	}
	line := l.number
	if len(actual) > 0 {
		line = actual[0].line
	}
	c.report(line, base, "records %d to %d are not those that were signed: one or more were rewritten with their hashes",
		base, signed.Size-1)
}

// compareTags names the records that were rewritten by who does not have the key, and returns how many there are.
func (c *checker) compareTags(actual []found, tags [][]byte, base int64) (wrong int) {
	if c.tag == nil {
		return 0
	}
	for i := range actual {
		f := &actual[i]
		at := f.seq - base
		if f.seq >= base && at < int64(len(tags)) && slices.Equal(tags[at], c.tag(f.seq, f.leaf)) {
			continue
		}
		c.report(f.line, f.seq, "record %d is not what was signed: it was rewritten", f.seq)
		wrong++
	}
	return wrong
}

// compare finds what is different between the records that there are and those that were signed.
func (c *checker) compare(l *line, actual []found, expected []tlog.Hash, base int64) {
	byNumber := map[int64]int{} // index in actual
	var unread []int
	for i, f := range actual {
		switch at := f.seq - base; {
		case f.seq < 0:
			unread = append(unread, i)
		case at >= 0 && at < int64(len(expected)) && f.leaf == expected[at]:
			if old, twice := byNumber[f.seq]; !twice || !actual[old].right {
				byNumber[f.seq] = i
				actual[i].right = true
			}
		default:
			if _, known := byNumber[f.seq]; !known {
				byNumber[f.seq] = i
			}
		}
	}

	used := map[int]bool{}
	place := -1
	for at := range expected {
		seq := base + int64(at)
		i, ok := byNumber[seq]
		switch {
		case !ok && len(unread) > 0:
			i = unread[0]
			unread = unread[1:]
			used[i] = true
			c.report(actual[i].line, seq, "record %d was changed: the line cannot be read", seq)
		case !ok:
			c.report(l.number, seq, "record %d is missing", seq)
			continue
		case !actual[i].right:
			used[i] = true
			c.report(actual[i].line, seq, "record %d was changed", seq)
		default:
			used[i] = true
			if i < place {
				c.report(actual[i].line, seq, "record %d is not in its place", seq)
			}
		}
		place = max(place, i)
	}
	for i, f := range actual {
		switch {
		case used[i]:
		case f.seq < 0:
			c.report(f.line, -1, "a line was added that is not a record")
		default:
			c.report(f.line, f.seq, "a record was added that calls itself %d", f.seq)
		}
	}
	c.give(actual)
}

// give gives the records to who wants them.
func (c *checker) give(actual []found) {
	if c.each == nil {
		return
	}
	for _, f := range actual {
		if f.record != nil {
			c.each(f.record)
		}
	}
}
