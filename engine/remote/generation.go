package remote

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
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
	gone    chan struct{} // closed when it is known to be lost
	once    sync.Once

	watch   *time.Timer  // runs while a step is computed
	stalled atomic.Int64 // nanoseconds without an answer, after which it was killed
	wire    error        // what it sent that made no sense

	// Held by the loop while it waits for an answer, and until it has told what the child
	// died of.
	exchanging sync.Mutex
}

type pendingCall struct {
	name  string
	reply chan []byte
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

	reply, err := g.call("load", func(m *message) {
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
		if err != nil {
			err = &DiedError{exit, err}
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

// call asks the child and waits for its reply.
func (g *generation) call(name string, write func(*message)) ([]byte, error) {
	c := &pendingCall{name, make(chan []byte, 1)}
	g.mu.Lock()
	g.nextID++
	id := g.nextID
	g.pending[id] = c
	g.mu.Unlock()
	m := newMessage(nil)
	m.u32(id)
	write(&m)
	g.write.Lock()
	err := m.send(g.p.Calls)
	g.write.Unlock()
	if err != nil {
		g.lose(err)
	}

	select {
	case reply := <-c.reply:
		return reply, nil
	case <-g.gone:
	}

	select {
	case reply := <-c.reply: // it answered before it ended
		return reply, nil
	default:
		return nil, errLost
	}
}
