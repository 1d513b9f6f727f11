package audit

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// left is what an earlier process has left in the log.
type left struct {
	open    map[string]*Record // requests that have begun, by their id
	dropped int64              // bytes of a commit that was not acknowledged
	from    int64              // its first record
	last    time.Time          // of the last record
}

// records returns the records that say so.
func (l *left) records() (list []*Record) {
	if l.dropped > 0 {
		list = append(list, &Record{
			Kind:   LogRecovered,
			Detail: map[string]string{"bytes": strconv.FormatInt(l.dropped, 10), "record": strconv.FormatInt(l.from, 10)},
		})
	}
	for _, id := range slices.Sorted(maps.Keys(l.open)) {
		r := *l.open[id]
		since := r.Time
		r.Kind = RequestLost
		r.Since = &since
		r.Error = "server_ended"
		list = append(list, &r)
	}
	return list
}

// follow takes the records of a process, in order.
func (l *left) follow(list []*Record) {
	for _, r := range list {
		l.last = r.Time
		switch r.Kind {
		case ServerStart, ServerStop:
			clear(l.open)
		case RequestBegin:
			l.open[r.ID] = r
		case RequestEnd, RequestLost:
			delete(l.open, r.ID)
		}
	}
}

// recover continues the log of an earlier process. It returns nil if there is none.
func (l *Log) recover() (*left, error) {
	list, err := segments(l.disk)
	if err == nil {
		list, err = l.dropTorn(list)
	}
	if err != nil || len(list) == 0 {
		return nil, err
	}
	last := list[len(list)-1]
	c, records, err := l.checkLast(last)
	if err != nil {
		return nil, err
	}
	l.tree = c.tree
	found := &left{open: map[string]*Record{}}
	if !last.pruned {
		l.segment = last
		l.size = c.end
		size, err := sizeOf(l.disk, last)
		if err != nil {
			return nil, err
		}
		found.dropped = size - c.end
		found.from = c.tree.size
	}

	// Back to where the process began whose requests these are.
	runs := [][]*Record{records}
	for i := len(list) - 2; i >= 0 && !list[i].pruned && !hasStart(runs[len(runs)-1]); i-- {
		earlier, err := recordsOf(l.disk, list[i])
		if err != nil {
			return nil, err
		}
		runs = append(runs, earlier)
	}
	for _, run := range slices.Backward(runs) {
		found.follow(run)
	}
	l.last = found.last
	l.day = dayOf(found.last)
	return found, nil
}

func hasStart(list []*Record) bool {
	return slices.ContainsFunc(list, func(r *Record) bool { return r.Kind == ServerStart })
}

// recordsOf reads the records of a segment.
func recordsOf(d disk, s segment) (list []*Record, err error) {
	for l, err := range lines(d, s) {
		if err != nil {
			return nil, err
		}
		if l.record != nil {
			list = append(list, l.record)
		}
	}
	return list, nil
}

// dropTorn removes last segments that were being begun when a process ended: nothing in them was acknowledged.
func (l *Log) dropTorn(list []segment) ([]segment, error) {
	whole := len(list)
	for ; whole > 0; whole-- {
		torn, err := l.isTorn(list[whole-1])
		if err != nil {
			return nil, err
		}
		if !torn {
			break
		}
	}
	if whole == len(list) {
		return list, nil
	}

	// They must not come back behind records that are written now.
	var err error
	for _, s := range list[whole:] {
		err = errors.Join(err, l.disk.Remove(s.name))
	}
	if err = errors.Join(err, l.disk.Sync()); err != nil {
		return nil, fmt.Errorf("remove a file of the audit log that has no records: %w", err)
	}
	return list[:whole], nil
}

// isTorn reports whether not even the head of a segment is there.
func (l *Log) isTorn(s segment) (bool, error) {
	if s.pruned {
		return false, nil
	}
	for line, err := range lines(l.disk, s) {
		if err != nil {
			return false, err
		}
		if line.number > 1 || line.seal != nil && line.seal.Segment != nil {
			return false, nil
		}
	}
	return true, nil
}

// checkLast checks the last segment and returns its records. A last commit that does not verify was not acknowledged:
// not all of it was written when the power was cut.
func (l *Log) checkLast(last segment) (*checker, []*Record, error) {
	limit := int64(-1)
	for {
		var records []*Record
		c := &checker{
			key:  l.keys.verifier,
			tag:  l.keys.tag,
			each: func(r *Record) { records = append(records, r) },
		}
		if err := c.check(l.disk, last, limit); err != nil {
			return nil, nil, err
		}
		bad := slices.DeleteFunc(slices.Clone(c.problems), func(p Problem) bool { return p.Tail })
		switch {
		case len(bad) == 0:
			return c, records, nil
		case limit >= 0 || len(c.ends) < 2:
			return nil, nil, fmt.Errorf("%w: %s; serve audit verify lists all", ErrProof, bad[0])
		}
		limit = c.ends[len(c.ends)-2]
	}
}

// sizeOf returns the size of a segment, in bytes.
func sizeOf(d disk, s segment) (size int64, err error) {
	for l, err := range lines(d, s) {
		if err != nil {
			return 0, err
		}
		size = l.offset + int64(len(l.text))
		if l.whole {
			size++
		}
	}
	return size, nil
}
