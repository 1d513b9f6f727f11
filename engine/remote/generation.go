package remote

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"serve/engine"
)

// Child is a child that has been started.
type Child struct {
	Conn
	ID int // as the system knows it, 0 if it does not
	// Kill ends it at once. With dump it is first asked to tell what it does.
	Kill func(dump bool)
	// Wait returns when it has ended.
	Wait func() ChildExit
}

// ChildExit says how a child ended.
type ChildExit struct {
	How    string   // in words
	Fault  bool     // by itself: a signal that a fault raises, or an exit code
	Paused bool     // it had been stopped from outside, when it was killed
	Log    []string // the last lines that it wrote, up to a crash's message
	Stacks []string // the first lines after that
}

// DiedError says that a child ended before it had loaded.
type DiedError struct {
	Exit ChildExit
	Err  error // what was noticed of it
}

// Error gives the end and the last lines of the child.
func (e *DiedError) Error() string {
	return fmt.Sprintf("%v: %s%s", e.Err, e.Exit.How, lastLines(e.Exit.Log))
}

// Unwrap gives what was noticed.
func (e *DiedError) Unwrap() error { return e.Err }

// errLost says that the child has gone.
var errLost = errors.New("the engine's process is gone")

// errNotSent says that the child had gone before it was asked: what was asked has done it no harm.
var errNotSent = fmt.Errorf("%w: it was not asked", errLost)

// generation is one child.
type generation struct {
	number int
	p      *Child
	began  time.Time
	steps  *bufio.Reader

	write   sync.Mutex // of the socket of calls
	mu      sync.Mutex
	nextID  uint32
	pending map[uint32]*pendingCall
	retired bool          // no new calls come, and it ends when nobody waits for a reply
	gone    chan struct{} // closed when it is known to be lost
	once    sync.Once
	closing sync.Once

	// replace has another child take the calls to come, for a reason in words. This one ends when those under way have.
	replace func(why string)

	watch   *time.Timer  // runs while a step is computed
	stalled atomic.Int64 // nanoseconds without an answer, after which it was killed
	wire    error        // what it sent that made no sense
	judging sync.Once
	fault   Fault // what its end says of its device; set by judge

	// Held by the loop while it waits for an answer, and until it has told what the child
	// died of.
	exchanging sync.Mutex
}

type pendingCall struct {
	name      string
	reply     chan []byte
	abandoned bool // nobody waits for the reply
}

// spawn starts a child and waits until it has loaded. Without room for the model it
// returns its answer and nothing else.
func (r *Runner) spawn(ctx context.Context, number int) (*generation, []byte, *facts, error) {
	p, err := r.o.Spawn()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("start the engine's process: %w", err)
	}

	g := &generation{number: number, p: p, began: time.Now(), steps: bufio.NewReaderSize(p.Steps, 64<<10),
		pending: map[uint32]*pendingCall{}, gone: make(chan struct{})}
	g.replace = func(why string) { r.replace(g, why) }
	g.watch = time.AfterFunc(time.Hour, func() { g.stall(r.o.Stall) })
	g.watch.Stop()
	unhook := context.AfterFunc(ctx, func() { p.Kill(false) })
	defer unhook()
	go g.readCalls()
	var request []byte
	if r.o.Request != nil {
		request = r.o.Request()
	}
	if limit := r.loadLimit(number); limit > 0 {
		watch := time.AfterFunc(limit, func() { g.stall(limit) })
		defer watch.Stop()
	}

	reply, err := g.call(context.Background(), "load", 0, func(m *message) {
		m.u8(askLoad)
		m.bytes(request)
	})

	var answer []byte
	var known *facts
	if err == nil {
		in := reader{b: reply}
		err = in.failure()
		answer = bytes.Clone(in.bytes())
		described := in.bytes()
		err = errors.Join(err, in.end())
		if err == nil && len(described) > 0 {
			known, err = decodeFacts(described)
			if err == nil {
				err = r.o.check(known)
			}
		}
	}
	if err != nil || known == nil {
		p.Kill(false)
		exit := p.Wait()
		p.close()
		if ctx.Err() != nil {
			return nil, nil, nil, context.Cause(ctx)
		}
		fault := r.o.Fault(exit) // so that the next one can take less
		if err != nil {
			err = &DiedError{exit, err}
			if number > 1 && fault.Kind != NoFault {
				err = fmt.Errorf("%w: %w", err, fault.Err)
			}
		}
		return nil, answer, nil, err
	}
	return g, answer, known, nil
}

func lastLines(log []string) string {
	text := ""
	for _, line := range log[max(0, len(log)-5):] {
		text += "\n  " + line
	}
	return text
}

