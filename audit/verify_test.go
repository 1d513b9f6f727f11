package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// written returns the files of a log with some commits of several records each, and where its records are.
func written(t testing.TB, commits, each int, segmentSize int64) *memory {
	t.Helper()
	d := newMemory(1)
	l := &Log{opts: Options{Segment: segmentSize, Log: quiet}, keys: testKeys(), disk: d}
	for c := range commits {
		var batch []waiting
		for i := range each {
			batch = append(batch, waiting{record: &Record{Kind: RequestEnd, ID: fmt.Sprintf("req_%d_%d", c, i), Status: 200}})
		}
		if err := l.write(batch); err != nil {
			t.Fatal(err)
		}
	}
	if r := checked(t, d, nil, false); len(r.Problems) > 0 || r.Records != int64(commits*each) {
		t.Fatalf("%+v", r)
	}
	return d
}

// changed returns a copy of a log in which the lines of a file were changed.
func changed(d *memory, name string, change func(lines [][]byte) [][]byte) *memory {
	next := newMemory(1)
	for n, f := range d.names {
		content := bytes.Clone(f.data)
		if n == name {
			list := bytes.Split(bytes.TrimSuffix(content, []byte("\n")), []byte("\n"))
			for i := range list {
				list[i] = bytes.Clone(list[i])
			}
			content = append(bytes.Join(change(list), []byte("\n")), '\n')
		}
		next.names[n] = &memoryFile{d: next, data: content}
	}
	return next
}

// names reports whether a report has a problem with a record.
func (r *Report) names(seq int64) bool {
	return slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Record == seq })
}

// recordAt returns the index of the line of a record.
func recordAt(t testing.TB, lines [][]byte, seq int64) int {
	t.Helper()
	i := slices.IndexFunc(lines, func(l []byte) bool { return bytes.HasPrefix(l, fmt.Appendf(nil, `{"seq":%d,`, seq)) })
	if i < 0 {
		t.Fatalf("record %d is not there", seq)
	}
	return i
}

// fileOf returns the name of the segment that has a record.
func fileOf(t testing.TB, d *memory, seq int64) string {
	t.Helper()
	list, err := segments(d)
	if err != nil {
		t.Fatal(err)
	}
	name := ""
	for _, s := range list {
		if s.first <= seq {
			name = s.name
		}
	}
	return name
}

// TestMutations changes each record of a log in each way, and the log says which one it was.
func TestMutations(t *testing.T) {
	const commits, each = 6, 4
	d := written(t, commits, each, 4000)
	random := rand.New(rand.NewPCG(1, 1))
	for seq := range int64(commits * each) {
		name := fileOf(t, d, seq)
		for _, m := range []struct {
			what   string
			also   int64 // another record that may be named in its place, or beside it
			change func(lines [][]byte, i int) [][]byte
		}{
			{"a bit is flipped", -1, func(lines [][]byte, i int) [][]byte {
				for {
					at, bit := random.IntN(len(lines[i])), byte(1)<<random.IntN(8)
					if lines[i][at]^bit != '\n' {
						lines[i][at] ^= bit
						return lines
					}
				}
			}},
			{"it is dropped", -1, func(lines [][]byte, i int) [][]byte { return slices.Delete(lines, i, i+1) }},
			{"it is there twice", -1, func(lines [][]byte, i int) [][]byte { return slices.Insert(lines, i, lines[i]) }},
			{"it is changed", -1, func(lines [][]byte, i int) [][]byte {
				lines[i] = bytes.Replace(lines[i], []byte(`"status":200`), []byte(`"status":201`), 1)
				return lines
			}},
			{"one is added before it", -1, func(lines [][]byte, i int) [][]byte {
				return slices.Insert(lines, i, bytes.Replace(lines[i], []byte("req_"), []byte("REQ_"), 1))
			}},
			{"it is swapped with the next", seq + 1, func(lines [][]byte, i int) [][]byte {
				j := i + 1
				for !bytes.HasPrefix(lines[j], []byte(recordStart)) {
					if j++; j == len(lines) {
						j = i - 2 // it is the last one of the file
						break
					}
				}
				lines[i], lines[j] = lines[j], lines[i]
				return lines
			}},
		} {
			bad := changed(d, name, func(lines [][]byte) [][]byte { return m.change(lines, recordAt(t, lines, seq)) })
			r := checked(t, bad, nil, false)
			if len(r.Problems) == 0 || !r.names(seq) && (m.also < 0 || !r.names(m.also)) {
				t.Errorf("record %d: %s: %v", seq, m.what, r.Problems)
			}
		}
	}
}

