package server

import (
	"context"
	"errors"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/fault"
	"serve/pool"
	"serve/service"
)

// lines is an encoder of a dialect that nobody speaks: a line for each thing, and no pings.
type lines struct{}

func (lines) ContentType() string   { return "text/plain" }
func (lines) Begin(b []byte) []byte { return b }
func (lines) Ping(b []byte) []byte  { return b }

func (lines) Delta(b []byte, stream int, e *engine.Event) []byte {
	if e.Text != "" {
		b = append(strconv.AppendInt(b, int64(stream), 10), " says "+e.Text+"\n"...)
	}
	if e.Finish != "" {
		b = append(strconv.AppendInt(b, int64(stream), 10), " ends\n"...)
	}
	return b
}

func (lines) End(b []byte, usage []engine.Usage) []byte {
	for _, u := range usage {
		b = append(strconv.AppendInt(b, int64(u.Completion), 10), ' ')
	}
	return append(b, "end\n"...)
}

func (lines) Fail(b []byte, e *fault.Error) []byte { return append(b, e.Message+"\n"...) }

// startReply has a fake say a text to each of some prompts.
func startReply(t *testing.T, text string, prompts int) *service.Reply {
	t.Helper()
	fake := enginetest.New(enginetest.Options{
		Next:   enginetest.Say(text),
		Limits: engine.Limits{RollsBack: true},
	})
	e := engine.New(fake, fake, engine.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = e.Run(ctx)
	}()

	reply := service.NewReply(&pool.Lease{Model: &pool.Model{}, Engine: e, Release: func() {}})
	t.Cleanup(func() {
		reply.Close()
		cancel()
		<-done
	})
	for range prompts {
		tokens, err := e.Tokenize(t.Context(), engine.Caller{}, "prompt\n", engine.Reading{Control: true, Ends: true}, 100)
		if err == nil {
			er := engine.Request{Prompt: tokens, Choices: 1, Sampling: engine.DefaultSampling()}
			err = reply.Generate(t.Context(), er)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return reply
}

// TestStream sends replies in another form than OpenAI's.
func TestStream(t *testing.T) {
	broken := func(e *engine.Event) error {
		if e.Finish != "" {
			return fault.New(fault.SchemaViolation, "", "It is broken.")
		}
		return nil
	}
	for name, tt := range map[string]struct {
		prompts int
		verify  func(*engine.Event) error
		last    string
	}{
		"one":    {1, nil, "2 end"},
		"two":    {2, nil, "2 2 end"},
		"broken": {1, broken, "It is broken."},
	} {
		t.Run(name, func(t *testing.T) {
			reply := startReply(t, "Hi", tt.prompts)
			reply.Verify = tt.verify
			s := &Server{opts: Options{Heartbeat: time.Nanosecond, WriteStall: time.Minute}}
			w := httptest.NewRecorder()
			if e := s.stream(w, httptest.NewRequest("POST", "/", nil), reply, lines{}); e != nil && tt.verify == nil {
				t.Fatal(e)
			}

			got := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
			if last := got[len(got)-1]; last != tt.last && w.Body.Len() > 0 {
				t.Errorf("got %q", got)
			}
			if tt.verify == nil && w.Header().Get("Content-Type") != "text/plain" {
				t.Errorf("headers %v", w.Header())
			}
			for i := range tt.prompts {
				ended := strconv.Itoa(i) + " ends"
				if n := strings.Count(w.Body.String(), ended); tt.verify == nil && n != 1 {
					t.Errorf("stream %d ended %d times: %q", i, n, got)
				}
			}
		})
	}
}

// TestStreamFailsEarly leaves an error to a status while nothing has been sent, and says nothing
// to a client that has gone.
func TestStreamFailsEarly(t *testing.T) {
	s := &Server{opts: Options{Heartbeat: time.Hour, WriteStall: time.Minute}}
	early := errors.New("too early")
	reply := startReply(t, "Hi", 1)
	reply.Verify = func(*engine.Event) error { return early }
	w := httptest.NewRecorder()
	e := s.stream(w, httptest.NewRequest("POST", "/", nil), reply, lines{})
	if e == nil || e.Kind != fault.Internal || w.Body.Len() > 0 {
		t.Errorf("%v, and it wrote %q", e, w.Body)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	reply = startReply(t, "Hi", 1)
	reply.Verify = func(*engine.Event) error { return context.Canceled }
	w = httptest.NewRecorder()
	e = s.stream(w, httptest.NewRequest("POST", "/", nil).WithContext(ctx), reply, lines{})
	if e != nil || w.Body.Len() > 0 {
		t.Errorf("%v, and it wrote %q", e, w.Body)
	}
}

// TestHandlerLeavesTheURL routes a request by another path than it came with, which is not the
// handler's to edit.
func TestHandlerLeavesTheURL(t *testing.T) {
	s, err := New(Options{Hosts: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := httptest.NewRequest("GET", "/v1/models/", nil)
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	if w.Code != 200 || r.URL.Path != "/v1/models/" {
		t.Errorf("%d, and the path is %q", w.Code, r.URL.Path)
	}
}
