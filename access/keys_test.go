package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// create makes a key.
func create(t testing.TB, path string, n NewKey) (Key, string) {
	t.Helper()
	k, secret, err := Create(path, n)
	if err != nil {
		t.Fatal(err)
	}
	return k, secret
}

// open reads keys until the test ends; what they log goes to the returned buffer.
func open(t testing.TB, path string) (*Keys, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	k, err := Open(Options{File: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return k, &log
}

// TestSecrets makes secrets that differ, have 256 bits and a checksum that finds every changed character.
func TestSecrets(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		s := newSecret()
		if seen[s] || !WellFormed(s) || !strings.HasPrefix(s, "sk-serve-") || len(s) != 9+43+6 {
			t.Fatalf("%d characters, well-formed %v", len(s), WellFormed(s))
		}
		seen[s] = true
		for i := range s {
			changed := []byte(s)
			changed[i] ^= 1
			if WellFormed(string(changed)) {
				t.Errorf("character %d may be another", i)
			}
		}
	}
	if s := newSecret(); WellFormed(s+"0") || WellFormed(s[:len(s)-1]) || WellFormed("") {
		t.Error("another length is well-formed")
	}
}

// TestRevocation ends what runs for a key within a second of its revocation, and nothing else.
func TestRevocation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	synctest.Test(t, func(t *testing.T) {
		_, secret := create(t, path, NewKey{Name: "alice"})
		_, other := create(t, path, NewKey{Name: "bob"})
		k, _ := open(t, path)
		defer k.Close()
		alice, err := k.Authenticate(secret, "")
		if err != nil || alice.Name != "alice" || alice.Tenant != "alice" || !alice.May(Inference) || alice.May(Admin) {
			t.Fatalf("%+v, %v", alice, err)
		}
		bob, err := k.Authenticate(other, "")
		if err != nil {
			t.Fatal(err)
		}

		if _, err := Revoke(path, "alice"); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		<-alice.Context().Done()
		if took := time.Since(begun); took > time.Second {
			t.Errorf("it took %v", took)
		}
		if !errors.Is(context.Cause(alice.Context()), ErrEnded) || bob.Context().Err() != nil {
			t.Errorf("alice: %v; bob: %v", context.Cause(alice.Context()), bob.Context().Err())
		}
		if _, err := k.Authenticate(secret, ""); !errors.Is(err, ErrUnknown) {
			t.Errorf("the revoked key: %v", err)
		}
		if again, err := k.Authenticate(other, ""); err != nil || again.Context().Err() != nil {
			t.Errorf("the other key: %v", err)
		}
		if k.ByID(alice.ID) != nil || k.ByID(bob.ID) == nil {
			t.Error("the wrong one is there by its id")
		}
	})
}

// TestOwner leaves a file of keys to the user who owns its folder, also if root changes it. Others than root can give
// files to nobody, and own both.
func TestOwner(t *testing.T) {
	owner := uint32(os.Geteuid())
	group := uint32(os.Getegid())
	path := filepath.Join(t.TempDir(), "keys.json")
	if owner == 0 {
		owner = 4242
		group = 4242
	}
	if err := os.Chown(filepath.Dir(path), int(owner), int(group)); err != nil {
		t.Fatal(err)
	}

	create(t, path, NewKey{Name: "alice"})
	if _, err := Revoke(path, "alice"); err != nil {
		t.Fatal(err)
	}

	for _, name := range []string{path, path + ".lock"} {
		var info unix.Stat_t
		if err := unix.Stat(name, &info); err != nil || info.Uid != owner || info.Gid != group {
			t.Errorf("%s belongs to %d:%d, %v", filepath.Base(name), info.Uid, info.Gid, err)
		}
	}
}

