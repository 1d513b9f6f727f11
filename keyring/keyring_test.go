package keyring

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"serve/access"
	"serve/terminal"
)

// TestCommands goes through the life of a key. Its secret is printed once, alone, and nowhere else.
func TestCommands(t *testing.T) {
	var out, said bytes.Buffer
	c := Keyring{
		File:     filepath.Join(t.TempDir(), "keys.json"),
		Terminal: terminal.New(&out, &said, func(string) string { return "" }),
	}
	if err := c.List(); err != nil || !strings.Contains(said.String(), "there are no keys") {
		t.Errorf("%v: %s", err, &said)
	}
	out.Reset()
	if err := c.Create(access.NewKey{Name: "alice", Limits: access.Limits{Concurrent: 2}}); err != nil {
		t.Fatal(err)
	}
	first := strings.TrimSuffix(out.String(), "\n")
	if !access.WellFormed(first) || strings.Contains(said.String(), first[9:]) {
		t.Errorf("printed %q, said %q", out.String(), &said)
	}

	out.Reset()
	err := c.List()
	if err != nil || !strings.Contains(out.String(), "alice") || !strings.Contains(out.String(), "2 at once") {
		t.Errorf("%v: %s", err, &out)
	}
	if strings.Contains(out.String(), first[9:30]) {
		t.Error("the list has the secret")
	}

	c.JSON = true
	out.Reset()
	if err := c.Rotate("alice", 0); err != nil {
		t.Fatal(err)
	}
	var v access.View
	if err := json.Unmarshal(out.Bytes(), &v); err != nil || !access.WellFormed(v.Secret) || v.Secret == first {
		t.Errorf("%v: %s", err, &out)
	}
	out.Reset()
	if err := c.Revoke(v.ID); err != nil || !strings.Contains(out.String(), `"state": "revoked"`) {
		t.Errorf("%v: %s", err, &out)
	}
	out.Reset()
	err = c.List()
	if err != nil || strings.Contains(out.String(), "sha256") || strings.Contains(out.String(), "secret") {
		t.Errorf("%v: %s", err, &out)
	}
}
