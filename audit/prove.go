package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A proof is a text in C2SP's format tlog-proof: the hashes that lead from a record to a checkpoint, which is its end,
// and the record as its extra data.
const (
	proofTitle = "c2sp.org/tlog-proof@v1"
	maxProof   = 2 << 20
)

// Prove returns the proofs that the records of a request are in the log of a folder, or the record with a number.
func Prove(dir, id string) ([]string, error) {
	key, err := verifier(dir, "")
	if err != nil {
		return nil, err
	}
	return prove(osDisk(dir), key, id)
}

// proven is a record that is to be proven.
type proven struct {
	seq  int64
	line []byte
}

func prove(d disk, key note.Verifier, id string) ([]string, error) {
	wanted, last, err := findLines(d, id)
	if err != nil {
		return nil, err
	}
	signed, err := ParseCheckpoint(last, key)
	if err != nil {
		return nil, err
	}
	if len(wanted) == 0 {
		return nil, fmt.Errorf("the audit log has no record of %s", id)
	}

	nodes := hashes{}
	for _, w := range wanted {
		note := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
			for _, i := range indexes {
				nodes[i] = tlog.Hash{}
			}
			return make([]tlog.Hash, len(indexes)), nil
		})
		if _, err := tlog.ProveRecord(signed.Size, w.seq, note); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrProof, err)
		}
	}
	if err := collect(d, signed.Size, nodes); err != nil {
		return nil, err
	}

	var proofs []string
	for _, w := range wanted {
		p, err := tlog.ProveRecord(signed.Size, w.seq, nodes)
		if err == nil {
			err = tlog.CheckRecord(p, signed.Size, signed.Root, w.seq, leafOf(w.line))
		}
		if err != nil {
			return nil, fmt.Errorf("%w: record %d: %w", ErrProof, w.seq, err)
		}
		proofs = append(proofs, formatProof(w, p, signed))
	}
	return proofs, nil
}

func formatProof(w proven, p tlog.RecordProof, signed *Checkpoint) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nextra %s\nindex %d\n", proofTitle, base64.StdEncoding.EncodeToString(w.line), w.seq)
	for _, h := range p {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	b.WriteString("\n" + signed.Note)
	return b.String()
}

// findLines finds the lines of a request's records, and the log's last checkpoint.
func findLines(d disk, id string) (wanted []proven, checkpoint string, err error) {
	list, err := segments(d)
	if err != nil {
		return nil, "", err
	}
	number, err := strconv.ParseUint(id, 10, 63)
	byNumber := err == nil
	for _, s := range list {
		for l, err := range lines(d, s) {
			switch {
			case err != nil:
				return nil, "", err
			case l.seal != nil && l.seal.Checkpoint != "":
				checkpoint = l.seal.Checkpoint
			case l.record == nil:
			case byNumber && l.record.Seq == number, !byNumber && l.record.ID == id:
				wanted = append(wanted, proven{int64(l.record.Seq), l.text})
			}
		}
	}
	return wanted, checkpoint, nil
}

// collect finds the hashes of nodes of the tree with a size.
func collect(d disk, size int64, nodes hashes) error {
	list, err := segments(d)
	if err != nil {
		return err
	}

	var t tree
	add := func(leaf tlog.Hash) {
		if t.size == size {
			return
		}
		t.add(leaf, func(level int, n int64, h tlog.Hash) {
			index := tlog.StoredHashIndex(level, n)
			if _, ok := nodes[index]; ok {
				nodes[index] = h
			}
		})
	}

	for _, s := range list {
		for l, err := range lines(d, s) {
			switch {
			case err != nil:
				return err
			case l.record != nil:
				add(leafOf(l.text))
			case l.seal != nil && s.pruned:
				for _, leaf := range l.seal.Leaves {
					add(leaf)
				}
			}
		}
	}

	return nil
}

// CheckProof checks a proof by nothing but a verifier key, and returns the record that it is about.
func CheckProof(text string, key note.Verifier) (*Record, *Checkpoint, error) {
	bad := func(why string) (*Record, *Checkpoint, error) {
		return nil, nil, fmt.Errorf("%w: the proof %s", ErrProof, why)
	}
	if len(text) > maxProof {
		return bad("is too large")
	}
	proof, signed, ok := strings.Cut(text, "\n\n")
	list := strings.Split(proof, "\n")
	if !ok || len(list) < 3 || list[0] != proofTitle {
		return bad("is not one: it does not begin with " + proofTitle + ", an extra line and an index")
	}
	extra, ok := strings.CutPrefix(list[1], "extra ")
	if !ok {
		return bad("has no record")
	}
	record, err := base64.StdEncoding.DecodeString(extra)
	if err != nil {
		return bad("has no record that can be read")
	}
	digits, ok := strings.CutPrefix(list[2], "index ")
	index, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || index < 0 {
		return bad("has no index")
	}
	var p tlog.RecordProof
	for _, line := range list[3:] {
		b, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(b) != tlog.HashSize {
			return bad("has a line that is no hash")
		}
		p = append(p, tlog.Hash(b))
	}

	c, err := ParseCheckpoint(signed, key)
	if err != nil {
		return nil, nil, err
	}
	if index >= c.Size {
		return bad("is about a record behind its checkpoint")
	}
	if err := tlog.CheckRecord(p, c.Size, c.Root, index, leafOf(record)); err != nil {
		return bad("does not lead from the record to the checkpoint")
	}
	r, err := ParseRecord(record)
	if err != nil {
		return nil, nil, errors.Join(ErrProof, err)
	}
	if int64(r.Seq) != index {
		return bad("is about a record with another number")
	}
	return r, c, nil
}