// TestLeaving tells of a tenant once its last key is revoked or has expired, and not before.
func TestLeaving(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	synctest.Test(t, func(t *testing.T) {
		create(t, path, NewKey{Name: "alice", Tenant: "ward"})
		create(t, path, NewKey{Name: "bob", Tenant: "ward", Expires: time.Hour})
		create(t, path, NewKey{Name: "carol"})
		k, _ := open(t, path)
		defer k.Close()
		left := make(chan string, 9)
		k.OnLeave(func(tenant string) { left <- tenant })

		if _, err := Revoke(path, "alice"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(left) > 0 {
			t.Errorf("%s has left, and has a key", <-left)
		}

		begun := time.Now()
		if tenant := <-left; tenant != "ward" || time.Since(begun) < 59*time.Minute {
			t.Errorf("%s has left after %s", tenant, time.Since(begun))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(left) > 0 {
			t.Errorf("%s has left as well", <-left)
		}
	})
}

// TestLeavingAfterSessions tells of a tenant after what ran for it has had time to end, and not if it has a key again.
func TestLeavingAfterSessions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	synctest.Test(t, func(t *testing.T) {
		_, secret := create(t, path, NewKey{Name: "alice"})
		k, _ := open(t, path)
		defer k.Close()
		left := make(chan time.Time, 9)
		k.OnLeave(func(string) { left <- time.Now() })
		p, err := k.Authenticate(secret, "")
		if err != nil {
			t.Fatal(err)
		}

		if _, err := Revoke(path, "alice"); err != nil {
			t.Fatal(err)
		}
		<-p.Context().Done()
		ended := time.Now()
		if took := (<-left).Sub(ended); took < checkEvery || took > time.Second {
			t.Errorf("it has left %v after its session ended", took)
		}

		// Another key for the tenant.
		create(t, path, NewKey{Name: "bob", Tenant: "alice"})
		time.Sleep(time.Second + checkEvery/2) // between two checks, of which the next ends the session
		if _, err := Revoke(path, "bob"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(checkEvery)
		create(t, path, NewKey{Name: "carol", Tenant: "alice"})
		time.Sleep(time.Second)
		if len(left) > 0 {
			t.Error("it has left, and has a key")
		}
	})
}

// TestByID has the principal of a key outlive its secrets, and end with what it may do.
func TestByID(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	synctest.Test(t, func(t *testing.T) {
		key, _ := create(t, path, NewKey{Name: "alice"})
		k, _ := open(t, path)
		defer k.Close()
		p := k.ByID(key.ID)
		if _, _, err := Rotate(path, "alice", 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if again := k.ByID(key.ID); p.Context().Err() != nil || again == nil || again.Context() != p.Context() {
			t.Errorf("a rotation has ended it: %v", context.Cause(p.Context()))
		}

		err := edit(path, func(f *keyFile) error {
			f.Keys[0].Scopes = Inference
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		again := k.ByID(key.ID)
		if p.Context().Err() == nil || again == nil || again.Context().Err() != nil {
			t.Error("with other scopes it is the same")
		}
		if _, err := Revoke(path, "alice"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if again.Context().Err() == nil || k.ByID(key.ID) != nil {
			t.Error("it outlives the key")
		}
	})
}

// TestChanges looks at what other changes of the file do to a key that is in use.
func TestChanges(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*keyFile)
		ends   bool
	}{
		{"other scopes", func(f *keyFile) { f.Keys[0].Scopes = Models }, true},
		{"other models", func(f *keyFile) { f.Keys[0].Models = []string{"a"} }, true},
		{"another tenant", func(f *keyFile) { f.Keys[0].Tenant = "b" }, true},
		{"no key", func(f *keyFile) { f.Keys = nil }, true},
		{"other limits", func(f *keyFile) { f.Keys[0].Limits.Concurrent = 7 }, false},
		{"another end", func(f *keyFile) { f.Keys[0].Expires = time.Now().Add(time.Hour) }, false},
		{"an end", func(f *keyFile) { f.Keys[0].Expires = time.Now().Add(500 * time.Millisecond) }, true},
	} {
		path := filepath.Join(t.TempDir(), "keys.json")
		synctest.Test(t, func(t *testing.T) {
			_, secret := create(t, path, NewKey{Name: "alice"})
			k, _ := open(t, path)
			defer k.Close()
			p, err := k.Authenticate(secret, "")
			if err != nil {
				t.Fatal(err)
			}
			if err := edit(path, func(f *keyFile) error { tt.change(f); return nil }); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if ended := p.Context().Err() != nil; ended != tt.ends {
				t.Errorf("%s: ended is %v", tt.name, ended)
			}
			if !k.Required() {
				t.Errorf("%s: no key is required any more", tt.name)
			}
		})
	}
}

// TestRotation accepts the earlier secret for the grace period, and then ends what uses it.
func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	synctest.Test(t, func(t *testing.T) {
		_, first := create(t, path, NewKey{Name: "alice", Limits: Limits{RequestsPerMinute: 2}})
		k, _ := open(t, path)
		defer k.Close()
		before, err := k.Authenticate(first, "")
		if err != nil {
			t.Fatal(err)
		}
		_, second, err := Rotate(path, before.ID, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		after, err := k.Authenticate(second, "")
		if err != nil || after.Account() != before.Account() || before.Context().Err() != nil {
			t.Fatalf("%v; the first: %v", err, before.Context().Err())
		}

		time.Sleep(time.Hour)
		if _, err := k.Authenticate(first, ""); err == nil || before.Context().Err() == nil {
			t.Errorf("after the grace period: %v, %v", err, before.Context().Err())
		}

		// Without a period, the secret ends at once.
		_, third, err := Rotate(path, "alice", 0)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, err := k.Authenticate(second, ""); err == nil || after.Context().Err() == nil {
			t.Error("the second is still accepted")
		}
		if _, err := k.Authenticate(third, ""); err != nil {
			t.Error(err)
		}
	})
}

// TestBrokenFile refuses a file that cannot be used at the start, and later keeps the keys that there are.
func TestBrokenFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys.json")
		_, secret := create(t, path, NewKey{Name: "alice"})
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		twice := strings.Replace(string(good), "[\n    {", "[\n"+between(string(good))+",\n    {", 1)
		for _, tt := range []struct {
			name, content, want string
			mode                os.FileMode
		}{
			{"no JSON", "{", "not valid", 0o600},
			{"half of it", string(good[:len(good)/2]), "not valid", 0o600},
			{"two objects", string(good) + "{}", "behind the object", 0o600},
			{"an unknown field", strings.Replace(string(good), `"limits"`, `"limit"`, 1), "unknown field", 0o600},
			{"an unknown scope", strings.Replace(string(good), `"inference"`, `"all"`, 1), "no scope", 0o600},
			{"no scope", strings.Replace(string(good), `"inference",`, "", 1), "", 0o600},
			{"another version", strings.Replace(string(good), `"version": 1`, `"version": 2`, 1), "version", 0o600},
			{"a short hash", strings.Replace(string(good), `"sha256": "`, `"sha256": "0`, 1), "hexadecimal", 0o600},
			{"the same key twice", twice, "two keys", 0o600},
			{"readable by all", string(good), "chmod 600", 0o644},
			{"writable by a group", string(good), "chmod 600", 0o620},
		} {
			bad := filepath.Join(t.TempDir(), "keys.json")
			if err := os.WriteFile(bad, []byte(tt.content), tt.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(bad, tt.mode); err != nil {
				t.Fatal(err)
			}
			k, err := Open(Options{File: bad, Log: slog.New(slog.DiscardHandler)})
			if err == nil {
				k.Close()
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) || tt.want == "" && err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			if tt.want == "" {
				continue
			}

			// The same on a running server.
			k, log := open(t, path)
			if err := os.Rename(bad, path); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			_, err = k.Authenticate(secret, "")
			k.Close()
			if err != nil || strings.Count(log.String(), "level=ERROR") != 1 {
				t.Errorf("%s: the key: %v; logged: %s", tt.name, err, log)
			}
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}

		if _, err := Open(Options{File: path + ".none", Required: true}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a file that is not there: %v", err)
		}
	})
}

// TestBrokenFileIsReadOnce reads a file that cannot be used again when it changes, and else rarely: it may be large.
func TestBrokenFileIsReadOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	synctest.Test(t, func(t *testing.T) {
		_, secret := create(t, path, NewKey{Name: "alice"})
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		k, _ := open(t, path)
		defer k.Close()
		brokenAt := func() time.Time {
			time.Sleep(2 * checkEvery)
			synctest.Wait()
			if broken := k.broken.Load(); broken != nil {
				return *broken
			}
			return time.Time{}
		}

		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		first := brokenAt()
		if first.IsZero() || !brokenAt().Equal(first) {
			t.Error("it was read again")
		}
		time.Sleep(retryEvery)
		if last := brokenAt(); last.Equal(first) {
			t.Error("it was never read again")
		}
		if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if second := brokenAt(); time.Since(second) > 3*checkEvery {
			t.Error("another content was not read")
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		if last := brokenAt(); !last.IsZero() {
			t.Error("the good one was not read")
		}
		if _, err := k.Authenticate(secret, ""); err != nil {
			t.Error(err)
		}
	})
}

// TestOddFiles refuses what is no file of keys, and waits for none of them.
func TestOddFiles(t *testing.T) {
	good := filepath.Join(t.TempDir(), "keys.json")
	_, secret := create(t, good, NewKey{Name: "alice"})
	for name, place := range map[string]func(path string) error{
		"a FIFO":          func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a folder":        func(path string) error { return os.Mkdir(path, 0o700) },
		"a device":        func(path string) error { return os.Symlink("/dev/null", path) },
		"a dangling link": func(path string) error { return os.Symlink("nothing", path) },
	} {
		path := filepath.Join(t.TempDir(), "keys.json")
		if err := place(path); err != nil {
			t.Fatal(err)
		}
		k, err := Open(Options{File: path})
		if err == nil {
			k.Close()
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}

		// It takes the place of a good one.
		synctest.Test(t, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys.json")
			if err := os.Link(good, path); err != nil {
				t.Fatal(err)
			}
			k, log := open(t, path)
			if err := errors.Join(os.Remove(path), place(path)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			_, err := k.Authenticate(secret, "")
			k.Close()
			if err != nil || strings.Count(log.String(), "level=ERROR") != 1 {
				t.Errorf("%s: %v, logged: %s", name, err, log)
			}
		})
	}

	link := filepath.Join(t.TempDir(), "home")
	if err := os.Symlink("nothing", link); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{File: filepath.Join(link, "keys.json")}); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a folder that is a dangling link: %v", err)
	}
}

