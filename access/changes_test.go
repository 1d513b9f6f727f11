package access

import (
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestChangesAreTold tells what happens to keys, whichever process did it, and nothing of what was there at the start.
func TestChangesAreTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	create := func(name string, expires time.Duration) {
		t.Helper()
		if _, _, err := Create(path, NewKey{Name: name, Expires: expires}); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		create("first", 0)
		k, err := Open(Options{File: path, Required: true})
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		changes := make(chan Change, 100)
		k.OnChange(func(c Change) { changes <- c })
		for _, step := range []struct {
			do   func()
			want []Change
		}{
			{func() { create("alice", 0) }, []Change{{Kind: Created, Name: "alice"}}},
			{func() { create("bob", time.Hour) }, []Change{{Kind: Created, Name: "bob"}}},
			{func() { _, _, err = Rotate(path, "alice", 0) }, []Change{{Kind: Rotated, Name: "alice"}}},
			{func() { _, err = Revoke(path, "alice") }, []Change{{Kind: Revoked, Name: "alice"}}},
			{func() { time.Sleep(2 * time.Hour) }, []Change{{Kind: Expired, Name: "bob"}}},
			{
				func() {
					err = edit(path, func(f *keyFile) error {
						f.Keys = f.Keys[:1]
						f.Keys[0].Limits.Concurrent = 1
						return nil
					})
				},
				[]Change{{Kind: Changed, Name: "first"}, {Kind: Removed, Name: "alice"}, {Kind: Removed, Name: "bob"}},
			},
		} {
			step.do()
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			var got []Change
			for len(changes) > 0 {
				c := <-changes
				if c.ID == "" || c.Tenant != c.Name {
					t.Errorf("%+v", c)
				}
				got = append(got, Change{Kind: c.Kind, Name: c.Name})
			}
			slices.SortFunc(got, func(a, b Change) int { return compareNames(a.Name, b.Name, step.want) })
			if !slices.Equal(got, step.want) {
				t.Errorf("got %v, want %v", got, step.want)
			}
		}
	})
}

// compareNames orders names as they are in a list.
func compareNames(a, b string, list []Change) int {
	at := func(name string) int { return slices.IndexFunc(list, func(c Change) bool { return c.Name == name }) }
	return at(a) - at(b)
}
