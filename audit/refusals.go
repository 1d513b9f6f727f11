package audit

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds of what is recorded about refused requests, so that nobody can fill the disk with them.
const (
	// refusalsEach are recorded of one sender in a minute, one by one; the rest is counted.
	refusalsEach = 20
	// refusalsAll are recorded in a minute, whoever sends them.
	refusalsAll = 600
	maxSenders  = 4096
	refusalTime = time.Minute
)

// others stands for senders that there are too many of.
const others = "others"

// refusals counts refused requests by who sends them, each over a minute from the first.
type refusals struct {
	mu      sync.Mutex
	senders map[string]*refused
	all     int
	since   time.Time // of all
}

// refused counts the requests of one sender.
type refused struct {
	since   time.Time
	n       int
	address string
	who     *Who
	more    map[string]int64 // that were not recorded, by status and route
}

// counts counts a refused request, and reports whether that is all there is to do: it need not be recorded.
func (f *refusals) counts(r *Record, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.senders == nil {
		f.senders = map[string]*refused{}
	}
	if now.Sub(f.since) >= refusalTime {
		f.since = now
		f.all = 0
	}

	sender := "address " + r.Address
	if r.Who != nil && r.Who.Key != "" {
		sender = "key " + r.Who.Key
	}
	c := f.senders[sender]
	if c == nil && len(f.senders) >= maxSenders {
		sender = others
		c = f.senders[others]
	}
	if c == nil {
		c = &refused{since: now, more: map[string]int64{}}
		if sender != others {
			c.address = r.Address
			c.who = r.Who
		}
		f.senders[sender] = c
	}
	c.n++
	if c.n <= refusalsEach && f.all < refusalsAll && sender != others {
		f.all++
		return false
	}
	what := strconv.Itoa(r.Status) + " " + r.Method + " " + r.Route
	if _, known := c.more[what]; !known && len(c.more) >= maxList-1 {
		what = others
	}
	c.more[what]++
	return true
}

// over returns records of what was counted for a minute until now, or of everything if now is zero, and forgets it.
func (f *refusals) over(now time.Time) (list []*Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sender := range slices.Sorted(maps.Keys(f.senders)) {
		c := f.senders[sender]
		if !now.IsZero() && now.Sub(c.since) < refusalTime {
			continue
		}
		delete(f.senders, sender)
		if len(c.more) == 0 {
			continue
		}
		since := c.since.UTC()
		r := &Record{
			Kind:    RequestsRefused,
			Address: c.address,
			Who:     c.who,
			Since:   &since,
			Detail:  map[string]string{},
		}
		for what, n := range c.more {
			r.Count += n
			r.Detail[strings.TrimSpace(what)] = strconv.FormatInt(n, 10)
		}
		list = append(list, r)
	}

	return list
}
