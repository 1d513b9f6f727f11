package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// openFolder opens a log in a folder with records of a few requests.
func openFolder(t *testing.T, records int) (l *Log, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "audit")
	if _, err := Init(dir); err != nil {
		t.Fatal(err)
	}
	l, err := Open(dir, Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for i := range records {
		if err := l.Append(&Record{Kind: Request, ID: fmt.Sprint("req-", i)}); err != nil {
			t.Fatal(err)
		}
	}
	return l, dir
}

func anyRecord(*Record) bool { return true }

// TestReview returns the last records that are wanted, and the checkpoint of all.
func TestReview(t *testing.T) {
	l, _ := openFolder(t, 10)
	r, err := l.Review(3, func(r *Record) bool { return r.ID != "req-8" })
	if err != nil || len(r.Problems) != 0 || r.Records != 10 || r.First != 0 || len(r.Last) != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	for i, want := range []string{"req-9", "req-7", "req-6"} {
		if r.Last[i].ID != want {
			t.Errorf("%d: %s", i, r.Last[i].ID)
		}
	}
	signed, err := ParseCheckpoint(r.Checkpoint, l.keys.verifier)
	if err != nil || signed.Size != 10 || signed.Origin != r.Origin {
		t.Errorf("%+v, %v", signed, err)
	}
	if r, err := l.Review(0, anyRecord); err != nil || len(r.Last) != 0 || r.Records != 10 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestReviewFindsChanges has whoever can write the file change it while the server runs.
func TestReviewFindsChanges(t *testing.T) {
	cut := func(b []byte) []byte { return b[:bytes.LastIndex(b, []byte(recordStart))] }
	for name, tt := range map[string]struct {
		change func([]byte) []byte // of the file's content; nil removes it
		want   string
	}{
		"a record changed": {
			func(b []byte) []byte { return bytes.Replace(b, []byte("req-3"), []byte("req-4"), 1) },
			"record 3",
		},
		"the last record removed": {cut, "record 5 is missing: the server has written 6"},
		"a line added": {
			func(b []byte) []byte { return append(b, `{"seq":6,"kind":"request"}`+"\n"...) },
			"not signed",
		},
		"the content removed":       {func([]byte) []byte { return nil }, "records 0 to 5 are missing"},
		"the file removed":          {nil, "records 0 to 5 are missing"},
		"a file that another wrote": {func([]byte) []byte { return []byte("{}\n") }, "head"},
	} {
		t.Run(name, func(t *testing.T) {
			l, dir := openFolder(t, 6)
			path := filepath.Join(dir, segmentName(0))
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if tt.change == nil {
				err = os.Remove(path)
			} else {
				err = os.WriteFile(path, tt.change(text), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			r, err := l.Review(1, anyRecord)
			if err != nil || !strings.Contains(fmt.Sprint(r.Problems), tt.want) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// TestReviewWhileWriting finds nothing wrong with a file that is written while it is read.
func TestReviewWhileWriting(t *testing.T) {
	l, _ := openFolder(t, 1)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := l.Append(&Record{Kind: Request}); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for range 10 {
		r, err := l.Review(5, anyRecord)
		if err != nil || len(r.Problems) != 0 || r.Records == 0 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	close(stop)
	wg.Wait()
}
