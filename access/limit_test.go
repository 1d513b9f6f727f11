package access

import (
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// refused returns the LimitError of a use that must not be possible.
func refused(t *testing.T, err error) *LimitError {
	t.Helper()
	var e *LimitError
	if !errors.As(err, &e) {
		t.Fatalf("it was not refused: %v", err)
	}
	return e
}

// begin counts a request that must be possible.
func begin(t *testing.T, a *Account) *Use {
	t.Helper()
	u, err := a.Begin()
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// reserve has a request reserve answers that have no tokens, and a prompt.
func reserve(u *Use, answers, prompt int) error {
	_, err := u.Reserve(Need{Answers: answers, Prompt: prompt})
	return err
}

// TestRequests lets as many requests through as a minute has, and as fast as they flow back.
func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAccount(Limits{RequestsPerMinute: 6})
		for range 6 {
			begin(t, a).End(0)
		}
		_, err := a.Begin()
		if e := refused(t, err); e.Retry != 10*time.Second || e.What != perMinute || e.Limit != 6 {
			t.Errorf("%+v", e)
		}
		if w, none := a.Windows(); w != (Window{6, 0, time.Minute}) || none.Limit != 0 {
			t.Errorf("%+v, %+v", w, none)
		}
		time.Sleep(10 * time.Second)
		begin(t, a).End(0)
		_, err = a.Begin()
		refused(t, err)
		time.Sleep(time.Hour)
		if w, _ := a.Windows(); w != (Window{6, 6, 0}) {
			t.Errorf("after an hour: %+v", w)
		}
	})
}

// TestAnswers counts a request for several answers as several, also those that run at the same time.
func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAccount(Limits{RequestsPerMinute: 10, Concurrent: 4})
		u := begin(t, a)
		for range 3 {
			if err := reserve(u, 1, 5); err != nil {
				t.Fatal(err)
			}
		}
		if w, _ := a.Windows(); w.Remaining != 7 {
			t.Errorf("%d remain", w.Remaining)
		}
		v := begin(t, a)
		if e := refused(t, reserve(u, 1, 5)); e.What != atOnce || e.Retry == 0 || e.Want != 0 {
			t.Errorf("%+v", e)
		}
		if e := refused(t, reserve(u, 128, 5)); e.Want != 131 || e.Retry != 0 {
			t.Errorf("more than there ever is: %+v", e)
		}
		if w, _ := a.Windows(); w.Remaining != 6 {
			t.Errorf("what was refused was taken: %d remain", w.Remaining)
		}
		_, err := a.Begin()
		refused(t, err)
		u.End(0)
		u.End(0)
		v.End(0)
		if a.running != 0 {
			t.Errorf("%d run", a.running)
		}
	})
}

// TestRelease has a request compute one answer after the other with a place for one.
func TestRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAccount(Limits{RequestsPerMinute: 10, Concurrent: 1})
		u := begin(t, a)
		for range 3 {
			if err := reserve(u, 1, 0); err != nil {
				t.Fatal(err)
			}
			refused(t, reserve(u, 1, 0))
			u.Release(1, 0)
		}
		u.End(0)
		if w, _ := a.Windows(); a.running != 0 || w.Remaining != 9 {
			t.Errorf("%d run, %d requests remain", a.running, w.Remaining)
		}
	})
}

// TestTokens reserves prompts, and counts what was computed in the end: answers that were too long are paid for by
// waiting.
func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAccount(Limits{TokensPerMinute: 600})
		u := begin(t, a)
		if err := reserve(u, 1, 500); err != nil {
			t.Fatal(err)
		}
		if e := refused(t, reserve(begin(t, a), 1, 200)); e.Retry != 10*time.Second {
			t.Errorf("%+v", e)
		}
		if e := refused(t, reserve(begin(t, a), 1, 601)); e.Retry != 0 || e.Want != 601 {
			t.Errorf("%+v", e)
		}
		u.End(1200)
		_, err := a.Begin()
		if e := refused(t, err); e.Retry <= time.Minute || e.Retry > 61*time.Second || e.What != tokensPerMinute {
			t.Errorf("%+v", e)
		}
		time.Sleep(2 * time.Minute)

		// A request that failed gives back what it has reserved.
		u = begin(t, a)
		if err := reserve(u, 1, 600); err != nil {
			t.Fatal(err)
		}
		u.End(0)
		if _, w := a.Windows(); w != (Window{600, 600, 0}) {
			t.Errorf("%+v", w)
		}
	})
}

