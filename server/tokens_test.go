package server_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"serve/access"
	"serve/engine"
	"serve/engine/enginetest"
	"serve/oidc"
	"serve/oidc/oidctest"
	"serve/server"
	"serve/server/servertest"
)

// issued is an issuer of tokens, and the verifier that knows them.
type issued struct {
	*oidctest.Provider
	verifier *oidc.Verifier
}

// newTokens returns an issuer whose keys are in a file.
func newTokens(t testing.TB, o oidc.Options) issued {
	t.Helper()
	p := oidctest.Offline(t, "https://idp.example")
	o.Issuer = p.URL
	o.Audience = oidctest.Audience
	o.KeyFile = p.Write(t.TempDir())
	o.Failures = 1 << 30
	o.Log = slog.New(slog.DiscardHandler)
	v, err := oidc.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return issued{p, v}
}

// TestTokensAlone serves those who have a token where there are no keys, by their models and limits, and nobody else.
func TestTokensAlone(t *testing.T) {
	tokens := newTokens(t, oidc.Options{ModelsClaim: "models", Limits: access.Limits{RequestsPerMinute: 2}})
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{Tokens: tokens.verifier})
	post := func(token string) outcome {
		return ask(s.Handler(), "POST", "/v1/completions", `{"model":"fake","max_tokens":1,"prompt":"a"}`,
			"Authorization: Bearer "+token)
	}
	right := oidctest.Claims{"models": []string{"fake"}}
	for _, tt := range []struct {
		name, token string
		status      int
	}{
		{"none", "", 401},
		{"a key", "sk-serve-abc", 401},
		{"other models", tokens.Token("bob", oidctest.Claims{"models": "other"}), 404},
		{"right", tokens.Token("alice", right), 200},
		{"another token", tokens.Token("alice", right), 200},
		{"too often", tokens.Token("alice", right), 429},
		{"another subject", tokens.Token("carol", right), 200},
	} {
		if o := post(tt.token); o.status != tt.status {
			t.Errorf("%s: %d %s", tt.name, o.status, o.body)
		}
	}
	if o := ask(s.Handler(), "GET", "/metrics", ""); o.status != 401 {
		t.Errorf("nobody sees the metrics: %d", o.status)
	}
}

// TestExpiredTokenEndsStreams ends a stream when its token expires, and says so.
func TestExpiredTokenEndsStreams(t *testing.T) {
	tokens := newTokens(t, oidc.Options{})
	hs, _ := servertest.Start(t, enginetest.Options{
		Limits: engine.Limits{Context: 1 << 20},
		Next:   func([]engine.Token) engine.Token { time.Sleep(time.Millisecond); return 'a' },
	}, server.Options{Tokens: tokens.verifier})
	// It has expired, and is accepted for the second or two that are left of what clocks may differ.
	soon := oidctest.Claims{"exp": time.Now().Add(-28 * time.Second).Unix()}
	res := send(t, http.MethodPost, hs.URL+"/v1/chat/completions", tokens.Token("alice", soon), "application/json",
		strings.NewReader(`{"model":"fake","stream":true,`+servertest.Hello+`}`))
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 || !strings.Contains(string(text), `"invalid_api_key"`) {
		t.Errorf("%d %v, %s", res.StatusCode, err, text[max(0, len(text)-300):])
	}
}

