package host

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"serve/certs"
	"serve/certs/certstest"
	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// encrypted is a server with TLS in virtual time.
type encrypted struct {
	*front
	t         *testing.T
	listener  *servertest.Pipes
	authority *certstest.Authority
	now       time.Time // for certificates; virtual time begins in 2000
	cert      *certs.Certificate
	folder    string // of its files, server.pem and server-key.pem
}

// withTLS runs a test in virtual time against a server with TLS.
func withTLS(t *testing.T, o frontOptions, handler http.Handler, test func(t *testing.T, e *encrypted)) {
	t.Helper()
	ca := certstest.New(t, "CA")
	folder := t.TempDir()
	now := time.Now()
	cert, key := ca.Issue(certstest.Subject{}).Write(t, folder, "server")
	s, err := certs.Open(certs.Options{CertFile: cert, KeyFile: key, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}

	synctest.Test(t, func(t *testing.T) {
		o.TLS = s.Config()
		o.WriteStall = 2 * time.Minute
		e := &encrypted{newFront(t.Context(), handler, o), t, servertest.NewPipes(), ca, now, s, folder}
		served := make(chan error)
		go func() { served <- e.serve(e.listener) }()
		test(t, e)
		e.http.Close()
		<-served
		time.Sleep(time.Minute)
		synctest.Wait()
		if e.open.open != 0 || e.open.lingering != 0 {
			t.Errorf("after the end there are %d connections", e.open.open)
		}
	})
}

// dial connects, and speaks one of the protocols.
func (e *encrypted) dial(address string, protocols ...string) *tls.Conn {
	return tls.Client(e.listener.DialFrom(address), &tls.Config{
		RootCAs:    e.authority.Pool(),
		ServerName: "localhost",
		NextProtos: protocols,
		Time:       func() time.Time { return e.now },
	})
}

// client speaks HTTP/2 frame by frame.
type client struct {
	t      *testing.T
	conn   *tls.Conn
	framer *http2.Framer
	next   uint32           // stream
	events chan http2.Frame // those of streams, and GOAWAY; closed at the end

	mu    sync.Mutex        // guards what follows
	body  map[uint32]string // what has come
	ended map[uint32]string // "done", or the code of a reset
}

// http2Client connects with HTTP/2, and lets streams send as many bytes as their window has at first.
func (e *encrypted) http2Client(address string, window uint32) *client {
	e.t.Helper()
	conn := e.dial(address, "h2")
	if err := conn.Handshake(); err != nil {
		e.t.Fatal(err)
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
		e.t.Fatalf("the protocol is %q", got)
	}
	c := &client{
		t: e.t, conn: conn, framer: http2.NewFramer(conn, conn), next: 1,
		events: make(chan http2.Frame, 1<<16), body: map[uint32]string{}, ended: map[uint32]string{},
	}
	go c.read()
	io.WriteString(conn, http2.ClientPreface)
	c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	c.framer.WriteWindowUpdate(0, 1<<30)
	return c
}

// read reads frames until the connection ends.
func (c *client) read() {
	defer close(c.events)
	for {
		f, err := c.framer.ReadFrame()
		if err != nil {
			return
		}
		c.mu.Lock()
		switch f := f.(type) {
		case *http2.DataFrame:
			c.body[f.StreamID] += string(f.Data())
			if f.StreamEnded() {
				c.ended[f.StreamID] = "done"
			}
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				c.ended[f.StreamID] = "done"
			}
		case *http2.RSTStreamFrame:
			c.ended[f.StreamID] = f.ErrCode.String()
		case *http2.GoAwayFrame:
			c.ended[0] = f.ErrCode.String()
		}
		c.mu.Unlock()
	}
}

// said returns what has come of a stream's body.
func (c *client) said(stream uint32) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.body[stream]
}

// end returns how a stream has ended: "done", the code of a reset, or "" if it has not.
func (c *client) end(stream uint32) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended[stream]
}

// send begins a stream, with a body or without.
func (c *client) send(method, path, body string, ends bool, headers ...string) uint32 {
	stream := c.next
	c.next += 2
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	fields := append([]string{":method", method, ":scheme", "https", ":authority", "localhost", ":path", path}, headers...)
	for i := 0; i < len(fields); i += 2 {
		enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	first := block.Next(16 << 10)
	c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: first, EndHeaders: block.Len() == 0, EndStream: body == "" && ends,
	})
	for block.Len() > 0 {
		part := block.Next(16 << 10)
		c.framer.WriteContinuation(stream, block.Len() == 0, part)
	}
	if body != "" {
		c.framer.WriteData(stream, ends, []byte(body))
	}
	return stream
}

// closed reports whether the server has closed the connection.
func (c *client) closed() bool {
	synctest.Wait()
	select {
	case _, open := <-c.events:
		return !open
	default:
		return false
	}
}

