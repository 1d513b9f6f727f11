package certs

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"serve/certs/certstest"
)

// clock is a time that tests set.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

// handshake connects a client to a server, and returns the states of both.
func handshake(t *testing.T, server, client *tls.Config) (*tls.ConnectionState, *tls.ConnectionState, error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	accepted := make(chan *tls.Conn, 1)
	failed := make(chan error, 1)
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			failed <- err
			return
		}
		conn := tls.Server(raw, server)
		failed <- conn.Handshake()
		conn.Write([]byte("x"))
		accepted <- conn
	}()

	conn, err := tls.Dial("tcp", listener.Addr().String(), client)
	if err == nil {
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1)) // in TLS 1.3 a client learns only now that it is refused
	}
	refused := <-failed
	serverSide := <-accepted
	defer serverSide.Close()
	if err != nil {
		return nil, nil, errors.Join(refused, err)
	}
	theirs, ours := serverSide.ConnectionState(), conn.ConnectionState()
	return &theirs, &ours, nil
}

// TestRefused refuses to start with files that no client would accept, or that others may read, and says what to do.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.New(t, "CA")
	cert, key := ca.Issue(certstest.Subject{}).Write(t, dir, "good")
	_, otherKey := ca.Issue(certstest.Subject{}).Write(t, dir, "other")
	past, pastKey := ca.Issue(certstest.Subject{
		Begin: time.Now().Add(-48 * time.Hour), End: time.Now().Add(-time.Hour), Names: []string{"old.example"},
	}).Write(t, dir, "past")
	future, futureKey := ca.Issue(certstest.Subject{Begin: time.Now().Add(time.Hour)}).Write(t, dir, "future")
	exposed := certstest.Write(t, dir, "exposed.pem", ca.Issue(certstest.Subject{}).Key)
	if err := os.Chmod(exposed, 0o644); err != nil {
		t.Fatal(err)
	}
	text := certstest.Write(t, dir, "text.pem", []byte("no certificate"))
	large := certstest.Write(t, dir, "large.pem", bytes.Repeat([]byte("x"), maxFile+1))
	absent := filepath.Join(dir, "absent.pem")

	for name, tt := range map[string]struct {
		o     Options
		words []string
	}{
		"expired":       {Options{CertFile: past, KeyFile: pastKey}, []string{"old.example", "ended on", "renewed"}},
		"not yet valid": {Options{CertFile: future, KeyFile: futureKey}, []string{"begins on", "clock"}},
		"of another key": {
			Options{CertFile: cert, KeyFile: otherKey},
			[]string{otherKey, "cannot be used together", "first"},
		},
		"open to all":       {Options{CertFile: cert, KeyFile: exposed}, []string{exposed, "0644", "chmod 600"}},
		"no certificate":    {Options{CertFile: text, KeyFile: key}, []string{text, "cannot be used together"}},
		"absent":            {Options{CertFile: absent, KeyFile: key}, []string{absent, "no such file"}},
		"too large":         {Options{CertFile: large, KeyFile: key}, []string{large, "larger than 4 MiB"}},
		"a key alone":       {Options{KeyFile: key}, []string{"belong together"}},
		"both ways":         {Options{CertFile: cert, KeyFile: key, SelfSigned: true}, []string{"contradict"}},
		"clients without":   {Options{ClientCA: cert}, []string{"needs TLS"}},
		"no authorities":    {Options{CertFile: cert, KeyFile: key, ClientCA: text}, []string{text, "no PEM certificate"}},
		"ended authorities": {Options{CertFile: cert, KeyFile: key, ClientCA: past}, []string{past, "ended on"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(tt.o)
			var refused *Error
			if !errors.As(err, &refused) || refused.Hint() == "" {
				t.Fatalf("got %v", err)
			}
			for _, words := range tt.words {
				if !strings.Contains(refused.Error()+refused.Hint(), words) {
					t.Errorf("%q is not in: %v (%s)", words, refused, refused.Hint())
				}
			}
		})
	}
}