// TestUsageDelaysNothing ends a key within a second while another process keeps the server from writing what keys have
// used, and says both what is wrong with the keys and with the usage.
func TestUsageDelaysNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	synctest.Test(t, func(t *testing.T) {
		_, secret := create(t, path, NewKey{Name: "alice"})
		k, log := open(t, path)
		alice, err := k.Authenticate(secret, "")
		if err != nil {
			t.Fatal(err)
		}
		unlock, err := lock(path)
		if err != nil {
			t.Fatal(err)
		}
		begin(t, alice.Account()).End(10)
		time.Sleep(tokensEvery + time.Second)
		synctest.Wait() // it waits for the lock

		begun := time.Now()
		if err := writePrivate(path, &keyFile{Version: fileVersion}); err != nil {
			t.Fatal(err)
		}
		<-alice.Context().Done()
		if took := time.Since(begun); took > time.Second {
			t.Errorf("it took %v", took)
		}

		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * (lockTime + tokensEvery))
		unlock()
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 2 {
			t.Errorf("%d errors are logged, not each one once: %s", n, log)
		}
	})
}

// between returns the only key in a file.
func between(file string) string {
	_, rest, _ := strings.Cut(file, "[\n")
	one, _, _ := strings.Cut(rest, "\n  ]")
	return one
}