// TestConnectionLimitsWithTLS counts connections from before their handshakes, and answers those beyond the limits so
// that clients understand.
func TestConnectionLimitsWithTLS(t *testing.T) {
	hold := make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			<-hold
		}
		io.WriteString(w, r.Proto)
	})
	limits := ConnectionLimits{All: 3, PerAddress: 2}
	withTLS(t, frontOptions{Limits: limits}, handler, func(t *testing.T, e *encrypted) {
		for range 2 { // their clients never shake hands
			defer e.listener.DialFrom("192.0.2.1").Close()
		}
		synctest.Wait()
		third := e.dial("192.0.2.1", "h2", "http/1.1")
		status, body := get(third, "/")
		if status != http.StatusTooManyRequests || !strings.Contains(body, "--max-client-connections") {
			t.Errorf("a third one of an address: %d %s", status, body)
		}
		third.Close()

		idle := e.http2Client("192.0.2.2", 1<<16)
		stream := idle.send("GET", "/", "", true)
		synctest.Wait()
		if idle.end(stream) != "done" || idle.said(stream) != "HTTP/2.0" {
			t.Errorf("another address: %q %q", idle.end(stream), idle.said(stream))
		}
		next := e.dial("192.0.2.3", "http/1.1")
		if status, body := get(next, "/"); status != 200 || body != "HTTP/1.1" || !idle.closed() {
			t.Errorf("in place of an idle one: %d %s", status, body)
		}
		next.Close()
		idle.conn.Close()

		time.Sleep(headerTimeout + time.Second)
		synctest.Wait()
		if e.open.open != 0 {
			t.Errorf("%d connections have not shaken hands, and are open", e.open.open)
		}
	})
}

// TestSlowHandshakes do not delay others.
func TestSlowHandshakes(t *testing.T) {
	withTLS(t, frontOptions{}, http.NotFoundHandler(), func(t *testing.T, e *encrypted) {
		begun := time.Now()
		for range 20 {
			c := e.listener.DialFrom("192.0.2.1")
			defer c.Close()
			go c.Write([]byte{22, 3, 1, 2, 0, 1}) // the beginning of a hello
		}
		c := e.dial("192.0.2.2", "http/1.1")
		if status, body := get(c, "/"); status != 404 || time.Since(begun) > time.Second {
			t.Errorf("got %d %s after %v", status, body, time.Since(begun))
		}
		c.Close()
		time.Sleep(headerTimeout + time.Second)
		synctest.Wait()
		if e.open.open != 0 {
			t.Errorf("%d connections are open", e.open.open)
		}
	})
}

// TestHTTP2Limits bounds what a client of HTTP/2 may do.
func TestHTTP2Limits(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		time.Sleep(time.Second) // what is canceled takes a moment to end
	})
	for _, tt := range []struct {
		name string
		do   func(c *client)
		want func(c *client) error
	}{
		{"many streams", func(c *client) {
			for range maxStreams + 50 {
				c.send("GET", "/", "", true)
			}
		}, func(c *client) error {
			c.mu.Lock()
			ended := maps.Clone(c.ended)
			c.mu.Unlock()
			refused := 0
			for _, end := range ended {
				if end == http2.ErrCodeRefusedStream.String() || end == http2.ErrCodeProtocol.String() {
					refused++
				}
			}
			if refused != 50 && ended[0] == "" {
				return fmt.Errorf("%d were refused: %v", refused, ended)
			}
			return nil
		}},
		{"streams that are reset at once", func(c *client) {
			for range 20 * maxStreams {
				if c.framer.WriteRSTStream(c.send("GET", "/", "", true), http2.ErrCodeCancel) != nil {
					return
				}
			}
		}, func(c *client) error {
			if !c.closed() && c.end(0) == "" {
				return errors.New("the connection goes on")
			}
			return nil
		}},
		{"a large header", func(c *client) {
			c.send("GET", "/", "", true, "x-large", strings.Repeat("x", 2*maxHeader))
		}, func(c *client) error {
			if c.end(1) == "" && !c.closed() {
				return errors.New("it was accepted")
			}
			return nil
		}},
		{"a header without an end", func(c *client) {
			c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
			for range 10_000 {
				if c.framer.WriteContinuation(1, false, bytes.Repeat([]byte{0x82}, 1<<10)) != nil {
					return
				}
			}
		}, func(c *client) error {
			if !c.closed() {
				return errors.New("the connection goes on")
			}
			return nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			withTLS(t, frontOptions{}, handler, func(t *testing.T, e *encrypted) {
				c := e.http2Client("192.0.2.1", 1<<16)
				tt.do(c)
				synctest.Wait()
				if err := tt.want(c); err != nil {
					t.Error(err)
				}
				c.conn.Close()
			})
		})
	}
}

