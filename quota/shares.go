package quota

import (
	"sync"
	"time"
)

// remembered is how long what a client has had counts when it asks for nothing. It bounds how many clients are known.
const remembered = 10 * time.Second

// lead is how much less than the client that was served last a client begins with that comes anew: so its first calls
// come before those of all that have waited for a turn meanwhile.
const lead = 2 * Quantum

// Shares are fair shares of the workers' time by client, also of several Workers. The zero value is ready to use.
//
// It is start-time fair queueing (Goyal, Vin and Cheng, 1996) with a quantum: each client has a count of the time that
// it has had workers, the call that comes next is that of the client with the least, and a client that comes anew
// begins with a little less than the client that was served last. So it goes before everybody, and what it did not use
// earlier it cannot use now. The counts last as long as anybody computes or waits; that of a client which asks for
// nothing lasts as long as it is remembered.
type Shares struct {
	mu      sync.Mutex // also of all Workers that use the shares
	served  time.Duration
	calls   int // of all clients
	clients map[string]*usage
	kept    int // clients after the last look at who can be forgotten
}

// usage is a client's.
type usage struct {
	used    time.Duration
	calls   int       // that wait or compute
	working int       // calls that have a worker
	ended   time.Time // the last call
}

// count is what the client has had. A call that computes counts as a Quantum until it is known how long it takes, so
// that clients take turns.
func (u *usage) count() time.Duration { return u.used + time.Duration(u.working)*Quantum }

// enter counts a call of a client. The caller holds the mutex, as do those of the other methods.
func (s *Shares) enter(client string) *usage {
	if s.clients == nil {
		s.clients = map[string]*usage{}
	}
	own := s.clients[client]
	if own == nil {
		own = &usage{}
		s.clients[client] = own
	}
	if own.calls == 0 {
		own.used = max(own.used, s.served-lead)
	}
	own.calls++
	s.calls++
	return own
}

// leave is called when a call has ended.
func (s *Shares) leave(own *usage) {
	own.calls--
	own.ended = time.Now()
	s.calls--
	if s.calls == 0 {
		clear(s.clients)
		s.served = 0
		s.kept = 0
		return
	}
	if len(s.clients) > 2*s.kept+16 {
		s.forget()
	}
}

// forget drops the counts of clients that would begin with about the same, and of those that have not come for long.
func (s *Shares) forget() {
	for client, own := range s.clients {
		if own.calls == 0 && (own.used <= s.served+Quantum || time.Since(own.ended) > remembered) {
			delete(s.clients, client)
		}
	}
	s.kept = len(s.clients)
}