// TestFirstKey has a server that was started without keys require one as soon as there is one, and then for good.
func TestFirstKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "keys.json")
	synctest.Test(t, func(t *testing.T) {
		k, _ := open(t, path)
		defer k.Close()
		time.Sleep(time.Second)
		if _, err := os.Lstat(path); k.Required() || !errors.Is(err, fs.ErrNotExist) {
			t.Fatal("a key is required without a file")
		}
		_, secret := create(t, path, NewKey{Name: "alice"})
		time.Sleep(time.Second)
		if _, err := k.Authenticate(secret, ""); err != nil || !k.Required() {
			t.Errorf("%v, required is %v", err, k.Required())
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, err := k.Authenticate(secret, ""); err != nil || !k.Required() {
			t.Errorf("without the file: %v, required is %v", err, k.Required())
		}
	})
}

// TestFailures refuses wrong keys of one address after some, those of others not, and right ones never.
func TestFailures(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	synctest.Test(t, func(t *testing.T) {
		_, secret := create(t, path, NewKey{Name: "alice"})
		k, _ := open(t, path)
		defer k.Close()
		try := func(address string) error {
			_, err := k.Authenticate(newSecret(), address)
			return err
		}
		for range DefaultFailures {
			if err := try("192.0.2.1"); !errors.Is(err, ErrUnknown) {
				t.Fatal(err)
			}
		}
		var many *FailuresError
		if err := try("192.0.2.1"); !errors.As(err, &many) || many.Retry != time.Minute {
			t.Errorf("one more: %v", err)
		}
		if err := try("192.0.2.2"); !errors.Is(err, ErrUnknown) {
			t.Errorf("another address: %v", err)
		}
		if _, err := k.Authenticate(secret, "192.0.2.1"); err != nil {
			t.Errorf("the right key: %v", err)
		}
		time.Sleep(time.Minute)
		if err := try("192.0.2.1"); !errors.Is(err, ErrUnknown) {
			t.Errorf("a minute later: %v", err)
		}

		// One machine has a network of addresses.
		for i := range DefaultFailures {
			try(fmt.Sprintf("2001:db8::%x", i))
		}
		if err := try("2001:db8::ffff"); !errors.As(err, &many) {
			t.Errorf("another address of the same network: %v", err)
		}

		for i := range 2 * maxFailing {
			try(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String())
		}
		if n := len(k.failures.counts); n > maxFailing {
			t.Errorf("%d addresses are remembered", n)
		}
	})
}