// TestTenantsOfTokens has a token share what its tenant's key has stored, if a claim says so, and no other's.
func TestTenantsOfTokens(t *testing.T) {
	k, secrets := newKeyed(t, access.NewKey{Name: "alice", Tenant: "icu"})
	tokens := newTokens(t, oidc.Options{TenantClaim: "ward"})
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{Keys: k.open(), Tokens: tokens.verifier})
	o := ask(s.Handler(), "POST", "/v1/responses", `{"model":"fake","input":"a","max_output_tokens":16}`,
		"Authorization: Bearer "+secrets["alice"])
	var stored struct{ ID string }
	if err := json.Unmarshal([]byte(o.body), &stored); err != nil || stored.ID == "" {
		t.Fatal(o.status, o.body)
	}
	for ward, status := range map[string]int{"icu": 200, "er": 404} {
		token := tokens.Token("bob", oidctest.Claims{"ward": ward})
		o := ask(s.Handler(), "GET", "/v1/responses/"+stored.ID, "", "Authorization: Bearer "+token)
		if o.status != status {
			t.Errorf("of %s: %d %s", ward, o.status, o.body)
		}
	}
}

// TestCertificatesOfKeys identifies clients by their certificates, as what the file of keys says of them.
func TestCertificatesOfKeys(t *testing.T) {
	k, secrets := newKeyed(t,
		access.NewKey{Name: "alice", Certificate: "spiffe://site/alice", Limits: access.Limits{RequestsPerMinute: 1}},
		access.NewKey{Name: "bob", Models: []string{"other"}, Certificate: "spiffe://site/bob"},
		access.NewKey{Name: "carol"},
	)
	if secrets["alice"] != "" || secrets["carol"] == "" {
		t.Error("a key for a certificate has a secret, or one without has none")
	}
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{Keys: k.open()})
	post := func(headers ...string) int {
		return ask(s.Handler(), "POST", "/v1/completions", `{"model":"fake","max_tokens":1,"prompt":"a"}`, headers...).status
	}
	alice := certificateHeader + ": spiffe://site/alice"
	for _, tt := range []struct {
		name    string
		headers []string
		status  int
	}{
		{"right", []string{alice}, 200},
		{"too often", []string{alice}, 429},
		{"other models", []string{certificateHeader + ": spiffe://site/bob"}, 404},
		{"another", []string{certificateHeader + ": spiffe://site/carol"}, 401},
		{"a secret beside it", []string{alice, "Authorization: Bearer " + secrets["carol"]}, 200},
	} {
		if got := post(tt.headers...); got != tt.status {
			t.Errorf("%s: %d", tt.name, got)
		}
	}
}

// TestAnthropicLimits has Anthropic's headers say what is left of a key's limits, in Anthropic's API alone.
func TestAnthropicLimits(t *testing.T) {
	k, secrets := newKeyed(t,
		access.NewKey{Name: "alice", Limits: access.Limits{RequestsPerMinute: 3, TokensPerMinute: 1000}},
		access.NewKey{Name: "bob"},
	)
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{Keys: k.open()})
	post := func(path, key string) http.Header {
		o := ask(s.Handler(), "POST", path, `{"model":"fake","max_tokens":5,`+servertest.Hello+`}`, "X-Api-Key: "+secrets[key])
		if o.status != 200 {
			t.Fatal(o.status, o.body)
		}
		return o.header
	}
	h := post("/v1/messages", "alice")
	for name, want := range map[string]string{
		"anthropic-ratelimit-requests-limit":     "3",
		"anthropic-ratelimit-requests-remaining": "2",
		"anthropic-ratelimit-tokens-limit":       "1000",
		"anthropic-ratelimit-tokens-remaining":   h.Get("X-Ratelimit-Remaining-Tokens"),
	} {
		if got := h.Get(name); got != want || got == "" {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, of := range []string{"requests", "tokens"} {
		reset, err := time.Parse(time.RFC3339, h.Get("anthropic-ratelimit-"+of+"-reset"))
		if err != nil || time.Until(reset) > time.Minute+time.Second {
			t.Errorf("%s are reset at %v, %v", of, reset, err)
		}
	}
	for _, other := range []http.Header{post("/v1/chat/completions", "alice"), post("/v1/messages", "bob")} {
		for name := range other {
			if strings.HasPrefix(strings.ToLower(name), "anthropic-ratelimit-") {
				t.Errorf("%s: %v", name, other[name])
			}
		}
	}
}