// TestRewritten rewrites a record together with all that can be rewritten without the key. Whoever has the key is told
// which one it was; the public key tells between which.
func TestRewritten(t *testing.T) {
	const commits, each = 4, 4
	d := written(t, commits, each, 1<<20)
	name := fileOf(t, d, 0)
	for seq := range int64(commits * each) {
		bad := changed(d, name, func(lines [][]byte) [][]byte {
			i := recordAt(t, lines, seq)
			lines[i] = bytes.Replace(lines[i], []byte(`"status":200`), []byte(`"status":500`), 1)
			j := i
			for !bytes.HasPrefix(lines[j], []byte(`{"checkpoint"`)) {
				j++
			}
			s, err := parseSeal(lines[j])
			if err != nil {
				t.Fatal(err)
			}
			s.Leaves[seq%each] = leafOf(lines[i])
			if lines[j], err = json.Marshal(s); err != nil {
				t.Fatal(err)
			}
			return lines
		})
		r := checked(t, bad, nil, true)
		if len(r.Problems) == 0 || !r.names(seq) {
			t.Errorf("record %d: %v", seq, r.Problems)
		}
		for _, p := range r.Problems {
			if p.Record >= 0 && p.Record != seq {
				t.Errorf("record %d: another one is named: %v", seq, p)
			}
		}
		r = checked(t, bad, nil, false)
		between := fmt.Sprintf("records %d to %d", seq/each*each, seq/each*each+each-1)
		if len(r.Problems) == 0 || !strings.Contains(r.Problems[0].Text, between) {
			t.Errorf("record %d, public key: %v", seq, r.Problems)
		}
	}
}

// TestChangedSeals changes lines that are no records. The log does not verify, and says what is wrong.
func TestChangedSeals(t *testing.T) {
	d := written(t, 6, 4, 4000)
	list, err := segments(d)
	if err != nil || len(list) < 2 {
		t.Fatal(list, err)
	}
	other, _, err := note.GenerateKey(nil, "serve-audit-test")
	if err != nil {
		t.Fatal(err)
	}
	forger, err := newKeys(other, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		for i, line := range bytes.Split(bytes.TrimSuffix(d.names[s.name].data, []byte("\n")), []byte("\n")) {
			if bytes.HasPrefix(line, []byte(recordStart)) {
				continue
			}
			for what, change := range map[string]func([]byte) []byte{
				"bit": func(l []byte) []byte { l[len(l)/2] ^= 1; return l },
				"cut": func(l []byte) []byte { return l[:len(l)/2] },
				"key": func(l []byte) []byte {
					s, err := parseSeal(l)
					if err != nil {
						t.Fatal(err)
					}
					c, err := ParseCheckpoint(s.Checkpoint, testKeys().verifier)
					if err != nil {
						t.Fatal(err)
					}
					signed, err := note.Sign(&note.Note{Text: strings.SplitAfter(c.Note, "\n\n")[0][:len(strings.SplitAfter(c.Note, "\n\n")[0])-1]},
						forger.signer)
					if err != nil {
						t.Fatal(err)
					}
					s.Checkpoint = string(signed)
					b, err := json.Marshal(s)
					if err != nil {
						t.Fatal(err)
					}
					return b
				},
			} {
				bad := changed(d, s.name, func(lines [][]byte) [][]byte { lines[i] = change(lines[i]); return lines })
				if r := checked(t, bad, nil, true); len(r.Problems) == 0 {
					t.Errorf("%s:%d, %s: it verifies", s.name, i+1, what)
				}
			}
			bad := changed(d, s.name, func(lines [][]byte) [][]byte { return slices.Delete(lines, i, i+1) })
			if r := checked(t, bad, nil, true); len(r.Problems) == 0 {
				t.Errorf("%s:%d, removed: it verifies", s.name, i+1)
			}
		}
	}
}

