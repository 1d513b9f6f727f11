package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestMemoryBounds fills a memory beyond its bytes, and waits beyond its time. A conversation that is
// used stays whole.
func TestMemoryBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		m := NewMemory(20_000, time.Hour)
		put := func(r *Record) {
			if err := m.Put(ctx, r); err != nil {
				t.Fatal(err)
			}
		}

		put(turn("a", "", "one"))
		put(turn("b", "a", "two"))
		for i := range 100 {
			put(turn(fmt.Sprint("r", i), "", strings.Repeat("x", 1000)))
			if turns, err := m.Conversation(ctx, Key{ID: "b"}, 1<<20); err != nil || len(turns) != 2 {
				t.Fatalf("%d turns, %v", len(turns), err)
			}
			if m.bytes > 20_000 {
				t.Fatalf("%d bytes are kept", m.bytes)
			}
		}

		if _, err := m.Get(ctx, Key{ID: "r0"}); !errors.Is(err, ErrNotFound) {
			t.Errorf("the oldest is still there: %v", err)
		}
		if _, err := m.Get(ctx, Key{ID: "r99"}); err != nil {
			t.Errorf("the newest is not there: %v", err)
		}

		// One in place of itself counts once.
		before := m.bytes
		put(turn("r99", "", strings.Repeat("y", 1000)))
		if m.bytes != before {
			t.Errorf("%d bytes, and before %d", m.bytes, before)
		}

		// What is larger than everything is not kept, and leaves nothing behind.
		put(turn("huge", "", strings.Repeat("x", 20_000)))
		_, err := m.Get(ctx, Key{ID: "huge"})
		if !errors.Is(err, ErrNotFound) || m.bytes != 0 || len(m.tenants[""].byID) != 0 {
			t.Errorf("%v, %d bytes", err, m.bytes)
		}

		put(turn("a", "", "one"))
		time.Sleep(50 * time.Minute)
		put(turn("b", "a", "two"))
		time.Sleep(20 * time.Minute)
		if _, err := m.Conversation(ctx, Key{ID: "b"}, 1<<20); !errors.Is(err, ErrBroken) {
			t.Errorf("its beginning is too old: %v", err)
		}
		if err := m.Delete(ctx, Key{ID: "b"}); err != nil {
			t.Error(err)
		}
		if err := m.Delete(ctx, Key{ID: "b"}); !errors.Is(err, ErrNotFound) || m.bytes != 0 || len(m.tenants[""].byID) != 0 {
			t.Errorf("%v, %d bytes", err, m.bytes)
		}
	})
}

// TestMemoryOfIdleTenants drops the old records of tenants that ask for nothing any more, and all that is kept for
// them.
func TestMemoryOfIdleTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(1<<20, time.Hour)
		put := func(tenant, id string) {
			r := turn(id, "", "secret")
			r.Owner.Tenant = tenant
			if err := m.Put(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		kept := func() int {
			m.mu.Lock()
			defer m.mu.Unlock()
			return len(m.tenants)
		}
		put("idle", "a")
		time.Sleep(30 * time.Minute)
		put("later", "b")
		time.Sleep(31 * time.Minute)
		synctest.Wait()
		if n := kept(); n != 1 {
			t.Errorf("after an hour %d tenants are kept", n)
		}
		if _, err := m.Get(t.Context(), Key{Tenant: "later", ID: "b"}); err != nil { // it is used, and kept for longer
			t.Error(err)
		}
		time.Sleep(59 * time.Minute)
		if n := kept(); n != 1 {
			t.Error("what was used was dropped")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := kept(); n != 0 || m.bytes != 0 {
			t.Errorf("in the end %d tenants with %d bytes are kept", n, m.bytes)
		}
	})
}
