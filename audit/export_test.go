package audit

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"strings"
	"testing"
	"time"

	"serve/certs/certstest"
	"serve/egress"
)

// some are records of several kinds.
func some() []*Record {
	at := time.Date(2026, 11, 27, 18, 0, 0, 0, time.UTC)
	return []*Record{
		{Seq: 0, Time: at, Kind: ServerStart, Object: "demo", Detail: map[string]string{"--audit": "/log"}},
		{
			Seq: 1, Time: at, Kind: RequestEnd, ID: "req_1", Who: &Who{Key: "key_1", Name: "alice", Tenant: "ward"},
			Address: "192.0.2.1", Method: "POST", Route: "/chat/completions", Status: 200, Duration: 12.5,
			Work: []Work{{Model: "demo", SHA256: "5ha", In: 10, Cached: 4, Out: 20, Finish: []string{"stop"}}},
		},
		{
			Seq: 2, Time: at, Kind: Request, ID: "req_2", Address: "192.0.2.2", Method: "GET", Route: "/metrics",
			Status: 401, Error: "unauthenticated",
		},
		{Seq: 3, Time: at, Kind: KeyRevoked, Object: "key_1", Detail: map[string]string{"name": "=cmd()"}},
		{
			Seq: 4, Time: at, Kind: Request, ID: "=1+1", Address: "192.0.2.2", Method: "DELETE", Route: "/responses/:id",
			Status: 200,
		},
	}
}

func sequence(list []*Record) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		for _, r := range list {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// TestOCSF writes events of OCSF's class API Activity: with all that the class requires, and the profile where a model
// was used.
func TestOCSF(t *testing.T) {
	var out bytes.Buffer
	if err := Export(&out, FormatOCSF, "1.2.3", sequence(some())); err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(&out)
	for _, r := range some() {
		var e map[string]any
		if err := d.Decode(&e); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{
			"activity_id", "actor", "api", "category_uid", "class_uid", "metadata", "severity_id", "src_endpoint", "time",
			"type_uid",
		} {
			if e[name] == nil {
				t.Errorf("record %d has no %s", r.Seq, name)
			}
		}
		if e["type_uid"] != e["class_uid"].(float64)*100+e["activity_id"].(float64) ||
			e["time"] != float64(r.Time.UnixMilli()) {
			t.Errorf("record %d: %v", r.Seq, e)
		}
		metadata := e["metadata"].(map[string]any)
		if metadata["version"] != ocsfVersion || metadata["product"].(map[string]any)["version"] != "1.2.3" {
			t.Errorf("record %d: %v", r.Seq, metadata)
		}
		used := len(r.Work) > 0
		if used != (e["ai_model"] != nil) || used != (fmt.Sprint(metadata["profiles"]) == "[ai_operation]") {
			t.Errorf("record %d: %v, %v", r.Seq, e["ai_model"], metadata)
		}
		if r.failed() != (e["status_id"] == float64(ocsfFailure)) {
			t.Errorf("record %d: status %v", r.Seq, e["status_id"])
		}
	}
}

// TestTable writes a table that no spreadsheet computes, and lines as they are stored.
func TestTable(t *testing.T) {
	var out bytes.Buffer
	if err := Export(&out, FormatCSV, "", sequence(some())); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil || len(rows) != 1+len(some()) || rows[2][3] != "req_1" || rows[5][3] != "'=1+1" {
		t.Fatal(rows, err)
	}
	for _, row := range rows {
		for _, cell := range row {
			if strings.HasPrefix(cell, "=") {
				t.Errorf("a formula: %q", cell)
			}
		}
	}

	out.Reset()
	if err := Export(&out, FormatJSON, "", sequence(some())); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i, line := range lines {
		if r, err := ParseRecord([]byte(line)); err != nil || int(r.Seq) != i {
			t.Errorf("%s: %v", line, err)
		}
	}
	if len(lines) != len(some()) {
		t.Errorf("%d lines", len(lines))
	}
}

// TestFilter chooses records.
func TestFilter(t *testing.T) {
	later := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		f    Filter
		want string
	}{
		{Filter{}, "01234"},
		{Filter{Kind: "request"}, "124"},
		{Filter{Kind: "request.end"}, "1"},
		{Filter{Kind: "key"}, "3"},
		{Filter{Who: "alice"}, "1"},
		{Filter{Who: "key_1"}, "1"},
		{Filter{Tenant: "ward"}, "1"},
		{Filter{Tenant: "other"}, ""},
		{Filter{Model: "demo"}, "01"},
		{Filter{Model: "5ha"}, "1"},
		{Filter{Failed: true}, "2"},
		{Filter{ID: "req_2"}, "2"},
		{Filter{Since: later}, ""},
		{Filter{Until: later}, "01234"},
	} {
		got := ""
		for r, err := range Select(sequence(some()), &tt.f) {
			if err != nil {
				t.Fatal(err)
			}
			got += fmt.Sprint(r.Seq)
			if len(r.Summary()) != len(Headings) {
				t.Errorf("%d columns", len(r.Summary()))
			}
		}
		if got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.f, got, tt.want)
		}
	}
}

