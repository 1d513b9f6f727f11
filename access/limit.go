package access

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// LimitError says that a key has used what it may use. Nothing was taken.
type LimitError struct {
	What  string        // is limited: "requests per minute"
	Limit int           // the most
	Want  int           // that were asked for, if that is more than there ever is; else 0
	Retry time.Duration // after which there may be enough; 0 if that is not known
}

// Error implements error.
func (e *LimitError) Error() string {
	if e.Want > 0 {
		return fmt.Sprintf("the request takes %d of the key's %d %s", e.Want, e.Limit, e.What)
	}
	return fmt.Sprintf("the key has used its %d %s", e.Limit, e.What)
}

// Account counts what a key has used, whichever of its secrets was sent. It is safe for concurrent use.
type Account struct {
	mu       sync.Mutex
	limits   Limits
	requests bucket
	tokens   bucket
	running  int // answers that are computed
	begun    int // requests that have not ended

	day     int // since 1970, in UTC, of the tokens
	today   int // tokens, of all processes as far as known
	unsaved int // of them that are not in the file
	held    int // tokens that answers may still take today; they are in no file
	used    time.Time
	saved   time.Time // the value of used that is in the file
}

// NewAccount returns an account that has used nothing.
func NewAccount(l Limits) *Account { return &Account{limits: l} }

// setLimits changes the limits. What was used counts.
func (a *Account) setLimits(l Limits) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.requests.fill(a.limits.RequestsPerMinute, now)
	a.tokens.fill(a.limits.TokensPerMinute, now)
	a.requests.used = min(a.requests.used, float64(l.RequestsPerMinute))
	a.limits = l
}

// bucket is a token bucket, as what is missing from it: a zero one is full. It holds what may be used in a minute, and
// what was used flows back evenly. More than it holds may be missing: then nothing can be taken for longer.
type bucket struct {
	used float64
	at   time.Time // when used was right
}

// fill lets flow back what was used before now.
func (b *bucket) fill(limit int, now time.Time) {
	if limit == 0 {
		b.used = 0
	}
	if elapsed := now.Sub(b.at); elapsed > 0 {
		b.used = max(0, b.used-elapsed.Minutes()*float64(limit))
		b.at = now
	}
}

// wait returns how long it takes until n can be taken, of a bucket that was filled; 0 if they are there.
func (b *bucket) wait(limit, n int) time.Duration {
	missing := b.used + float64(n) - float64(limit)
	if missing <= 1e-6 {
		return 0
	}
	return time.Duration(math.Ceil(missing / float64(limit) * float64(time.Minute)))
}

// state returns what is left of a bucket that was filled, and in what time it is full.
func (b *bucket) state(limit int) (left int, full time.Duration) {
	left = int(max(0, math.Floor(float64(limit)-b.used+1e-6)))
	return left, time.Duration(b.used / float64(limit) * float64(time.Minute))
}

// Names of what is limited.
const (
	perMinute       = "requests per minute"
	tokensPerMinute = "tokens per minute"
	tokensPerDay    = "tokens per day"
	atOnce          = "answers at the same time"
)

// dayOf returns the number of a time's day in UTC.
func dayOf(t time.Time) int { return int(t.Unix() / (24 * 60 * 60)) }

// untilTomorrow returns how long a day goes on.
func untilTomorrow(now time.Time) time.Duration {
	return time.Unix(int64(dayOf(now)+1)*24*60*60, 0).Sub(now)
}

// advance brings the account to the time. The caller holds the mutex.
func (a *Account) advance(now time.Time) {
	a.requests.fill(a.limits.RequestsPerMinute, now)
	a.tokens.fill(a.limits.TokensPerMinute, now)
	if day := dayOf(now); day != a.day {
		a.day = day
		a.today = 0
		a.unsaved = 0
		a.held = 0
	}
}

// An answer whose length is not bound gets a part of the tokens that are left, so that it leaves some to others.
const (
	elasticShare = 4   // the part
	elasticLeast = 256 // tokens, below which an answer is not begun; with a smaller limit, an eighth of that
)

// bound returns how many tokens each answer to a request may have. One that may have more than there ever are counts
// as one whose length is not bound. The caller holds the mutex, and has advanced the account.
func (a *Account) bound(n Need) int {
	limit := math.MaxInt
	left := math.MaxInt
	if l := a.limits.TokensPerMinute; l > 0 {
		minute, _ := a.tokens.state(l)
		limit = l
		left = minute
	}
	if l := a.limits.TokensPerDay; l > 0 {
		limit = min(limit, l)
		left = min(left, max(l-a.today-a.held, 0))
	}

	isOver := n.Answers > 0 && n.Each > (limit-n.Prompt)/n.Answers
	if n.Answers == 0 || limit == math.MaxInt || !n.Elastic && !isOver {
		return n.Each
	}
	share := (left - n.Prompt) / n.Answers / elasticShare
	least := max(min(elasticLeast, limit/8), n.Least, 1)
	return min(n.Each, max(share, least))
}

