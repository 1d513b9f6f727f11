package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// tree is a Merkle tree of RFC 6962 that grows: as much of it as the hashes of larger ones need.
type tree struct {
	size  int64
	peaks []tlog.Hash // roots of the complete subtrees, the largest first
}

// leafOf returns the hash of a record's line.
func leafOf(line []byte) tlog.Hash { return tlog.RecordHash(line) }

// add adds a leaf. Visit, unless it is nil, is called with every node that becomes complete, by its level and number.
func (t *tree) add(leaf tlog.Hash, visit func(level int, n int64, h tlog.Hash)) {
	level := 0
	n := t.size
	h := leaf
	for {
		if visit != nil {
			visit(level, n, h)
		}
		if n&1 == 0 {
			break
		}
		last := len(t.peaks) - 1
		h = tlog.NodeHash(t.peaks[last], h)
		t.peaks = t.peaks[:last]
		n >>= 1
		level++
	}
	t.peaks = append(t.peaks, h)
	t.size++
}

// root returns the hash of the whole tree.
func (t *tree) root() tlog.Hash {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	last := len(t.peaks) - 1
	h := t.peaks[last]
	for _, left := range slices.Backward(t.peaks[:last]) {
		h = tlog.NodeHash(left, h)
	}
	return h
}

// clone returns a tree that grows by itself.
func (t *tree) clone() tree { return tree{size: t.size, peaks: slices.Clone(t.peaks)} }

// treeOf returns the tree with these peaks. It is an error if there are not as many as the size has.
func treeOf(size int64, peaks []tlog.Hash) (tree, error) {
	want := strings.Count(strconv.FormatInt(size, 2), "1")
	if size < 0 || len(peaks) != want {
		return tree{}, errors.New("the nodes are not those of the size")
	}
	return tree{size: size, peaks: slices.Clone(peaks)}, nil
}

// Checkpoint is a signed size and root of a log.
type Checkpoint struct {
	Origin string // the log's name
	Size   int64
	Root   tlog.Hash
	Note   string // as it is signed
}

// sign returns the checkpoint of a tree, in the format of C2SP's tlog-checkpoint.
func sign(signer note.Signer, t *tree) (string, error) {
	root := t.root()
	text := signer.Name() + "\n" + strconv.FormatInt(t.size, 10) + "\n" +
		base64.StdEncoding.EncodeToString(root[:]) + "\n"
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	return string(signed), err
}

// ParseCheckpoint reads a checkpoint and verifies its signature.
func ParseCheckpoint(text string, v note.Verifier) (*Checkpoint, error) {
	n, err := note.Open([]byte(text), note.VerifierList(v))
	if err != nil {
		return nil, fmt.Errorf("%w: the signature of a checkpoint is not one of the key %s", ErrProof, v.Name())
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) < 4 || lines[0] != v.Name() {
		return nil, fmt.Errorf("%w: a checkpoint is not one of this log", ErrProof)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	root, err2 := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || err2 != nil || size < 0 || len(root) != tlog.HashSize {
		return nil, fmt.Errorf("%w: a checkpoint has no size and root", ErrProof)
	}
	c := &Checkpoint{Origin: lines[0], Size: size, Note: text}
	copy(c.Root[:], root)
	return c, nil
}

// matches reports whether a checkpoint is that of a tree.
func (c *Checkpoint) matches(t *tree) bool { return c.Size == t.size && c.Root == t.root() }