// TestMissingFiles removes files of a log, also the first and the last.
func TestMissingFiles(t *testing.T) {
	d := written(t, 12, 4, 4000)
	known, err := ParseCheckpoint(checked(t, d, nil, false).Checkpoint, testKeys().verifier)
	if err != nil {
		t.Fatal(err)
	}
	list, err := segments(d)
	if err != nil || len(list) < 3 {
		t.Fatal(list, err)
	}
	for i, s := range list {
		bad := changed(d, "", nil)
		delete(bad.names, s.name)
		r := checked(t, bad, nil, false)
		if i < len(list)-1 && !r.names(s.first) {
			t.Errorf("%s: %v", s.name, r.Problems)
		}
		// That the end is missing only a checkpoint tells that was kept elsewhere.
		r = checked(t, bad, known, false)
		if len(r.Problems) == 0 {
			t.Errorf("%s: it verifies", s.name)
		}
		if i == len(list)-1 && !strings.Contains(r.Problems[0].Text, "rolled back") {
			t.Error(r.Problems)
		}
	}
}

// TestOtherLog compares a log with the checkpoint of one that went another way, signed by the same key.
func TestOtherLog(t *testing.T) {
	d := written(t, 3, 4, 1<<20)
	known, err := ParseCheckpoint(checked(t, d, nil, false).Checkpoint, testKeys().verifier)
	if err != nil {
		t.Fatal(err)
	}
	other := written(t, 3, 4, 1<<20) // at other times
	more := &Log{opts: Options{Log: quiet, disk: other}, keys: testKeys(), disk: other}
	if _, err := more.recover(); err != nil {
		t.Fatal(err)
	}
	more.opts.Segment = 1 << 20
	if err := more.write([]waiting{{record: &Record{Kind: Request}}}); err != nil {
		t.Fatal(err)
	}
	r := checked(t, other, known, false)
	if len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Text, "different") {
		t.Error(r.Problems)
	}
	if r := checked(t, d, known, false); len(r.Problems) > 0 {
		t.Error(r.Problems)
	}
}

// TestPrune removes old records. The rest verifies, all earlier checkpoints too, and nothing of the old is left.
func TestPrune(t *testing.T) {
	d := written(t, 12, 4, 4000)
	var known []*Checkpoint
	for _, s := range d.names {
		for line := range bytes.SplitSeq(s.data, []byte("\n")) {
			if seal, err := parseSeal(line); err == nil && seal.Checkpoint != "" && seal.Segment == nil {
				c, err := ParseCheckpoint(seal.Checkpoint, testKeys().verifier)
				if err != nil {
					t.Fatal(err)
				}
				known = append(known, c)
			}
		}
	}
	if len(known) != 12 {
		t.Fatal(len(known))
	}
	if files, err := prune(d, testKeys(), now().Add(-time.Hour)); err != nil || len(files) != 0 {
		t.Errorf("too early: %v, %v", files, err)
	}

	// A file that was changed is not pruned: its hashes would hide that.
	bad := changed(d, segmentName(0), func(lines [][]byte) [][]byte { return slices.Delete(lines, 1, 2) })
	if files, err := prune(bad, testKeys(), now().Add(time.Hour)); !errors.Is(err, ErrProof) || len(files) != 0 {
		t.Errorf("a changed file: %v, %v", files, err)
	}

	files, err := prune(d, testKeys(), now().Add(time.Hour))
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, c := range known {
		r := checked(t, d, c, false)
		if len(r.Problems) > 0 || r.Pruned == 0 || r.Records != 48 {
			t.Fatalf("%d: %+v", c.Size, r)
		}
	}
	for name, f := range d.names {
		if strings.HasSuffix(name, prunedSuffix) && bytes.Contains(f.data, []byte("req_")) {
			t.Error("a record is left")
		}
	}
	for name := range d.names {
		if strings.HasSuffix(name, prunedSuffix) {
			bad := changed(d, name, func(lines [][]byte) [][]byte {
				s, err := parseSeal(lines[1])
				if err != nil {
					t.Fatal(err)
				}
				s.Leaves[0][0] ^= 1
				lines[1], _ = json.Marshal(s)
				return lines
			})
			if r := checked(t, bad, nil, false); len(r.Problems) == 0 {
				t.Error("a changed hash of a pruned record verifies")
			}
		}
	}

	// It goes on.
	l := openMemory(t, d, Options{Segment: 4000})
	if err := l.Append(&Record{Kind: ServerStart}); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if r := checked(t, d, known[0], false); len(r.Problems) > 0 || r.Records != 49 {
		t.Errorf("%+v", r)
	}
}

