package archive

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// of makes a record a tenant's.
func of(tenant string, r *Record) *Record {
	r.Owner = Owner{Tenant: tenant, Client: "a client of " + tenant}
	return r
}

// TestTenantsFindTheirOwn asks both stores for what each tenant has, and for what none has.
func TestTenantsFindTheirOwn(t *testing.T) {
	for name, s := range map[string]Store{
		"on disk":   open(t, t.TempDir(), 0),
		"in memory": NewMemory(1<<20, time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			tenants := []string{"A", "B", ""}
			for _, tenant := range tenants {
				first := of(tenant, turn("first "+tenant, "", "x"))
				second := of(tenant, turn("second "+tenant, first.ID, "y"))
				if err := s.Put(ctx, first, second); err != nil {
					t.Fatal(err)
				}
			}

			for _, tenant := range tenants {
				for _, id := range []string{"second A", "second B", "second ", "second C"} {
					own := id == "second "+tenant
					key := Key{tenant, id}
					_, err := s.Get(ctx, key)
					turns, broken := s.Conversation(ctx, key, 1<<20)
					if own && (err != nil || broken != nil || len(turns) != 2 || turns[0].Owner.Tenant != tenant) {
						t.Errorf("%q has %q: %v, %v", tenant, id, err, broken)
					}
					if !own && (!errors.Is(err, ErrNotFound) || !errors.Is(broken, ErrNotFound)) {
						t.Errorf("%q finds %q: %v, %v", tenant, id, err, broken)
					}
					if !own && !errors.Is(s.Delete(ctx, key), ErrNotFound) {
						t.Errorf("%q deletes %q", tenant, id)
					}
				}
			}

			for _, tenant := range tenants {
				if err := s.Delete(ctx, Key{tenant, "second " + tenant}); err != nil {
					t.Errorf("%q: %v", tenant, err)
				}
			}
		})
	}
}

// TestFilesOfTenants asks for files and batches: one, a list, the rest of a list after another tenant's.
func TestFilesOfTenants(t *testing.T) {
	ctx := t.Context()
	files, err := open(t, t.TempDir(), 0).Files()
	if err != nil {
		t.Fatal(err)
	}
	tenants := []string{"A", "B", ""}
	for _, tenant := range tenants {
		d, err := files.Draft("file "+tenant, Owner{Tenant: tenant})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write([]byte("of " + tenant)); err != nil {
			t.Fatal(err)
		}
		b := &Batch{ID: "batch " + tenant, Owner: Owner{Tenant: tenant}, Created: time.Now(), Body: json.RawMessage("{}")}
		if err := files.Keep(ctx, b, d); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}

	for _, tenant := range tenants {
		list, err := files.List(ctx, FileList{Tenant: tenant, Limit: 10})
		if err != nil || len(list) != 1 || list[0].ID != "file "+tenant || list[0].Owner.Tenant != tenant {
			t.Errorf("files of %q: %v, %v", tenant, list, err)
		}
		batches, err := files.Batches(ctx, Key{Tenant: tenant}, 10)
		if err != nil || len(batches) != 1 || batches[0].ID != "batch "+tenant {
			t.Errorf("batches of %q: %v, %v", tenant, batches, err)
		}
		for _, other := range append(tenants, "C") {
			if other == tenant {
				continue
			}
			_, err := files.Get(ctx, Key{tenant, "file " + other})
			_, _, opened := files.Open(ctx, Key{tenant, "file " + other})
			deleted := files.Delete(ctx, Key{tenant, "file " + other})
			_, batch := files.Batch(ctx, Key{tenant, "batch " + other})
			_, after := files.List(ctx, FileList{Tenant: tenant, After: "file " + other, Limit: 10})
			_, afterBatch := files.Batches(ctx, Key{tenant, "batch " + other}, 10)
			for i, err := range []error{err, opened, deleted, batch, after, afterBatch} {
				if !errors.Is(err, ErrNotFound) {
					t.Errorf("%q finds what %q has, way %d: %v", tenant, other, i, err)
				}
			}
		}
	}
}

