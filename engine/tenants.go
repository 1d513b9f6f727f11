package engine

import (
	"slices"
)

// scope is what a prefix belongs to besides its tokens. Only requests of one scope share cells, so that no request can
// tell by its time, or by the tokens that it did not have to compute, what those of others have asked.
type scope struct {
	tenant string // Caller.Tenant
	salt   string // Request.CacheSalt
	// reproducible is Caller.Reproducible: cells that were computed otherwise have other bits.
	reproducible bool
}

func (r *Request) scope() scope { return scope{r.Tenant, r.CacheSalt, r.Reproducible} }

// greediest returns, of slots that keep cells, those of the tenants that hold the most of the KV cache: cells where
// sequences share a buffer, and buffers where they do not. So no tenant loses what it keeps to one that has more.
// What a sequence is about to take counts as its tenant's; it may be nil.
func (s *scheduler) greediest(kept []int, q *sequence) []int {
	others := func(i int) bool { return s.slots[i].scope.tenant != s.slots[kept[0]].scope.tenant }
	if !slices.ContainsFunc(kept, others) {
		return kept
	}

	held := map[string]int{}
	for i := range s.slots {
		if tokens := s.slots[i].tokens(); len(tokens) > 0 || s.slots[i].owner != nil {
			held[s.slots[i].within().tenant] += s.worth(len(tokens))
		}
	}
	if q != nil {
		held[q.req.Tenant] += s.worth(len(q.tokens))
	}

	most := 0
	for _, i := range kept {
		most = max(most, held[s.slots[i].scope.tenant])
	}
	return slices.DeleteFunc(slices.Clone(kept), func(i int) bool { return held[s.slots[i].scope.tenant] < most })
}

// worth returns what a slot with so many tokens takes of the KV cache.
func (s *scheduler) worth(tokens int) int {
	if s.limits.Shared {
		return tokens
	}
	return 1
}

// forget drops what a tenant has left, and has nothing kept of what it still runs or waits for. The caller discards
// what was saved, which it returns.
func (s *scheduler) forget(tenant string) (gone []*prefix) {
	for i := range s.slots {
		if sl := &s.slots[i]; sl.owner == nil && sl.scope.tenant == tenant && len(sl.kept) > 0 {
			s.cut(i, 0)
		}
	}
	s.lost = slices.DeleteFunc(s.lost, func(l lostPrompt) bool { return l.scope.tenant == tenant })

	for _, q := range s.running {
		q.req.forgotten = q.req.forgotten || q.req.Tenant == tenant
	}
	for q := range s.queue.all() {
		q.req.forgotten = q.req.forgotten || q.req.Tenant == tenant
	}
	return s.forgetSaved(tenant)
}

// Forget drops what requests of a tenant have left in the engine, cells and images, and what those that have not ended
// will leave. It returns at once: the loop drops the cells before its next step.
func (e *Engine) Forget(tenant string) {
	e.images.forget(tenant)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forgotten = append(e.forgotten, tenant)
	e.signal()
}
