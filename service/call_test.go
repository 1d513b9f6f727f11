package service_test

import (
	"errors"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
	"serve/service"
)

// TestCounted counts no tokens of work that has failed or never begun.
func TestCounted(t *testing.T) {
	gate := make(chan struct{})
	s, end := servertest.Unconnected(t, enginetest.Options{
		Limits:       engine.Limits{Sequences: 1},
		BeforeDecode: func(*engine.Batch) error { <-gate; return nil },
	}, engine.Options{}, server.Options{})
	defer end()
	start := func() *engine.Stream {
		stream, err := s.Engine.Generate(t.Context(), engine.Request{Prompt: []engine.Token{'a', 'b'}, MaxTokens: 2})
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	first := start()
	waiting := start()
	waiting.Close()
	close(gate)
	for {
		events, err := first.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if events == nil {
			break
		}
	}

	for name, tt := range map[string]struct {
		work service.Work
		want int
	}{
		"embeddings":        {service.Work{Tokens: 5}, 5},
		"failed embeddings": {service.Work{Tokens: 5, Err: errors.New("failed")}, 0},
		"an answer":         {service.Work{Stream: first}, 4},
		"one never begun":   {service.Work{Stream: waiting}, 0},
	} {
		if got := tt.work.Counted(); got != tt.want {
			t.Errorf("%s: %d tokens", name, got)
		}
	}
}
