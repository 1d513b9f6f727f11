package openai_test

import (
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"serve/access"
	"serve/archive"
	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// withKey returns a handler that has a key with every request.
func withKey(h http.Handler, secret string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+secret)
		h.ServeHTTP(w, r)
	})
}

// TestBatchOfRevokedKey computes a batch's lines for the key that has made it, within its limits, and no more when the
// key is revoked.
func TestBatchOfRevokedKey(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(t.TempDir(), "keys.json")
	synctest.Test(t, func(t *testing.T) {
		_, alice, err := access.Create(path, access.NewKey{
			Name:   "alice",
			Models: []string{"fake"},
			Limits: access.Limits{RequestsPerMinute: 4}, // the file, the batch and two lines
		})
		_, bob, err2 := access.Create(path, access.NewKey{Name: "bob", Tenant: "alice"})
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		keys, err := access.Open(access.Options{File: path, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer keys.Close()
		o := keeping(t, folder, archive.Limits{})
		o.Keys = keys
		s, end := servertest.Unconnected(t, enginetest.Options{}, engine.Options{}, o)
		defer end()

		own := withKey(s.Handler(), alice)
		other := withKey(s.Handler(), bob)
		b := begun(t, own, uploaded(t, own, chats(10), "batch"), "/v1/chat/completions")
		time.Sleep(time.Second)
		if c := batchNow(t, other, b.ID).Counts; c.Completed != 2 || c.Failed != 0 {
			t.Errorf("within the limit: %+v", c)
		}
		time.Sleep(time.Minute)
		before := batchNow(t, other, b.ID).Counts
		if before.Completed < 5 || before.Failed != 0 {
			t.Errorf("a minute later: %+v", before)
		}

		if _, err := access.Revoke(path, "alice"); err != nil {
			t.Fatal(err)
		}
		b = ended(t, other, b.ID)
		refused := results(t, other, b.Error)
		if b.Counts.Completed > before.Completed+1 || len(refused) != b.Counts.Failed || len(refused) == 0 {
			t.Errorf("in the end: %+v, %d refused", b.Counts, len(refused))
		}
		for id, line := range refused {
			if !strings.Contains(line, `"status_code":401`) {
				t.Errorf("%s: %s", id, line)
			}
		}
	})
}

// TestBatchOfUsedUpKey has a batch whose key has used its tokens of the day keep no other batch waiting, and end soon
// after its key is revoked.
func TestBatchOfUsedUpKey(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(t.TempDir(), "keys.json")
	synctest.Test(t, func(t *testing.T) {
		_, alice, err := access.Create(path, access.NewKey{Name: "alice", Limits: access.Limits{TokensPerDay: 100}})
		_, bob, err2 := access.Create(path, access.NewKey{Name: "bob"})
		_, carol, err3 := access.Create(path, access.NewKey{Name: "carol", Tenant: "alice"})
		if err := errors.Join(err, err2, err3); err != nil {
			t.Fatal(err)
		}
		keys, err := access.Open(access.Options{File: path, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer keys.Close()
		o := keeping(t, folder, archive.Limits{})
		o.Keys = keys
		o.BatchLines = 4
		s, end := servertest.Unconnected(t, enginetest.Options{}, engine.Options{}, o)
		defer end()

		first := withKey(s.Handler(), alice)
		other := withKey(s.Handler(), bob)
		watching := withKey(s.Handler(), carol)
		stuck := begun(t, first, uploaded(t, first, chats(50), "batch"), "/v1/chat/completions")
		time.Sleep(10 * time.Second)
		begin := time.Now()
		b := ended(t, other, begun(t, other, uploaded(t, other, chats(50), "batch"), "/v1/chat/completions").ID)
		if took := time.Since(begin); b.Counts.Completed != 50 || took > 10*time.Second {
			t.Errorf("after %v: %+v", took, b)
		}
		if c := batchNow(t, watching, stuck.ID).Counts; c.Completed == 0 || c.Completed > 10 || c.Failed != 0 {
			t.Errorf("within the limit: %+v", c)
		}

		if _, err := access.Revoke(path, "alice"); err != nil {
			t.Fatal(err)
		}
		begin = time.Now()
		b = ended(t, watching, stuck.ID)
		if took := time.Since(begin); b.Counts.Failed < 40 || took > 61*time.Second {
			t.Errorf("%v after the revocation: %+v", took, b)
		}
	})
}

// TestBatchOfChangedKey rotates a key, and changes what it may do, while lines of its batch run: none fails.
func TestBatchOfChangedKey(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(t.TempDir(), "keys.json")
	synctest.Test(t, func(t *testing.T) {
		_, alice, err := access.Create(path, access.NewKey{Name: "alice"})
		_, bob, err2 := access.Create(path, access.NewKey{Name: "bob", Tenant: "alice"})
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		keys, err := access.Open(access.Options{File: path, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer keys.Close()
		o := keeping(t, folder, archive.Limits{})
		o.Keys = keys
		var steps atomic.Int64
		s, end := servertest.Unconnected(t, slow(&steps), engine.Options{}, o)
		defer end()

		own := withKey(s.Handler(), alice)
		other := withKey(s.Handler(), bob)
		b := begun(t, own, uploaded(t, own, chats(20), "batch"), "/v1/chat/completions")
		time.Sleep(3500 * time.Millisecond)
		if _, _, err := access.Rotate(path, "alice", 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(content), `"inference",`, `"inference", "metrics",`, 1)
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		b = ended(t, other, b.ID)
		if b.Counts.Completed != 20 {
			t.Errorf("%+v: %v", b, results(t, other, b.Error))
		}
	})
}

// TestCompactionOfOneAtATime compacts a conversation for a key that may have one answer at a time: the answer is
// computed after the summary.
func TestCompactionOfOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	_, alice, err := access.Create(path, access.NewKey{Name: "alice", Limits: access.Limits{Concurrent: 1}})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := access.Open(access.Options{File: path, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	fo := enginetest.Options{Limits: engine.Limits{Context: 2048, Batch: 512}, Next: sayLast("ok")}
	s, end := servertest.Unconnected(t, fo, engine.Options{}, server.Options{Keys: keys})
	defer end()

	status, text := asked(withKey(s.Handler(), alice), http.MethodPost, "/v1/responses", `{"model":"fake",`+
		`"context_management":[{"type":"compaction","compact_threshold":300}],"input":[{"role":"user","content":"`+
		strings.Repeat("blah ", 100)+`"},{"role":"assistant","content":"Fine."},{"role":"user","content":"Next?"}]}`,
		"application/json")
	if status != http.StatusOK || !strings.Contains(text, `"compaction"`) {
		t.Errorf("%d %s", status, text)
	}
}
