package pool

import "time"

// Forever is the time for Keep that never ends: the model is unloaded only when its memory is needed.
const Forever time.Duration = -1

// Keep sets how long a model stays in memory while it is not used, in place of the pool's keepAlive
// and until it is unloaded. A negative time is Forever. With 0 it is unloaded as soon as its last user
// has left, which is now if it has none. For a model that is not in memory Keep does nothing, so call it
// while holding a lease.
func (p *Pool) Keep(m *Model, d time.Duration) {
	p.mu.Lock()
	s := p.slot(m)
	if s.instance == nil {
		p.mu.Unlock()
		return
	}

	if d < 0 {
		d = Forever
	}
	s.keep = &d
	if s.users > 0 {
		p.mu.Unlock()
		return // release does the rest
	}
	p.schedule(s)
	p.mu.Unlock()
}

// Unload unloads a model now if nobody uses it, or else as soon as its last user has left. It reports
// whether the model was in memory.
func (p *Pool) Unload(m *Model) bool {
	_, loaded := p.Loaded(m)
	p.Keep(m, 0)
	return loaded
}

// Asleep reports whether a model is not in memory because nobody has used it for its lifetime. The next request loads
// it.
func (p *Pool) Asleep(m *Model) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slots[m]
	return s != nil && s.asleep
}

// Expires returns when a model in memory will be unloaded if it is not used until then. The time is
// zero if that is never. loaded is false for a model that is not in memory.
func (p *Pool) Expires(m *Model) (at time.Time, loaded bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slots[m]
	if s == nil || s.instance == nil {
		return time.Time{}, false
	}

	d, ever := p.lifetime(s)
	switch {
	case !ever:
		return time.Time{}, true
	case s.users > 0:
		return time.Now().Add(d), true
	}
	return s.used.Add(d), true
}

// lifetime returns after what time without use a slot's model is unloaded; ever is false for never. The
// caller holds the mutex.
func (p *Pool) lifetime(s *slot) (d time.Duration, ever bool) {
	if s.keep != nil {
		return *s.keep, *s.keep >= 0
	}
	return p.keepAlive, p.keepAlive > 0
}

// schedule sees to it that an unused model is unloaded in time. The caller holds the mutex.
func (p *Pool) schedule(s *slot) {
	if s.expiry != nil {
		s.expiry.Stop()
	}
	d, ever := p.lifetime(s)
	if !ever || s.instance == nil {
		return
	}
	s.expiry = time.AfterFunc(time.Until(s.used.Add(d)), func() { p.expire(s) })
}

// expire unloads a model that has not been used for its lifetime.
func (p *Pool) expire(s *slot) {
	p.mu.Lock()
	var in *Instance
	d, ever := p.lifetime(s)
	if ever && s.instance != nil && s.users == 0 && len(s.waiters) == 0 && time.Since(s.used) >= d {
		in = p.take(s)
		s.asleep = d > 0 // and was not told to go
	}
	p.mu.Unlock()
	if in != nil {
		p.log.Info("model unloaded", "model", s.model.ID, "unused", d)
		in.Stop()
	}
}
