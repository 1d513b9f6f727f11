package engine

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Stream is the answer to a request as it is generated. One goroutine reads it;
// the loop writes it and never waits for the reader.
type Stream struct {
	req *request

	mu    sync.Mutex
	times Timeline
	queue []Event         // what came since the last Next
	text  strings.Builder // of the queue's last event, while more may join it
	err   error           // after the queue: nil while the answer goes on
	done  bool
	ready chan struct{} // holds one token when there may be something to read

	spare []Event // the queue that the last Next gave out

	parses  bool           // otherwise the text is the content
	parsing sync.Mutex     // held while events are parsed
	parsers []answerParser // of the choices, until they are closed
	closed  atomic.Bool    // the parsers are to be closed, by the first who gets hold of them
}

// Timeline is how a request came along. Times are zero while they lie ahead.
type Timeline struct {
	Position int           // requests of its tenant in the queue that were before it when it came
	Expected time.Duration // that it was then expected to wait, 0 if nothing was known
	Arrived  time.Time
	Begun    time.Time // its first sequence got a place in the batch
	First    time.Time // its first token was drawn
	Ended    time.Time
	Finishes []Finish // why the choices ended that were finished, as they did
	Err      error    // that ended the request
}

// Waited returns how long the request was, or has been, in the queue.
func (t Timeline) Waited() time.Duration {
	if t.Begun.IsZero() {
		return time.Since(t.Arrived)
	}
	return t.Begun.Sub(t.Arrived)
}

func newStream(req *request, parsers []answerParser) *Stream {
	return &Stream{req: req, ready: make(chan struct{}, 1), parses: parsers != nil, parsers: parsers}
}

// Reproducible reports whether the answer depends on nothing but its request, whoever asked for that.
func (s *Stream) Reproducible() bool { return s.req.Reproducible }

// Seed is what the first choice is drawn with, the next one with the number after it, and so on.
func (s *Stream) Seed() uint32 { return s.req.Sampling.Seed }

// Next waits for what came since the last call and returns it: at most one
// event a choice in a row, so that a slow reader gets few and long ones. The
// events are valid until the next call. It returns nil, nil at the end of the
// answer, and the error that ended it otherwise.
func (s *Stream) Next(ctx context.Context) ([]Event, error) {
	for {
		events, done, err := s.Poll()
		if len(events) > 0 || done {
			return events, err
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			s.Close()
			return nil, context.Cause(ctx)
		}
	}
}

// Ready returns a channel that gives a value when Poll may have something new.
func (s *Stream) Ready() <-chan struct{} { return s.ready }

// Poll is Next for a reader that waits for other things too: it returns at once,
// with done set when there is nothing left to read.
func (s *Stream) Poll() (events []Event, done bool, err error) {
	events, done, err = s.read()
	if s.parses {
		events = s.parse(events)
	}
	if done {
		s.closeParsers()
	}
	return events, done, err
}

// read takes the queue.
func (s *Stream) read() ([]Event, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return nil, s.done, s.err
	}
	s.seal()
	events := s.queue
	s.queue = s.spare[:0]
	s.spare = events
	return events, false, nil
}

// Close ends the request if it has not ended: its sequences leave the batch at
// the next step. It may be called by any goroutine, more than once.
func (s *Stream) Close() {
	s.req.cancel()
	s.closeParsers()
}

// Usage counts the tokens so far. Call it after Next returned nil.
func (s *Stream) Usage() Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.req.usage
}

// Timeline returns how the request has come along so far.
func (s *Stream) Timeline() Timeline {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.times
	t.Finishes = slices.Clone(t.Finishes)
	t.Err = s.err
	t.Position = s.req.entry.position
	t.Expected = s.req.entry.expected
	t.Arrived = s.req.arrived
	return t
}

// begin notes that a sequence got a place in the batch.
func (s *Stream) begin(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.times.Begun.IsZero() {
		s.times.Begun = now
	}
}

// drawn notes that a token of a sequence was drawn.
func (s *Stream) drawn(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.req.usage.Completion++
	if s.times.First.IsZero() {
		s.times.First = now
	}
}

// seal gives the queue's last event the text that joined it. The lock is held.
func (s *Stream) seal() {
	if n := len(s.queue); n > 0 && s.text.Len() > 0 {
		s.queue[n-1].Text = s.text.String()
		s.text.Reset()
	}
}

// push adds what came of a choice; text is copied, tokens are not.
func (s *Stream) push(choice int, text []byte, tokens []TokenInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(choice, text, tokens)
	s.wake()
}

// pushLast is push for the last that comes of a choice, with why it ended, and the stop string that
// ended it, if one did.
func (s *Stream) pushLast(choice int, text []byte, tokens []TokenInfo, finish Finish, stop string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.add(choice, text, tokens)
	last.Finish = finish
	last.Stop = stop
	s.times.Finishes = append(s.times.Finishes, finish)
	s.wake()
}

// add puts what came of a choice into the queue's last event, or a new one. The lock is held.
func (s *Stream) add(choice int, text []byte, tokens []TokenInfo) *Event {
	n := len(s.queue)
	if n == 0 || s.queue[n-1].Choice != choice {
		s.seal()
		s.queue = append(s.queue, Event{Choice: choice})
		n++
	}
	last := &s.queue[n-1]
	s.text.Write(text)
	last.Tokens = append(last.Tokens, tokens...)
	return last
}

// pushPrompt adds the log-probability of a prompt's token, before anything of choice 0.
func (s *Stream) pushPrompt(token TokenInfo) {
	s.mu.Lock()
	n := len(s.queue)
	if n == 0 || s.queue[n-1].Choice != 0 || s.queue[n-1].Finish != "" {
		s.seal()
		s.queue = append(s.queue, Event{})
		n++
	}
	s.queue[n-1].Prompt = append(s.queue[n-1].Prompt, token)
	s.mu.Unlock()
	s.wake()
}

// end closes the stream; err is nil when the answer is complete.
func (s *Stream) end(err error) {
	s.mu.Lock()
	s.done = true
	s.err = err
	s.times.Ended = time.Now()
	s.mu.Unlock()
	s.wake()
}

func (s *Stream) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}
