package archive

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// owned returns a turn that counts about 10 KB for a client.
func owned(id, owner string) *Record {
	r := turn(id, "", strings.Repeat("x", 5000))
	r.Owner.Client = owner
	return r
}

// TestQuota stores until a client has its share, which harms no other client, and until all is full. Room is made
// by deleting and by replacing, and counted again by a later process.
func TestQuota(t *testing.T) {
	ctx := context.Background()
	folder := t.TempDir()
	limits := Limits{Bytes: 60_000, ClientBytes: 25_000}
	a, err := Open(folder, 0, limits)
	if err != nil {
		t.Fatal(err)
	}
	put := func(id, owner string) error { return a.Put(ctx, owned(id, owner)) }

	for _, id := range []string{"a1", "a2"} {
		if err := put(id, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := put("a3", "a"); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "each client") {
		t.Errorf("a third one of a: %v", err)
	}
	if err := put("a2", "a"); !errors.Is(err, ErrFull) {
		t.Errorf("what replaces another one needs room beside it: %v", err)
	}
	if _, err := a.Get(ctx, Key{ID: "a2"}); err != nil {
		t.Errorf("what was not replaced is gone: %v", err)
	}
	// All or none.
	if err := a.Put(ctx, owned("b1", "b"), owned("b2", "b"), owned("b3", "b")); !errors.Is(err, ErrFull) {
		t.Errorf("three at once: %v", err)
	}
	if err := a.Put(ctx, owned("b1", "b"), owned("b2", "b")); err != nil {
		t.Errorf("another client: %v", err)
	}
	if err := put("c1", "c"); err != nil {
		t.Error(err)
	}
	if err := put("c2", "c"); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "all clients") {
		t.Errorf("all is full: %v", err)
	}

	if err := a.Delete(ctx, Key{ID: "b1"}); err != nil {
		t.Fatal(err)
	}
	if err := put("c2", "c"); err != nil {
		t.Errorf("after a deletion: %v", err)
	}
	used := a.quota.usage()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}

	again, err := Open(folder, 0, limits)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := again.quota.usage(); got != used {
		t.Errorf("a later process counts %+v, not %+v", got, used)
	}
	if err := again.Put(ctx, owned("a3", "a")); !errors.Is(err, ErrFull) {
		t.Errorf("a later process forgets whose it is: %v", err)
	}
}