// TestDay counts tokens by day, whatever process has computed them.
func TestDay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	synctest.Test(t, func(t *testing.T) {
		_, secret := create(t, path, NewKey{Name: "alice", Limits: Limits{TokensPerDay: 100}})
		spend := func(k *Keys, n int) error {
			p, err := k.Authenticate(secret, "")
			if err != nil {
				t.Fatal(err)
			}
			u, err := p.Account().Begin()
			if err == nil {
				u.End(n)
			}
			return err
		}
		first, _ := open(t, path)
		second, _ := open(t, path) // another server with the same keys
		if err := errors.Join(spend(first, 30), spend(second, 30)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * tokensEvery)
		if list, err := List(path); err != nil || list[0].Tokens != 60 || list[0].Used.IsZero() {
			t.Errorf("%+v, %v", list, err)
		}

		// It is written at the end, too, and known after a restart.
		if err := errors.Join(spend(first, 40), first.Close(), second.Close()); err != nil {
			t.Fatal(err)
		}
		third, _ := open(t, path)
		e := refused(t, spend(third, 1))
		if e.What != tokensPerDay || e.Retry <= 23*time.Hour || e.Retry > 24*time.Hour {
			t.Errorf("%+v", e)
		}
		if err := third.Close(); err != nil { // it would look at the file 300,000 times until then
			t.Fatal(err)
		}
		time.Sleep(e.Retry)
		fourth, _ := open(t, path)
		defer fourth.Close()
		if err := spend(fourth, 1); err != nil {
			t.Errorf("the next day: %v", err)
		}
	})
}

// TestMidnight gives back what was reserved before midnight to its own day, and not to what others use of the next one.
func TestMidnight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAccount(Limits{TokensPerDay: 100})
		u := begin(t, a)
		if err := reserve(u, 1, 60); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		v := begin(t, a)
		if err := errors.Join(reserve(v, 1, 50), reserve(u, 1, 10)); err != nil {
			t.Fatal(err)
		}
		u.End(5)
		if a.today != 55 || a.unsaved != 55 {
			t.Errorf("%d tokens, %d unsaved", a.today, a.unsaved)
		}
		v.End(50)
		if a.today != 55 {
			t.Errorf("in the end %d tokens", a.today)
		}
	})
}

// TestYesterday does not let what was reserved before midnight make the next day longer.
func TestYesterday(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAccount(Limits{TokensPerDay: 100})
		u := begin(t, a)
		if err := reserve(u, 1, 100); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		u.End(0)
		if a.today != 0 || a.unsaved != 0 {
			t.Errorf("%d tokens, %d unsaved", a.today, a.unsaved)
		}
	})
}

// TestAnswersAreReserved does not let requests that run at the same time have more tokens than there are, and gives
// back what they did not become.
func TestAnswersAreReserved(t *testing.T) {
	for _, l := range []Limits{{TokensPerMinute: 1000}, {TokensPerDay: 1000}} {
		synctest.Test(t, func(t *testing.T) {
			a := NewAccount(l)
			need := Need{Answers: 2, Prompt: 100, Each: 200}
			u := begin(t, a)
			v := begin(t, a)
			for _, use := range []*Use{u, v} {
				if each, err := use.Reserve(need); err != nil || each != 200 {
					t.Errorf("%d, %v", each, err)
				}
			}
			_, err := a.Begin()
			refused(t, err) // all is reserved

			// One answer has 50 tokens, and the other one goes on.
			u.Release(1, 150)
			w := begin(t, a)
			if _, err := w.Reserve(Need{Answers: 1, Prompt: 50, Each: 101}); err == nil {
				t.Error("more was reserved than is left")
			}
			if _, err := w.Reserve(Need{Answers: 1, Prompt: 50, Each: 100}); err != nil {
				t.Error(err)
			}
			w.End(0)
			u.End(350)
			u.Release(1, 50) // after its end
			v.End(0)
			if left := left(a); left != 650 {
				t.Errorf("%d tokens are left", left)
			}
		})
	}
}