// TestSyslog sends records, and a checkpoint, to a collector that is away at first. Each connection to it is a record
// that comes before what is sent on it has an end, and is sent, too.
func TestSyslog(t *testing.T) {
	authority := certstest.New(t, "a collector's")
	pair := authority.Issue(certstest.Subject{})
	config := &tls.Config{Certificates: []tls.Certificate{pair.TLS(t)}}
	collector, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer collector.Close()
	told := make(chan error, 100)
	s, err := NewSyslog(collector.Addr().String(), &tls.Config{RootCAs: authority.Pool()}, func(err error) { told <- err })
	if err != nil {
		t.Fatal(err)
	}
	l := openMemory(t, newMemory(1), Options{Send: s.Send})
	s.Start(func(_ context.Context, c egress.Connection) error {
		return l.Append(&Record{Kind: Connection, Object: c.Host})
	})
	if err := l.Append(&Record{Kind: RequestEnd, ID: "first\n<1>1 forged"}); err != nil {
		t.Fatal(err)
	}

	// The first connection ends before its handshake.
	conn, err := collector.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := <-told; err == nil {
		t.Error("no failure was told")
	}
	received := make(chan string, 1)
	go func() {
		conn, err := tls.NewListener(collector, config).Accept()
		if err != nil {
			received <- err.Error()
			return
		}
		defer conn.Close()
		b, _ := io.ReadAll(conn)
		received <- string(b)
	}()
	if err := <-told; err != nil {
		t.Error(err)
	}
	if err := l.Append(&Record{Kind: RequestEnd, ID: "second"}); err != nil {
		t.Fatal(err)
	}
	l.Close()
	s.Close()

	var messages []string
	for text := <-received; text != ""; {
		var n int
		length, rest, _ := strings.Cut(text, " ")
		if _, err := fmt.Sscan(length, &n); err != nil || n > len(rest) {
			t.Fatalf("%q: %v", text, err)
		}
		messages = append(messages, rest[:n])
		text = rest[n:]
	}
	want := []string{
		`"id":"first\n\u003c1\u003e1 forged"`,
		`{"checkpoint":"serve-audit-test\n1\n`,
		`"kind":"connection"`, // the one that ended
		`"kind":"connection"`,
		`"id":"second"`,
	}
	if len(messages) != len(want) {
		t.Fatalf("%q", messages)
	}
	for i, m := range messages {
		if !strings.HasPrefix(m, "<110>1 20") || !strings.Contains(m, want[i]) || strings.Contains(m, "\n") {
			t.Errorf("%q, want %q", m, want[i])
		}
	}
}

// TestSyslogUnrecorded sends nothing on a connection that cannot be recorded.
func TestSyslogUnrecorded(t *testing.T) {
	collector, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 100)
	s, err := NewSyslog(collector.Addr().String(), &tls.Config{}, func(err error) { told <- err })
	if err != nil {
		t.Fatal(err)
	}
	s.Start(func(context.Context, egress.Connection) error { return ErrFailing })
	l := openMemory(t, newMemory(1), Options{Send: s.Send})
	defer l.Close()
	if err := l.Append(&Record{Kind: Request}); err != nil {
		t.Fatal(err)
	}
	conn, err := collector.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if sent, err := io.ReadAll(conn); err != nil || len(sent) != 0 {
		t.Errorf("%d bytes were sent, %v", len(sent), err)
	}
	conn.Close()
	if err := <-told; !errors.Is(err, ErrFailing) {
		t.Errorf("it is told: %v", err)
	}
	collector.Close()
	s.stop()
	s.Close()
}

// TestSyslogOutage tells of the first connection of an outage that fails, and of each that is opened.
func TestSyslogOutage(t *testing.T) {
	s, err := NewSyslog("127.0.0.1:1", &tls.Config{}, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	s.Start(func(context.Context, egress.Connection) error { seen++; return nil })
	defer s.Close()
	away := egress.Connection{Err: errors.New("refused")}
	for i, tt := range []struct {
		failing bool // already
		c       egress.Connection
		want    int
	}{
		{false, away, 1},
		{true, away, 1},
		{true, away, 1},
		{true, egress.Connection{}, 2},
		{false, away, 3},
	} {
		s.failing = tt.failing // nothing is sent, so nobody else looks at it
		if err := s.net.Observer(t.Context(), tt.c); err != nil || seen != tt.want {
			t.Errorf("%d: %d were seen, %v", i, seen, err)
		}
	}
}
