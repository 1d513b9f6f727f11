package server

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"sync"

	"serve/audit"
)

// What a request and its answer said is captured as two HTTP/1.1 messages, one behind the other, which any program for
// HTTP reads: the request with the body as it was decoded, and the answer in chunks, as it was sent.

// capturedHeaders are those of requests that change an answer. Keys are in others.
var capturedHeaders = []string{
	"Content-Type",
	"Anthropic-Version",
	"Anthropic-Beta",
	"Openai-Beta",
	reproducibleHeader,
	seedHeader,
	clientRequestID,
}

// transcript captures one exchange. It is safe for concurrent use; a nil one captures nothing.
type transcript struct {
	mu      sync.Mutex
	capture *audit.Capture
	answer  io.WriteCloser // nil before the answer's first byte
}

// newTranscript begins a capture, and writes the request into it.
func newTranscript(all *audit.Captures, x *exchange, body []byte) (*transcript, error) {
	capture, err := all.Begin(x.id)
	if err != nil {
		return nil, err
	}
	r := x.request
	header := http.Header{}
	for _, name := range capturedHeaders {
		if values := r.Header.Values(name); len(values) > 0 {
			header[name] = values
		}
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))

	// URL is what it is routed by.
	target := r.RequestURI
	if target == "" {
		target = r.URL.RequestURI()
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s %s HTTP/1.1\r\nHost: serve\r\n", r.Method, target)
	_ = header.Write(&head)
	head.WriteString("\r\n")
	_, _ = capture.Write(head.Bytes())
	_, _ = capture.Write(body)
	return &transcript{capture: capture}, nil
}

// sends captures a part of the answer, before it is sent.
func (t *transcript) sends(status int, header http.Header, part []byte) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(part) == 0 {
		return
	}
	if t.answer == nil {
		t.begin(status, header)
	}
	_, _ = t.answer.Write(part)
}

// begin writes the head of the answer.
func (t *transcript) begin(status int, header http.Header) {
	kept := header.Clone()
	for _, name := range []string{"Set-Cookie", "Content-Length", "Connection"} {
		kept.Del(name)
	}
	kept.Set("Transfer-Encoding", "chunked")
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	_ = kept.Write(&head)
	head.WriteString("\r\n")
	_, _ = t.capture.Write(head.Bytes())
	t.answer = httputil.NewChunkedWriter(t.capture)
}

// seal ends the capture, and returns when it is durable.
func (t *transcript) seal() (*audit.Captured, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.answer != nil {
		_ = t.answer.Close()
		_, _ = t.capture.Write([]byte("\r\n")) // of the trailer, which is empty
	}
	return t.capture.Seal()
}

// discard removes the capture.
func (t *transcript) discard() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.capture.Discard()
}

// Received implements service.Auditor: the body is kept until it is captured, if it is.
func (l *ledger) Received(body []byte) {
	if l.server.opts.Captures == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.begun {
		l.body = body
	}
}

// captures begins the capture of the request. It returns why that is not possible, if the request has to be refused
// then.
func (l *ledger) captures() error {
	all := l.server.opts.Captures
	if all == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t, err := newTranscript(all, l.x, l.body)
	l.body = nil
	l.transcript = t
	if err != nil {
		l.missing = err.Error()
		if all.Continues() {
			return nil
		}
	}
	return err
}

// sends captures what is sent to the client. What is sent of work that continues after it is not its answer.
func (l *ledger) sends(part []byte) {
	if l == nil || l.x.call.Detached() {
		return
	}
	l.mu.Lock()
	t := l.transcript
	if l.ended {
		t = nil // it has had the last bytes already
	}
	l.mu.Unlock()
	t.sends(l.x.Status(), l.x.Header(), part)
}

// seals ends the capture with the last bytes of the answer. It returns nil without captures, and why there is none if
// the answer must not be sent then.
func (l *ledger) seals(last []byte) (*audit.Captured, error) {
	all := l.server.opts.Captures
	if all == nil {
		return nil, nil
	}
	if l.transcript == nil {
		return &audit.Captured{Missing: l.missing}, nil
	}
	if l.x.call.Detached() {
		// Its client is just getting another answer, or is gone: this is the one that is stored.
		l.transcript.sends(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, last)
	} else {
		l.x.head()
		l.transcript.sends(l.x.Status(), l.x.Header(), l.x.held)
		l.transcript.sends(l.x.Status(), l.x.Header(), last)
	}
	captured, err := l.transcript.seal()
	if err != nil {
		captured = &audit.Captured{Missing: err.Error()}
		if all.Continues() {
			err = nil
		}
	}
	return captured, err
}