// left returns how many tokens may be reserved at once.
func left(a *Account) int {
	for n := a.limits.TokensPerMinute + a.limits.TokensPerDay; n > 0; n-- {
		u := &Use{account: a}
		if reserve(u, 0, n) == nil {
			u.End(0)
			return n
		}
	}
	return 0
}

// TestBound bounds answers of which nobody has said how long they may be, or which may be longer than there are tokens.
func TestBound(t *testing.T) {
	const none = -1
	for _, tt := range []struct {
		name   string
		limits Limits
		used   int
		need   Need
		want   int // tokens of each answer; none for a refusal
	}{
		{"no limit", Limits{RequestsPerMinute: 100}, 0, Need{Answers: 1, Prompt: 10, Each: 9000, Elastic: true}, 9000},
		{"a part", Limits{TokensPerMinute: 8100}, 0, Need{Answers: 1, Prompt: 100, Each: 9000, Elastic: true}, 2000},
		{"several", Limits{TokensPerDay: 8100}, 0, Need{Answers: 4, Prompt: 100, Each: 9000, Elastic: true}, 500},
		{"short", Limits{TokensPerMinute: 8100}, 0, Need{Answers: 1, Prompt: 100, Each: 900, Elastic: true}, 900},
		{"the least", Limits{TokensPerMinute: 8100}, 7600, Need{Answers: 1, Prompt: 100, Each: 900, Elastic: true}, 256},
		{"too few", Limits{TokensPerMinute: 8100}, 7800, Need{Answers: 1, Prompt: 100, Each: 900, Elastic: true}, none},
		{"fixed", Limits{TokensPerMinute: 8100}, 7600, Need{Answers: 1, Prompt: 100, Each: 400}, 400},
		{"fixed, too few", Limits{TokensPerMinute: 8100}, 7601, Need{Answers: 1, Prompt: 100, Each: 400}, none},
		{"more than ever", Limits{TokensPerMinute: 8100}, 0, Need{Answers: 1, Prompt: 100, Each: 8001}, 2000},
		{"the smaller", Limits{TokensPerMinute: 8100, TokensPerDay: 400}, 0, Need{Answers: 1, Each: 800, Elastic: true}, 100},
		{"a small limit", Limits{TokensPerMinute: 80}, 60, Need{Answers: 1, Each: 800, Elastic: true}, 10},
		{"needed", Limits{TokensPerMinute: 80}, 40, Need{Answers: 1, Each: 800, Elastic: true, Least: 40}, 40},
		{"a long prompt", Limits{TokensPerMinute: 80}, 0, Need{Answers: 1, Prompt: 81, Each: 8, Elastic: true}, none},
		{"no answers", Limits{TokensPerMinute: 80}, 0, Need{Prompt: 80}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := NewAccount(tt.limits)
			if err := reserve(begin(t, a), 0, tt.used); err != nil {
				t.Fatal(err)
			}
			got, err := begin(t, a).Reserve(tt.need)
			if err != nil {
				refused(t, err)
				got = none
			}
			if got != tt.want {
				t.Errorf("%s: %d tokens, want %d (%v)", tt.name, got, tt.want, err)
			}
		})
	}
}

// TestHeldIsNotWritten writes what was computed, and not what answers may still become: a server that is killed would
// have counted it forever.
func TestHeldIsNotWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	synctest.Test(t, func(t *testing.T) {
		_, secret := create(t, path, NewKey{Name: "alice", Limits: Limits{TokensPerDay: 1000}})
		k, _ := open(t, path)
		p, err := k.Authenticate(secret, "")
		if err != nil {
			t.Fatal(err)
		}
		u := begin(t, p.Account())
		if _, err := u.Reserve(Need{Answers: 1, Prompt: 100, Each: 500}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * tokensEvery)
		if list, err := List(path); err != nil || list[0].Tokens != 100 {
			t.Errorf("%+v, %v", list, err)
		}
		if n := left(p.Account()); n != 400 {
			t.Errorf("after writing, %d tokens are left", n)
		}
		u.End(150)
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		if list, err := List(path); err != nil || list[0].Tokens != 150 {
			t.Errorf("%+v, %v", list, err)
		}
	})
}
