package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func openFiles(t *testing.T, folder string, limits Limits) (*Files, func()) {
	t.Helper()
	a, err := Open(folder, time.Hour, limits)
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.Files()
	if err != nil {
		t.Fatal(err)
	}
	return s, func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

// store stores a file that is kept for a time; 0 for ever.
func store(t *testing.T, s *Files, id, text string, kept time.Duration) {
	t.Helper()
	d, err := s.Draft(id, Owner{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(d, text); err != nil {
		t.Fatal(err)
	}
	d.File.Name = id + ".txt"
	d.File.Purpose = "user_data"
	d.File.Created = time.Now()
	if kept > 0 {
		d.File.Expires = time.Now().Add(kept)
	}
	if err := s.Keep(context.Background(), nil, d); err != nil {
		t.Fatal(err)
	}
	if err := d.Discard(); err != nil {
		t.Fatal(err)
	}
}

// names returns what is in the folder of the files.
func names(t *testing.T, folder string) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(folder, "files"))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, entry := range entries {
		list = append(list, entry.Name())
	}
	return strings.Join(list, " ")
}

func listed(t *testing.T, s *Files, l FileList) string {
	t.Helper()
	files, err := s.List(context.Background(), l)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, f := range files {
		list = append(list, f.ID)
	}
	return strings.Join(list, " ")
}

func TestFiles(t *testing.T) {
	ctx := context.Background()
	folder := t.TempDir()
	s, end := openFiles(t, folder, Limits{})
	store(t, s, "a", "one", 0)
	store(t, s, "b", "two", 0)
	store(t, s, "c", "three", 0)

	for want, l := range map[string]FileList{
		"c b a": {Limit: 9},
		"c b":   {Limit: 2},
		"a":     {Limit: 9, After: "b"},
		"b c":   {Limit: 9, After: "a", Oldest: true},
		"":      {Limit: 9, Purpose: "batch"},
	} {
		if got := listed(t, s, l); got != want {
			t.Errorf("%+v: %q, want %q", l, got, want)
		}
	}
	if _, err := s.List(ctx, FileList{After: "absent", Limit: 1}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if s.Usage() != int64(len("onetwothree")) {
		t.Errorf("%d bytes", s.Usage())
	}

	// A reader keeps what it reads.
	_, content, err := s.Open(ctx, Key{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(ctx, Key{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(content); string(b) != "one" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if err := content.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(ctx, Key{ID: "a"}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if got := names(t, folder); got != "b c" {
		t.Errorf("the folder has %q", got)
	}
	end()

	// A later process finds the files, and removes what nobody knows.
	for _, name := range []string{"stray", "upload.part"} {
		if err := os.WriteFile(filepath.Join(folder, "files", name), []byte("left"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, end = openFiles(t, folder, Limits{})
	defer end()
	if got := names(t, folder); got != "b c" || s.Usage() != int64(len("twothree")) {
		t.Errorf("the folder has %q, %d bytes", got, s.Usage())
	}
}

// TestNothingIsLeftOfFiles looks for a deleted content through a second link to the file.
func TestNothingIsLeftOfFiles(t *testing.T) {
	folder := t.TempDir()
	s, end := openFiles(t, folder, Limits{})
	defer end()
	store(t, s, "a", "the secret", 0)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Link(filepath.Join(folder, "files", "a"), link); err != nil {
		t.Skip(err)
	}
	if info, err := os.Stat(link); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := s.Delete(context.Background(), Key{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(link); err != nil || !bytes.Equal(b, make([]byte, len("the secret"))) {
		t.Errorf("left: %q, %v", b, err)
	}
}

func TestFilesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		s, end := openFiles(t, folder, Limits{})
		defer end()
		store(t, s, "a", "one", time.Hour)
		store(t, s, "b", "two", 0)
		store(t, s, "input", "three", time.Hour)
		b := &Batch{ID: "batch", Created: time.Now(), Input: "input", Open: true, Body: []byte("{}")}
		if err := s.Keep(t.Context(), b); err != nil {
			t.Fatal(err)
		}

		time.Sleep(time.Hour)
		if got := listed(t, s, FileList{Limit: 9}); got != "input b" {
			t.Errorf("left: %s", got)
		}
		if err := s.Delete(t.Context(), Key{ID: "input"}); !errors.Is(err, ErrInUse) {
			t.Error(err)
		}
		b.Open = false
		if err := s.Keep(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if got := listed(t, s, FileList{Limit: 9}); got != "b" {
			t.Errorf("left after the batch: %s", got)
		}
		time.Sleep(BatchTime)
		listed(t, s, FileList{Limit: 9})
		if _, err := s.Batch(t.Context(), Key{ID: "batch"}); !errors.Is(err, ErrNotFound) {
			t.Errorf("an old batch: %v", err)
		}
	})
}

func TestFileLimits(t *testing.T) {
	folder := t.TempDir()
	s, end := openFiles(t, folder, Limits{Bytes: 10, ClientBytes: 10, Files: 2, ClientFiles: 2})
	defer end()
	store(t, s, "a", "12345", 0)
	d, err := s.Draft("b", Owner{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(d, "123456"); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	if _, err := io.WriteString(d, "12345"); err != nil {
		t.Error(err)
	}
	if _, err := s.Draft("c", Owner{}); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	if err := d.Discard(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, folder); got != "a" || s.Usage() != 5 {
		t.Errorf("the folder has %q, %d bytes", got, s.Usage())
	}
	store(t, s, "c", "12345", 0)
}

// TestDraftsOfBatches has a process end while a batch is written, before and after its file got its name.
func TestDraftsOfBatches(t *testing.T) {
	ctx := context.Background()
	folder := t.TempDir()
	s, end := openFiles(t, folder, Limits{})
	b := &Batch{ID: "batch", Created: time.Now(), Output: "output", Errors: "errors", Open: true, Body: []byte("{}")}
	if err := s.Keep(ctx, b); err != nil {
		t.Fatal(err)
	}
	d, err := s.Draft("output", Owner{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(d, "one\ntw"); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	end()

	s, end = openFiles(t, folder, Limits{})
	if d, err = s.Draft("output", Owner{}); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(d.Content()); string(text) != "one\ntw" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if err := d.Truncate(4); err != nil {
		t.Fatal(err)
	}
	if err := d.seal(); err != nil {
		t.Fatal(err)
	}
	end()

	s, end = openFiles(t, folder, Limits{})
	defer end()
	if d, err = s.Draft("output", Owner{}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(d, "two\n"); err != nil {
		t.Fatal(err)
	}
	b.Open = false
	b.Body = []byte(`{"done":true}`)
	if err := s.Keep(ctx, b, d); err != nil {
		t.Fatal(err)
	}
	f, content, err := s.Open(ctx, Key{ID: "output"})
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	if text, err := io.ReadAll(content); string(text) != "one\ntwo\n" || f.Bytes != 8 || err != nil {
		t.Errorf("%q, %+v, %v", text, f, err)
	}
	if got, err := s.Batch(ctx, Key{ID: "batch"}); err != nil || got.Open || string(got.Body) != string(b.Body) {
		t.Errorf("%+v, %v", got, err)
	}
	if open, err := s.OpenBatches(ctx); err != nil || len(open) != 0 {
		t.Errorf("%d open, %v", len(open), err)
	}
}
