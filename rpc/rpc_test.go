package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"serve/egress"
)

func TestParseAddresses(t *testing.T) {
	for _, c := range []struct {
		text  string
		list  []string
		error string
	}{
		{"", nil, ""},
		{"127.0.0.1:50052", []string{"127.0.0.1:50052"}, ""},
		{"Worker:1, [fd00::7]:65535,10.0.0.7:50052", []string{"worker:1", "[fd00::7]:65535", "10.0.0.7:50052"}, ""},
		{"169.254.1.2:1,[fe80::1]:1", []string{"169.254.1.2:1", "[fe80::1]:1"}, ""},
		{"127.0.0.1", nil, "HOST:PORT"},
		{":50052", nil, "HOST:PORT"},
		{"a:1,", nil, "HOST:PORT"},
		{"a:0", nil, "from 1 to 65535"},
		{"a:65536", nil, "from 1 to 65535"},
		{"a:http", nil, "from 1 to 65535"},
		{"a:1,A:1", nil, "twice"},
		{"8.8.8.8:50052", nil, "no authentication and no encryption"},
		{"[2001:db8::1]:50052", nil, "public address"},
		{"0.0.0.0:50052", nil, "public address"},
		{"[::ffff:8.8.8.8]:1", nil, "public address"},
	} {
		list, err := ParseAddresses(c.text)
		if !slices.Equal(list, c.list) || (err == nil) != (c.error == "") ||
			err != nil && !strings.Contains(err.Error(), c.error) {
			t.Errorf("%q: %q, %v", c.text, list, err)
		}
		if again, err := ParseAddresses(FormatAddresses(list)); err != nil || !slices.Equal(again, list) {
			t.Errorf("%q: then %q, %v", c.text, again, err)
		}
	}
}

func TestCheckListen(t *testing.T) {
	for _, c := range []struct {
		ip            string
		warns, refuse bool
	}{
		{"127.0.0.1", false, false},
		{"::1", false, false},
		{"10.1.2.3", true, false},
		{"192.168.1.2", true, false},
		{"fd00::7", true, false},
		{"0.0.0.0", false, true},
		{"::", false, true},
		{"203.0.113.7", false, true},
		{"2001:db8::1", false, true},
	} {
		warning, err := CheckListen(&net.TCPAddr{IP: net.ParseIP(c.ip), Port: 50052})
		if (warning != "") != c.warns || (err != nil) != c.refuse {
			t.Errorf("%s: %q, %v", c.ip, warning, err)
		}
		if text := warning; c.warns && !strings.Contains(text, "no authentication") {
			t.Errorf("%s: %s", c.ip, text)
		}
		if c.refuse && !strings.Contains(err.Error(), "no authentication") {
			t.Errorf("%s: %v", c.ip, err)
		}
	}
	if _, err := CheckListen(&net.UnixAddr{Name: "x"}); err == nil {
		t.Error("a socket of UNIX")
	}
}

// TestConnections has a dialer and a server hand their ends of connections over, and the server end with its clients.
func TestConnections(t *testing.T) {
	listener, warning, err := Listen("127.0.0.1:0")
	if err != nil || warning != "" {
		t.Fatal(warning, err)
	}
	server := Server{Listener: listener, Work: func(ctx context.Context, connection *os.File) error {
		stop := context.AfterFunc(ctx, func() { connection.Close() })
		defer stop()
		_, err := io.Copy(connection, connection)
		return err
	}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- server.Run(ctx) }()

	address := listener.Addr().String()
	dialer := Dialer{Net: new(egress.Net)}
	list, err := dialer.Connect(t.Context(), []string{address, address})
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	for _, f := range list {
		defer f.Close()
		text := make([]byte, 5)
		if _, err := f.WriteString("hello"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(f, text); err != nil || string(text) != "hello" {
			t.Errorf("%q, %v", text, err)
		}
	}

	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_, err = dialer.Connect(t.Context(), []string{address})
	var unreachable *Error
	if !errors.As(err, &unreachable) || !strings.Contains(unreachable.Hint(), "serve rpc --listen "+address) ||
		!strings.Contains(err.Error(), "connection refused") {
		t.Errorf("without a server: %v", err)
	}
	if _, _, err := Listen("nowhere"); err == nil {
		t.Error("it listens nowhere")
	}
}

func TestRefused(t *testing.T) {
	dialer := Dialer{Net: &egress.Net{Offline: true}}
	if _, err := dialer.Connect(t.Context(), []string{"127.0.0.1:1"}); !errors.Is(err, ErrOffline) {
		t.Errorf("offline: %v", err)
	}

	// What a name leads to is known only then.
	for address, refused := range map[string]bool{
		"8.8.8.8:1": true, "[2001:db8::1]:1": true, "127.0.0.1:1": false, "[fd00::1]:1": false, "nonsense": true,
	} {
		if err := refusePublic("tcp", address, nil); (err != nil) != refused {
			t.Errorf("%s: %v", address, err)
		}
	}
}
