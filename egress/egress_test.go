package egress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// proxied is the proxy of all tests: package net/http reads the environment once.
var proxied *httptest.Server

func TestMain(m *testing.M) {
	Enter()
	proxied = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "by the proxy: "+r.URL.String())
	}))
	os.Setenv("HTTP_PROXY", proxied.URL)
	code := m.Run()
	proxied.Close()
	os.Exit(code)
}

// seen is an Observer that keeps what it is told.
type seen struct {
	mu   sync.Mutex
	list []Connection
	err  error // that it returns
}

func (s *seen) observe(_ context.Context, c Connection) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, c)
	return s.err
}

// logged returns a Net with its log and observer.
func logged() (*Net, *bytes.Buffer, *seen) {
	text := new(bytes.Buffer)
	s := new(seen)
	log := slog.New(slog.NewTextHandler(text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return &Net{Log: log, Observer: s.observe}, text, s
}

// listen accepts connections, and returns their number at the end of the test.
func listen(t *testing.T) (address string, accepted func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	count := 0
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			count++
			mu.Unlock()
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return l.Addr().String(), func() int { mu.Lock(); defer mu.Unlock(); return count }
}

// TestAllow reads hosts as flags and variables name them.
func TestAllow(t *testing.T) {
	w := NewWay("test", "to test").Allow("a flag", "images.example", "CDN.example:8443", "http://old.example/path?q",
		"10.0.0.5", "2001:db8::7", "socks5://proxy.example", "", "://", "a b")
	w.Allow("another flag", "images.example:443", "new.example")
	for address, want := range map[string]string{
		"images.example:443":    "a flag",
		"IMAGES.example:443":    "a flag",
		"cdn.example:8443":      "a flag",
		"old.example:80":        "a flag",
		"10.0.0.5:443":          "a flag",
		"[2001:db8::7]:443":     "a flag",
		"proxy.example:1080":    "a flag",
		"new.example:443":       "another flag",
		"images.example:80":     "",
		"cdn.example:443":       "",
		"a.images.example:443":  "",
		"images.example.:443":   "",
		"images.example:443.io": "",
	} {
		if got := w.namedBy(address); got != want {
			t.Errorf("%s is named by %q, want %q", address, got, want)
		}
	}
	if len(w.hosts) != 7 {
		t.Errorf("hosts: %v", w.hosts)
	}
}

// TestDial connects to what is named, and to nothing else; each attempt is logged, and shown to the observer.
func TestDial(t *testing.T) {
	address, accepted := listen(t)
	n, text, s := logged()
	way := NewWay("test", "to test").Allow("the test", address)

	c, err := n.Dial(t.Context(), way, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := n.Dial(t.Context(), NewWay("other", ""), "tcp", address); !errors.Is(err, ErrUnnamed) {
		t.Errorf("a host that nobody names: %v", err)
	}
	refuse := func(string, string, syscall.RawConn) error { return errors.New("no such address, please") }
	if _, err := n.Dial(WithControl(t.Context(), refuse), way, "tcp", address); err == nil ||
		!strings.Contains(err.Error(), "please") {
		t.Errorf("a control: %v", err)
	}

	first := s.list[0]
	if len(s.list) != 3 || first.Way != "test" || first.NamedBy != "the test" || first.Host != address ||
		first.Address.String() != address || first.Err != nil || !first.Local || s.list[1].Err == nil || s.list[2].Err == nil {
		t.Errorf("observed: %+v", s.list)
	}
	for _, want := range []string{"msg=connected to=" + address, `msg="not connected" to=` + address, "for=other"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, text)
		}
	}

	s.err = errors.New("the disk is full")
	if _, err := n.Dial(t.Context(), way, "tcp", address); !errors.Is(err, s.err) {
		t.Errorf("a connection that is not recorded: %v", err)
	}
	if got := accepted(); got > 2 {
		t.Errorf("%d connections", got)
	}
}

// TestLevels logs what leaves the machine at level info, and the rest at level debug.
func TestLevels(t *testing.T) {
	address, _ := listen(t)
	text := new(bytes.Buffer)
	n := &Net{Log: slog.New(slog.NewTextHandler(text, nil)), Offline: true}
	way := NewWay("test", "to test").Allow("the test", address, "192.0.2.1")
	if c, err := n.Dial(t.Context(), way, "tcp", address); err == nil {
		c.Close()
	}
	if text.Len() > 0 {
		t.Errorf("a connection to this machine: %s", text)
	}
	if _, err := n.Dial(t.Context(), way, "tcp", "192.0.2.1:443"); !errors.Is(err, ErrOffline) {
		t.Errorf("offline: %v", err)
	}
	if !strings.Contains(text.String(), "level=INFO") || !strings.Contains(text.String(), "192.0.2.1:443") {
		t.Errorf("a connection to another machine: %s", text)
	}
}

// TestOffline connects to this machine alone, and looks up no name to find out.
func TestOffline(t *testing.T) {
	n := &Net{Offline: true, Log: slog.New(slog.DiscardHandler)}
	way := NewWay("test", "to test")
	for _, host := range []string{"192.0.2.1", "[2001:db8::1]", "images.example", "localhost.example", "127.0.0.1.example",
		"0.0.0.0", "LOCALHOST."} {
		way.Allow("the test", host+":443")
		if _, err := n.Dial(t.Context(), way, "tcp", host+":443"); !errors.Is(err, ErrOffline) {
			t.Errorf("%s: %v", host, err)
		}
	}
	address, _ := listen(t)
	c, err := n.Dial(t.Context(), way.Allow("the test", address), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestTransport refuses hosts that nobody names, and names the proxy, which is who it connects to.
func TestTransport(t *testing.T) {
	n, _, s := logged()
	way := NewWay("test", "to test").Allow("a flag", "http://images.example")
	client := &http.Client{Transport: n.Transport(way)}
	defer client.CloseIdleConnections()

	res, err := client.Get("http://images.example/cat.png")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || string(body) != "by the proxy: http://images.example/cat.png" {
		t.Errorf("%q %v", body, err)
	}
	for _, address := range []string{"http://other.example/", "https://images.example/", "http://images.example:8080/"} {
		res, err := client.Get(address)
		if !errors.Is(err, ErrUnnamed) {
			t.Errorf("%s: %v", address, err)
		}
		if err == nil {
			res.Body.Close()
		}
	}

	at, err := url.Parse(proxied.URL)
	if err != nil {
		t.Fatal(err)
	}
	named := slices.ContainsFunc(s.list, func(c Connection) bool {
		return c.Host == at.Host && c.NamedBy == "HTTP_PROXY" && c.Err == nil
	})
	if len(s.list) != 1 || !named {
		t.Errorf("observed: %+v", s.list)
	}
}

// TestTakeDefaults leaves libraries no client that nobody knows of.
func TestTakeDefaults(t *testing.T) {
	before := http.DefaultTransport
	defer func() { http.DefaultTransport = before }()
	address, accepted := listen(t)

	TakeDefaults()
	res, err := http.Get("http://" + address)
	if err == nil {
		res.Body.Close()
	}
	if !errors.Is(err, ErrUnnamed) || accepted() > 0 {
		t.Errorf("the default client: %v", err)
	}
}