// TestTenantsHaveShares counts what clients of one tenant store together, and nothing of it for others.
func TestTenantsHaveShares(t *testing.T) {
	a, err := Open(t.TempDir(), 0, Limits{ClientBytes: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	text := strings.Repeat("x", 3000)
	put := func(tenant, client string) error {
		r := turn(tenant+client, "", text)
		r.Owner = Owner{Tenant: tenant, Client: client}
		return a.Put(t.Context(), r)
	}
	if err := put("A", "one"); err != nil {
		t.Fatal(err)
	}
	if err := put("A", "two"); !errors.Is(err, ErrFull) {
		t.Errorf("another client of the same tenant: %v", err)
	}
	for _, owner := range []Owner{{"B", "one"}, {"", "one"}, {"", "two"}} {
		if err := put(owner.Tenant, owner.Client); err != nil {
			t.Errorf("%+v: %v", owner, err)
		}
	}
}

// TestMemoryIsFair has one tenant store more than there is room for: what another has stays.
func TestMemoryIsFair(t *testing.T) {
	m := NewMemory(20_000, time.Hour)
	if err := m.Put(t.Context(), of("A", turn("kept", "", strings.Repeat("x", 3000)))); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := m.Put(t.Context(), of("B", turn(fmt.Sprint("r", i), "", strings.Repeat("x", 3000)))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Get(t.Context(), Key{"A", "kept"}); err != nil {
		t.Error("what another tenant has kept:", err)
	}
	if _, err := m.Get(t.Context(), Key{"B", "r99"}); err != nil {
		t.Error("the last one:", err)
	}
	if m.bytes > m.maxBytes {
		t.Errorf("%d bytes", m.bytes)
	}
}

// TestVersion2 opens what a serve without tenants has written: no tenant finds it, and it counts as before.
func TestVersion2(t *testing.T) {
	folder := t.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(folder, "responses.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(`CREATE TABLE responses (
		id TEXT PRIMARY KEY, previous TEXT NOT NULL, created INTEGER NOT NULL, input BLOB NOT NULL, body BLOB NOT NULL,
		owner TEXT NOT NULL DEFAULT '', bytes INTEGER NOT NULL DEFAULT 0
	) STRICT;
	CREATE INDEX responses_created ON responses (created);
	INSERT INTO responses VALUES
		('a', '', 1, x'5b315d', x'7b7d', 'key 1', 600),
		('b', 'a', 1, x'5b325d', x'7b7d', 'key 1', 601);
	CREATE TABLE files (
		number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
		created INTEGER NOT NULL, expires INTEGER NOT NULL, name TEXT NOT NULL, purpose TEXT NOT NULL,
		bytes INTEGER NOT NULL
	) STRICT;
	CREATE TABLE batches (
		number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
		created INTEGER NOT NULL, input TEXT NOT NULL, output TEXT NOT NULL, errors TEXT NOT NULL,
		open INTEGER NOT NULL, body BLOB NOT NULL
	) STRICT;
	CREATE INDEX batches_open ON batches (open);
	INSERT INTO files (id, owner, created, expires, name, purpose, bytes) VALUES ('f', 'key 1', 1, 0, 'f.txt', 'x', 3);
	INSERT INTO batches (id, owner, created, input, output, errors, open, body)
		VALUES ('q', 'key 2', 1, 'f', 'o', 'e', 1, x'7b7d');
	PRAGMA user_version = 2;`)
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}

	for range 2 { // once as it is, and once upgraded
		a := open(t, folder, 0)
		files, err := a.Files()
		if err != nil {
			t.Fatal(err)
		}
		for _, tenant := range []string{"", "A", "key 1"} {
			checkVersion2(t, a, files, tenant)
		}
		if got := a.quota.byOwner[Owner{Client: "key 1"}].bytes; got != 1201 {
			t.Errorf("the responses count for %d bytes", got)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func checkVersion2(t *testing.T, a *Archive, files *Files, tenant string) {
	t.Helper()
	ctx := context.Background()
	got, err := a.Get(ctx, Key{tenant, "b"})
	_, broken := a.Conversation(ctx, Key{tenant, "b"}, 1<<20)
	f, noFile := files.Get(ctx, Key{tenant, "f"})
	b, noBatch := files.Batch(ctx, Key{tenant, "q"})
	if tenant != "" {
		for _, err := range []error{err, broken, noFile, noBatch} {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%q finds it: %v", tenant, err)
			}
		}
		return
	}
	if err := errors.Join(err, broken, noFile, noBatch); err != nil {
		t.Fatal(err)
	}
	if got.Owner != (Owner{Client: "key 1"}) || f.Owner != got.Owner || b.Owner != (Owner{Client: "key 2"}) || !b.Open {
		t.Errorf("%+v, %+v, %+v", got.Owner, f.Owner, b)
	}
}
