package server_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"serve/audit"
	"serve/engine"
	"serve/server"
	"serve/server/servertest"
)

// auditChild is the variable with the folder of the log, in a process that is there to be killed.
const auditChild = "TEST_AUDIT_CHILD"

// auditRecipient is the variable with the public key of its captures.
const auditRecipient = "TEST_AUDIT_RECIPIENT"

// TestAuditChild serves until it is killed. It is run by TestKilled alone.
func TestAuditChild(t *testing.T) {
	dir := os.Getenv(auditChild)
	if dir == "" {
		t.Skip("it is run by TestKilled")
	}
	log, err := audit.Open(dir, audit.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Append(audit.Event{Kind: audit.ServerStart}.Record()); err != nil {
		t.Fatal(err)
	}
	recipients, err := audit.ParseRecipients(os.Getenv(auditRecipient))
	if err != nil {
		t.Fatal(err)
	}
	captures, err := audit.OpenCaptures(dir+"-captures", recipients, false)
	if err != nil {
		t.Fatal(err)
	}
	s, end := servertest.Unconnected(t, endless, engine.Options{}, server.Options{Audit: log, Captures: captures})
	defer end()
	hs := httptest.NewServer(s.Handler())
	fmt.Println("listening", hs.URL)
	_, _ = io.ReadAll(os.Stdin) // until its parent is gone
}

// killed is a child with clients.
type killed struct {
	t         *testing.T
	dir       string
	recipient string

	mu   sync.Mutex
	seen map[string]string // answers whose last byte was seen, by the ids of requests
}

// run starts a child, asks it from several clients, and kills it after a while.
func (k *killed) run(after time.Duration) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestAuditChild$", "-test.v")
	cmd.Env = append(os.Environ(), auditChild+"="+k.dir, auditRecipient+"="+k.recipient)
	_, err := cmd.StdinPipe() // which ends with this process
	if err != nil {
		k.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		k.t.Fatal(err)
	}
	url := ""
	for lines := bufio.NewScanner(out); url == "" && lines.Scan(); {
		_, url, _ = strings.Cut(lines.Text(), "listening ")
	}
	if url == "" {
		k.t.Fatal("the child does not listen")
	}

	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			for k.ask(url, i%2 == 0) {
			}
		})
	}
	time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	clients.Wait()
	_ = cmd.Wait()
}

// ask asks once, and reports whether the child could answer.
func (k *killed) ask(url string, stream bool) bool {
	body := fmt.Sprintf(`{"model":"fake","max_tokens":3,"stream":%t,%s}`, stream, servertest.Hello)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		return false
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	whole := err == nil && res.StatusCode == http.StatusOK
	if stream {
		whole = res.StatusCode == http.StatusOK && strings.Contains(string(text), "[DONE]")
	}
	if whole {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.seen[res.Header.Get("X-Request-Id")] = string(text)
	}
	return err == nil
}

// TestKilled kills a server while it answers. Every answer whose last byte a client has seen is in the log and was
// captured, and every request that has begun has an end, or is known to have none.
func TestKilled(t *testing.T) {
	captures := newCaptured(t, false)
	dir := filepath.Join(t.TempDir(), "audit")
	if _, err := audit.Init(dir); err != nil {
		t.Fatal(err)
	}
	captures.dir = dir + "-captures"
	recipient := captures.identity.(*age.X25519Identity).Recipient()
	k := &killed{t: t, dir: dir, recipient: recipient.String(), seen: map[string]string{}}
	random := rand.New(rand.NewPCG(1, 1))
	for range 8 {
		k.run(time.Duration(20+random.IntN(80)) * time.Millisecond)
	}
	log, err := audit.Open(dir, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}

	report, err := audit.Verify(dir, audit.VerifyOptions{})
	if err != nil || len(report.Problems) > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	open := map[string]bool{}
	for r, err := range audit.Records(dir) {
		if err != nil {
			t.Fatal(err)
		}
		switch r.Kind {
		case audit.RequestBegin:
			open[r.ID] = true
		case audit.RequestEnd:
			delete(open, r.ID)
			if seen, ok := k.seen[r.ID]; ok {
				if _, _, _, answer := captures.read(t, r); answer != seen {
					t.Errorf("captured is %q, and the client has seen %q", answer, seen)
				}
			}
			delete(k.seen, r.ID)
		case audit.RequestLost:
			delete(open, r.ID)
		}
	}
	if report.Records < 50 {
		t.Errorf("only %d records: the test tests little", report.Records)
	}
	if len(k.seen) > 0 || len(open) > 0 {
		t.Errorf("%d answers are not in the log, %d requests have no end", len(k.seen), len(open))
	}
}
