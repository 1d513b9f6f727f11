package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func open(t *testing.T, folder string, keep time.Duration) *Archive {
	t.Helper()
	a, err := Open(folder, keep, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func turn(id, previous, said string) *Record {
	text, _ := json.Marshal(said)
	return &Record{
		ID:       id,
		Previous: previous,
		Created:  time.Now(),
		Input:    json.RawMessage(`[` + string(text) + `]`),
		Body:     json.RawMessage(`{"said":` + string(text) + `}`),
	}
}

func TestConversation(t *testing.T) {
	ctx := context.Background()
	folder := filepath.Join(t.TempDir(), "a folder?%20#")
	a := open(t, folder, time.Hour)
	for i, r := range []*Record{turn("a", "", "one"), turn("b", "a", "two"), turn("c", "b", "three"), turn("b2", "a",
		"another two")} {
		if err := a.Put(ctx, r); err != nil {
			t.Fatal(i, err)
		}
	}

	if _, err := Open(folder, 0, Limits{}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened twice: %v", err)
	}
	// It survives the process.
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}

	a = open(t, folder, time.Hour)
	turns, err := a.Conversation(ctx, Key{ID: "c"}, 1<<20)
	if err != nil {
		t.Fatal(err)
	}

	var ids []string
	for _, r := range turns {
		ids = append(ids, r.ID+string(r.Input))
	}

	if got := strings.Join(ids, " "); got != `a["one"] b["two"] c["three"]` {
		t.Errorf("the conversation is %s", got)
	}
	if _, err := a.Conversation(ctx, Key{ID: "absent"}, 1<<20); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if err := a.Delete(ctx, Key{ID: "b"}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Conversation(ctx, Key{ID: "c"}, 1<<20); !errors.Is(err, ErrBroken) {
		t.Error(err)
	}
	if err := a.Delete(ctx, Key{ID: "b"}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// TestNothingIsLeft looks for what was deleted in every byte of the folder, and at
// who may read it.
func TestNothingIsLeft(t *testing.T) {
	ctx := context.Background()
	folder := filepath.Join(t.TempDir(), "data")
	a := open(t, folder, time.Hour)
	old := turn("old", "", "the first secret")
	old.Created = time.Now().Add(-2 * time.Hour)
	for _, r := range []*Record{old, turn("b", "", "the other secret"), turn("c", "", "no matter")} {
		if err := a.Put(ctx, r); err != nil {
			t.Fatal(err)
		}
	}

	if err := a.Delete(ctx, Key{ID: "b"}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Get(ctx, Key{ID: "old"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("what is too old is still there: %v", err)
	}

	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}

	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(folder, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("secret")) {
			t.Errorf("%s still holds what was deleted", f.Name())
		}
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v, %v", f.Name(), info.Mode(), err)
		}
	}

	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has the mode %v, %v", info.Mode(), err)
	}
}

func TestManyAtOnce(t *testing.T) {
	ctx := context.Background()
	a := open(t, t.TempDir(), 0)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 20 {
				id := fmt.Sprint(i, "-", k)
				previous := ""
				if k > 0 {
					previous = fmt.Sprint(i, "-", k-1)
				}
				if err := a.Put(ctx, turn(id, previous, id)); err != nil {
					t.Error(err)
				}
				if turns, err := a.Conversation(ctx, Key{ID: id}, 1<<20); err != nil || len(turns) != k+1 {
					t.Errorf("%d turns, %v", len(turns), err)
				}
			}
		})
	}
	wg.Wait()
}

// TestDamage opens what is no archive: a clear error, and the file as it was.
func TestDamage(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "responses.db")
	text := []byte(strings.Repeat("this is no database. ", 400))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(folder, 0, Limits{}); err == nil || !strings.Contains(err.Error(), folder) {
		t.Errorf("opened: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, text) {
		t.Error("the file was changed", err)
	}
}

// TestFull lets the database grow no further: what is kept stays readable, and room can
// be made by deleting.
func TestFull(t *testing.T) {
	ctx := context.Background()
	a := open(t, t.TempDir(), time.Hour)
	if _, err := a.db.Exec("PRAGMA max_page_count = 24"); err != nil {
		t.Fatal(err)
	}

	var kept []string
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		id := fmt.Sprint("r", i)
		if err = a.Put(ctx, turn(id, "", strings.Repeat("x", 3000))); err == nil {
			kept = append(kept, id)
		}
	}

	if err == nil || !strings.Contains(err.Error(), "full") || len(kept) < 5 {
		t.Fatalf("%d kept, then %v", len(kept), err)
	}

	for _, id := range kept {
		if _, err := a.Get(ctx, Key{ID: id}); err != nil {
			t.Error(err)
		}
	}

	for _, id := range kept[:3] {
		if err := a.Delete(ctx, Key{ID: id}); err != nil {
			t.Error(err)
		}
	}

	if err := a.Put(ctx, turn("again", "", strings.Repeat("x", 3000))); err != nil {
		t.Error(err)
	}
}
