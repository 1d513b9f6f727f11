package ops_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/pool"
	"serve/server"
	"serve/server/servertest"
)

func TestReadyNeedsSteps(t *testing.T) {
	gate := make(chan struct{})
	entered := make(chan struct{}, 1)
	hs, _ := servertest.Start(t, enginetest.Options{BeforeDecode: func(*engine.Batch) error {
		select {
		case entered <- struct{}{}:
		default:
		}
		<-gate
		return nil
	}}, server.Options{Stall: time.Nanosecond})

	done := make(chan struct{})
	go func() {
		defer close(done)
		servertest.Post(t, hs, "/v1/completions", `{"model":"fake","prompt":"p"}`)
	}()

	<-entered
	res, err := http.Get(hs.URL + "/readyz")
	if err != nil || res.StatusCode != 503 {
		t.Errorf("while a step hangs: %v, %v", res, err)
	}

	close(gate)
	<-done
	// The answer leaves the engine before the step that ended it is over.
	for range 1000 {
		if res, err = http.Get(hs.URL + "/readyz"); err != nil || res.StatusCode == 200 {
			break
		}
	}

	if err != nil || res.StatusCode != 200 {
		t.Errorf("after it: %v, %v", res, err)
	}
}

// full is an engine whose queue has no room.
type full struct{ pool.Engine }

func (f full) Stats() engine.Stats {
	s := f.Engine.Stats()
	s.Room = 0
	return s
}

// TestReadyByModel asks for all models, and for each.
func TestReadyByModel(t *testing.T) {
	hs, s := servertest.Start(t, enginetest.Options{}, server.Options{})
	ready := func(query string) (int, string) {
		t.Helper()
		res, err := http.Get(hs.URL + "/readyz" + query)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}

	check := func(query string, status int, want string) {
		t.Helper()
		if got, body := ready(query); got != status || !strings.Contains(body, want) {
			t.Errorf("%q: %d %s, want %d %s", query, got, body, status, want)
		}
	}

	check("", 200, `{"status":"ready","models":{"fake":"not loaded"}}`)
	check("?model=gpt-4o", 200, `"fake":"not loaded"`) // an alias
	check("?model=nope", 404, "model_not_found")
	m := s.Model
	load := m.Load
	m.Load = func(ctx context.Context, shrink bool) (*pool.Instance, error) {
		in, err := load(ctx, shrink)
		if err == nil {
			in.Engine = full{in.Engine}
		}
		return in, err
	}

	servertest.Post(t, hs, "/v1/completions", `{"model":"fake","prompt":"p","max_tokens":1}`)
	check("", 503, `{"status":"not ready","models":{"fake":"queue full"}}`)
	s.Drain()
	check("?model=fake", 503, `"status":"stopping"`)
}
