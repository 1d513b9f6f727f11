package audit

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"serve/egress"
)

// Syslog sends records to a collector, by RFC 5424 over TLS (RFC 5425). The log in the folder does not wait for it:
// what cannot be sent in time is counted, and the collector told how much it is.
type Syslog struct {
	address string
	net     egress.Net
	way     *egress.Way
	config  *tls.Config
	host    string
	onError func(error)

	queue   chan []byte
	closing chan struct{}
	stop    context.CancelFunc
	ended   sync.WaitGroup

	// Of the goroutine that sends.
	conn    net.Conn // nil for none
	failing bool

	mu      sync.Mutex
	dropped int
	sealed  time.Time // when a checkpoint was sent last
}

const (
	syslogQueue = 10_000 // messages that wait
	syslogDial  = 10 * time.Second
	syslogWrite = 10 * time.Second
	syslogRetry = time.Second
	// syslogRetryMost is how long it waits in the end between attempts: each connection is a record.
	syslogRetryMost = time.Minute
	syslogLast      = 5 * time.Second // for what waits at the end
	checkpointing   = time.Minute     // how often a checkpoint is sent

	// syslogPriority is facility 13, log audit, and severity 6, informational.
	syslogPriority = 13*8 + 6
	nilValue       = "-"
)

// NewSyslog sends to an address, host:port, once it is started. OnError is called when the connection fails, and with
// nil when there is one again. The caller closes it after the log.
func NewSyslog(address string, config *tls.Config, onError func(error)) (*Syslog, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	config = config.Clone()
	config.ServerName = host
	config.MinVersion = tls.VersionTLS12
	s := &Syslog{
		address: address,
		way:     egress.NewWay("syslog", "sends audit records").Allow("--audit-syslog", address),
		config:  config,
		host:    nilValue,
		onError: onError,
		queue:   make(chan []byte, syslogQueue),
		closing: make(chan struct{}),
		stop:    func() {},
	}
	if name, err := os.Hostname(); err == nil && isHeaderField(name, 255) {
		s.host = name
	}
	return s, nil
}

// Start connects to the collector. The observer is told of each connection before it is used, and of the first that
// fails until there is one again; nil for nobody. It may write to the log whose records are sent here: a record does
// not wait for the collector.
func (s *Syslog) Start(observe egress.Observer) {
	if observe != nil {
		s.net.Observer = func(ctx context.Context, c egress.Connection) error {
			if c.Err != nil && s.failing {
				return nil
			}
			return observe(ctx, c)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.ended.Go(func() { s.run(ctx) })
}

// isHeaderField reports whether a text can be a field of a message's header.
func isHeaderField(s string, most int) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return s != "" && len(s) <= most
}

// message returns a record as a message.
func (s *Syslog) message(at time.Time, id string, text []byte) []byte {
	if !isHeaderField(id, 32) {
		id = nilValue
	}
	return fmt.Appendf(nil, "<%d>1 %s %s serve %d %s - %s",
		syslogPriority, at.Format("2006-01-02T15:04:05.000000Z07:00"), s.host, os.Getpid(), id, text)
}

// Send is Options.Send of a log.
func (s *Syslog) Send(c Commit) {
	for _, line := range c.Lines {
		r, err := ParseRecord(line)
		if err != nil {
			continue
		}
		s.add(s.message(r.Time, string(r.Kind), line))
	}

	// A checkpoint that is kept elsewhere finds a log that was rolled back.
	s.mu.Lock()
	due := time.Since(s.sealed) >= checkpointing
	if due {
		s.sealed = time.Now()
	}
	s.mu.Unlock()
	if due {
		s.seal(c.Checkpoint)
	}
}

func (s *Syslog) seal(checkpoint string) {
	if text, err := json.Marshal(map[string]string{"checkpoint": checkpoint}); err == nil {
		s.add(s.message(now(), "checkpoint", text))
	}
}

func (s *Syslog) add(message []byte) {
	select {
	case s.queue <- message:
	default:
		s.mu.Lock()
		s.dropped++
		s.mu.Unlock()
	}
}

// Close sends what waits, for a few seconds at most.
func (s *Syslog) Close() {
	close(s.queue)
	close(s.closing)
	timer := time.AfterFunc(syslogLast, s.stop)
	defer timer.Stop()
	s.ended.Wait()
	s.stop()
}

// run sends what is queued, until there is nothing more or ctx is done.
func (s *Syslog) run(ctx context.Context) {
	defer s.hangUp()
	for message := range s.queue {
		if !s.deliver(ctx, message) {
			return
		}
	}
}

// deliver sends a message, again and again until the collector has it; it returns false when ctx is done.
func (s *Syslog) deliver(ctx context.Context, message []byte) bool {
	for wait := syslogRetry; ; wait = min(2*wait, syslogRetryMost) {
		err := s.send(ctx, message)
		if err == nil {
			if s.failing {
				s.failing = false
				s.onError(nil)
			}
			return true
		}
		s.hangUp()
		if !s.failing {
			s.failing = true
			s.onError(err)
		}

		closing := s.closing
		if wait <= syslogRetry {
			closing = nil // at the end it is tried every second
		}
		select {
		case <-ctx.Done():
			return false
		case <-closing:
			wait = syslogRetry / 2
		case <-time.After(wait):
		}
	}
}

// send sends a message once, on a new connection if there is none.
func (s *Syslog) send(ctx context.Context, message []byte) (err error) {
	if s.conn == nil {
		if s.conn, err = s.dial(ctx); err != nil {
			s.conn = nil
			return err
		}
	}
	return s.write(s.conn, message)
}

func (s *Syslog) hangUp() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

func (s *Syslog) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, syslogDial)
	defer cancel()
	conn, err := s.net.Dial(ctx, s.way, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, s.config)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// write writes a message with its length before it, and one that says how many could not be sent.
func (s *Syslog) write(conn net.Conn, message []byte) error {
	s.mu.Lock()
	dropped := s.dropped
	s.dropped = 0
	s.mu.Unlock()
	framed := frame(nil, message)
	if dropped > 0 {
		framed = frame(framed, s.message(now(), "dropped", fmt.Appendf(nil, `{"dropped":%d}`, dropped)))
	}
	_ = conn.SetWriteDeadline(time.Now().Add(syslogWrite))
	_, err := conn.Write(framed)
	return err
}

func frame(b, message []byte) []byte {
	b = strconv.AppendInt(b, int64(len(message)), 10)
	return append(append(b, ' '), message...)
}