// TestRaces creates, revokes and rotates keys from several goroutines while a server reads them.
func TestRaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	_, secret := create(t, path, NewKey{Name: "alice"})
	k, log := open(t, path)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name := fmt.Sprintf("key%d", i)
			if _, _, err := Create(path, NewKey{Name: name}); err != nil {
				t.Error(err)
			}
			if _, _, err := Rotate(path, name, 0); err != nil {
				t.Error(err)
			}
			if _, err := k.Authenticate(secret, ""); err != nil {
				t.Error(err)
			}
			if _, err := Revoke(path, name); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := k.Close(); err != nil || strings.Contains(log.String(), "ERROR") {
		t.Errorf("%v; logged: %s", err, log)
	}
	list, err := List(path)
	if err != nil || len(list) != 9 {
		t.Fatalf("%d keys, %v", len(list), err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) > 3 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestCreate refuses what cannot be a key, and changes no file then.
func TestCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	create(t, path, NewKey{Name: "alice"})
	create(t, path, NewKey{Name: "bob", Tenant: "team"})
	create(t, path, NewKey{Name: "carol", Tenant: "team"}) // says so
	for _, name := range []string{"alice", "bob", "carol"} {
		if _, err := Revoke(path, name); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := os.ReadFile(path)
	for _, n := range []NewKey{
		{Name: "alice"}, // another alice would see what the first one has stored
		{Name: "team"},  // the same of what bob has stored
		{},
		{Name: "-x"},
		{Name: "a b"},
		{Name: "a\x1b[31m"},
		{Name: "ä"},
		{Name: strings.Repeat("a", 65)},
		{Name: "x", Tenant: "../x"},
		{Name: "x", Models: []string{""}},
		{Name: "x", Models: []string{"a\nb"}},
		{Name: "x", Models: make([]string, 1000)},
		{Name: "x", Limits: Limits{Concurrent: -1}},
		{Name: "x", Limits: Limits{TokensPerDay: MaxLimit + 1}},
	} {
		if _, _, err := Create(path, n); err == nil {
			t.Errorf("%+v was created", n)
		}
	}
	if _, err := Revoke(path, "alice"); err == nil {
		t.Error("it was revoked again")
	}
	if _, _, err := Rotate(path, "none", 0); !errors.Is(err, ErrNoKey) {
		t.Errorf("no key was rotated: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file has changed")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestUnsafe gives the secret of a key that was written, also if nobody knows whether it outlives a loss of power.
func TestUnsafe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	sync := syncFolder
	defer func() { syncFolder = sync }()
	syncFolder = func(string) error { return unix.EIO }
	_, first, err := Create(path, NewKey{Name: "alice"})
	if !errors.Is(err, ErrNotSafe) || !errors.Is(err, unix.EIO) || !WellFormed(first) {
		t.Errorf("%q, %v", first, err)
	}
	_, second, err := Rotate(path, "alice", 0)
	if !errors.Is(err, ErrNotSafe) || !WellFormed(second) {
		t.Errorf("%q, %v", second, err)
	}
	if _, none, err := Create(path, NewKey{Name: "alice"}); err == nil || errors.Is(err, ErrNotSafe) || none != "" {
		t.Errorf("the same name: %q, %v", none, err)
	}
	if _, none, err := Rotate(path, "bob", 0); !errors.Is(err, ErrNoKey) || none != "" {
		t.Errorf("no key: %q, %v", none, err)
	}

	syncFolder = sync
	k, _ := open(t, path)
	defer k.Close()
	if _, err := k.Authenticate(second, ""); err != nil {
		t.Error(err)
	}
}

// TestPeriods reads periods.
func TestPeriods(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90d": 90 * 24 * time.Hour,
		"12h": 12 * time.Hour,
		"0":   0,
	} {
		d, err := ParsePeriod(text)
		if err != nil || d != want {
			t.Errorf("%s: %v, %v", text, d, err)
		}
		if again, err := ParsePeriod(FormatPeriod(d)); err != nil || again != d {
			t.Errorf("%s is written %s", text, FormatPeriod(d))
		}
	}
	for _, text := range []string{"", "d", "-1d", "1.5d", "-1h", "999999999999d", "99999999d", "2w"} {
		if d, err := ParsePeriod(text); err == nil {
			t.Errorf("%q is %v", text, d)
		}
	}
}

// BenchmarkAuthenticate looks up keys that are there and keys that are not, among 10 and 10,000.
func BenchmarkAuthenticate(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		path := filepath.Join(b.TempDir(), "keys.json")
		f := &keyFile{Version: fileVersion}
		var secret string
		for i := range n {
			secret = newSecret()
			name := fmt.Sprintf("key%d", i)
			f.Keys = append(f.Keys, Key{
				ID:      name,
				Name:    name,
				Tenant:  name,
				Scopes:  DefaultScope,
				Secrets: []Secret{{SHA256: hashOf(secret)}},
			})
		}
		if err := writePrivate(path, f); err != nil {
			b.Fatal(err)
		}
		k, _ := open(b, path)
		wrong := newSecret()
		b.Run(fmt.Sprintf("keys=%d/known", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := k.Authenticate(secret, "192.0.2.1"); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("keys=%d/unknown", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := k.Authenticate(wrong, "192.0.2.1"); err == nil {
					b.Fatal("it is known")
				}
			}
		})
		b.Run(fmt.Sprintf("keys=%d/load", n), func(b *testing.B) {
			for b.Loop() {
				if err := k.load(); err != nil {
					b.Fatal(err)
				}
			}
		})
		k.Close()
	}
}