// TestStalledStreams ends a stream whose client accepts nothing, and one whose body does not come; the others of its
// connection go on. A client that accepts nothing at all loses the connection.
func TestStalledStreams(t *testing.T) {
	const request = `{"model":"fake","max_tokens":200,"ignore_eos":true,"prompt":"p","stream":true}`
	var s *servertest.Server
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Handler().ServeHTTP(w, r) })
	withTLS(t, frontOptions{}, handler, func(t *testing.T, e *encrypted) {
		started, end := servertest.Unconnected(t, enginetest.Options{}, engine.Options{}, server.Options{})
		defer end()
		s = started

		c := e.http2Client("192.0.2.1", 64) // no stream may send more at first
		unread := c.send("POST", "/v1/completions", request, true)
		unsent := c.send("POST", "/v1/completions", request[:10], false)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if c.end(unread)+c.end(unsent) != "" {
			t.Fatalf("they ended at once: %q %q", c.end(unread), c.end(unsent))
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if c.end(unread) == "" || c.end(unread) == "done" {
			t.Errorf("the stream that nobody reads: %q", c.end(unread))
		}
		c.framer.WriteWindowUpdate(unsent, 1<<20)
		synctest.Wait()
		if !strings.Contains(c.said(unsent), "arrives too slowly") {
			t.Errorf("the request without its body: %q %q", c.said(unsent), c.end(unsent))
		}

		whole := c.send("POST", "/v1/completions", request, true)
		c.framer.WriteWindowUpdate(whole, 1<<20)
		time.Sleep(time.Second)
		synctest.Wait()
		if c.end(whole) != "done" || !strings.Contains(c.said(whole), "[DONE]") {
			t.Errorf("the next stream: %q", c.end(whole))
		}
		c.conn.Close()

		// A TLS connection whose end reads nothing more, not even that streams are reset.
		raw := e.dial("192.0.2.2", "h2")
		if err := raw.Handshake(); err != nil {
			t.Fatal(err)
		}
		io.WriteString(raw, http2.ClientPreface)
		dead := &client{t: t, conn: raw, framer: http2.NewFramer(raw, raw), next: 1}
		go func() {
			dead.framer.WriteSettings()
			dead.send("POST", "/v1/completions", request, true)
		}()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if e.open.open != 0 {
			t.Errorf("%d connections are open", e.open.open)
		}
		raw.NetConn().Close()
	})
}

// TestPlainHTTP tells a client without TLS what is missing.
func TestPlainHTTP(t *testing.T) {
	withTLS(t, frontOptions{}, http.NotFoundHandler(), func(t *testing.T, e *encrypted) {
		c := e.listener.DialFrom("192.0.2.1")
		go io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "HTTPS") {
			t.Errorf("got %d %s", res.StatusCode, body)
		}
		c.Close()
	})
}

// TestReloadUnderLoad exchanges the certificate while clients come and go, and while one stays: each is answered.
func TestReloadUnderLoad(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "served") })
	withTLS(t, frontOptions{}, handler, func(t *testing.T, e *encrypted) {
		ctx, stop := context.WithCancel(t.Context())
		changes := 0
		var watching sync.WaitGroup
		watching.Go(func() { e.cert.Watch(ctx, func() { changes++ }) })
		before := e.cert.Fingerprint()

		var clients sync.WaitGroup
		var mu sync.Mutex
		seen := map[string]int{}
		for i := range 8 {
			clients.Go(func() {
				for range 100 {
					time.Sleep(time.Duration(100+i) * time.Millisecond)
					c := e.dial("192.0.2.1", "http/1.1")
					status, body := get(c, "/")
					mu.Lock()
					if status != 200 {
						t.Errorf("lost: %d %s", status, body)
					} else {
						seen[certs.Fingerprint(c.ConnectionState().PeerCertificates[0])]++
					}
					mu.Unlock()
					c.Close()
				}
			})
		}
		stays := e.http2Client("192.0.2.2", 1<<16)
		first := stays.send("GET", "/", "", true)
		time.Sleep(time.Second)
		subject := certstest.Subject{Begin: e.now.Add(-time.Hour), End: e.now.Add(time.Hour)}
		e.authority.Issue(subject).Write(t, e.folder, "server")
		clients.Wait()
		last := stays.send("GET", "/", "", true)
		synctest.Wait()
		if stays.end(first) != "done" || stays.end(last) != "done" {
			t.Errorf("the connection that stays: %q %q", stays.end(first), stays.end(last))
		}
		stays.conn.Close()
		stop()
		watching.Wait()
		if changes != 1 || len(seen) != 2 || seen[before] == 0 || seen[e.cert.Fingerprint()] == 0 {
			t.Errorf("%d changes, certificates %v", changes, seen)
		}
	})
}
