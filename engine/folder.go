package engine

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"
)

// KeptPrefix is a sequence whose cells a PrefixFolder has, or is to have.
type KeptPrefix struct {
	Tokens       []Token
	Tenant       string // of the Caller whose request it was
	Salt         string // Request.CacheSalt
	Reproducible bool
	Saved        Saved // its At has a meaning only while the cells are in host memory
}

// PrefixFolder keeps saved prefixes of one model where they outlive this process. Its methods return at once: they
// neither read nor write files.
type PrefixFolder interface {
	// Put has a prefix written that was saved to host memory, if that still has it when its turn comes. With replaces,
	// older ones are removed that are of no more use.
	Put(p KeptPrefix, replaces bool)
	// Find returns the prefix of a scope that shares the most tokens with these, and how many; with whole, only one
	// that is all in these. Its ID is 0 if there is none.
	Find(like KeptPrefix, whole bool) (id uint64, p KeptPrefix, shared int)
	// Fetch has a prefix read into a region of host memory, which is the folder's until it calls done, from another
	// goroutine. What is not as it was written is an error, and is never found again.
	Fetch(id uint64, to Region, done func(Saved, error))
	// Forget removes what a tenant has.
	Forget(tenant string)
	// Clear removes all of the model's.
	Clear()
	// Stats may be called by any goroutine.
	Stats() FolderStats
}

// FolderStats is what a PrefixFolder has and has counted.
type FolderStats struct {
	Size    int64 // bytes that the folder may have, of all models; 0 without one
	Used    int64 // bytes of the model's
	Entries int
	Written Transfers
	Read    Transfers
	Removed map[string]uint64 // files, by reason
	Skipped map[string]uint64 // prefixes that were not written, by reason
}

// Reasons of FolderStats, for metrics: package prefixdir says what they mean.
var (
	FolderRemovals = []string{"damaged", "build", "setup", "room", "replaced", "revoked", "crash"}
	FolderSkips    = []string{"busy", "gone", "large", "disk"}
)

// add adds what another engine of the same model has counted. What is there is what the last one says.
func (s *FolderStats) add(o FolderStats) {
	if o.Size > 0 {
		s.Size = o.Size
		s.Used = o.Used
		s.Entries = o.Entries
	}
	s.Written.add(o.Written)
	s.Read.add(o.Read)
	addCounts(&s.Removed, o.Removed)
	addCounts(&s.Skipped, o.Skipped)
}

// fetchPatience is how long a sequence waits for a prefix to be read. Then it is computed.
const fetchPatience = 10 * time.Second

// fetch is a prefix that is read from the folder for a sequence.
type fetch struct {
	id     uint64
	prefix *prefix
	until  time.Time // when the sequence waits no longer
	asked  time.Time
	begun  bool
	ended  bool
	failed bool
}

// fetched is what has become of a fetch.
type fetched struct {
	*fetch
	saved Saved
	err   error
}

// fetching reports whether a sequence had better wait, since more of its prompt than it shares with what is here is
// read from the folder. It looks there once.
func (s *scheduler) fetching(q *sequence, shared int, now time.Time) bool {
	if s.folder == nil || s.saving.size == 0 || q.scoring() {
		return false
	}
	if !q.looked {
		q.looked = true
		q.fetch = s.findInFolder(q, shared, now)
	}
	return q.fetch != nil && !q.fetch.ended && now.Before(q.fetch.until)
}

