package server

import (
	"context"
	"encoding/base64"
	"strings"
	"sync"
	"time"

	"serve/access"
	"serve/audit"
	"serve/pool"
)

// restartsEvery is how often the server looks whether an engine was restarted, to record it.
const restartsEvery = time.Second

// watched is what is recorded that nobody has asked for.
type watched struct {
	sums sync.Map // *modelSum by *pool.Model
	work sync.WaitGroup
	ctx  context.Context // until the server is closed
	stop context.CancelFunc
}

// modelSum is the hash of a model's weights.
type modelSum struct {
	once sync.Once
	done chan struct{} // closed when it is known
	hex  string
}

// modelSum returns the SHA-256 of a model's weights; empty if it is not known until ctx is done. Once, the file may
// have to be read for that.
func (s *Server) modelSum(ctx context.Context, m *pool.Model) string {
	v, _ := s.watched.sums.LoadOrStore(m, &modelSum{done: make(chan struct{})})
	sum := v.(*modelSum)
	sum.once.Do(func() {
		s.watched.work.Go(func() {
			defer close(sum.done)
			if facts, e := s.service.Facts(s.watched.ctx, m); e == nil {
				sum.hex = facts.SHA256
			}
		})
	})
	select {
	case <-sum.done:
		return sum.hex
	case <-ctx.Done():
		return ""
	}
}

// watch records what happens to models and keys, until the server is closed.
func (s *Server) watch() {
	log := s.opts.Audit
	if log == nil {
		return
	}
	s.watched.ctx, s.watched.stop = context.WithCancel(context.Background())
	s.pool.Observe(func(c pool.Change) {
		s.watched.work.Go(func() { log.Note(s.modelEvent(c).Record()) })
	})
	if s.opts.Keys != nil {
		s.opts.Keys.OnChange(func(c access.Change) { log.Note(keyEvent(c)) })
	}
	s.watched.work.Go(s.watchRestarts)
}

// endWatch waits until what has happened is recorded.
func (s *Server) endWatch() {
	if s.opts.Audit != nil {
		s.watched.stop()
		s.watched.work.Wait()
	}
}

// modelEvent returns the event of a change.
func (s *Server) modelEvent(c pool.Change) audit.Event {
	e := audit.Event{Kind: audit.ModelLoaded, Object: c.Model.ID, Detail: map[string]string{}}
	switch c.Kind {
	case pool.Unloaded:
		e.Kind = audit.ModelUnloaded
	case pool.Failed:
		e.Kind = audit.EngineFailed
	}
	if c.Err != nil {
		e.Error = c.Err.Error()
	}
	if sum := s.modelSum(s.watched.ctx, c.Model); sum != "" {
		e.Detail["sha256"] = sum
	}
	return e
}

// keyEvent returns the record of a change of a key.
func keyEvent(c access.Change) *audit.Record {
	return &audit.Record{
		Kind:   audit.Kind("key." + string(c.Kind)),
		Object: c.ID,
		Detail: map[string]string{"name": c.Name, "tenant": c.Tenant},
	}
}

// watchRestarts records restarts of engines.
func (s *Server) watchRestarts() {
	ticker := time.NewTicker(restartsEvery)
	defer ticker.Stop()
	seen := map[*pool.Model]uint64{}
	for {
		for _, m := range s.service.All() {
			n := uint64(0)
			if e, ok := s.pool.Loaded(m); ok {
				n = e.Stats().Restarts
			}
			if n > seen[m] {
				s.opts.Audit.Note(&audit.Record{Kind: audit.EngineRestarted, Object: m.ID, Count: int64(n - seen[m])})
			}
			seen[m] = n // another engine counts from 0 on
		}
		select {
		case <-ticker.C:
		case <-s.watched.ctx.Done():
			return
		}
	}
}

// picture returns the digest of a picture's file, or of its address.
func (l *ledger) picture(url string) string {
	content := []byte(url)
	if _, data, ok := strings.Cut(url, ","); ok && strings.HasPrefix(url, "data:") {
		if file, err := base64.StdEncoding.DecodeString(data); err == nil {
			content = file
		}
	}
	d := audit.NewText(l.log.Digest(audit.OfPicture))
	_, _ = d.Write(content)
	return d.String()
}