// take takes answers, which are requests and run at the same time, and tokens: all of them, or none. With them the
// request has whole answers. The caller holds the mutex, and has advanced the account; it counts the tokens itself.
func (a *Account) take(answers, whole, tokens int) error {
	now := time.Now()
	l := a.limits
	refuse := func(what string, limit, want int, retry time.Duration) error {
		e := &LimitError{What: what, Limit: limit, Retry: retry}
		if want > limit {
			e.Want = want
			e.Retry = 0
		}
		return e
	}

	if l.Concurrent > 0 && a.running+answers > l.Concurrent && answers > 0 {
		return refuse(atOnce, l.Concurrent, whole, time.Second)
	}
	if l.RequestsPerMinute > 0 {
		if wait := a.requests.wait(l.RequestsPerMinute, answers); wait > 0 && answers > 0 {
			return refuse(perMinute, l.RequestsPerMinute, whole, wait)
		}
	}
	if l.TokensPerMinute > 0 {
		if wait := a.tokens.wait(l.TokensPerMinute, max(tokens, 1)); wait > 0 {
			return refuse(tokensPerMinute, l.TokensPerMinute, tokens, wait)
		}
	}
	if l.TokensPerDay > 0 && a.today+a.held+max(tokens, 1) > l.TokensPerDay {
		return refuse(tokensPerDay, l.TokensPerDay, tokens, untilTomorrow(now))
	}

	a.running += answers
	a.requests.used += float64(answers)
	return nil
}

// spend counts tokens of the minute and of the day, fewer if they are negative. The caller holds the mutex.
func (a *Account) spend(minute, day int) {
	a.tokens.used = max(0, a.tokens.used+float64(minute))
	a.unsaved += day
	a.today += day
}

// Window is the state of a limit per minute, as the headers x-ratelimit-* have it.
type Window struct {
	Limit     int
	Remaining int
	Reset     time.Duration // until all of it is there again
}

// Windows returns the limits of requests and tokens per minute; a Limit of 0 is none.
func (a *Account) Windows() (requests, tokens Window) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.advance(time.Now())
	if n := a.limits.RequestsPerMinute; n > 0 {
		requests.Limit = n
		requests.Remaining, requests.Reset = a.requests.state(n)
	}
	if n := a.limits.TokensPerMinute; n > 0 {
		tokens.Limit = n
		tokens.Remaining, tokens.Reset = a.tokens.state(n)
	}
	return requests, tokens
}

// Begin counts a request, or returns a LimitError. The caller ends the use.
func (a *Account) Begin() (*Use, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.advance(time.Now())
	if err := a.take(1, 1, 0); err != nil {
		return nil, err
	}
	a.begun++
	return &Use{account: a, counted: 1}, nil
}

// Use is what one request takes of an account. A nil one takes nothing. It is safe for concurrent use.
type Use struct {
	account  *Account
	counted  int // requests that were taken, of which the first is the request itself
	answers  int // that were reserved and not released
	reserved int // tokens
	day      int // of the last that were reserved
	today    int // tokens of prompts that were reserved on that day
	held     int // tokens of answers that were reserved on that day
	ended    bool
}

// Need is what a request takes.
type Need struct {
	Answers int // each prompt's choices
	Prompt  int // tokens of all prompts, or of what else is read
	Each    int // the most tokens that an answer may have
	// Elastic says that nobody has asked for so many: where fewer are left, shorter answers do.
	Elastic bool
	Least   int // tokens that an answer must have, however few are left
}

// Reserve takes more for a request: answers, and tokens for their prompts and for what they may become. It returns how
// many tokens each of them may have. A request for several answers counts as so many requests. The error is a
// LimitError.
func (u *Use) Reserve(n Need) (each int, err error) {
	if u == nil {
		return n.Each, nil
	}
	a := u.account
	a.mu.Lock()
	defer a.mu.Unlock()
	a.advance(time.Now())
	each = a.bound(n)
	bound := n.Answers * each
	whole := u.answers + n.Answers
	more := max(0, whole-u.counted)
	if err := a.take(more, whole, n.Prompt+bound); err != nil {
		return 0, err
	}

	a.spend(n.Prompt+bound, n.Prompt)
	a.held += bound
	u.counted += more
	u.answers = whole
	u.reserved += n.Prompt + bound
	if u.day != a.day {
		u.day = a.day
		u.today = 0
		u.held = 0
	}
	u.today += n.Prompt
	u.held += bound
	return each, nil
}

// Release gives answers back that were reserved and are no longer computed, and the tokens that they may not become any
// more: later ones may run in their place. They still count as requests.
func (u *Use) Release(answers, tokens int) {
	if u == nil {
		return
	}
	a := u.account
	a.mu.Lock()
	defer a.mu.Unlock()
	if u.ended {
		return
	}
	a.advance(time.Now())
	u.answers -= answers
	u.reserved -= tokens
	a.spend(-tokens, 0)
	u.release(min(tokens, u.held))
}

// release gives back tokens that were held for answers, unless their day is over. The caller holds the mutex.
func (u *Use) release(tokens int) {
	if u.day == u.account.day {
		u.account.held -= tokens
	}
	u.held -= tokens
}

// End gives back what was reserved and counts the tokens that were computed. Only the first call does.
func (u *Use) End(tokens int) {
	if u == nil {
		return
	}
	a := u.account
	a.mu.Lock()
	defer a.mu.Unlock()
	if u.ended {
		return
	}
	u.ended = true
	a.begun--
	a.running -= u.counted
	a.advance(time.Now())
	u.release(u.held)
	today := u.today
	if u.day != a.day {
		today = 0 // the day that they were counted in is over
	}
	a.spend(tokens-u.reserved, tokens-today)
}
