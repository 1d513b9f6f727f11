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
			if err := u.Reserve(1, 5); err != nil {
				t.Fatal(err)
			}
		}
		if w, _ := a.Windows(); w.Remaining != 7 {
			t.Errorf("%d remain", w.Remaining)
		}
		v := begin(t, a)
		if e := refused(t, u.Reserve(1, 5)); e.What != atOnce || e.Retry == 0 || e.Want != 0 {
			t.Errorf("%+v", e)
		}
		if e := refused(t, u.Reserve(128, 5)); e.Want != 131 || e.Retry != 0 {
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
			if err := u.Reserve(1, 0); err != nil {
				t.Fatal(err)
			}
			refused(t, u.Reserve(1, 0))
			u.Release(1)
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
		if err := u.Reserve(1, 500); err != nil {
			t.Fatal(err)
		}
		if e := refused(t, begin(t, a).Reserve(1, 200)); e.Retry != 10*time.Second {
			t.Errorf("%+v", e)
		}
		if e := refused(t, begin(t, a).Reserve(1, 601)); e.Retry != 0 || e.Want != 601 {
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
		if err := u.Reserve(1, 600); err != nil {
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
		defer third.Close()
		e := refused(t, spend(third, 1))
		if e.What != tokensPerDay || e.Retry <= 23*time.Hour || e.Retry > 24*time.Hour {
			t.Errorf("%+v", e)
		}
		time.Sleep(e.Retry)
		if err := spend(third, 1); err != nil {
			t.Errorf("the next day: %v", err)
		}
	})
}

// TestMidnight gives back what was reserved before midnight to its own day, and not to what others use of the next one.
func TestMidnight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAccount(Limits{TokensPerDay: 100})
		u := begin(t, a)
		if err := u.Reserve(1, 60); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		v := begin(t, a)
		if err := errors.Join(v.Reserve(1, 50), u.Reserve(1, 10)); err != nil {
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
		if err := u.Reserve(1, 100); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		u.End(0)
		if a.today != 0 || a.unsaved != 0 {
			t.Errorf("%d tokens, %d unsaved", a.today, a.unsaved)
		}
	})
}