func (p *Child) close() {
	p.Steps.Close()
	p.Calls.Close()
}

// close closes the sockets of a child that has ended.
func (g *generation) close() { g.closing.Do(g.p.close) }

// discard ends a child.
func (g *generation) discard() {
	g.lose(errLost)
	g.p.Wait()
	g.close()
}

// readCalls hands out replies until the connection ends.
func (g *generation) readCalls() {
	in := bufio.NewReaderSize(g.p.Calls, 64<<10)
	for {
		frame, err := receive(in, nil)
		r := reader{b: frame}
		id := r.u32()
		if err == nil {
			err = r.err
		}
		if err != nil {
			g.lose(err)
			return
		}

		g.mu.Lock()
		call := g.pending[id]
		delete(g.pending, id)
		g.mu.Unlock()
		if call == nil {
			g.lose(fmt.Errorf("%w: an unexpected reply", errWire))
			return
		}
		call.reply <- r.b
		g.endIfRetired()
	}
}

// lose marks the child as lost, and makes sure of it.
func (g *generation) lose(err error) {
	g.once.Do(func() {
		if errors.Is(err, errWire) {
			g.wire = err
		}
		close(g.gone)
		g.p.Kill(false)
	})
}

// stall ends a child that has not answered for so long.
func (g *generation) stall(d time.Duration) {
	g.stalled.Store(int64(d))
	g.p.Kill(true)
}

// call asks the child and waits for its reply. With a limit, the call may take so much CPU time, and as much again for
// each MiB that is sent; 0 is no limit. Without a reply the error is errLost, which is errNotSent if
// the child cannot have read the whole question.
func (g *generation) call(ctx context.Context, name string, limit time.Duration, write func(*message)) ([]byte, error) {
	if g.isGone() {
		return nil, errNotSent
	}

	c := &pendingCall{name: name, reply: make(chan []byte, 1)}
	g.mu.Lock()
	g.nextID++
	id := g.nextID
	g.pending[id] = c
	g.mu.Unlock()
	m := newMessage(nil)
	m.u32(id)
	m.u64(0)
	m.bool(engine.IsLate(ctx))
	write(&m)
	if limit > 0 {
		limit += time.Duration(float64(limit) * float64(len(m.b)) / (1 << 20))
		binary.LittleEndian.PutUint64(m.b[8:], uint64(limit))
	}
	sent, err := g.send(ctx, &m)
	if !sent {
		g.mu.Lock()
		delete(g.pending, id)
		g.mu.Unlock()
		g.endIfRetired()
		return nil, err
	}
	if err != nil {
		g.lose(err)
		return nil, errNotSent
	}

	select {
	case reply := <-c.reply:
		return reply, nil
	case <-ctx.Done():
		g.abandon(id)
		return nil, context.Cause(ctx)
	case <-g.gone:
	}

	select {
	case reply := <-c.reply: // it answered before it ended
		return reply, nil
	default:
		return nil, errLost
	}
}

// send writes a message once those before it are written. It is not sent if ctx has ended by then, or if it is too
// large.
func (g *generation) send(ctx context.Context, m *message) (sent bool, err error) {
	g.write.Lock()
	defer g.write.Unlock()
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	err = m.send(g.p.Calls)
	return !errors.Is(err, engine.ErrRequest), err
}

// isGone reports whether the child is known to be lost.
func (g *generation) isGone() bool {
	select {
	case <-g.gone:
		return true
	default:
		return false
	}
}

// answers asks the child for nothing, and reports whether it replied: then whatever ends it from now on
// came after.
func (g *generation) answers() bool {
	_, err := g.call(context.Background(), "ping", 0, func(m *message) { m.u8(askNothing) })
	return err == nil
}

// graceOfAbandoned is how long a call that nobody waits for may go on. Most end sooner, and C++ cannot be interrupted.
const graceOfAbandoned = 100 * time.Millisecond

// abandon gives up a call. If it does not end soon, the child does.
func (g *generation) abandon(id uint32) {
	g.mu.Lock()
	c := g.pending[id]
	if c != nil {
		c.abandoned = true
	}
	g.mu.Unlock()
	if c == nil {
		return
	}

	g.endIfRetired()
	time.AfterFunc(graceOfAbandoned, func() {
		g.mu.Lock()
		_, runs := g.pending[id]
		g.mu.Unlock()
		if runs {
			g.replace("a call that nobody waits for")
		}
	})
}

// endIfRetired ends a child that gets no new calls, once nobody waits for a reply.
func (g *generation) endIfRetired() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.retired {
		return
	}
	for _, c := range g.pending {
		if !c.abandoned {
			return
		}
	}
	go g.lose(errLost)
}
