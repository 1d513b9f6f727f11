package egress

import (
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestBroker has another process connect, which it does to this machine alone.
func TestBroker(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	broker, err := StartBroker(cmd)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello")
			c.Close()
		}
	}()

	n := &Net{Offline: true, Broker: broker, Log: slog.New(slog.DiscardHandler)}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost"} {
		address := net.JoinHostPort(host, port)
		way := NewWay("test", "to test").Allow("the test", address)
		c, err := n.Dial(t.Context(), way, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(c)
		c.Close()
		if err != nil || string(text) != "hello" {
			t.Errorf("%s: %q %v", address, text, err)
		}
	}

	l.Close()
	for address, want := range map[string]string{
		"127.0.0.1:" + port:            "refused",
		"192.0.2.1:80":                 "not on this machine",
		"[::ffff:192.0.2.1]:80":        "not on this machine",
		"images.example:80":            "not on this machine",
		"0.0.0.0:80":                   "not on this machine",
		"127.0.0.1":                    "missing port",
		strings.Repeat("a", 300):       "not on this machine",
		strings.Repeat("1", 200) + ":": "not on this machine",
	} {
		if c, err := broker.Dial(t.Context(), address); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v %v", address, c, err)
		}
	}

	// It ends with its socket, and the next one is told.
	if err := broker.conn.CloseRead(); err != nil {
		t.Fatal(err)
	}
	if _, err := broker.Dial(t.Context(), "127.0.0.1:"+port); err == nil {
		t.Error("a broker that has ended connects")
	}
	broker.conn.Close()
}
