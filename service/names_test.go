package service_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"serve/fault"
	"serve/pool"
	"serve/server/servertest"
	"serve/service"
)

// TestFind finds models by every spelling of their names, and those that are stored only for programs of
// this machine.
func TestFind(t *testing.T) {
	p := pool.New(0, 1, slog.New(slog.DiscardHandler))
	defer p.Close()
	served := &pool.Model{ID: "Org/Served:Q4_K_M", Aliases: []string{"gpt-5"}}
	s, err := service.New(service.Options{
		Pool:   p,
		Models: []*pool.Model{served},
		Library: &servertest.Library{Files: map[string]*service.Facts{
			"Org/Served:Q4_K_M": {Name: "Org/Served:Q4_K_M"},
			"stored":            {Name: "stored", Modified: time.Unix(1, 0)},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	local := service.WithCall(t.Context(), &service.Call{Manages: true})
	find := func(ctx context.Context, name, want string) {
		t.Helper()
		m, e := s.Find(ctx, name)
		switch {
		case want == "" && (e == nil || e.Kind != fault.ModelNotFound):
			t.Errorf("%s: found %+v, %v", name, m, e)
		case want != "" && (e != nil || m.ID != want):
			t.Errorf("%s: found %+v, %v", name, m, e)
		}
	}

	for _, name := range []string{
		"Org/Served:Q4_K_M", "org/served:q4_k_m", "hf.co/Org/Served:Q4_K_M", "gpt-5", "GPT-5:latest",
		"registry.ollama.ai/library/gpt-5:latest",
	} {
		find(t.Context(), name, served.ID)
	}
	find(t.Context(), "gpt-5:q4", "")
	find(t.Context(), "stored", "")
	find(local, "Stored:latest", "stored")
	find(t.Context(), "stored", "stored") // it is served from now on
	find(local, "absent", "")
	if n := len(s.All()); n != 2 {
		t.Errorf("%d models", n)
	}

	// Another name, which may move, but never onto that of a model.
	stored, _ := s.Named(t.Context(), "stored")
	for _, m := range []*pool.Model{stored, served} {
		if e := s.Name(t.Context(), m, "mine"); e != nil {
			t.Fatal(e)
		}
		find(t.Context(), "Mine:latest", m.ID)
	}
	if e := s.Name(t.Context(), stored, "gpt-5"); e == nil {
		t.Error("a model has the name of another")
	}

	// A name is removed alone; then the files, but not of what the server was started with.
	for _, tt := range []struct {
		name string
		ok   bool
	}{{"mine", true}, {"mine", false}, {"GPT-5", false}, {"stored", true}, {"stored", false}} {
		if e := s.Remove(local, tt.name); (e == nil) != tt.ok {
			t.Errorf("remove %s: %v", tt.name, e)
		}
	}
	find(local, "mine", "")
	find(local, "stored", "")
	find(t.Context(), "gpt-5", served.ID)
}
