package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// seal is a line that is not a record: the head of a segment, or what a commit ends with.
type seal struct {
	Segment    *head       `json:"segment,omitempty"`
	Checkpoint string      `json:"checkpoint,omitempty"`
	Leaves     []tlog.Hash `json:"leaves,omitempty"` // of the records since the last seal
	Tags       [][]byte    `json:"tags,omitempty"`   // of the same; see Keys.tag
	Pruned     *prunedBy   `json:"pruned,omitempty"`
}

// head begins a segment: the tree before it, of which Checkpoint of the same line is.
type head struct {
	First int64       `json:"first"`
	Nodes []tlog.Hash `json:"nodes,omitempty"`
}

func (h *head) tree() (tree, error) { return treeOf(h.First, h.Nodes) }

// parseSeal reads a line that is not a record.
func parseSeal(line []byte) (*seal, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	s := new(seal)
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("it is not valid: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("it is not valid: there is something behind the object")
	}
	return s, nil
}

// Suffixes of the names of segments.
const (
	logSuffix    = ".jsonl"
	prunedSuffix = ".pruned"
	newSuffix    = ".new"
)

// segment is a file of a log.
type segment struct {
	name   string
	first  int64
	pruned bool
}

// segmentName returns the name of the segment whose first record is one.
func segmentName(first int64) string { return fmt.Sprintf("%020d%s", first, logSuffix) }

// segments lists those of a folder, in order. Of one whose pruning was interrupted it lists the whole.
func segments(d disk) ([]segment, error) {
	names, err := d.Names()
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}

	byFirst := map[int64]segment{}
	for _, name := range names {
		number, pruned := strings.CutSuffix(name, prunedSuffix)
		if !pruned {
			var ok bool
			if number, ok = strings.CutSuffix(name, logSuffix); !ok {
				continue
			}
		}
		first, err := strconv.ParseInt(number, 10, 64)
		if err != nil || len(number) != 20 || first < 0 {
			continue
		}
		if _, whole := byFirst[first]; !whole || !pruned {
			byFirst[first] = segment{name: name, first: first, pruned: pruned}
		}
	}

	list := make([]segment, 0, len(byFirst))
	for _, s := range byFirst {
		list = append(list, s)
	}

	slices.SortFunc(list, func(a, b segment) int { return int(min(max(a.first-b.first, -1), 1)) })
	return list, nil
}

// line is one of a segment.
type line struct {
	number int   // from 1
	offset int64 // of its beginning
	text   []byte
	whole  bool // it has an end
	record *Record
	seal   *seal
	err    error // why it is neither
}

// maxSeal bounds a line that is not a record, in bytes: of a commit with the most records.
const maxSeal = 4 << 20

// lines reads a segment. A line is valid until the next.
func lines(d disk, s segment) iter.Seq2[*line, error] {
	return func(yield func(*line, error) bool) {
		f, err := d.Open(s.name)
		if err != nil {
			yield(nil, fmt.Errorf("read the audit log: %w", err))
			return
		}
		defer f.Close()

		r := bufio.NewReaderSize(f, 64<<10)
		l := line{}
		for {
			text, err := readLine(r)
			if err != nil && !errors.Is(err, io.EOF) {
				yield(nil, fmt.Errorf("read %s: %w", s.name, err))
				return
			}
			if len(text) == 0 {
				return
			}

			size := len(text)
			text, whole := bytes.CutSuffix(text, []byte("\n"))
			next := line{number: l.number + 1, offset: l.offset, text: text, whole: whole}
			next.parse()
			if !yield(&next, nil) {
				return
			}
			l.number++
			l.offset += int64(size)
		}
	}
}

// readLine reads a line with its end. One that is too long comes in parts, which are none.
func readLine(r *bufio.Reader) (text []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		text = append(text, part...)
		if !errors.Is(err, bufio.ErrBufferFull) || len(text) > maxSeal {
			if errors.Is(err, bufio.ErrBufferFull) {
				err = nil
			}
			return text, err
		}
	}
}

func (l *line) parse() {
	switch {
	case !l.whole:
		l.err = errors.New("it has no end")
	case bytes.HasPrefix(l.text, []byte(recordStart)):
		l.record, l.err = ParseRecord(l.text)
	default:
		l.seal, l.err = parseSeal(l.text)
	}
}

// records reads the records of a log that there are, in order. Lines that are none are left out: verifying names them.
func records(d disk) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		list, err := segments(d)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, s := range list {
			if s.pruned {
				continue
			}
			for l, err := range lines(d, s) {
				if err != nil {
					yield(nil, err)
					return
				}
				if l.record != nil && !yield(l.record, nil) {
					return
				}
			}
		}
	}
}

// Records reads the records of the log in a folder, in order.
func Records(dir string) iter.Seq2[*Record, error] { return records(osDisk(dir)) }
