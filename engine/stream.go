package engine

import (
	"context"
	"slices"
	"strings"
	"sync"
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

	spare   []Event // the queue that the last Next gave out
	parsers []answerParser
}

// Timeline is how a request came along. Times are zero while they lie ahead.
type Timeline struct {
	Position int           // requests in the queue that were before it when it came
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

func newStream(req *request, choices int) *Stream {
	s := &Stream{req: req, ready: make(chan struct{}, 1)}
	if req.parse != nil {
		s.parsers = make([]answerParser, choices)
	}
	return s
}

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
	return s.parse(events), done, err
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
	s.queue, s.spare = s.spare[:0], events
	return events, false, nil
}

// Close ends the request if it has not ended: its sequences leave the batch at
// the next step. It may be called by any goroutine, more than once.
func (s *Stream) Close() { s.req.cancel() }

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
	t.Finishes, t.Err = slices.Clone(t.Finishes), s.err
	t.Position, t.Expected, t.Arrived = s.req.place.position, s.req.place.expected, s.req.arrived
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

// drawn notes that a sequence's first token was drawn.
func (s *Stream) drawn(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
	s.done, s.err = true, err
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

// parse turns the text of events into content, reasoning and tool calls, on the
// reader's goroutine. Events that say nothing new disappear.
func (s *Stream) parse(events []Event) []Event {
	if s.parsers == nil {
		return events
	}
	kept := events[:0]
	for _, e := range events {
		s.parsers[e.Choice].parse(s.req.parse, &e)
		if e.Text != "" || e.Reasoning != "" || len(e.ToolCalls) > 0 || len(e.Tokens) > 0 || e.Finish != "" {
			kept = append(kept, e)
		}
	}
	return kept
}

// answerParser keeps what a choice said and what of it was passed on.
type answerParser struct {
	raw  strings.Builder
	sent Message
}

// parse replaces an event's raw text by what is new in the parsed message.
func (p *answerParser) parse(parse ParseFunc, e *Event) {
	p.raw.WriteString(e.Text)
	e.Text = ""
	message, err := parse(p.raw.String(), e.Finish == "")
	if err != nil {
		if e.Finish == "" {
			return // it may parse when more has come
		}
		// The model broke its own format. What it said is not lost: the part that
		// was not passed on goes out as plain text.
		raw := p.raw.String()
		message = p.sent
		message.Content += strings.TrimPrefix(raw, p.sent.Content)
	}
	e.Text = fresh(p.sent.Content, message.Content)
	e.Reasoning = fresh(p.sent.Reasoning, message.Reasoning)
	for i, call := range message.ToolCalls {
		var sent ToolCall
		if i < len(p.sent.ToolCalls) {
			sent = p.sent.ToolCalls[i]
		}
		d := ToolCallDelta{Index: i, Arguments: fresh(sent.Arguments, call.Arguments)}
		if sent.Name == "" {
			d.ID, d.Name = call.ID, call.Name
		}
		if d.Name != "" || d.Arguments != "" {
			e.ToolCalls = append(e.ToolCalls, d)
		}
	}
	// A shorter parse (markup that turned out to be begun) takes nothing back.
	if e.Text != "" || p.sent.Content == "" {
		p.sent.Content = message.Content
	}
	if e.Reasoning != "" || p.sent.Reasoning == "" {
		p.sent.Reasoning = message.Reasoning
	}
	if len(message.ToolCalls) >= len(p.sent.ToolCalls) {
		p.sent.ToolCalls = message.ToolCalls
	}
}

// fresh returns what follows sent in now, and nothing while now is no longer.
func fresh(sent, now string) string {
	if len(now) <= len(sent) || !strings.HasPrefix(now, sent) {
		return ""
	}
	return now[len(sent):]
}
