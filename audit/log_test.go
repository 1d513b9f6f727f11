package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// testKeys are made once.
var testKeys = sync.OnceValue(func() *Keys {
	private, _, err := note.GenerateKey(nil, "serve-audit-test")
	if err != nil {
		panic(err)
	}
	k, err := newKeys(private, make([]byte, 32))
	if err != nil {
		panic(err)
	}
	return k
})

var quiet = slog.New(slog.DiscardHandler)

// openMemory opens a log on a disk in memory.
func openMemory(t testing.TB, d *memory, o Options) *Log {
	t.Helper()
	o.disk = d
	o.Log = quiet
	l, err := open(testKeys(), o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// checked verifies a log on a disk, with the secret key or without.
func checked(t testing.TB, d *memory, known *Checkpoint, secret bool) *Report {
	t.Helper()
	c := &checker{key: testKeys().verifier}
	if secret {
		c.tag = testKeys().tag
	}
	r, err := verify(d, c, known, false)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func all(t testing.TB, d disk) (list []*Record) {
	t.Helper()
	for r, err := range records(d) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

// TestAppend writes records from many goroutines, and others after opening the log again. All are there, in order.
func TestAppend(t *testing.T) {
	d := newMemory(1)
	const writers, each = 16, 20
	for run := range 3 {
		l := openMemory(t, d, Options{Segment: 8 << 10})
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					if err := l.Append(&Record{Kind: Request, ID: fmt.Sprintf("%d-%d-%d", run, w, i)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Append(&Record{Kind: Request}); !errors.Is(err, ErrFailing) {
			t.Errorf("after the end: %v", err)
		}
	}

	r := checked(t, d, nil, false)
	if len(r.Problems) > 0 || r.Records != 3*writers*each {
		t.Errorf("%+v", r)
	}
	list, err := segments(d)
	if err != nil || len(list) < 3 {
		t.Errorf("%d files, %v", len(list), err)
	}
	ids := map[string]bool{}
	var last time.Time
	for i, r := range all(t, d) {
		ids[r.ID] = true
		if r.Seq != uint64(i) || r.Time.Before(last) {
			t.Fatalf("record %d: %+v", i, r)
		}
		last = r.Time
	}
	if len(ids) != 3*writers*each {
		t.Errorf("%d of %d records", len(ids), 3*writers*each)
	}
}

// TestPowerCut cuts the power at 1,000 points. Every record that was acknowledged is in the log, which verifies, goes
// on and knows which requests had not ended.
func TestPowerCut(t *testing.T) {
	acknowledged := 0
	lostAtOnce := 0
	for seed := range uint64(1000) {
		d := newMemory(seed)
		done := map[string]bool{}
		var known *Checkpoint
		runs := 1
		if seed%8 == 0 {
			runs = 4 // one cut after another
		}
		for run := range runs {
			d.cut = 1 + int(d.random.Uint64N(40))
			l, err := open(testKeys(), Options{disk: d, Segment: 3000, Log: quiet})
			if err == nil {
				var mu sync.Mutex
				var wg sync.WaitGroup
				for w := range 3 {
					wg.Go(func() {
						for i := range 3 {
							id := fmt.Sprintf("%d-%d-%d-%d", seed, run, w, i)
							for _, kind := range []Kind{RequestBegin, RequestEnd} {
								if l.Append(&Record{Kind: kind, ID: id, Address: "192.0.2.1"}) != nil {
									return
								}
								mu.Lock()
								done[id+string(kind)] = true
								mu.Unlock()
							}
						}
					})
				}
				wg.Wait()
				l.Close()
			}
			d = d.restart()

			// Every start may be the last one of the disk, too.
			l, err = open(testKeys(), Options{disk: d, Segment: 3000, Log: quiet})
			if err != nil {
				t.Fatalf("seed %d, run %d: %v", seed, run, err)
			}
			if err := l.Append(&Record{Kind: ServerStart}); err != nil {
				t.Fatalf("seed %d, run %d: %v", seed, run, err)
			}
			l.Close()
			r := checked(t, d, known, false)
			if len(r.Problems) > 0 {
				t.Fatalf("seed %d, run %d: %v", seed, run, r.Problems)
			}
			if known, err = ParseCheckpoint(r.Checkpoint, testKeys().verifier); err != nil {
				t.Fatal(err)
			}
		}

		open := map[string]int{}
		have := map[string]bool{}
		for _, r := range all(t, d) {
			have[r.ID+string(r.Kind)] = true
			switch r.Kind {
			case RequestBegin:
				open[r.ID]++
			case RequestEnd:
				open[r.ID]--
			case RequestLost:
				open[r.ID]--
				lostAtOnce++
			}
		}
		for id := range done {
			acknowledged++
			if !have[id] {
				t.Fatalf("seed %d: %s was acknowledged and is not there", seed, id)
			}
		}
		for id, n := range open {
			if n != 0 {
				t.Fatalf("seed %d: request %s has begun and neither ended nor been lost: %d", seed, id, n)
			}
		}
	}
	if acknowledged < 3_000 || lostAtOnce < 200 {
		t.Errorf("%d records were acknowledged, %d requests lost: the test tests little", acknowledged, lostAtOnce)
	}
}

// TestFullDisk has operations fail at random. What was acknowledged is there, what was not is refused, and afterwards
// the log says how much is missing.
func TestFullDisk(t *testing.T) {
	refused := 0
	for seed := range uint64(200) {
		d := newMemory(seed)
		tick := make(chan func())
		l := openMemory(t, d, Options{Segment: 2000, tick: tick})
		d.mu.Lock()
		d.failing = 0.2
		d.mu.Unlock()
		want := map[string]bool{}
		for i := range 40 {
			id := fmt.Sprint(i)
			err := l.Append(&Record{Kind: Request, ID: id})
			want[id] = err == nil
			if err != nil {
				refused++
				if state := l.State(); state.Failing == nil || !state.Refuses() {
					t.Fatalf("seed %d: %+v after %v", seed, state, err)
				}
			}
		}
		d.mu.Lock()
		d.failing = 0
		d.mu.Unlock()
		looked := make(chan struct{})
		tick <- func() { close(looked) }
		<-looked
		if state := l.State(); state.Failing != nil {
			t.Fatalf("seed %d: it still fails: %v", seed, state.Failing)
		}
		l.Close()

		if r := checked(t, d, nil, false); len(r.Problems) > 0 {
			t.Fatalf("seed %d: %v", seed, r.Problems)
		}
		have := map[string]bool{}
		resumed := false
		for _, r := range all(t, d) {
			resumed = resumed || r.Kind == LogResumed && r.Count > 0
			have[r.ID] = true
		}
		for id, ok := range want {
			if have[id] != ok {
				t.Fatalf("seed %d: record %s acknowledged %v, there %v", seed, id, ok, have[id])
			}
			if !ok && !resumed {
				t.Fatalf("seed %d: the log does not say that records are missing", seed)
			}
		}
	}
	if refused < 1000 {
		t.Errorf("only %d were refused", refused)
	}
}

// TestContinue lets work go on although the log cannot be written, and says so.
func TestContinue(t *testing.T) {
	d := newMemory(1)
	tick := make(chan func())
	l := openMemory(t, d, Options{Continue: true, tick: tick})
	d.mu.Lock()
	d.failing = 1
	d.mu.Unlock()
	for range 3 {
		if err := l.Append(&Record{Kind: Request}); err != nil {
			t.Fatal(err)
		}
	}
	if s := l.State(); s.Failing == nil || s.Refuses() || s.Lost != 3 {
		t.Errorf("%+v", s)
	}
	d.mu.Lock()
	d.failing = 0
	d.mu.Unlock()
	looked := make(chan struct{})
	tick <- func() { close(looked) }
	<-looked
	l.Close()
	list := all(t, d)
	if len(list) != 1 || list[0].Kind != LogResumed || list[0].Count != 3 {
		t.Errorf("%+v", list)
	}
}

// TestForgery gives texts that would be lines or fields of their own if they were not escaped.
func TestForgery(t *testing.T) {
	hostile := []string{
		"a\n" + `{"seq":7,"time":"2026-01-01T00:00:00Z","kind":"server.stop"}` + "\n",
		`","kind":"server.stop","x":"`,
		"a\r\nb\u2028c\u2029d\x00e\x1b[2Jf\xff\xfeg",
		strings.Repeat("\x00", 4*maxText),
		strings.Repeat("é", maxText),
	}
	d := newMemory(1)
	l := openMemory(t, d, Options{})
	for _, s := range hostile {
		r := &Record{
			Kind:     Request,
			ID:       s,
			ClientID: ClientID(s),
			Who:      &Who{Name: s, Tenant: s},
			Route:    s,
			Tools:    []string{s, s},
			Work:     []Work{{Model: s, Parameters: json.RawMessage(s), Finish: []string{s}}},
			Detail:   map[string]string{s: s},
		}
		if err := l.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	list := all(t, d)
	if len(list) != len(hostile) {
		t.Fatalf("%d records instead of %d", len(list), len(hostile))
	}
	for _, r := range list {
		if r.Kind != Request || r.Who == nil || len(r.Work) != 1 {
			t.Errorf("%+v", r)
		}
	}
	if r := checked(t, d, nil, false); len(r.Problems) > 0 {
		t.Error(r.Problems)
	}
	for _, text := range d.names {
		if bytes.ContainsAny(text.data, "\x00\x1b\r") || bytes.Contains(text.data, []byte("\u2028")) {
			t.Error("a control character is in the log")
		}
	}
	if id := ClientID(strings.Repeat("é", 1000)); len([]rune(id)) != MaxClientID {
		t.Errorf("%d characters of a client's id", len([]rune(id)))
	}
}

// TestHugeRecord bounds a record whose escapes make it larger than a line may be.
func TestHugeRecord(t *testing.T) {
	var work []Work
	bad := strings.Repeat("\x01", maxText)
	for range 2 * maxList {
		work = append(work, Work{Model: "m", Finish: []string{bad, bad, bad, bad, bad, bad, bad, bad, bad}})
	}
	text, err := (&Record{Kind: RequestEnd, Work: work}).encode()
	if err != nil || len(text) > maxLine {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if r, err := ParseRecord(text); err != nil || len(r.Work) != maxList {
		t.Errorf("%v", err)
	}
}

// TestInit makes keys, refuses to replace them, and refuses those that others can read. One process writes a log.
func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	key, err := Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Init(dir); !errors.Is(err, os.ErrExist) {
		t.Errorf("again: %v", err)
	}
	if v, err := ParseVerifier(key); err != nil || v.Name() == "" {
		t.Errorf("%s: %v", key, err)
	}
	l, err := Open(dir, Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("a second server: %v", err)
	}
	if err := l.Append(&Record{Kind: ServerStart}); err != nil {
		t.Fatal(err)
	}
	if r, err := Verify(dir, VerifyOptions{}); err != nil || len(r.Problems) > 0 || r.Records != 1 {
		t.Errorf("while it is written: %+v, %v", r, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	if err := os.Chmod(filepath.Join(dir, "key"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrKey) {
		t.Errorf("a key that the group may read: %v", err)
	}
	if _, err := Open(t.TempDir(), Options{}); !errors.Is(err, ErrKey) {
		t.Errorf("no key: %v", err)
	}
}

// TestRefusals records a few refused requests of each sender, and counts the rest.
func TestRefusals(t *testing.T) {
	var f refusals
	start := time.Now()
	recorded := 0
	for i := range 100_000 {
		r := &Record{Kind: Request, Status: 401, Route: "/v1/models", Address: fmt.Sprint("192.0.2.", i%3)}
		if !f.counts(r, start) {
			recorded++
		}
	}
	if recorded != 3*refusalsEach {
		t.Errorf("%d were recorded", recorded)
	}
	if list := f.over(start.Add(time.Second)); len(list) != 0 {
		t.Errorf("too early: %v", list)
	}
	sum := int64(0)
	list := f.over(start.Add(refusalTime))
	for _, r := range list {
		sum += r.Count
	}
	if len(list) != 3 || sum != int64(100_000-recorded) {
		t.Errorf("%d records, %d requests", len(list), sum)
	}

	// Nor can many senders fill the disk.
	recorded = 0
	for i := range 100_000 {
		r := &Record{Kind: Request, Status: 404, Route: fmt.Sprint("/", i), Address: fmt.Sprint("a", i)}
		if !f.counts(r, start) {
			recorded++
		}
	}
	if recorded > refusalsAll || len(f.senders) > maxSenders+1 {
		t.Errorf("%d were recorded of %d senders", recorded, len(f.senders))
	}
}
