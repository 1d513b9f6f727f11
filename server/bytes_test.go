package server_test

import (
	"strings"
	"testing"

	"serve/access"
	"serve/archive"
	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// TestBytesInFlight refuses bodies that are larger than a key may have in memory, in each API's form, and those for
// which others of the same key leave no room until these have been answered.
func TestBytesInFlight(t *testing.T) {
	const most = 400
	k, secrets := newKeyed(t,
		access.NewKey{Name: "alice", Limits: access.Limits{BytesInFlight: most}},
		access.NewKey{Name: "bob"},
	)
	computing := make(chan struct{}, 100)
	goOn := make(chan struct{})
	_, s := servertest.Start(t, enginetest.Options{
		Limits: engine.Limits{Context: 1 << 10},
		Next:   func([]engine.Token) engine.Token { computing <- struct{}{}; <-goOn; return 'a' },
	}, server.Options{Keys: k.open()})
	post := func(key, path string, size int) outcome {
		body := `{"model":"fake","max_tokens":1,"prompt":"`
		if path != "/v1/completions" {
			body = `{"model":"fake","max_tokens":1,"messages":[{"role":"user","content":"a"}],"user":"`
		}
		body += strings.Repeat("x", size-len(body)-2) + `"}`
		return ask(s.Handler(), "POST", path, body, "Authorization: Bearer "+secrets[key], "anthropic-version: 2023-06-01")
	}

	for path, want := range map[string]string{
		"/v1/completions": `"code":"request_too_large"`,
		"/v1/messages":    `"type":"request_too_large"`,
		"/api/chat":       `"error":"The request body is too large (maximum 400 bytes`,
	} {
		if o := post("alice", path, most+1); o.status != 413 || !strings.Contains(o.body, want) || o.read {
			t.Errorf("%s: %d %s", path, o.status, o.body)
		}
	}

	first := make(chan outcome)
	go func() { first <- post("alice", "/v1/completions", 300) }()
	select {
	case <-computing:
	case o := <-first:
		t.Fatal(o.status, o.body)
	}
	for path, want := range map[string]string{
		"/v1/completions": `"code":"rate_limit_exceeded"`,
		"/v1/messages":    `"type":"rate_limit_error"`,
		"/api/chat":       `"error":"Rate limit reached for your API key: 400 bytes`,
	} {
		o := post("alice", path, 300)
		if o.status != 429 || !strings.Contains(o.body, want) || o.header.Get("Retry-After") == "" {
			t.Errorf("%s beside another: %d %s", path, o.status, o.body)
		}
	}
	close(goOn)
	if o := <-first; o.status != 200 {
		t.Errorf("the first: %d %s", o.status, o.body)
	}
	for _, key := range []string{"alice", "bob"} {
		if o := post(key, "/v1/completions", 300); o.status != 200 {
			t.Errorf("%s afterwards: %d %s", key, o.status, o.body)
		}
	}
	if o := post("bob", "/v1/completions", most+1); o.status != 200 {
		t.Errorf("a key without the limit: %d %s", o.status, o.body)
	}
}

// TestBytesStored refuses what a key may no longer store, before the model is asked, and nothing to others of its
// tenant; more is stored when something was deleted.
func TestBytesStored(t *testing.T) {
	a, err := archive.Open(t.TempDir(), 0, archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	k, secrets := newKeyed(t,
		access.NewKey{Name: "alice", Tenant: "icu", Limits: access.Limits{BytesStored: 8 << 10}},
		access.NewKey{Name: "bob", Tenant: "icu"},
	)
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{Keys: k.open(), Archive: a})
	store := func(key string) outcome {
		return ask(s.Handler(), "POST", "/v1/responses", `{"model":"fake","input":"a","max_output_tokens":16}`,
			"Authorization: Bearer "+secrets[key])
	}

	var o outcome
	id := ""
	for range 20 {
		if o = store("alice"); o.status != 200 {
			break
		}
		_, rest, _ := strings.Cut(o.body, `"id":"`)
		id, _, _ = strings.Cut(rest, `"`)
	}
	isFull := strings.Contains(o.body, "storage_full") && strings.Contains(o.body, "at most 8192 bytes")
	if o.status != 507 || !isFull || id == "" {
		t.Fatal(o.status, o.body)
	}
	if o := store("bob"); o.status != 200 {
		t.Errorf("another key of the tenant: %d %s", o.status, o.body)
	}
	o = ask(s.Handler(), "DELETE", "/v1/responses/"+id, "", "Authorization: Bearer "+secrets["alice"])
	if o.status != 200 {
		t.Fatal(o.status, o.body)
	}
	if o := store("alice"); o.status != 200 {
		t.Errorf("there is room again: %d %s", o.status, o.body)
	}
}
