package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os/user"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// prunedBy says when records were removed, and by which user of the system.
type prunedBy struct {
	Time time.Time `json:"time"`
	User string    `json:"user,omitempty"`
}

// pruneLeaves is how many hashes are in a line.
const pruneLeaves = 512

// Prune removes the records of those files of a log in which all are older than a time. Their hashes stay, so that the
// rest can be verified, and earlier checkpoints. A file that does not verify is not pruned. A server may write the log
// meanwhile; it never prunes the last file. Prune returns the names of the files.
func Prune(dir string, before time.Time) (files []string, err error) {
	keys, err := ReadKeys(dir)
	if err != nil {
		return nil, err
	}
	files, err = prune(osDisk(dir), keys, before)
	if err != nil || len(files) == 0 {
		return files, err
	}

	// A server that writes the log records it; otherwise it is recorded here.
	l, err := Open(dir, Options{})
	if err != nil {
		return files, nil
	}
	for _, name := range files {
		err = errors.Join(err, l.Append(&Record{Kind: LogPruned, Object: name, Detail: map[string]string{"user": self()}}))
	}
	return files, errors.Join(err, l.Close())
}

// self returns the name of the user of this process.
func self() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

func prune(d disk, keys *Keys, before time.Time) (files []string, err error) {
	list, err := segments(d)
	if err != nil {
		return nil, err
	}

	for _, s := range list[:max(len(list)-1, 0)] {
		if s.pruned {
			continue
		}
		var last time.Time
		var leaves []tlog.Hash
		c := &checker{key: keys.verifier, tag: keys.tag}
		c.each = func(r *Record) { last = r.Time }
		if err := c.check(d, s, -1); err != nil {
			return files, err
		}
		if len(c.problems) > 0 {
			return files, fmt.Errorf("%w: %s; a file that does not verify is not pruned", ErrProof, c.problems[0])
		}
		if !last.Before(before) {
			break
		}
		for l, err := range lines(d, s) {
			if err != nil {
				return files, err
			}
			if l.record != nil {
				leaves = append(leaves, leafOf(l.text))
			}
		}
		if err := replace(d, s, leaves); err != nil {
			return files, fmt.Errorf("prune %s: %w", s.name, err)
		}
		files = append(files, s.name)
	}

	return files, nil
}

// replace puts the hashes of a segment's records in its place.
func replace(d disk, s segment, leaves []tlog.Hash) error {
	var text bytes.Buffer
	var checkpoint string
	for l, err := range lines(d, s) {
		if err != nil {
			return err
		}
		if l.number == 1 {
			text.Write(l.text)
			text.WriteByte('\n')
		} else if l.seal != nil {
			checkpoint = l.seal.Checkpoint
		}
	}
	for len(leaves) > pruneLeaves {
		if err := appendSeal(&text, &seal{Leaves: leaves[:pruneLeaves]}); err != nil {
			return err
		}
		leaves = leaves[pruneLeaves:]
	}
	by := &prunedBy{Time: now(), User: self()}
	if err := appendSeal(&text, &seal{Checkpoint: checkpoint, Leaves: leaves, Pruned: by}); err != nil {
		return err
	}

	name := fmt.Sprintf("%020d%s", s.first, prunedSuffix)
	f, err := d.Create(name + newSuffix)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text.Bytes(), 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.Rename(name+newSuffix, name)
	}
	if err == nil {
		err = d.Sync()
	}
	if err != nil {
		_ = d.Remove(name + newSuffix)
		return err
	}
	if err := d.Remove(s.name); err != nil {
		return err
	}
	return d.Sync()
}
