package host

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestListen checks that an error says whether the port or the host is at fault, without Go's own words.
func TestListen(t *testing.T) {
	l, err := Listen("127.0.0.1", 0, "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	port := l.Addr().(*net.TCPAddr).Port
	_, err = Listen("127.0.0.1", port, "the port")
	var taken *ListenError
	if !errors.Is(err, ErrListen) || !errors.As(err, &taken) || taken.Hint() != "the port" {
		t.Errorf("the hint is of the host: %v", err)
	}
	if want := fmt.Sprintf("cannot listen on 127.0.0.1:%d: address already in use", port); err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestListenErrors checks the texts and hints for all causes.
func TestListenErrors(t *testing.T) {
	for why, c := range map[string]struct {
		err  error
		host bool
	}{
		"address already in use":          {syscall.EADDRINUSE, false},
		"permission denied":               {syscall.EACCES, false},
		"cannot assign requested address": {syscall.EADDRNOTAVAIL, true},
		"no such host":                    {&net.DNSError{Err: "no such host", Name: "x", Server: "192.0.2.1"}, true},
	} {
		cause := c.err
		if errno := syscall.Errno(0); errors.As(cause, &errno) {
			cause = os.NewSyscallError("bind", cause)
		}
		err := &ListenError{"x:1", &net.OpError{Op: "listen", Net: "tcp", Err: cause}, "the port"}
		if got := err.Error(); got != "cannot listen on x:1: "+why {
			t.Errorf("%s: %s", why, got)
		}
		if got := strings.Contains(err.Hint(), "--host"); got != c.host {
			t.Errorf("%s: the hint is %s", why, err.Hint())
		}
	}
}
