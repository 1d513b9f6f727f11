package access

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// openGuests opens guests who have 100 tokens a day. What is logged goes to the returned buffer.
func openGuests(path string) (*Guests, *bytes.Buffer) {
	var log bytes.Buffer
	g := OpenGuests(GuestOptions{
		Limits:    Limits{TokensPerDay: 100},
		UsageFile: path,
		Log:       slog.New(slog.NewTextHandler(&log, nil)),
	})
	return g, &log
}

// spendAs has a guest use tokens.
func spendAs(g *Guests, id string, tokens int) error {
	p := g.Admit("token of "+id, Principal{ID: id, Expires: time.Now().Add(time.Hour)})
	u, err := p.Account().Begin()
	if err == nil {
		u.End(tokens)
	}
	return err
}

// TestUsageOfGuests keeps what guests have used today when servers end or are killed, adds up what several have
// counted, and drops it with the day.
func TestUsageOfGuests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "oidc")
	synctest.Test(t, func(t *testing.T) {
		first, _ := openGuests(path)
		second, _ := openGuests(path) // another server
		err := errors.Join(spendAs(first, "alice", 30), spendAs(second, "alice", 30), spendAs(second, "bob", 1))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * tokensEvery)
		killed, _ := openGuests(path) // as if the others had been killed
		if err := spendAs(killed, "alice", 40); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(first.Close(), killed.Close(), second.Close(), second.Close()); err != nil {
			t.Fatal(err)
		}

		again, log := openGuests(path)
		e := refused(t, spendAs(again, "alice", 1))
		if e.What != tokensPerDay || e.Retry > 24*time.Hour {
			t.Errorf("%+v", e)
		}
		if err := spendAs(again, "bob", 99); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * tokensEvery)
		refused(t, spendAs(again, "bob", 1))

		time.Sleep(e.Retry)
		if err := spendAs(again, "alice", 5); err != nil {
			t.Errorf("the next day: %v", err)
		}
		if err := again.Close(); err != nil || log.Len() != 0 {
			t.Error(err, log)
		}
		f, err := readUsage(path)
		if err != nil || len(f.Keys) != 1 || f.Keys["alice"].Tokens != 5 {
			t.Errorf("%+v, %v", f, err)
		}
	})
}

// TestBrokenUsageOfGuests goes on without a file that cannot be read, and replaces it.
func TestBrokenUsageOfGuests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "oidc")
	if err := os.WriteFile(usagePath(path), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	g, log := openGuests(path)
	if err := errors.Join(spendAs(g, "alice", 100), g.Close()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "until now is not known") {
		t.Errorf("nobody is told: %s", log)
	}
	again, _ := openGuests(path)
	refused(t, spendAs(again, "alice", 1))
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestTrimGuests keeps of too many the entries of those who have used the most.
func TestTrimGuests(t *testing.T) {
	now := time.Now()
	entries := map[string]usage{"yesterday's": {Day: dayOf(now) - 1, Tokens: 1 << 20}}
	for i := range maxGuests + 10 {
		entries[fmt.Sprint(i)] = usage{Day: dayOf(now), Tokens: i + 1}
	}
	trimGuests(entries, now)
	if len(entries) != maxGuests {
		t.Errorf("%d entries", len(entries))
	}
	for id, is := range map[string]bool{"yesterday's": false, "9": false, "10": true} {
		if _, kept := entries[id]; kept != is {
			t.Errorf("%s: %v", id, kept)
		}
	}
}
