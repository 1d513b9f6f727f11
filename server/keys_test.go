package server_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"serve/access"
	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// TestRevokedStream ends a stream, an answer that is not streamed and a background response when their key is revoked,
// and says so to who is reading. In access, TestRevocation says how soon that is.
func TestRevokedStream(t *testing.T) {
	k, secrets := newKeyed(t, access.NewKey{Name: "alice"}, access.NewKey{Name: "bob"})
	hs, s := servertest.Start(t, enginetest.Options{
		Limits: engine.Limits{Context: 1 << 20},
		Next:   func([]engine.Token) engine.Token { time.Sleep(time.Millisecond); return 'a' },
	}, server.Options{Keys: k.open()})
	stream := func(name string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, hs.URL+"/v1/chat/completions",
			strings.NewReader(`{"model":"fake","stream":true,`+servertest.Hello+`}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+secrets[name])
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		t.Cleanup(func() { res.Body.Close() })
		if _, err := io.ReadFull(res.Body, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		return res
	}
	alice := stream("alice")
	bob := stream("bob")
	whole := make(chan string, 1)
	started := make(chan struct{})
	go func() {
		close(started)
		res, text := servertest.Ask(t, hs, "/v1/chat/completions", `{"model":"fake",`+servertest.Hello+`}`,
			"Authorization: Bearer "+secrets["alice"])
		whole <- fmt.Sprint(res.StatusCode, text)
	}()
	_, queued := servertest.Ask(t, hs, "/v1/responses", `{"model":"fake","input":"a","background":true}`,
		"Authorization: Bearer "+secrets["alice"])
	if !strings.Contains(queued, `"in_progress"`) {
		t.Fatal(queued)
	}

	<-started
	if _, err := access.Revoke(k.path, "alice"); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(alice.Body)
	if err != nil || !bytes.Contains(rest, []byte(`"invalid_api_key"`)) {
		t.Errorf("%v, %s", err, rest[max(0, len(rest)-300):])
	}
	if text := <-whole; !strings.HasPrefix(text, "401") {
		t.Error(text)
	}
	s.Wait(t.Context()) // for the background response
	if _, err := io.ReadFull(bob.Body, make([]byte, 1000)); err != nil {
		t.Errorf("the other key's stream: %v", err)
	}
}

// TestNoSecretIsLogged looks for keys in everything that is logged about requests that are answered, refused and fail.
func TestNoSecretIsLogged(t *testing.T) {
	k, secrets := newKeyed(t, access.NewKey{Name: "alice"})
	var log bytes.Buffer
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{
		Keys: k.open(),
		Log:  slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	h := s.Handler()
	secret := secrets["alice"]
	wrong := secret[:len(secret)-12] + "wrongwrong12"
	var answers strings.Builder
	for _, key := range []string{secret, wrong} {
		for _, path := range []string{"/v1/models", "/v1/chat/completions", "/metrics", "/nothing", "/v1/models?key=" + key} {
			for _, header := range []string{"Authorization: Bearer ", "X-Api-Key: ", "Authorization: ", "Api-Key: "} {
				o := ask(h, "POST", path, `{"model":"fake",`+servertest.Hello+`}`, header+key)
				fmt.Fprintln(&answers, o.body, o.header)
			}
		}
	}
	for _, key := range []string{secret, wrong} {
		if strings.Contains(log.String(), key[9:30]) || strings.Contains(answers.String(), key[9:30]) {
			t.Errorf("a key was logged or answered")
		}
	}
	if !strings.Contains(log.String(), "key=key_") {
		t.Error("the log does not say whose requests there were")
	}
}

// TestLimitsOfKeys refuses what a key may not use, and says what is left in OpenAI's headers.
func TestLimitsOfKeys(t *testing.T) {
	k, secrets := newKeyed(t,
		access.NewKey{Name: "requests", Limits: access.Limits{RequestsPerMinute: 3}},
		access.NewKey{Name: "few", Limits: access.Limits{RequestsPerMinute: 3}},
		access.NewKey{Name: "tokens", Limits: access.Limits{TokensPerMinute: 100}},
		access.NewKey{Name: "day", Limits: access.Limits{TokensPerDay: 100}},
		access.NewKey{Name: "one", Limits: access.Limits{Concurrent: 1}},
	)
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{Keys: k.open()})
	h := s.Handler()
	complete := func(key, fields string) outcome {
		return ask(h, "POST", "/v1/completions", `{"model":"fake","max_tokens":5,"ignore_eos":true,`+fields+`}`,
			"Authorization: Bearer "+secrets[key])
	}

	o := complete("requests", `"prompt":["a","b"]`)
	if o.status != 200 || o.header.Get("X-Ratelimit-Limit-Requests") != "3" ||
		o.header.Get("X-Ratelimit-Remaining-Requests") != "1" || o.header.Get("X-Ratelimit-Reset-Requests") == "" {
		t.Errorf("two prompts: %d %v", o.status, o.header)
	}
	if o := complete("requests", `"prompt":"a","n":2`); o.status != 429 || o.header.Get("Retry-After") == "" {
		t.Errorf("two answers: %d %v %s", o.status, o.header, o.body)
	}
	if o := complete("few", `"prompt":"a","n":4`); o.status != 429 || o.header.Get("X-Should-Retry") != "false" {
		t.Errorf("more answers than there ever are: %d %v %s", o.status, o.header, o.body)
	}

	o = complete("tokens", `"prompt":"`+strings.Repeat("a", 60)+`"`)
	if o.status != 200 || o.header.Get("X-Ratelimit-Limit-Tokens") != "100" ||
		o.header.Get("X-Ratelimit-Remaining-Tokens") == "100" {
		t.Errorf("tokens: %d %v", o.status, o.header)
	}
	o = complete("tokens", `"prompt":"`+strings.Repeat("b", 60)+`"`)
	if o.status != 429 || o.header.Get("Retry-After") == "" {
		t.Errorf("too many tokens a minute: %d %s", o.status, o.body)
	}
	if o := complete("day", `"prompt":"`+strings.Repeat("a", 101)+`"`); o.status != 429 {
		t.Errorf("too many tokens a day: %d %s", o.status, o.body)
	}
	if o := complete("one", `"prompt":["a","b"]`); o.status != 429 || o.header.Get("X-Should-Retry") != "false" {
		t.Errorf("two answers at the same time: %d %s", o.status, o.body)
	}
	for range 3 { // a request that has ended does not count
		if o := complete("one", `"prompt":"a"`); o.status != 200 {
			t.Errorf("one after the other: %d %s", o.status, o.body)
		}
	}
}

// TestShapesOfRefusals compares what clients get that may not ask with what each API's own servers send.
func TestShapesOfRefusals(t *testing.T) {
	k, secrets := newKeyed(t,
		access.NewKey{Name: "scraper", Scopes: access.Metrics},
		access.NewKey{Name: "slow", Limits: access.Limits{RequestsPerMinute: 1}},
	)
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{Keys: k.open()})
	h := s.Handler()
	body := `{"model":"none",` + servertest.Hello + `,"max_tokens":1}`
	if o := ask(h, "POST", "/v1/chat/completions", body, "X-Api-Key: "+secrets["slow"]); o.status != 404 {
		t.Fatal(o.status, o.body)
	}
	for _, tt := range []struct {
		path, secret string
		status       int
		want         string
	}{
		{"/v1/chat/completions", "wrong", 401,
			`{"error":{"message":"Incorrect API key provided.","type":"invalid_request_error",` +
				`"param":null,"code":"invalid_api_key"}}`},
		{"/v1/messages", "wrong", 401,
			`{"type":"error","error":{"type":"authentication_error","message":"Incorrect API key provided."},"request_id":"`},
		{"/api/chat", "wrong", 401, `{"error":"Incorrect API key provided."}`},
		{"/v1/chat/completions", secrets["scraper"], 403,
			`{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: inference.",` +
				`"type":"invalid_request_error","param":null,"code":"missing_scope"}}`},
		{"/v1/messages", secrets["scraper"], 403,
			`{"type":"error","error":{"type":"permission_error","message":"You have insufficient permissions for this ` +
				`operation. Missing scopes: inference."},"request_id":"`},
		{"/api/chat", secrets["scraper"], 403,
			`{"error":"You have insufficient permissions for this operation. Missing scopes: inference."}`},
		{"/v1/chat/completions", secrets["slow"], 429,
			`{"error":{"message":"Rate limit reached for your API key: 1 requests per minute. Try again in `},
		{"/v1/messages", secrets["slow"], 429,
			`{"type":"error","error":{"type":"rate_limit_error","message":"Rate limit reached for your API key: 1 requests`},
		{"/api/chat", secrets["slow"], 429,
			`{"error":"Rate limit reached for your API key: 1 requests per minute. Try again in `},
	} {
		o := ask(h, "POST", tt.path, body, "Authorization: Bearer "+tt.secret)
		if o.status != tt.status || !strings.HasPrefix(o.body, tt.want) {
			t.Errorf("%s: %d %s, want %s", tt.path, o.status, o.body, tt.want)
		}
		if after := o.header.Get("Retry-After"); (after != "") != (tt.status == 429) {
			t.Errorf("%s: %d with Retry-After %q", tt.path, o.status, after)
		}
	}
}

// TestFailuresOfAnAddress refuses wrong keys from an address that has sent many with 429, and right ones not.
func TestFailuresOfAnAddress(t *testing.T) {
	k, secrets := newKeyed(t, access.NewKey{Name: "alice"})
	keys, err := access.Open(access.Options{File: k.path, Failures: 2, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{Keys: keys})
	var got []int
	for range 4 {
		got = append(got, ask(s.Handler(), "GET", "/v1/models", "", "Authorization: Bearer wrong").status)
	}
	got = append(got, ask(s.Handler(), "GET", "/v1/models", "", "Authorization: Bearer "+secrets["alice"]).status)
	if want := []int{401, 401, 429, 429, 200}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