// TestProve proves each record by the public key alone. No changed proof is accepted.
func TestProve(t *testing.T) {
	d := written(t, 9, 3, 3000)
	key := testKeys().verifier
	if _, err := prune(d, testKeys(), now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	list := all(t, d)
	if len(list) == 0 || len(list) == 27 {
		t.Fatal(len(list))
	}
	random := rand.New(rand.NewPCG(1, 1))
	for _, want := range list {
		proofs, err := prove(d, key, want.ID)
		if err != nil || len(proofs) != 1 {
			t.Fatal(len(proofs), err)
		}
		r, c, err := CheckProof(proofs[0], key)
		if err != nil || r.ID != want.ID || r.Seq != want.Seq || c.Size != 27 {
			t.Fatalf("%+v, %v", r, err)
		}
		for range 50 {
			b := []byte(proofs[0])
			at := random.IntN(len(b))
			b[at] ^= 1 << random.IntN(7)
			if got, _, err := CheckProof(string(b), key); err == nil && got.Seq != want.Seq {
				t.Fatalf("a changed proof of record %d is accepted for record %d", want.Seq, got.Seq)
			} else if err == nil && !sameRecord(got, want) {
				t.Fatalf("a changed proof is accepted: %+v", got)
			}
		}
	}
	if proofs, err := prove(d, key, fmt.Sprint(list[0].Seq)); err != nil || len(proofs) != 1 {
		t.Errorf("by its number: %v", err)
	}
	if _, err := prove(d, key, "req_none"); err == nil {
		t.Error("an unknown request")
	}
}

func sameRecord(a, b *Record) bool {
	x, err := a.encode()
	y, err2 := b.encode()
	return err == nil && err2 == nil && bytes.Equal(x, y)
}

// TestTree compares the tree with tlog's own.
func TestTree(t *testing.T) {
	var own tree
	stored := hashes{}
	count := int64(0)
	for n := range int64(200) {
		text := fmt.Appendf(nil, "record %d", n)
		more, err := tlog.StoredHashes(n, text, stored)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range more {
			stored[count] = h
			count++
		}
		own.add(leafOf(text), func(level int, n int64, h tlog.Hash) {
			if stored[tlog.StoredHashIndex(level, n)] != h {
				t.Fatalf("node %d of level %d", n, level)
			}
		})
		want, err := tlog.TreeHash(n+1, stored)
		if err != nil || own.root() != want {
			t.Fatalf("%d records: %v, %v", n+1, own.root(), err)
		}
		if again, err := treeOf(own.size, own.peaks); err != nil || again.root() != want {
			t.Fatal(err)
		}
		if _, err := treeOf(own.size, append(own.peaks, want)); err == nil {
			t.Fatal("a tree with more peaks than its size has")
		}
	}
}

// FuzzLine reads lines of any content. What is a record stays the same when it is written again.
func FuzzLine(f *testing.F) {
	d := written(f, 2, 2, 1<<20)
	for _, file := range d.names {
		for line := range bytes.SplitSeq(file.data, []byte("\n")) {
			f.Add(line)
		}
	}
	f.Add([]byte(`{"seq":1,"work":[{"parameters":{"a":` + strings.Repeat("[", 100) + `}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l := line{text: text, whole: true}
		l.parse()
		if l.err == nil && l.record == nil && l.seal == nil {
			t.Fatal("a line is nothing")
		}
		if l.record != nil {
			first, err := l.record.encode()
			if err != nil {
				return // a time that JSON cannot have
			}
			if bytes.ContainsAny(first, "\n\r") {
				t.Fatalf("a line of two: %q", first)
			}
			again, err := ParseRecord(first)
			if err != nil {
				t.Fatalf("%s: %v", first, err)
			}
			if second, err := again.encode(); err != nil || !bytes.Equal(first, second) {
				t.Fatalf("%s became %s, %v", first, second, err)
			}
		}
		m := newMemory(1)
		m.names[segmentName(0)] = &memoryFile{d: m, data: append(bytes.Clone(text), '\n')}
		if _, err := verify(m, &checker{key: testKeys().verifier}, nil, false); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzProof reads proofs of any content.
func FuzzProof(f *testing.F) {
	d := written(f, 2, 2, 1<<20)
	proofs, err := prove(d, testKeys().verifier, "2")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(proofs[0])
	f.Fuzz(func(t *testing.T, text string) {
		r, c, err := CheckProof(text, testKeys().verifier)
		if err == nil && (r == nil || c == nil) {
			t.Fatal("a proof of nothing")
		}
	})
}