// TestCertificates knows clients by their certificates, as long as the key is there, and gives them no secret.
func TestCertificates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	synctest.Test(t, func(t *testing.T) {
		const name = "spiffe://site/alice"
		_, secret := create(t, path, NewKey{Name: "alice", Certificate: name})
		if _, _, err := Create(path, NewKey{Name: "bob", Certificate: name}); err == nil || secret != "" {
			t.Errorf("two keys have one certificate: %v, or there is a secret: %q", err, secret)
		}
		if _, _, err := Rotate(path, "alice", 0); err == nil {
			t.Error("a certificate was rotated")
		}
		if _, _, err := Create(path, NewKey{Name: "bob", Certificate: "a\nb"}); err == nil {
			t.Error("an odd name is accepted")
		}
		k, _ := open(t, path)
		defer k.Close()
		p := k.ByCertificate(name)
		if p == nil || p.Name != "alice" || p.Subject != name || k.ByID(p.ID) == nil || k.ByCertificate("") != nil {
			t.Fatalf("%+v", p)
		}
		if _, err := k.Authenticate("", ""); err == nil {
			t.Error("no secret is one")
		}
		if _, err := Revoke(path, "alice"); err != nil {
			t.Fatal(err)
		}
		<-p.Context().Done()
		if k.ByCertificate(name) != nil {
			t.Error("it is there after its revocation")
		}

		// The certificate is free again, but not the name.
		create(t, path, NewKey{Name: "bob", Certificate: name})
		time.Sleep(time.Second)
		if p := k.ByCertificate(name); p == nil || p.Name != "bob" {
			t.Errorf("%+v", p)
		}
	})
}
