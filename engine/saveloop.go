package engine

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// wait waits until something has come, or ctx is done. When nothing comes for a while, it saves what a slot keeps: then
// no stream waits for that, and it survives the runner.
func (e *Engine) wait(ctx context.Context) {
	var quiet <-chan time.Time
	slot := e.sched.unsaved()
	if slot >= 0 {
		timer := time.NewTimer(e.opts.SaveAfter)
		defer timer.Stop()
		quiet = timer.C
	}

	select {
	case <-e.wake:
	case <-ctx.Done():
	case <-quiet:
		e.sched.planSave(slot)
		e.changeKV(&e.sched.step)
		e.prepare()
	}
}

// growth is by which part of the last prefix that was saved the next one may be longer: conversations grow.
const growth = 8

// prepare has the next hole ready for a prefix as large as the last that was saved, and a bit more. It comes after a
// step: what it does meanwhile would take the processor from one that restores.
func (e *Engine) prepare() {
	c := &e.sched.saving
	if c.unready == 0 {
		return
	}
	if next := c.next(c.unready); next.Size > 0 {
		e.runner.Prepare(next)
		c.ready = next
	}
	c.unready = 0
}

// save saves what a slot holds. If that fails, it is lost when the slot is given to another sequence.
func (e *Engine) save(slot int, p *prefix) {
	c := &e.sched.saving
	began := time.Now()
	ready, reason := e.trySave(slot, p, c.estimate(p))
	took := time.Since(began)

	done := Transfers{Failed: 1}
	if reason == "" {
		e.discard(e.sched.savedAs(p, took, ready))
		done = transferred(p, took)
		c.unready = p.saved.Size + p.saved.Size/growth
		e.put(p)
	} else {
		e.sched.loseTokens(p.tokens, p.scope, ReuseDropped)
		c.skip(reason)
	}

	e.mu.Lock()
	defer e.mu.Unlock()
	e.stats.Saved.add(done)
}

// transferred counts a prefix that was saved or restored.
func transferred(p *prefix, took time.Duration) Transfers {
	return Transfers{Count: 1, Tokens: uint64(len(p.tokens)), Bytes: uint64(p.saved.Size), Seconds: took.Seconds()}
}

// trySave saves to a region of so many bytes, and to one that is large enough if that is not. It returns whether the
// memory was ready, or why it could not.
func (e *Engine) trySave(slot int, p *prefix, bytes int64) (ready bool, failed Skip) {
	c := &e.sched.saving
	for range 2 {
		at, gone, ok := c.reserve(p, bytes, e.sched.tick)
		if !ok {
			return false, SkipMemory
		}
		for _, old := range gone {
			if !c.replaces(p, old) {
				e.sched.loseTokens(old.tokens, old.scope, ReuseDropped)
			}
		}
		e.discardBut(gone, at)

		saved, err := e.runner.Save(slot, at)
		if err != nil {
			e.runner.Discard(at, Region{})
			slog.Debug("a sequence could not be saved", "error", err)
			return false, SkipFailed
		}
		if saved.Size <= at.Size {
			p.saved = saved
			return c.isReady(saved.Region, gone), ""
		}
		e.runner.Discard(at, Region{})
		bytes = saved.Size
	}
	return false, SkipFailed
}

// isReady reports whether a region needed no fresh memory: it was made ready, or held what has just made room.
func (c *saving) isReady(at Region, gone []*prefix) bool {
	fresh := at.Without(c.ready)
	for _, p := range gone {
		var left []Region
		for _, part := range fresh {
			left = append(left, part.Without(Region{At: p.saved.At, Size: p.held()})...)
		}
		fresh = left
	}
	return len(fresh) == 0
}

// restore makes a slot hold a saved prefix. If that fails, it is never used again. It reports false if the step must be
// planned again.
func (e *Engine) restore(slot int, p *prefix) bool {
	began := time.Now()
	err := e.runner.Restore(slot, p.saved)
	took := time.Since(began)
	if err == nil {
		e.sched.saving.restore.add(took, len(p.tokens))
		e.mu.Lock()
		defer e.mu.Unlock()
		e.stats.Restored.add(transferred(p, took))
		return true
	}

	if errors.Is(err, ErrRestarted) {
		return true // as the next step will say; what was saved is still there
	}
	slog.Warn("a saved sequence could not be restored; it is computed again", "tokens", len(p.tokens), "error", err)
	e.sched.saving.drop(p)
	e.discard([]*prefix{p})
	e.mu.Lock()
	e.stats.Restored.add(Transfers{Failed: 1})
	e.mu.Unlock()
	if q := e.sched.slots[slot].owner; q != nil && len(q.tokens) == q.prompt {
		q.cached = 0
		q.reuse = ReuseFailed
	}
	// The next step says what became of the cells if the runner's process has ended.
	return errors.Is(err, ErrCrashed)
}

// discard gives the memory of prefixes back that are not in the index any more.
func (e *Engine) discard(gone []*prefix) { e.discardBut(gone, Region{}) }

// discardBut does the same, but for a region that is about to be written.
func (e *Engine) discardBut(gone []*prefix, kept Region) {
	for _, p := range gone {
		e.runner.Discard(Region{At: p.saved.At, Size: p.held()}, kept)
	}
}

// crashed notes that the runner has lost all its cells, perhaps because of one of them. What was saved may have been
// the cause.
func (e *Engine) crashed() {
	e.discard(e.sched.saving.dropAll(func(*prefix) bool { return true }))
	if e.sched.folder != nil {
		e.sched.folder.Clear()
	}
	e.restarted()
}

// present returns how the index is just now.
func (c *saving) present() PrefixCache {
	return PrefixCache{Size: c.size, Used: c.used, Entries: len(c.list), Tokens: c.held}
}