// TestVersions accepts TLS 1.3, and of TLS 1.2 what has forward secrecy and authenticated encryption.
func TestVersions(t *testing.T) {
	ca := certstest.New(t, "CA")
	cert, key := ca.Issue(certstest.Subject{}).Write(t, t.TempDir(), "server")
	s, err := Open(Options{CertFile: cert, KeyFile: key})
	if err != nil {
		t.Fatal(err)
	}

	for _, tt := range []struct {
		name     string
		min, max uint16
		suite    uint16
		ok       bool
	}{
		{"TLS 1.1", tls.VersionTLS10, tls.VersionTLS11, 0, false},
		{"TLS 1.2", tls.VersionTLS12, tls.VersionTLS12, 0, true},
		{"TLS 1.2 with GCM", tls.VersionTLS12, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, true},
		{"TLS 1.2 with CBC", tls.VersionTLS12, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, false},
		{"TLS 1.3", tls.VersionTLS13, tls.VersionTLS13, 0, true},
	} {
		client := &tls.Config{
			RootCAs:    ca.Pool(),
			MinVersion: tt.min,
			MaxVersion: tt.max,
			NextProtos: []string{"h2", "http/1.1"},
		}
		if tt.suite != 0 {
			client.CipherSuites = []uint16{tt.suite}
		}
		_, state, err := handshake(t, s.Config(), client)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err == nil && (state.Version != tt.max || state.NegotiatedProtocol != "h2") {
			t.Errorf("%s: version %x, protocol %q", tt.name, state.Version, state.NegotiatedProtocol)
		}
	}
}

