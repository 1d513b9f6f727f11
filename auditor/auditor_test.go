package auditor

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"serve/audit"
	"serve/certs/certstest"
	"serve/egress"
	"serve/flagset"
	"serve/terminal"
)

// program runs commands as cmd/serve does.
type program struct {
	t    *testing.T
	out  bytes.Buffer
	said bytes.Buffer
}

// run runs a command and returns what it printed.
func (p *program) run(args ...string) (string, error) {
	p.t.Helper()
	p.out.Reset()
	p.said.Reset()
	list := Commands(terminal.New(&p.out, &p.said, func(string) string { return "" }), "1.2.3")
	i := slices.IndexFunc(list, func(c flagset.Command) bool { return strings.Fields(c.Use)[0] == args[0] })
	f := flagset.New()
	if list[i].Declare != nil {
		list[i].Declare(f)
	}
	if err := f.Parse(args[1:]); err != nil {
		p.t.Fatal(err)
	}
	if n := f.NArg(); n < list[i].Least || n > list[i].Most {
		p.t.Fatalf("%q: %d arguments", args, n)
	}
	err := list[i].Run(context.Background(), f.Args())
	return p.out.String(), err
}

// open opens a log with flags.
func open(t *testing.T, e Environment, args ...string) (*Running, error) {
	t.Helper()
	var a Flags
	f := flagset.New()
	a.Declare(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	e.Expand = func(s string) string { return s }
	if e.Net == nil {
		e.Net = new(egress.Net)
	}
	return a.Open(e)
}

// TestCommands goes through the life of a log.
func TestCommands(t *testing.T) {
	p := &program{t: t}
	dir := filepath.Join(t.TempDir(), "audit")
	key, err := p.run("init", dir)
	if err != nil {
		t.Fatal(err)
	}
	key = strings.TrimSpace(key)
	r, err := open(t, Environment{Version: "1.2.3"}, "--audit", dir)
	if err != nil {
		t.Fatal(err)
	}
	answer := audit.NewAnswerDigest(r.Digest)
	answer.Say("the answer")
	if err := r.Append(&audit.Record{
		Kind:    audit.RequestEnd,
		ID:      "req_1",
		Digests: audit.DigestVersion,
		Work:    []audit.Work{{Model: "m\x1b[2J", Answers: []audit.Answer{answer.Answer()}}},
	}); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}

	shown, err := p.run("show", dir)
	if err != nil || strings.Count(shown, "\n") != 4 || !strings.Contains(shown, "server.start") ||
		strings.Contains(shown, "\x1b") {
		t.Errorf("%v: %q", err, shown)
	}
	if out, err := p.run("show", dir, "--kind", "request", "--json"); err != nil || strings.Count(out, `"seq"`) != 1 {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := p.run("show", dir, "--since", "yesterday"); !errors.Is(err, flagset.ErrUsage) {
		t.Error(err)
	}
	if out, err := p.run("export", dir); err != nil || strings.Count(out, `"version":"1.2.3"`) < 3 {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := p.run("verify", dir); err != nil || !strings.Contains(p.said.String(), "3 records") {
		t.Errorf("%v: %s", err, p.said.String())
	}

	text := write(t, "the answer\n")
	if out, err := p.run("match", dir, text); err != nil || !strings.Contains(out, "answer") || !strings.Contains(out, "req_1") {
		t.Errorf("%v: %s", err, out)
	}
	proof, err := p.run("prove", dir, "req_1")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := p.run("check", write(t, proof), "--public-key", key); err != nil || !strings.Contains(out, "req_1") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := p.run("check", write(t, proof)); !errors.Is(err, flagset.ErrUsage) {
		t.Errorf("a proof without a key: %v", err)
	}

	kept, err := p.run("checkpoint", dir)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "00000000000000000000.jsonl")
	log, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	half := bytes.Index(log, []byte(`{"seq":1,`))
	if err := os.WriteFile(name, log[:half], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.run("verify", dir, "--public-key", key); err != nil {
		t.Errorf("a log without its end: %v", err)
	}
	_, err = p.run("verify", dir, "--checkpoint", write(t, kept), "--json")
	if !errors.Is(err, audit.ErrProof) || !strings.Contains(p.out.String(), "rolled back") {
		t.Errorf("a log that was rolled back: %v, %s", err, p.out.String())
	}
	if _, err := p.run("prune", dir); err != nil || !strings.Contains(p.said.String(), "no file") {
		t.Errorf("%v: %s", err, p.said.String())
	}
}

// write writes a file of a test.
func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestConnections records each connection before it is used, and does without one that cannot be recorded.
func TestConnections(t *testing.T) {
	p := &program{t: t}
	dir := filepath.Join(t.TempDir(), "audit")
	if _, err := p.run("init", dir); err != nil {
		t.Fatal(err)
	}
	var network egress.Net
	r, err := open(t, Environment{Net: &network}, "--audit", dir)
	if err != nil {
		t.Fatal(err)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	way := egress.NewWay("test", "tries to connect").Allow("--test", address)
	c, err := network.Dial(t.Context(), way, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	nobody := "127.0.0.1:1"
	way.Allow("--test", nobody)
	if _, err := network.Dial(t.Context(), way, "tcp", nobody); err == nil {
		t.Error("nobody listens there")
	}
	if _, err := network.Dial(t.Context(), way, "tcp", "other.example:443"); !errors.Is(err, egress.ErrUnnamed) {
		t.Errorf("a host that nothing names: %v", err)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := network.Dial(t.Context(), way, "tcp", address); !errors.Is(err, audit.ErrFailing) {
		t.Errorf("without a log: %v", err)
	}
	l.Close()

	out, err := p.run("show", "--kind", string(audit.Connection), "--json", dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out, `"kind": "connection"`); n != 3 {
		t.Errorf("%d connections are recorded, not 3:\n%s", n, out)
	}
	for _, want := range []string{`"for": "test"`, `"named_by": "--test"`, address, "refused", "other.example:443"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not recorded:\n%s", want, out)
		}
	}
}

// TestCollectorsConnection records the connection to the collector of the records, which gets that record, too.
func TestCollectorsConnection(t *testing.T) {
	p := &program{t: t}
	dir := filepath.Join(t.TempDir(), "audit")
	if _, err := p.run("init", dir); err != nil {
		t.Fatal(err)
	}
	authority := certstest.New(t, "a collector's")
	config := &tls.Config{Certificates: []tls.Certificate{authority.Issue(certstest.Subject{}).TLS(t)}}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	connected := make(chan error, 1)
	received := make(chan string)
	go func() {
		var b []byte
		conn, err := l.Accept()
		if err == nil {
			err = conn.(*tls.Conn).Handshake()
		}
		connected <- err
		if err == nil {
			b, _ = io.ReadAll(conn)
			conn.Close()
		}
		received <- string(b)
	}()

	ca := certstest.Write(t, t.TempDir(), "ca.pem", authority.PEM())
	r, err := open(t, Environment{Net: new(egress.Net)},
		"--audit", dir, "--audit-syslog", l.Addr().String(), "--audit-syslog-ca", ca)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-connected; err != nil || r.State().Records != 2 {
		t.Errorf("%d records when it is used, %v", r.State().Records, err)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	got := <-received
	for _, want := range []string{
		`"kind":"server.start"`, `"for":"syslog"`, `"named_by":"--audit-syslog"`, `"kind":"server.stop"`,
	} {
		if strings.Count(got, want) != 1 {
			t.Errorf("the collector did not get %s once:\n%s", want, got)
		}
	}
	out, err := p.run("show", "--kind", string(audit.Connection), "--json", dir)
	if err != nil || strings.Count(out, `"kind": "connection"`) != 1 || !strings.Contains(out, l.Addr().String()) {
		t.Errorf("%s, %v", out, err)
	}
}

// TestOpen refuses flags that contradict each other, and records those that were given, without passwords.
func TestOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	if r, err := open(t, Environment{}); r != nil || err != nil {
		t.Errorf("without --audit: %v, %v", r, err)
	}
	if _, err := open(t, Environment{}, "--audit-syslog", "localhost:6514"); !errors.Is(err, flagset.ErrUsage) {
		t.Errorf("a collector without a log: %v", err)
	}
	_, err := open(t, Environment{Offline: true}, "--audit", dir, "--audit-syslog", "127.0.0.1:6514")
	if !errors.Is(err, flagset.ErrUsage) || !strings.Contains(err.Error(), "--offline") {
		t.Errorf("offline: %v", err)
	}
	if _, err := open(t, Environment{}, "--audit", dir); !errors.Is(err, audit.ErrKey) {
		t.Errorf("no keys: %v", err)
	}
	if _, err := audit.Init(dir); err != nil {
		t.Fatal(err)
	}
	r, err := open(t, Environment{}, "--audit", dir, "--audit-syslog-ca", "https://user:secret@example.com/ca")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	for record, err := range audit.Records(dir) {
		if err != nil {
			t.Fatal(err)
		}
		ca := record.Detail["--audit-syslog-ca"]
		if record.Kind == audit.ServerStart && (!strings.Contains(ca, "example.com") || strings.Contains(ca, "secret")) {
			t.Errorf("%v", record.Detail)
		}
	}
}