// findInFolder plans to read the prefix that a sequence begins with, unless it is read already. It returns nil if there
// is none, or if computing it takes no longer.
func (s *scheduler) findInFolder(q *sequence, shared int, now time.Time) *fetch {
	within := q.req.scope()
	if len(q.req.spans) > 0 {
		return nil
	}
	like := KeptPrefix{Tokens: q.tokens, Tenant: within.tenant, Salt: within.salt, Reproducible: within.reproducible}
	id, found, n := s.folder.Find(like, s.saving.whole)
	n = min(n, len(q.tokens)-1)
	if id == 0 || n-shared < s.worthCopying() || s.saving.whole && n < len(found.Tokens) {
		return nil
	}

	for _, f := range s.fetches {
		if f.id == id {
			return f
		}
	}
	takes := s.fetchCost.of(len(found.Tokens)) + s.saving.restore.of(len(found.Tokens))
	computed := s.saving.prefill.of(n - shared)
	if computed > 0 && computed < takes && !s.saving.all || roundUp(found.Saved.Size) > s.saving.size {
		return nil
	}

	f := &fetch{
		id:     id,
		prefix: &prefix{tokens: found.Tokens, scope: within, saved: found.Saved, used: s.tick, filling: true},
		until:  now.Add(fetchPatience),
		asked:  now,
	}
	s.fetches = append(s.fetches, f)
	s.step.ops = append(s.step.ops, kvOp{fetch: f})
	return f
}

// beginFetch has a prefix read into host memory. It takes its place in the index, where nothing is restored from it,
// nor takes its place, until it is there.
func (e *Engine) beginFetch(f *fetch) {
	f.begun = true
	c := &e.sched.saving
	at, gone, ok := c.reserve(f.prefix, f.prefix.saved.Size, e.sched.tick)
	if !ok {
		e.sched.endFetch(f)
		return
	}
	e.discardBut(gone, at)
	f.prefix.saved.At = at.At
	c.insert(f.prefix)
	e.opts.Folder.Fetch(f.id, at, func(saved Saved, err error) {
		e.mu.Lock()
		e.fetched = append(e.fetched, fetched{f, saved, err})
		e.mu.Unlock()
		e.signal()
	})
}

// endFetch notes that nobody waits for a prefix any more.
func (s *scheduler) endFetch(f *fetch) {
	f.ended = true
	s.fetches = slices.DeleteFunc(s.fetches, func(other *fetch) bool { return other == f })
}

// takeFetched puts prefixes that have been read into the index.
func (e *Engine) takeFetched(list []fetched) {
	s := e.sched
	for _, f := range list {
		s.endFetch(f.fetch)
		p := f.prefix
		p.filling = false
		if f.err == nil && !p.doomed {
			p.saved.Sum = f.saved.Sum
			p.fetched = true
			s.fetchCost.add(time.Since(f.asked), len(p.tokens))
			continue
		}
		f.failed = f.err != nil
		if f.err != nil && !errors.Is(f.err, ErrStopped) {
			slog.Warn("a prefix in the folder cannot be used; it is computed again", "error", f.err)
		}
		s.saving.drop(p)
		e.discard([]*prefix{p})
	}
}

// put has the folder write what was saved.
func (e *Engine) put(p *prefix) {
	if e.sched.folder == nil || len(p.spans) > 0 {
		return
	}
	e.sched.folder.Put(KeptPrefix{
		Tokens:       p.tokens,
		Tenant:       p.scope.tenant,
		Salt:         p.scope.salt,
		Reproducible: p.scope.reproducible,
		Saved:        p.saved,
	}, !e.sched.saving.whole)
}

// voidFetches ends those that a step was going to begin.
func (s *scheduler) voidFetches(ops []kvOp) {
	for _, op := range ops {
		if op.fetch != nil && !op.fetch.begun {
			s.endFetch(op.fetch)
		}
	}
}

// waitForFetch waits, since there is nothing to compute until a prefix has been read, until something has come.
func (e *Engine) waitForFetch(ctx context.Context) {
	if len(e.sched.fetches) == 0 {
		return
	}
	patience := fetchPatience
	for _, f := range e.sched.fetches {
		if left := time.Until(f.until); left > 0 {
			patience = min(patience, left)
		}
	}
	for q := range e.sched.queue.all() {
		if limit := e.patience(&q.req.Caller); limit > 0 && !q.begun {
			patience = min(patience, max(time.Until(q.req.arrived.Add(limit)), 0)+time.Millisecond)
		}
	}

	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-e.wake:
	case <-ctx.Done():
	case <-timer.C:
	}
}
