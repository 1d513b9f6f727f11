package audit

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
	"golang.org/x/mod/sumdb/tlog"
)

// Report is what verifying a log has found.
type Report struct {
	Origin     string    `json:"log"`
	Records    int64     `json:"records"` // that were signed
	Pruned     int64     `json:"pruned"`  // of them, of which only the hashes are there
	Checkpoint string    `json:"checkpoint,omitempty"`
	Problems   []Problem `json:"problems"`
	// Unfinished is what a server is just writing; nil if none is.
	Unfinished *Problem `json:"unfinished,omitempty"`
}

// VerifyOptions configure Verify. Zero values are the defaults.
type VerifyOptions struct {
	Key string // a verifier key, or the name of its file; that in the log's folder
	// Checkpoint is one that was kept elsewhere: the log must contain what it contained then.
	Checkpoint string
}

// Verify compares all of the log in a folder with what its key has signed.
func Verify(dir string, o VerifyOptions) (*Report, error) {
	key, err := verifier(dir, o.Key)
	if err != nil {
		return nil, err
	}
	c := &checker{key: key}
	if keys, err := ReadKeys(dir); err == nil && keys.signer.KeyHash() == key.KeyHash() {
		c.tag = keys.tag
	}
	var known *Checkpoint
	if o.Checkpoint != "" {
		if known, err = ParseCheckpoint(o.Checkpoint, key); err != nil {
			return nil, fmt.Errorf("the checkpoint that was kept elsewhere: %w", err)
		}
	}
	return verify(osDisk(dir), c, known, isHeld(dir))
}

// isHeld reports whether a server writes the log in a folder.
func isHeld(dir string) bool {
	path := filepath.Join(dir, lockFile)
	if _, err := os.Stat(path); err != nil {
		return false
	}
	lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
	held, err := lock.TryRLock()
	if err != nil {
		return false
	}
	if held {
		_ = lock.Unlock()
	}
	return !held
}

// verify verifies a log that may be written meanwhile.
func verify(d disk, c *checker, known *Checkpoint, isWritten bool) (*Report, error) {
	list, err := segments(d)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: there is no log in the folder", ErrProof)
	}
	r := &Report{Origin: c.key.Name(), Problems: []Problem{}}
	met := known == nil || known.Size == 0
	c.grow = func(t *tree) {
		if !met && t.size == known.Size {
			met = true
			if t.root() != known.Root {
				c.report(0, known.Size-1, "the log is not the one whose checkpoint was kept elsewhere: it was different "+
					"up to record %d", known.Size-1)
			}
		}
	}

	c.trusted = true // of an empty log
	for i, s := range list {
		before := len(c.problems)
		if err := c.check(d, s, -1); err != nil {
			return nil, err
		}
		if s.pruned {
			r.Pruned += c.tree.size - s.first
		}
		last := len(c.problems) - 1
		if i < len(list)-1 && last >= before {
			c.problems[last].Tail = false // it is not the log's
		}
	}

	if last := len(c.problems) - 1; last >= 0 && c.problems[last].Tail && isWritten {
		r.Unfinished = &c.problems[last]
		c.problems = c.problems[:last]
	}
	switch {
	case met || !c.trusted:
	case known.Size > c.tree.size:
		c.report(0, c.tree.size, "the log was rolled back: it has %d records, and had %d when the checkpoint was kept",
			c.tree.size, known.Size)
	default:
		c.report(0, -1, "the log does not have the records up to %d in order, with which the checkpoint that was kept "+
			"could be compared", known.Size)
	}
	r.Problems = append(r.Problems, c.problems...)
	r.Records = c.tree.size
	if c.last != nil {
		r.Checkpoint = c.last.Note
	}
	return r, nil
}

// LastCheckpoint returns the last checkpoint of the log in a folder, to be kept elsewhere.
func LastCheckpoint(dir string) (string, error) {
	key, err := verifier(dir, "")
	if err != nil {
		return "", err
	}

	list, err := segments(osDisk(dir))
	if err != nil {
		return "", err
	}

	if len(list) == 0 {
		return "", fmt.Errorf("%w: there is no log in the folder", ErrProof)
	}
	var last string
	for l, err := range lines(osDisk(dir), list[len(list)-1]) {
		if err != nil {
			return "", err
		}
		if l.seal != nil && l.seal.Checkpoint != "" {
			last = l.seal.Checkpoint
		}
	}
	if _, err := ParseCheckpoint(last, key); err != nil {
		return "", err
	}

	return last, nil
}

// hashes are those of nodes by their number, as tlog counts them.
type hashes map[int64]tlog.Hash

// ReadHashes implements tlog.HashReader.
func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		hash, ok := h[index]
		if !ok {
			return nil, fmt.Errorf("%w: a node of the tree is missing", ErrProof)
		}
		list[i] = hash
	}
	return list, nil
}
