package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"serve/access"
	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/ops"
	"serve/server/servertest"
)

// everything is every scope.
const everything = access.Inference | access.Models | access.Metrics | access.Admin

// read decodes an answer of status 200.
func read[T any](t *testing.T, o outcome) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(o.body), &v); err != nil || o.status != 200 {
		t.Fatalf("%d %s: %v", o.status, o.body, err)
	}
	return v
}

// TestManageKeys makes, lists, rotates and revokes a key by requests. Its secret is told once, and the file has what a
// command would have written.
func TestManageKeys(t *testing.T) {
	k, secrets := newKeyed(t, access.NewKey{Name: "root", Scopes: everything}, access.NewKey{Name: "user"})
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{Keys: k.open()})
	h := s.Handler()
	by := func(secret, method, path, body string) outcome {
		t.Helper()
		return ask(h, method, path, body, "Authorization: Bearer "+secret)
	}
	root := secrets["root"]

	made := read[access.View](t, by(root, "POST", "/v1/keys", `{"name":"ci","tenant":"tests","scopes":["inference"],`+
		`"models":["fake"],"tokens_per_day":1000,"concurrent":2,"expires":"90d"}`))
	if !access.WellFormed(made.Secret) || made.Tenant != "tests" || made.Scopes != access.Inference ||
		made.Limits != (access.Limits{TokensPerDay: 1000, Concurrent: 2}) || made.Expires.IsZero() || made.MadeBy == "" {
		t.Errorf("made: %+v", made)
	}
	if o := by(made.Secret, "GET", "/v1/models", ""); o.status != 200 {
		t.Errorf("the new key is not in use: %d", o.status)
	}
	filed, err := access.List(k.path)
	if err != nil || len(filed) != 3 || filed[2].Name != "ci" || filed[2].ID != made.ID {
		t.Errorf("the file has %+v, %v", filed, err)
	}

	o := by(root, "GET", "/keys", "")
	list := read[ops.KeyList](t, o)
	if len(list.Keys) != 3 || list.Administers != "server" || strings.Contains(o.body, "secret") ||
		strings.Contains(o.body, "sha256") || list.Keys[2].Used.IsZero() || !list.Keys[2].Manageable {
		t.Errorf("the list is %s", o.body)
	}

	rotated := read[access.View](t, by(root, "POST", "/keys/"+made.ID+"/rotate", `{"grace":"1h"}`))
	for _, secret := range []string{made.Secret, rotated.Secret} {
		if o := by(secret, "GET", "/v1/models", ""); o.status != 200 {
			t.Errorf("after a rotation: %d", o.status)
		}
	}
	read[access.View](t, by(root, "DELETE", "/keys/"+made.ID, ""))
	if o := by(rotated.Secret, "GET", "/v1/models", ""); o.status != 401 {
		t.Errorf("after a revocation: %d", o.status)
	}

	for _, tt := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"POST", "/keys", `{}`, 400, "name"},
		{"POST", "/keys", `{"name":"ci"}`, 400, "already a key named ci, which is revoked"},
		{"POST", "/keys", `{"name":"tests"}`, 400, "the tenant tests exists already"},
		{"POST", "/keys", `{"name":"../x"}`, 400, "letters, digits"},
		{"POST", "/keys", `{"name":"x","expires":"soon"}`, 400, "expires"},
		{"POST", "/keys", `{"name":"x","scopes":["root"]}`, 400, "scopes"},
		{"POST", "/keys", `{"name":"x","secret":"sk-serve-mine"}`, 400, "secret"},
		{"POST", "/keys/" + made.ID + "/rotate", `{}`, 400, "was revoked"},
		{"DELETE", "/keys/" + made.ID, "", 400, "was revoked"},
		{"DELETE", "/keys/user", "", 404, "no such API key"},
		{"POST", "/keys/key_0/rotate", `{}`, 404, "no such API key"},
	} {
		if o := by(root, tt.method, tt.path, tt.body); o.status != tt.status || !strings.Contains(o.body, tt.says) {
			t.Errorf("%s %s %s: %d %s", tt.method, tt.path, tt.body, o.status, o.body)
		}
	}
	if o := by(secrets["user"], "POST", "/keys", `{"name":"x","scopes":["admin"]}`); o.status != 403 || o.read {
		t.Errorf("without the scope: %d %s", o.status, o.body)
	}
	o = ask(h, "POST", "/keys", `{"name":"x"}`, "Authorization: Bearer "+root, "Origin: https://evil.example")
	if o.status != 403 || o.read {
		t.Errorf("a page of another origin: %d %s", o.status, o.body)
	}
}

// TestRotateOneself answers the rotation of the very key that asks for it, which ends the requests of the old secret.
func TestRotateOneself(t *testing.T) {
	k, secrets := newKeyed(t, access.NewKey{Name: "root", Scopes: everything})
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{Keys: k.open()})
	id := read[ops.KeyAnswer](t, fetch(t, "GET", hs.URL+"/key", "", secrets["root"])).Key.ID
	rotated := read[access.View](t, fetch(t, "POST", hs.URL+"/keys/"+id+"/rotate", "{}", secrets["root"]))
	if o := fetch(t, "GET", hs.URL+"/keys", "", secrets["root"]); o.status != 401 {
		t.Errorf("the old secret: %d", o.status)
	}
	read[ops.KeyList](t, fetch(t, "GET", hs.URL+"/keys", "", rotated.Secret))
	read[access.View](t, fetch(t, "DELETE", hs.URL+"/keys/"+id, "", rotated.Secret))
	if o := fetch(t, "GET", hs.URL+"/key", "", rotated.Secret); o.status != 401 {
		t.Errorf("a key that has revoked itself: %d", o.status)
	}
}

