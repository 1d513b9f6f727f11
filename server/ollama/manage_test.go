package ollama_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/pool"
	"serve/server"
	"serve/server/servertest"
)

// TestRights lets only programs of this machine manage models. Behind a proxy nobody is one.
func TestRights(t *testing.T) {
	library := newLibrary()
	hs, _ := servertest.Start(t, enginetest.Options{Next: say("Hi!")}, server.Options{Library: library})
	const proxied = "X-Forwarded-For: 203.0.113.7"
	for path, body := range map[string]string{
		"/api/pull":     `{"model":"hf.co/org/repo:Q4_K_M"}`,
		"/api/copy":     `{"source":"fake","destination":"x"}`,
		"/api/chat":     `{"model":"fake","keep_alive":0}`,
		"/api/generate": `{"model":"fake","keep_alive":"0s"}`,
	} {
		if res, text := servertest.Ask(t, hs, path, body, proxied); res.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d %s", path, res.StatusCode, text)
		}
	}
	for _, path := range []string{"/api/chat", "/v1/chat/completions", "/api/show"} {
		res, text := servertest.Ask(t, hs, path, `{"model":"stored:Q8_0",`+hello+`}`, proxied)
		if path == "/api/show" {
			res, text = servertest.Ask(t, hs, path, `{"model":"stored:Q8_0"}`, proxied)
		}
		if res.StatusCode != http.StatusNotFound {
			t.Errorf("%s of a model that is not served: %d %s", path, res.StatusCode, text)
		}
	}
	if opened := library.Opened(); opened != nil {
		t.Errorf("it opened %v", opened)
	}

	// A model that is served answers anybody, who cannot say how long it stays.
	res, text := servertest.Ask(t, hs, "/api/chat", `{"model":"fake","keep_alive":"1h",`+hello+`}`, proxied)
	if res.StatusCode != 200 || res.Header.Get("X-Ignored-Fields") != "keep_alive" {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, text)
	}
}

// TestStoredModels serves what is stored on the machine when a program of it asks for it, by every API.
func TestStoredModels(t *testing.T) {
	fake := enginetest.New(enginetest.Options{Next: say("Hi!"), Limits: engine.Limits{RollsBack: true}})
	e := engine.New(fake, fake, engine.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	library := newLibrary()
	library.Load = func(context.Context, bool) (*pool.Instance, error) {
		done := make(chan struct{})
		return &pool.Instance{Engine: e, Done: done, Stop: sync.OnceFunc(func() { close(done) })}, nil
	}
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{Library: library})
	for path, body := range map[string]string{
		"/api/chat":            `{"model":"STORED:q8_0","stream":false,` + hello + `}`,
		"/v1/chat/completions": `{"model":"stored:Q8_0",` + hello + `}`,
	} {
		if res, text := servertest.Post(t, hs, path, body); res.StatusCode != 200 || !strings.Contains(text, "Hi!") {
			t.Errorf("%s: %d %s", path, res.StatusCode, text)
		}
	}
	if opened := library.Opened(); len(opened) != 1 {
		t.Errorf("it opened %v", opened)
	}
	if _, list := servertest.Request(t, hs, http.MethodGet, "/v1/models"); !strings.Contains(list, `"stored:Q8_0"`) {
		t.Errorf("it is not among %s", list)
	}

	// Copied, deleted by its copy's name, and then deleted itself.
	servertest.Post(t, hs, "/api/copy", `{"source":"stored:Q8_0","destination":"mine"}`)
	if res, text := servertest.Post(t, hs, "/api/show", `{"model":"Mine:latest"}`); res.StatusCode != 200 {
		t.Errorf("the copy: %d %s", res.StatusCode, text)
	}
	for _, name := range []string{"mine", "stored:Q8_0"} {
		if got := send(t, hs.URL, http.MethodDelete, "/api/delete", `{"model":"`+name+`"}`); !strings.HasPrefix(got, "200") {
			t.Errorf("delete %s: %s", name, got)
		}
		if got := send(t, hs.URL, http.MethodPost, "/api/show", `{"model":"`+name+`"}`); !strings.HasPrefix(got, "404") {
			t.Errorf("deleted %s: %s", name, got)
		}
	}
}

// TestPullThenChat finds a model that was pulled.
func TestPullThenChat(t *testing.T) {
	library := newLibrary()
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{Library: library})
	_, body := servertest.Post(t, hs, "/api/pull", `{"model":"hf.co/org/repo:Q4_K_M"}`)
	if !strings.HasSuffix(body, `{"status":"success"}`+"\n") {
		t.Fatal(body)
	}
	library.Load = func(context.Context, bool) (*pool.Instance, error) { return nil, errors.New("it is a fake") }
	res, body := servertest.Post(t, hs, "/api/chat", `{"model":"hf.co/org/repo:Q4_K_M",`+hello+`}`)
	if res.StatusCode != 500 || !strings.Contains(body, "cannot be loaded") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}