// TestFilesShareTheQuota counts files, responses and batches together.
func TestFilesShareTheQuota(t *testing.T) {
	a, err := Open(t.TempDir(), 0, Limits{Bytes: 100_000, ClientBytes: 20_000, Files: 9, ClientFiles: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	files, err := a.Files()
	if err != nil {
		t.Fatal(err)
	}

	d, err := files.Draft("file", Owner{Client: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(d, strings.Repeat("x", 15_000)); err != nil {
		t.Fatal(err)
	}
	if err := a.Put(t.Context(), owned("r", "a")); !errors.Is(err, ErrFull) {
		t.Errorf("a response beside a file: %v", err)
	}
	if err := a.Admits(Owner{Client: "a"}, 1000); err != nil {
		t.Errorf("there is some room: %v", err)
	}
	if err := files.Keep(t.Context(), &Batch{ID: "batch", Owner: Owner{Client: "a"}}); !errors.Is(err, ErrFull) {
		t.Errorf("a batch beside a file: %v", err)
	}
	second, err := files.Draft("second", Owner{Client: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := files.Draft("third", Owner{Client: "a"}); !errors.Is(err, ErrFull) {
		t.Errorf("a third file: %v", err)
	}
	if err := errors.Join(d.Discard(), second.Discard()); err != nil {
		t.Fatal(err)
	}
	if err := a.Put(t.Context(), owned("r", "a")); err != nil {
		t.Errorf("without the file: %v", err)
	}
}

// TestLongConversations refuses what is too long without reading it.
func TestLongConversations(t *testing.T) {
	for name, s := range map[string]Store{
		"archive": open(t, t.TempDir(), time.Hour),
		"memory":  NewMemory(1<<20, time.Hour),
	} {
		previous := ""
		for i := range 5 {
			id := fmt.Sprint("t", i)
			if err := s.Put(t.Context(), turn(id, previous, strings.Repeat("x", 500))); err != nil {
				t.Fatal(err)
			}
			previous = id
		}
		turns, err := s.Conversation(t.Context(), Key{ID: "t4"}, 10_000)
		if err != nil || len(turns) != 5 || turns[0].ID != "t0" {
			t.Errorf("%s: %d turns, %v", name, len(turns), err)
		}
		if turns, err := s.Conversation(t.Context(), Key{ID: "t4"}, 3000); !errors.Is(err, ErrTooLong) || turns != nil {
			t.Errorf("%s: %d turns, %v", name, len(turns), err)
		}
	}
}

// TestVersion1 opens what an older serve has written.
func TestVersion1(t *testing.T) {
	folder := t.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(folder, "responses.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(`CREATE TABLE responses (
		id TEXT PRIMARY KEY, previous TEXT NOT NULL, created INTEGER NOT NULL, input BLOB NOT NULL, body BLOB NOT NULL
	) STRICT;
	INSERT INTO responses VALUES ('a', '', 1, x'5b315d', x'7b7d'), ('b', 'a', 1, x'5b325d', x'7b7d');
	PRAGMA user_version = 1;`)
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}

	a := open(t, folder, 0)
	turns, err := a.Conversation(t.Context(), Key{ID: "b"}, 1<<20)
	if err != nil || len(turns) != 2 || string(turns[1].Input) != "[2]" {
		t.Fatalf("%d turns, %v", len(turns), err)
	}
	want := turns[0].bytes() + turns[1].bytes()
	if got := a.quota.usage().bytes; got != want {
		t.Errorf("they count for %d bytes, not %d", got, want)
	}
	if err := a.Put(t.Context(), &Record{ID: "c", Input: json.RawMessage("[]"), Body: json.RawMessage("{}")}); err != nil {
		t.Error(err)
	}
}

// TestFullDisk has only those fail who write: what is stored can be read, listed and deleted.
func TestFullDisk(t *testing.T) {
	ctx := t.Context()
	a := open(t, t.TempDir(), time.Hour)
	files, err := a.Files()
	if err != nil {
		t.Fatal(err)
	}
	store(t, files, "kept", "text", time.Hour)
	old := turn("old", "", "x")
	old.Created = time.Now().Add(-59 * time.Minute)
	if err := a.Put(ctx, old); err != nil {
		t.Fatal(err)
	}
	if _, err := a.db.Exec("PRAGMA max_page_count = 24"); err != nil {
		t.Fatal(err)
	}

	for i := 0; err == nil && i < 1000; i++ {
		err = a.Put(ctx, turn(fmt.Sprint("r", i), "", strings.Repeat("x", 3000)))
	}
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("the one who writes: %v", err)
	}
	before := a.quota.usage()
	err = a.Put(ctx, turn("again", "", strings.Repeat("x", 9000)))
	if !errors.Is(err, ErrFull) || a.quota.usage() != before {
		t.Errorf("what was not stored is counted: %v", err)
	}
	if _, err := files.Get(ctx, Key{ID: "kept"}); err != nil {
		t.Errorf("read: %v", err)
	}
	if list, err := files.List(ctx, FileList{Limit: 5}); err != nil || len(list) != 1 {
		t.Errorf("list: %v", err)
	}
	if _, err := a.Get(ctx, Key{ID: "r0"}); err != nil {
		t.Errorf("read: %v", err)
	}
	if err := a.Delete(ctx, Key{ID: "r0"}); err != nil {
		t.Errorf("delete: %v", err)
	}
}

// TestLimitClients keeps a client to a limit of its own, by what it has stored in records and files, also before, and
// no other client of its tenant.
func TestLimitClients(t *testing.T) {
	ctx := context.Background()
	folder := t.TempDir()
	a, err := Open(folder, 0, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	put := func(a *Archive, id, client string) error {
		r := owned(id, client)
		r.Owner.Tenant = "icu"
		return a.Put(ctx, r)
	}
	if err := put(a, "a1", "alice"); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}

	a, err = Open(folder, 0, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	most := map[string]int64{"alice": 25_000}
	a.LimitClients(func(client string) int64 { return most[client] })
	if err := put(a, "a2", "alice"); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"a3", "a2"} {
		if err := put(a, id, "alice"); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "25000") {
			t.Errorf("%s: %v", id, err)
		}
	}
	if err := a.Admits(Owner{Tenant: "icu", Client: "alice"}, 5000); !errors.Is(err, ErrFull) {
		t.Errorf("it is admitted: %v", err)
	}
	for _, id := range []string{"b1", "b2", "b3"} {
		if err := put(a, id, "bob"); err != nil {
			t.Errorf("another client: %v", err)
		}
	}

	files, err := a.Files()
	if err != nil {
		t.Fatal(err)
	}
	d, err := files.Draft("file-1", Owner{Tenant: "icu", Client: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(make([]byte, 6000)); !errors.Is(err, ErrFull) {
		t.Errorf("a file: %v", err)
	}
	if _, err := d.Write(make([]byte, 1000)); err != nil {
		t.Error(err)
	}
	if err := d.Discard(); err != nil {
		t.Error(err)
	}

	// What another of its tenant replaces is given back to who has made it.
	if err := put(a, "a2", "bob"); err != nil {
		t.Fatal(err)
	}
	if err := put(a, "a3", "alice"); err != nil {
		t.Errorf("there is room again: %v", err)
	}
	most["alice"] = 0
	if err := put(a, "a4", "alice"); err != nil {
		t.Errorf("without a limit: %v", err)
	}
}
