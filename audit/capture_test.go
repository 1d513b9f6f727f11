package audit

import (
	"bytes"
	"crypto/fips140"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

func newIdentity(t testing.TB) *age.X25519Identity {
	t.Helper()
	if fips140.Enabled() {
		t.Skip("nothing is captured in FIPS 140-3 mode")
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

// captureText captures a text.
func captureText(c *Captures, id string, parts ...string) (*Captured, error) {
	k, err := c.Begin(id)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		_, _ = io.WriteString(k, p)
	}
	return k.Seal()
}

// TestCapture keeps a text that only who has the private key reads, and only as it was.
func TestCapture(t *testing.T) {
	identity := newIdentity(t)
	other := newIdentity(t)
	dir := filepath.Join(t.TempDir(), "captures")
	c, err := OpenCaptures(dir, []age.Recipient{identity.Recipient()}, false)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("a secret ", 20_000) // several of age's chunks
	of, err := captureText(c, "req_1", "what is it? ", long)
	if err != nil {
		t.Fatal(err)
	}
	another, err := captureText(c, "req_2", "something else")
	if err != nil {
		t.Fatal(err)
	}
	dropped, err := c.Begin("req_3")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(dropped, long)
	dropped.Discard()
	file, err := os.ReadFile(filepath.Join(dir, of.File))
	if err != nil || int64(len(file)) != of.Bytes || bytes.Contains(file, []byte("secret")) {
		t.Fatalf("%d bytes of %+v, %v", len(file), of, err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 2 {
		t.Errorf("%v, %v", names, err)
	}

	read := func(of *Captured, identity age.Identity) (string, error) {
		f, err := OpenCapture(dir, of, identity)
		if err != nil {
			return "", err
		}
		defer f.Close()
		text, err := io.ReadAll(f)
		return string(text), err
	}
	if text, err := read(of, identity); err != nil || text != "what is it? "+long {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if _, err := read(of, other); !errors.Is(err, ErrKey) {
		t.Errorf("with another key: %v", err)
	}
	swapped := *another
	swapped.File = of.File
	outside := *of
	outside.File = "../captures/" + of.File
	for _, of := range []*Captured{&swapped, &outside, {File: of.File}} {
		if _, err := read(of, identity); !errors.Is(err, ErrProof) {
			t.Errorf("%+v: %v", of, err)
		}
	}
	for _, at := range []int{0, len(file) / 2, len(file) - 1} {
		changed := bytes.Clone(file)
		changed[at] ^= 1
		if err := os.WriteFile(filepath.Join(dir, of.File), changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := read(of, identity); !errors.Is(err, ErrProof) {
			t.Errorf("changed at %d: %v", at, err)
		}
	}
}

// TestCapturesCut cuts the power at random points, while some operations fail: what has a record that is acknowledged
// has its capture.
func TestCapturesCut(t *testing.T) {
	identity := newIdentity(t)
	acknowledged := 0
	failed := 0
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 2))
		d := newMemory(seed)
		d.cut = 1 + random.IntN(120)
		d.failing = 0.05
		c := &Captures{disk: d, recipients: []age.Recipient{identity.Recipient()}}
		sealed := map[string]*Captured{}
		for i := range 10 {
			text := strings.Repeat(string(rune('a'+i)), 1+random.IntN(300))
			of, err := captureText(c, "req", text)
			if err != nil {
				failed++
				continue
			}
			sealed[text] = of
		}
		acknowledged += len(sealed)
		after := d.restart()
		for text, of := range sealed {
			f, err := openCapture(after, of, []age.Identity{identity})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if got, err := io.ReadAll(f); err != nil || string(got) != text {
				t.Fatalf("seed %d: %q, %v, not %q", seed, got, err, text)
			}
		}
	}
	if acknowledged < 200 || failed < 200 {
		t.Errorf("%d captures were sealed, and %d failed: the test tests little", acknowledged, failed)
	}
}

// TestCapturesRecover says why nothing can be captured, and notices when it can be again.
func TestCapturesRecover(t *testing.T) {
	identity := newIdentity(t)
	d := newMemory(1)
	d.failing = 1
	c := &Captures{disk: d, recipients: []age.Recipient{identity.Recipient()}}
	if _, err := captureText(c, "req_1", "a"); err == nil || c.Failing() == nil {
		t.Errorf("%v, %v", err, c.Failing())
	}
	d.failing = 0
	c.tried = c.tried.Add(-probeEvery)
	if err := c.Failing(); err != nil {
		t.Errorf("it works again: %v", err)
	}
}

// TestPruneCaptures removes old captures and nothing else, and the log says so, whether a server writes it or not.
func TestPruneCaptures(t *testing.T) {
	dir := t.TempDir()
	captures := filepath.Join(dir, "captures")
	if err := os.Mkdir(captures, 0o700); err != nil {
		t.Fatal(err)
	}
	old := "20260101T000000.000000-req_1.age"
	kept := []string{"20260301T000000.000000-req_2.age", "20260101T000000.000000-note.txt", "key.age"}
	for _, name := range append(kept, old) {
		if err := os.WriteFile(filepath.Join(captures, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	if n, err := PruneCaptures(captures, before); n != 1 || err != nil {
		t.Errorf("%d captures, %v", n, err)
	}
	for _, name := range kept {
		if _, err := os.Stat(filepath.Join(captures, name)); err != nil {
			t.Error(err)
		}
	}

	log := filepath.Join(dir, "audit")
	if _, err := Init(log); err != nil {
		t.Fatal(err)
	}
	if err := NoteCapturesPruned(log, 1, before); err != nil {
		t.Fatal(err)
	}
	l, err := Open(log, Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := NoteCapturesPruned(log, 2, before); err != nil {
		t.Fatal(err)
	}
	l.noteCaptures()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	counts := map[int64]int{}
	for r, err := range Records(log) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Kind == CapturesPruned && r.Detail["before"] == "2026-02-01T00:00:00Z" {
			counts[r.Count]++
		}
	}
	if counts[1] != 1 || counts[2] != 1 {
		t.Errorf("%v", counts)
	}
}

// TestRecipients reads public keys, and refuses private ones.
func TestRecipients(t *testing.T) {
	identity := newIdentity(t)
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	public := identity.Recipient().String()
	for given, want := range map[string]int{
		public:                                   1,
		file("# two\n" + public + "\n" + public): 2,
		file(identity.String()):                  0,
		file("nothing"):                          0,
		"age1nonsense":                           0,
		"missing":                                0,
	} {
		list, err := ParseRecipients(given)
		if len(list) != want || (err == nil) != (want > 0) || err != nil && !errors.Is(err, ErrKey) {
			t.Errorf("%q: %d, %v", given, len(list), err)
		}
	}
	if list, err := ReadIdentities(file(identity.String())); len(list) != 1 || err != nil {
		t.Errorf("%d, %v", len(list), err)
	}
}