// TestClients accepts clients with a certificate of the authorities, and none else; also not those that come back
// after their authority was removed.
func TestClients(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.New(t, "CA")
	staff := certstest.New(t, "Staff")
	cert, key := ca.Issue(certstest.Subject{}).Write(t, dir, "server")
	authorities := certstest.Write(t, dir, "clients.pem", staff.PEM())
	now := &clock{time.Now()}
	s, err := Open(Options{
		CertFile: cert,
		KeyFile:  key,
		ClientCA: authorities,
		Now:      now.Now,
		Log:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}

	alice := staff.Issue(certstest.Subject{Emails: []string{"alice@example.com"}})
	sessions := tls.NewLRUClientSessionCache(8)
	as := func(pairs ...certstest.Pair) *tls.Config {
		c := &tls.Config{RootCAs: ca.Pool(), ClientSessionCache: sessions}
		for _, p := range pairs {
			c.Certificates = append(c.Certificates, p.TLS(t))
		}
		return c
	}
	state, _, err := handshake(t, s.Config(), as(alice))
	if err != nil {
		t.Fatal(err)
	}
	if name, ok := Identity(state); name != "alice@example.com" || !ok {
		t.Errorf("the client is %q, %v", name, ok)
	}
	old := staff.Issue(certstest.Subject{Begin: now.now.Add(-time.Hour), End: now.now.Add(-time.Minute)})
	for name, c := range map[string]*tls.Config{
		"without a certificate": as(),
		"of another authority":  as(ca.Issue(certstest.Subject{})),
		"expired":               as(old),
	} {
		if _, _, err := handshake(t, s.Config(), c); err == nil {
			t.Errorf("a client %s is accepted", name)
		}
	}

	certstest.Write(t, dir, "clients.pem", certstest.New(t, "Others").PEM())
	now.now = now.now.Add(time.Minute)
	s.poll()
	if !s.poll() {
		t.Fatal("the authorities were not loaded again")
	}
	if _, _, err := handshake(t, s.Config(), as(alice)); err == nil {
		t.Error("a client of an authority that was removed is accepted")
	}
}

// TestReload loads a new pair when both of its files are there, keeps the old one while the new one cannot be used, and
// says so once.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.New(t, "CA")
	first := ca.Issue(certstest.Subject{})
	cert, key := first.Write(t, dir, "server")
	now := &clock{time.Now()}
	var log bytes.Buffer
	s, err := Open(Options{CertFile: cert, KeyFile: key, Now: now.Now, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	serves := func() string {
		t.Helper()
		_, state, err := handshake(t, s.Config(), &tls.Config{RootCAs: ca.Pool()})
		if err != nil {
			t.Fatal(err)
		}
		return Fingerprint(state.PeerCertificates[0])
	}
	polls := func(n int) (loaded int) {
		for range n {
			now.now = now.now.Add(pollInterval)
			if s.poll() {
				loaded++
			}
		}
		return loaded
	}
	before := serves()
	if before != s.Fingerprint() || polls(5) != 0 {
		t.Error("it loads what has not changed")
	}

	next := ca.Issue(certstest.Subject{
		CommonName: "next",
		Names:      []string{"localhost"},
		Addresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	})
	certstest.Write(t, dir, "server.pem", next.Certificate) // and not yet its key
	if n := polls(10); n != 0 || serves() != before {
		t.Errorf("half a pair was loaded %d times", n)
	}
	if n := strings.Count(log.String(), "keeps the old one"); n != 1 {
		t.Errorf("it was reported %d times:\n%s", n, &log)
	}
	next.Write(t, dir, "server")
	if n := polls(5); n != 1 || serves() == before || serves() != s.Fingerprint() {
		t.Errorf("the new pair was loaded %d times:\n%s", n, &log)
	}

	os.Remove(cert)
	current := serves()
	if n := polls(5); n != 0 || serves() != current {
		t.Errorf("without its file the certificate is another")
	}
	if err := os.Chmod(key, 0o604); err != nil {
		t.Fatal(err)
	}
	first.Write(t, dir, "server")
	if n := polls(5); n != 1 || serves() != before {
		t.Errorf("the first pair was loaded %d times", n)
	}
}

// TestLater loads files that were refused because their certificate began later.
func TestLater(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.New(t, "CA")
	cert, key := ca.Issue(certstest.Subject{}).Write(t, dir, "server")
	now := &clock{time.Now()}
	s, err := Open(Options{CertFile: cert, KeyFile: key, Now: now.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ca.Issue(certstest.Subject{Begin: now.now.Add(5 * time.Minute)}).Write(t, dir, "server")
	loaded := 0
	for range 10 {
		now.now = now.now.Add(time.Minute)
		if s.poll() {
			loaded++
			if now.now.Sub(s.current.Load().leaf.NotBefore) < 0 {
				t.Error("it was loaded too early")
			}
		}
	}
	if loaded != 1 {
		t.Errorf("it was loaded %d times", loaded)
	}
}

// TestSelfSigned makes one certificate for all starts, and another before it ends or when it lacks a name.
func TestSelfSigned(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "tls")
	now := &clock{time.Now()}
	open := func(names ...string) *Certificate {
		t.Helper()
		s, err := Open(Options{
			SelfSigned: true, Folder: folder, Names: append([]string{"localhost", "127.0.0.1", "::1"}, names...),
			Also: []string{"192.0.2.7"}, Now: now.Now, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	if open().Fingerprint() != s.Fingerprint() {
		t.Error("the second start makes another certificate")
	}
	info, err := os.Stat(privateFile(folder))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info.Mode(), err)
	}
	public, err := os.ReadFile(s.CAFile())
	if err != nil || bytes.Contains(public, []byte("PRIVATE")) {
		t.Fatalf("the file for clients: %v\n%s", err, public)
	}

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(public)
	for name, ok := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "::1": true, "192.0.2.7": true, "other": false,
	} {
		_, _, err := handshake(t, s.Config(), &tls.Config{RootCAs: pool, ServerName: name})
		if (err == nil) != ok {
			t.Errorf("as %s: %v", name, err)
		}
	}

	named := open("Box.Example")
	if named.Fingerprint() == s.Fingerprint() || open().Fingerprint() != named.Fingerprint() {
		t.Error("a name that is missing makes one other certificate, which is valid for the old names too")
	}
	names := namesOf(named.current.Load().leaf)
	if !slices.Contains(names, "box.example") || !slices.Contains(names, "192.0.2.7") {
		t.Errorf("it is valid for %q", names)
	}

	now.now = now.now.Add(selfSignedLife - renewBefore + time.Hour)
	named.poll()
	now.now = now.now.Add(pollInterval)
	if !named.poll() || named.Ends().Sub(now.now) < 300*24*time.Hour {
		t.Errorf("it was not renewed: it ends at %v", named.Ends())
	}
	if _, _, err := handshake(t, named.Config(), &tls.Config{RootCAs: pool, Time: now.Now}); err == nil {
		t.Error("the old file verifies the new certificate")
	}

	if err := os.Chmod(privateFile(folder), 0o644); err != nil {
		t.Fatal(err)
	}
	exposed := named.Fingerprint()
	if open().Fingerprint() == exposed {
		t.Error("a key that others could read is used again")
	}
}

// TestOpenSSL has OpenSSL check what it is the usual judge of.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed; make tools installs it")
	}
	s, err := Open(Options{SelfSigned: true, Folder: t.TempDir(), Names: []string{"localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(openssl, "x509", "-in", s.CAFile(), "-noout", "-fingerprint", "-sha256").CombinedOutput()
	if err != nil || !strings.Contains(string(out), s.Fingerprint()) {
		t.Errorf("the fingerprint is %s: %v\n%s", s.Fingerprint(), err, out)
	}
	verify := exec.Command(
		openssl, "verify", "-x509_strict", "-verify_hostname", "localhost", "-CAfile", s.CAFile(), s.CAFile())
	out, err = verify.CombinedOutput()
	if err != nil {
		t.Errorf("it does not verify: %v\n%s", err, out)
	}
}

// TestIdentity names clients by what their certificates have, in one order.
func TestIdentity(t *testing.T) {
	ca := certstest.New(t, "CA")
	for name, tt := range map[string]struct {
		subject certstest.Subject
		want    string // "" for its fingerprint
	}{
		"a URI before all": {certstest.Subject{
			CommonName: "cn", URIs: []string{"spiffe://example.com/a", "spiffe://example.com/b"},
			Names: []string{"a.example.com"}, Emails: []string{"a@example.com"},
		}, "spiffe://example.com/a"},
		"a name": {certstest.Subject{
			CommonName: "cn", Names: []string{"A.example.com"}, Emails: []string{"a@example.com"},
		}, "a.example.com"},
		"a mail address":    {certstest.Subject{CommonName: "cn", Emails: []string{"a@example.com"}}, "a@example.com"},
		"a common name":     {certstest.Subject{CommonName: "Alice"}, "CN=Alice"},
		"an address alone":  {certstest.Subject{CommonName: "cn", Addresses: []net.IP{net.IPv4(192, 0, 2, 1)}}, ""},
		"a relative URI":    {certstest.Subject{URIs: []string{"CN=admin"}}, ""},
		"a mail of a URI":   {certstest.Subject{Emails: []string{"spiffe://example.com/a"}}, ""},
		"a mail of another": {certstest.Subject{Emails: []string{"CN=admin"}}, ""},
		"a name of a mail":  {certstest.Subject{Names: []string{"a@example.com"}}, ""},
		"a line break":      {certstest.Subject{CommonName: "a\nb"}, ""},
		"a long one":        {certstest.Subject{CommonName: strings.Repeat("a", maxIdentity)}, ""},
	} {
		leaf, err := x509.ParseCertificate(ca.Issue(tt.subject).TLS(t).Certificate[0])
		if err != nil {
			t.Fatal(name, err)
		}
		want := cmp.Or(tt.want, "SHA256="+Fingerprint(leaf))
		state := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}
		if got, ok := Identity(state); got != want || !ok {
			t.Errorf("%s: got %q, %v, want %q", name, got, ok, want)
		}
		state.VerifiedChains = nil
		state.PeerCertificates = []*x509.Certificate{leaf}
		if got, ok := Identity(state); ok {
			t.Errorf("%s, not verified: got %q", name, got)
		}
	}
	if _, ok := Identity(nil); ok {
		t.Error("a connection without TLS has an identity")
	}
}
