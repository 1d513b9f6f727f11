package host

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"serve/server/servertest"
)

// limited runs a test in virtual time against a server with limits, whose requests end when hold is closed.
func limited(
	t *testing.T, limits ConnectionLimits,
	test func(t *testing.T, dial func(address string) net.Conn, hold chan struct{}),
) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		listener := servertest.NewPipes()
		hold := make(chan struct{})
		f := newFront(t.Context(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hold" {
				<-hold
			}
			io.WriteString(w, "served")
		}), frontOptions{Limits: limits})
		open := f.open
		served := make(chan error)
		go func() { served <- f.serve(listener) }()

		test(t, listener.DialFrom, hold)
		f.http.Close()
		<-served
		time.Sleep(time.Minute)
		synctest.Wait()
		if open.open != 0 || len(open.byClient) != 0 || open.idle.Len() != 0 || open.lingering != 0 {
			t.Errorf("after the end there are %d connections, %d clients, %d idle",
				open.open, len(open.byClient), open.idle.Len())
		}
	})
}

// TestTwoListeners serves plain HTTP on two listeners, as with --ollama-port.
func TestTwoListeners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFront(t.Context(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "served")
		}), frontOptions{})
		served := make(chan error)
		for range 2 {
			listener := servertest.NewPipes()
			go func() { served <- f.serve(listener) }()
			synctest.Wait() // each begins when the one before it has
			if status, body := get(listener.DialFrom("192.0.2.1"), "/"); status != http.StatusOK || body != "served" {
				t.Errorf("%d %s", status, body)
			}
		}

		f.http.Close()
		for range 2 {
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		}
	})
}

// get asks over a connection, and returns the status and the body; 0 if it is closed.
func get(c net.Conn, path string) (int, string) {
	go io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}

// TestConnectionsOfAnAddress refuses those beyond its limit, which no other address notices, and accepts others
// when some have ended.
func TestConnectionsOfAnAddress(t *testing.T) {
	limits := ConnectionLimits{All: 10, PerAddress: 2}
	limited(t, limits, func(t *testing.T, dial func(string) net.Conn, hold chan struct{}) {
		const busy = "2001:db8::1"
		answers := make(chan int)
		for range 2 {
			c := dial(busy)
			go func() {
				status, _ := get(c, "/hold")
				answers <- status
				c.Close()
			}()
		}
		synctest.Wait()

		third := dial("2001:db8::2") // of the same network
		status, body := get(third, "/")
		if status != http.StatusTooManyRequests || !strings.Contains(body, "--max-client-connections") {
			t.Errorf("a third one: %d %s", status, body)
		}
		third.Close()
		other := dial("192.0.2.1")
		if status, body := get(other, "/"); status != 200 || body != "served" {
			t.Errorf("another address: %d %s", status, body)
		}
		other.Close()

		close(hold)
		if a, b := <-answers, <-answers; a != 200 || b != 200 {
			t.Errorf("those that were open: %d, %d", a, b)
		}
		synctest.Wait()
		again := dial(busy)
		if status, body := get(again, "/"); status != 200 {
			t.Errorf("when they have ended: %d %s", status, body)
		}
		again.Close()
	})
}

// TestIdleConnectionsMakeRoom closes the connection that has been idle the longest, and none that is in use.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	limited(t, ConnectionLimits{All: 2}, func(t *testing.T, dial func(string) net.Conn, hold chan struct{}) {
		idle := dial("192.0.2.1")
		if status, _ := get(idle, "/"); status != 200 {
			t.Fatal(status)
		}
		busy := dial("192.0.2.2")
		answer := make(chan int)
		go func() {
			status, _ := get(busy, "/hold")
			answer <- status
		}()
		synctest.Wait()

		next := dial("192.0.2.3")
		if status, body := get(next, "/hold-not"); status != 200 {
			t.Errorf("in place of an idle one: %d %s", status, body)
		}
		if _, err := idle.Read(make([]byte, 1)); err == nil {
			t.Error("the idle connection is open")
		}

		close(hold)
		if status := <-answer; status != 200 {
			t.Errorf("the one in use: %d", status)
		}
		busy.Close()
		next.Close()
	})
}

// TestFull refuses connections when all are in use, and drops those that never end their refusal.
func TestFull(t *testing.T) {
	limited(t, ConnectionLimits{All: 1}, func(t *testing.T, dial func(string) net.Conn, hold chan struct{}) {
		busy := dial("192.0.2.1")
		answer := make(chan int)
		go func() {
			status, _ := get(busy, "/hold")
			answer <- status
		}()
		synctest.Wait()

		refused := dial("192.0.2.2")
		status, body := get(refused, "/")
		if status != http.StatusServiceUnavailable || !strings.Contains(body, "--max-connections") {
			t.Errorf("beyond the limit: %d %s", status, body)
		}
		refused.Close()
		for range 2 * maxLinger { // they read nothing
			defer dial("192.0.2.2").Close()
		}
		synctest.Wait()

		close(hold)
		if status := <-answer; status != 200 {
			t.Errorf("the one in use: %d", status)
		}
		busy.Close()
	})
}

// TestProxiesHaveManyConnections limits the connections of an address, unless it is a proxy's.
func TestProxiesHaveManyConnections(t *testing.T) {
	limits := ConnectionLimits{All: 4, PerAddress: 1, Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.7/32")}}
	limited(t, limits, func(t *testing.T, dial func(string) net.Conn, hold chan struct{}) {
		for i, tt := range []struct {
			address string
			status  int
		}{
			{"10.0.0.7", 200},
			{"10.0.0.7", 200},
			{"192.0.2.1", 200},
			{"192.0.2.1", http.StatusTooManyRequests},
			{"10.0.0.7", 200},
			{"10.0.0.7", http.StatusServiceUnavailable}, // all together are too many
		} {
			c := dial(tt.address)
			defer c.Close()
			if tt.status != 200 {
				if status, body := get(c, "/"); status != tt.status {
					t.Errorf("connection %d, of %s: %d %s", i, tt.address, status, body)
				}
				continue
			}
			go get(c, "/hold")
			synctest.Wait()
		}
		close(hold)
	})
}