// fetch asks a server over the network with a key.
func fetch(t *testing.T, method, url, body, secret string) outcome {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return outcome{status: res.StatusCode, header: res.Header, body: string(text)}
}

// TestOwnKey tells every key what it may do, and nobody else anything.
func TestOwnKey(t *testing.T) {
	k, secrets := newKeyed(t,
		access.NewKey{Name: "root", Scopes: everything},
		access.NewKey{Name: "team", Tenant: "research", Scopes: everything},
		access.NewKey{Name: "user", Models: []string{"fake"}, Limits: access.Limits{TokensPerDay: 9}},
		access.NewKey{Name: "scraper", Scopes: access.Metrics},
	)
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{Keys: k.open()})
	for name, want := range map[string]struct {
		administers string
		manages     bool
	}{
		"root":    {"server", true},
		"team":    {"tenant", true},
		"user":    {"", false},
		"scraper": {"", false},
	} {
		a := read[ops.KeyAnswer](t, ask(s.Handler(), "GET", "/key", "", "X-Api-Key: "+secrets[name]))
		if !a.Required || a.Administers != want.administers || a.Manages != want.manages || a.Key.Name != name ||
			a.Key.Secret != "" {
			t.Errorf("%s: %+v", name, a)
		}
		if name == "user" && (a.Key.Models[0] != "fake" || a.Key.Limits.TokensPerDay != 9) {
			t.Errorf("%+v", a.Key)
		}
	}
	if o := ask(s.Handler(), "GET", "/key", ""); o.status != 401 {
		t.Errorf("without a key: %d %s", o.status, o.body)
	}

	_, open := servertest.Start(t, enginetest.Options{}, server.Options{})
	a := read[ops.KeyAnswer](t, ask(open.Handler(), "GET", "/key", ""))
	if a.Required || a.Administers != "" || a.Key != nil {
		t.Errorf("a server without keys: %+v", a)
	}
}

// TestNoKeysByAnybody manages no keys where none is required: not even for programs of this machine, which manage its
// models.
func TestNoKeysByAnybody(t *testing.T) {
	none, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	k, err := access.Open(access.Options{File: t.TempDir() + "/keys.json"})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	empty, _ := servertest.Start(t, enginetest.Options{}, server.Options{Keys: k})
	for name, hs := range map[string]string{"without keys": none.URL, "before the first key": empty.URL} {
		for _, m := range []struct{ method, path, body string }{
			{"GET", "/keys", ""},
			{"GET", "/usage", ""},
			{"POST", "/keys", `{"name":"later","scopes":["admin"]}`},
			{"POST", "/keys/key_0/rotate", `{}`},
			{"DELETE", "/keys/key_0", ""},
		} {
			o := fetch(t, m.method, hs+m.path, m.body, "")
			if o.status != 403 || !strings.Contains(o.body, "serve key create") {
				t.Errorf("%s, %s %s: %d %s", name, m.method, m.path, o.status, o.body)
			}
		}
	}
}

// TestUsage counts what keys and tenants use: tokens, and requests that run or wait in a queue.
func TestUsage(t *testing.T) {
	k, secrets := newKeyed(t,
		access.NewKey{Name: "root", Scopes: everything},
		access.NewKey{Name: "alice", Tenant: "research"},
		access.NewKey{Name: "bob", Tenant: "research"},
		access.NewKey{Name: "idle"},
	)
	posted := make(chan struct{})
	counted := make(chan struct{})
	_, s := servertest.Start(t, enginetest.Options{
		Limits: engine.Limits{Sequences: 1, Context: 1 << 20},
		Next: func([]engine.Token) engine.Token {
			select {
			case <-posted:
				<-counted
				return enginetest.EOS
			default:
				return 'a' // the engine's loop has to go on for others to be queued
			}
		},
	}, server.Options{Keys: k.open()})
	h := s.Handler()
	usage := func() ops.UsageAnswer {
		t.Helper()
		return read[ops.UsageAnswer](t, ask(h, "GET", "/usage", "", "X-Api-Key: "+secrets["root"]))
	}
	for _, name := range []string{"alice", "alice", "bob"} {
		body := `{"model":"fake","input":"a","background":true}`
		if o := ask(h, "POST", "/v1/responses", body, "X-Api-Key: "+secrets[name]); o.status != 200 {
			t.Fatal(o.status, o.body)
		}
	}

	u := usage()
	research := u.Tenants[tenantIn(u, "research")]
	for research.Running != 1 || research.Waiting != 2 { // background responses begin after they were answered
		u = usage()
		research = u.Tenants[tenantIn(u, "research")]
	}
	close(posted)
	if research.Keys != 2 || len(u.Tenants) != 3 || len(u.Keys) != 2 {
		t.Errorf("while they run: %+v", u)
	}
	close(counted)
	s.Wait(t.Context())
	u = usage()
	research = u.Tenants[tenantIn(u, "research")]
	if research.Running+research.Waiting != 0 || research.Tokens == 0 || len(u.Keys) != 2 ||
		u.Keys[0].Tokens+u.Keys[1].Tokens != research.Tokens {
		t.Errorf("after their end: %+v", u)
	}
}

// tenantIn returns the place of a tenant in an answer.
func tenantIn(u ops.UsageAnswer, name string) int {
	for i, tenant := range u.Tenants {
		if tenant.Tenant == name {
			return i
		}
	}
	panic(fmt.Sprintf("no tenant is named %s: %+v", name, u))
}
