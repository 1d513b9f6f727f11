package server_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// inVirtualTime runs a test in virtual time, with a server that listens on pipes.
func inVirtualTime(t *testing.T, fo enginetest.Options, test func(t *testing.T, dial func() net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, end := servertest.Unconnected(t, fo, engine.Options{}, server.Options{})
		defer end()
		listener := servertest.NewPipes()
		h := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: time.Second}
		served := make(chan error)
		go func() { served <- h.Serve(listener) }()
		test(t, listener.Dial)
		h.Close()
		<-served
		time.Sleep(time.Second) // net/http closes a connection that it has ended half a second later
	})
}

const (
	postHead = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
	someBody = `{"model":"fake","max_tokens":1,"prompt":"`
)

// drip sends the body's text in pieces, one each time that the duration has passed, until all is sent or an
// answer has come.
func drip(t *testing.T, c net.Conn, pieces int, piece string, every time.Duration) (status int, took time.Duration) {
	t.Helper()
	begun := time.Now()
	answered := make(chan int)
	go func() {
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			answered <- 0
			return
		}
		answered <- res.StatusCode
	}()

	io.WriteString(c, postHead+someBody)
	for range pieces {
		if _, err := io.WriteString(c, piece); err != nil {
			break
		}
		select {
		case status := <-answered:
			return status, time.Since(begun)
		case <-time.After(every):
		}
	}
	io.WriteString(c, strings.Repeat("x", max(0, 1_000_000-len(someBody)-pieces*len(piece)-2))+`"}`)
	return <-answered, time.Since(begun)
}

// TestDrippingBodies ends with the patience for a client that sends a byte now and then. One whose network is
// slow takes as long as it needs, and may pause.
func TestDrippingBodies(t *testing.T) {
	for _, tt := range []struct {
		name   string
		pieces int
		piece  string
		every  time.Duration
		status int
	}{
		{"a byte every second", 1 << 20, "x", time.Second, http.StatusRequestTimeout},
		{"a byte just before the deadline", 1 << 20, "x", 29 * time.Second, http.StatusRequestTimeout},
		{"2 KiB every second", 400, strings.Repeat("x", 2<<10), time.Second, http.StatusBadRequest}, // it is too long
		{"a pause every 64 KiB", 10, strings.Repeat("x", 64<<10), 25 * time.Second, http.StatusBadRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inVirtualTime(t, enginetest.Options{}, func(t *testing.T, dial func() net.Conn) {
				c := dial()
				defer c.Close()
				status, took := drip(t, c, tt.pieces, tt.piece, tt.every)
				if status != tt.status || status == http.StatusRequestTimeout && took > time.Minute {
					t.Errorf("got %d after %v, want %d", status, took, tt.status)
				}
			})
		})
	}
}

// TestUnsentBodyOfAnEndpointWithoutOne ends the connection of a client that announces a body that nobody
// reads, and does not send it.
func TestUnsentBodyOfAnEndpointWithoutOne(t *testing.T) {
	inVirtualTime(t, enginetest.Options{}, func(t *testing.T, dial func() net.Conn) {
		c := dial()
		defer c.Close()
		begun := time.Now()
		io.WriteString(c, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
		if _, err := io.Copy(io.Discard, c); err != nil || time.Since(begun) > time.Minute {
			t.Errorf("the connection ended after %v: %v", time.Since(begun), err)
		}
	})
}

// TestUnreadAnswers ends the connection of a client that reads nothing of its answer, streamed or not. One
// that reads slowly gets all of it.
func TestUnreadAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		stream string
		every  time.Duration // reads one part; 0 for nothing
	}{
		{"a stream", "true", 0},
		{"an answer", "false", 0},
		{"a stream that is read slowly", "true", time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inVirtualTime(t, enginetest.Options{}, func(t *testing.T, dial func() net.Conn) {
				c := dial()
				defer c.Close()
				body := `{"model":"fake","max_tokens":200,"ignore_eos":true,"prompt":"p","stream":` + tt.stream + `}`
				io.WriteString(c, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+
					"Content-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body)
				if tt.every == 0 {
					time.Sleep(3 * time.Minute)
					if rest, _ := io.ReadAll(c); strings.Contains(string(rest), "finish_reason\":\"length") {
						t.Error("the answer waited for its client")
					}
					return
				}

				var text strings.Builder
				part := make([]byte, 1<<10)
				for {
					n, err := c.Read(part)
					text.Write(part[:n])
					if err != nil {
						break
					}
					time.Sleep(tt.every)
				}
				if !strings.Contains(text.String(), "[DONE]") {
					t.Errorf("the stream ended with %d bytes", text.Len())
				}
			})
		})
	}
}
