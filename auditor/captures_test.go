package auditor

import (
	"crypto/fips140"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"serve/audit"
	"serve/flagset"
)

// TestCaptures captures a request, decrypts it, and prunes it when it is old.
func TestCaptures(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("nothing is captured in FIPS 140-3 mode")
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	public := identity.Recipient().String()
	p := &program{t: t}
	dir := filepath.Join(t.TempDir(), "audit")
	if _, err := p.run("init", dir); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--capture", public},
		{"--audit", dir, "--capture-dir", dir},
		{"--audit", dir, "--capture", write(t, identity.String())},
	} {
		if _, err := open(t, Environment{}, args...); !errors.Is(err, flagset.ErrUsage) {
			t.Errorf("%q: %v", args[:1], err)
		}
	}

	r, err := open(t, Environment{}, "--audit", dir, "--capture", write(t, public+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := r.Captures.Begin("req_1")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = k.Write([]byte("the texts"))
	captured, err := k.Seal()
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range []*audit.Record{
		{Kind: audit.RequestBegin, ID: "req_1"},
		{Kind: audit.RequestEnd, ID: "req_1", Capture: captured},
		{Kind: audit.RequestEnd, ID: "req_2"},
		{Kind: audit.RequestBegin, ID: "req_3"},
	} {
		if err := r.Append(record); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}

	key := write(t, identity.String())
	if out, err := p.run("capture", dir, "req_1", "--identity", key); err != nil || out != "the texts\n" {
		t.Errorf("%q, %v", out, err)
	}
	exact := filepath.Join(t.TempDir(), "out")
	if _, err := p.run("capture", dir, "req_1", "--identity", key, "--output", exact); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(exact); err != nil || string(text) != "the texts" {
		t.Errorf("%q, %v", text, err)
	}
	for _, tt := range []struct {
		id, key string
		want    error
	}{
		{"req_1", write(t, other.String()), audit.ErrKey},
		{"req_1", write(t, public), audit.ErrKey},
		{"req_2", key, audit.ErrNoCapture},
		{"req_3", key, nil},
		{"req_4", key, nil},
	} {
		_, err := p.run("capture", dir, tt.id, "--identity", tt.key)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.id, err)
		}
	}

	// As if it were old.
	folder := filepath.Join(dir, "captures")
	old := time.Now().Add(-48*time.Hour).UTC().Format("20060102T150405.000000") + "-req_1.age"
	if err := os.Rename(filepath.Join(folder, captured.File), filepath.Join(folder, old)); err != nil {
		t.Fatal(err)
	}
	_, err = p.run("prune", dir, "--keep-captures", "7d")
	if err != nil || strings.Contains(p.said.String(), "captures") {
		t.Errorf("%v: %s", err, p.said.String())
	}
	_, err = p.run("prune", dir, "--keep-captures", "1d")
	if err != nil || !strings.Contains(p.said.String(), "removed 1 captures") {
		t.Errorf("%v: %s", err, p.said.String())
	}
	if out, err := p.run("show", dir, "--kind", "captures", "--json"); err != nil || !strings.Contains(out, `"count": 1`) {
		t.Errorf("%v: %s", err, out)
	}
}
