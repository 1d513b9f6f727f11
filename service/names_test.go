package service_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"serve/access"
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

	// A name is removed alone, however it is spelled.
	if e := s.Name(t.Context(), stored, "again"); e != nil {
		t.Fatal(e)
	}
	if e := s.Remove(local, "Again:latest"); e != nil {
		t.Error(e)
	}
	find(t.Context(), "again", "")
	find(local, "stored", "stored")

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

// TestManageSomeModels has a key for some models manage these, and no others: they answer as models that are not there.
func TestManageSomeModels(t *testing.T) {
	p := pool.New(0, 1, slog.New(slog.DiscardHandler))
	defer p.Close()
	library := &servertest.Library{
		Files: map[string]*service.Facts{
			"own": {Name: "own"}, "foreign": {Name: "foreign"}, "stored": {Name: "stored"},
		},
		Hub: map[string]*service.Facts{"own": {Name: "own"}, "other": {Name: "other"}},
	}
	s, err := service.New(service.Options{Pool: p, Library: library})
	if err != nil {
		t.Fatal(err)
	}
	all := service.WithCall(t.Context(), &service.Call{Manages: true})
	some := service.WithCall(t.Context(), &service.Call{
		Manages:   true,
		Principal: &access.Principal{Scopes: access.Admin, Models: []string{"own"}},
	})
	foreign, e := s.Find(all, "foreign")
	if e != nil {
		t.Fatal(e)
	}
	if e := s.Name(all, foreign, "taken"); e != nil {
		t.Fatal(e)
	}
	own, e := s.Find(some, "own")
	if e != nil {
		t.Fatal(e)
	}

	if e := s.Name(some, own, "taken"); e == nil {
		t.Error("the name of a foreign model is taken away")
	}
	if e := s.Name(some, own, "mine"); e != nil {
		t.Error(e)
	}
	for _, name := range []string{"taken", "Taken:latest", "foreign", "stored", "none"} {
		e := s.Remove(some, name)
		if e == nil || e.Kind != fault.ModelNotFound || e.Message != "model '"+name+"' not found" {
			t.Errorf("remove %s: %v", name, e)
		}
	}
	for _, name := range []string{"other", "foreign", "none"} {
		e := s.Pull(some, name, func(service.PullProgress) {})
		if e == nil || e.Kind != fault.ModelNotFound || e.Message != "model '"+name+"' not found" {
			t.Errorf("pull %s: %v", name, e)
		}
	}
	if m, e := s.Named(all, "taken"); e != nil || m != foreign || library.Files["foreign"] == nil {
		t.Errorf("the foreign model is gone: %v, %v", m, e)
	}

	for _, name := range []string{"mine", "own"} {
		if e := s.Remove(some, name); e != nil {
			t.Errorf("remove %s: %v", name, e)
		}
	}
	if e := s.Pull(some, "own", func(service.PullProgress) {}); e != nil {
		t.Error(e)
	}
}
