package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"serve/access"
	"serve/oidc/oidctest"
)

// direct is a transport to a provider without a network, so that time may be virtual.
type direct struct{ p *oidctest.Provider }

// RoundTrip implements http.RoundTripper.
func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.p.ServeHTTP(w, r)
	return w.Result(), nil
}

const issuer = "https://idp.example"

// open returns a verifier of a provider's tokens.
func open(t *testing.T, p *oidctest.Provider, o Options) *Verifier {
	t.Helper()
	o.Issuer = p.URL
	o.Audience = oidctest.Audience
	o.Transport = direct{p}
	o.Failures = 1 << 30
	o.Log = slog.New(slog.DiscardHandler)
	v, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestTokens accepts tokens that the issuer has signed for this server and for now, and no others.
func TestTokens(t *testing.T) {
	p := oidctest.Offline(t, issuer)
	other := oidctest.Offline(t, issuer)
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var short *rsa.PrivateKey
	fips140.WithoutEnforcement(func() { short, err = rsa.GenerateKey(rand.Reader, 1024) })
	if err != nil {
		t.Fatal(err)
	}
	encrypts, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := func(k any, id, use string) jose.JSONWebKey { return jose.JSONWebKey{Key: k, KeyID: id, Use: use} }
	p.Publish(
		key(&long.PublicKey, "long", ""),
		key(&short.PublicKey, "short", "sig"),
		key(&encrypts.PublicKey, "encrypts", "enc"),
		key([]byte("0123456789abcdef0123456789abcdef"), "secret", "sig"),
	)
	v := open(t, p, Options{})
	now := time.Now()
	c := func(name string, value any) oidctest.Claims { return oidctest.Claims{name: value} }
	whole := oidctest.Claims{"iss": issuer, "aud": oidctest.Audience, "sub": "a", "exp": now.Add(time.Hour).Unix()}
	// Whoever signs is not bound to what this program may do.
	sign := func(a jose.SignatureAlgorithm, k any, id string, headers map[jose.HeaderKey]any) (token string) {
		fips140.WithoutEnforcement(func() {
			token = oidctest.Sign(t, jose.SigningKey{Algorithm: a, Key: jose.JSONWebKey{Key: k, KeyID: id}}, whole, headers)
		})
		return token
	}
	good := p.Token("a", nil)
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	last := p.Key()
	last.KeyID = ""

	for _, tt := range []struct {
		name, token string
		ok          bool
	}{
		{"good", good, true},
		{"several audiences", p.Token("a", c("aud", []string{"x", oidctest.Audience})), true},
		{"RSA", sign(jose.RS256, long, "long", nil), true},
		{"RSA-PSS", sign(jose.PS512, long, "long", nil), true},
		{"an access token", sign(jose.RS256, long, "long", map[jose.HeaderKey]any{"typ": "at+jwt"}), true},
		{"no key is named", oidctest.Sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: last}, whole, nil), true},
		{"just expired", p.Token("a", c("exp", now.Add(-skew/2).Unix())), true},
		{"nearly valid", p.Token("a", c("nbf", now.Add(skew/2).Unix())), true},

		{"nothing", "", false},
		{"three parts", "a.b.c", false},
		{"no signature", parts[0] + "." + parts[1] + ".", false},
		{"not signed", none + "." + parts[1] + ".", false},
		{"not signed, with a signature", none + "." + parts[1] + "." + parts[2], false},
		{"of another", other.Token("a", nil), false},
		{"other claims", parts[0] + "." + strings.Split(p.Token("b", nil), ".")[1] + "." + parts[2], false},
		{"a short key", sign(jose.RS256, short, "short", nil), false},
		{"a key for encryption", sign(jose.ES256, encrypts, "encrypts", nil), false},
		{"a secret", sign(jose.HS256, []byte("0123456789abcdef0123456789abcdef"), "secret", nil), false},
		{"a public key as a secret", sign(jose.HS256, []byte(long.N.String()), "long", nil), false},
		{"a logout token", sign(jose.RS256, long, "long", map[jose.HeaderKey]any{"typ": "logout+jwt"}), false},
		{"another key's name", sign(jose.RS256, long, "key-1", nil), false},
		{"another issuer", p.Token("a", c("iss", issuer+"/")), false},
		{"no issuer", p.Token("a", c("iss", nil)), false},
		{"another audience", p.Token("a", c("aud", "x")), false},
		{"no audience", p.Token("a", c("aud", nil)), false},
		{"expired", p.Token("a", c("exp", now.Add(-2*skew).Unix())), false},
		{"no end", p.Token("a", c("exp", nil)), false},
		{"a null end", p.Token("a", c("exp", (*int)(nil))), false},
		{"an end that is text", p.Token("a", c("exp", "4000000000")), false},
		{"a large end", p.Token("a", c("exp", 1e300)), false},
		{"not valid yet", p.Token("a", c("nbf", now.Add(2*skew).Unix())), false},
		{"of the future", p.Token("a", c("iat", now.Add(2*skew).Unix())), false},
		{"no subject", p.Token("", nil), false},
		{"a long subject", p.Token(strings.Repeat("a", 256), nil), false},
		{"a subject that is a number", p.Token("a", c("sub", 7)), false},
		{"a long token", p.Token("a", c("x", strings.Repeat("a", 1<<14))), false},
	} {
		principal, err := v.Authenticate(t.Context(), tt.token, "")
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, access.ErrUnknown) {
			t.Errorf("%s: %+v, %v", tt.name, principal, err)
		}
	}
}

// TestClaims maps claims to what a token may do. By default that is what a key may do by default.
func TestClaims(t *testing.T) {
	p := oidctest.Offline(t, issuer)
	all := Options{TenantClaim: "ward", ScopeClaim: "realm.roles", ModelsClaim: "https://serve/models"}
	claims := func(tenant, roles, models any) oidctest.Claims {
		return oidctest.Claims{
			"ward": tenant, "realm": map[string]any{"roles": roles}, "https://serve/models": models,
		}
	}
	list := func(l ...string) []string { return l }
	for _, tt := range []struct {
		name    string
		options Options
		claims  oidctest.Claims
		tenant  string // "" for one of its own; "none" for a refusal
		scopes  access.Scope
		models  []string
	}{
		{"by default", Options{}, claims("x", list("serve:admin"), list("a")), "", access.DefaultScope, nil},
		{"all", all, claims("icu", list("serve:admin", "x", "serve:metrics"), list("a", "b")), "icu",
			access.Admin | access.Metrics, list("a", "b")},
		{"a text", all, claims("icu", "openid serve:inference admin", "a"), "icu", access.Inference, list("a")},
		{"no scopes", all, claims("icu", list("admin", "inference", "serve:all"), "*"), "icu", 0, nil},
		{"no tenant", all, claims(nil, list(), "*"), "none", 0, nil},
		{"an odd tenant", all, claims("certificate x", list(), "*"), "none", 0, nil},
		{"several tenants", all, claims(list("icu"), list(), "*"), "none", 0, nil},
		{"no roles", all, claims("icu", nil, "*"), "none", 0, nil},
		{"odd roles", all, claims("icu", []any{"serve:admin", 1}, "*"), "none", 0, nil},
		{"no models", all, claims("icu", list(), nil), "none", 0, nil},
		{"an empty list of models", all, claims("icu", list(), list()), "none", 0, nil},
	} {
		v := open(t, p, tt.options)
		got, err := v.Authenticate(t.Context(), p.Token("alice", tt.claims), "")
		if tt.tenant == "none" {
			if err == nil {
				t.Errorf("%s: %+v", tt.name, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		want := tt.tenant
		if want == "" {
			want = got.ID
		}
		if got.Tenant != want || got.Scopes != tt.scopes || !slices.Equal(got.Models, tt.models) ||
			got.Name != "alice" || got.Subject != "alice" || !strings.HasPrefix(got.ID, "oidc_") {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

// TestRotation accepts the provider's new keys at once, does not ask for them for every token that names one which is
// not there, and goes on with those that are known while the provider does not answer.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oidctest.Offline(t, issuer)
		v := open(t, p, Options{})
		ask := func(token string) bool {
			_, err := v.Authenticate(t.Context(), token, "")
			return err == nil
		}
		old := p.Token("a", oidctest.Claims{"exp": time.Now().Add(100 * time.Hour).Unix()})
		p.Rotate()
		if !ask(old) || ask(p.Token("a", nil)) {
			t.Error("before the keys may be fetched again")
		}
		time.Sleep(againAfter)
		p.Fail(true)
		if ask(p.Token("a", nil)) || !ask(old) {
			t.Error("while the provider fails")
		}
		time.Sleep(againAfter)
		p.Fail(false)
		fresh := p.Token("a", nil)
		if !ask(fresh) || ask(old) {
			t.Error("after the rotation")
		}
		before := p.Fetched()
		other := oidctest.Offline(t, issuer)
		other.Rotate()
		other.Rotate()
		for range 1000 {
			ask(other.Token("a", nil))
			time.Sleep(time.Second / 10)
		}
		if n := p.Fetched() - before; n == 0 || n > 4 {
			t.Errorf("100 seconds of keys that are not there: fetched %d times", n)
		}

		// Withdrawn keys end, also without another one that is asked for.
		lasting := p.Token("a", oidctest.Claims{"exp": time.Now().Add(100 * time.Hour).Unix()})
		p.Fail(true)
		time.Sleep(2 * refreshEvery)
		if !ask(lasting) {
			t.Error("while the provider cannot be reached")
		}
		time.Sleep(longest)
		if ask(lasting) {
			t.Error("the provider was away for a day")
		}
	})
}

// TestExpiry ends what runs for a token when it expires. The same token has one context, and its subject one account.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oidctest.Offline(t, issuer)
		v := open(t, p, Options{Limits: access.Limits{RequestsPerMinute: 1}})
		token := p.Token("a", oidctest.Claims{"exp": time.Now().Add(time.Minute).Unix()})
		first, err := v.Authenticate(t.Context(), token, "")
		if err != nil {
			t.Fatal(err)
		}
		again, err := v.Authenticate(t.Context(), token, "")
		if err != nil || again != first {
			t.Errorf("another principal: %v", err)
		}
		later, err := v.Authenticate(t.Context(), p.Token("a", nil), "")
		if err != nil || later.ID != first.ID || later.Account() != first.Account() || v.ByID(first.ID) != later {
			t.Errorf("with another token: %+v, %v", later, err)
		}
		if _, err := first.Account().Begin(); err != nil {
			t.Error(err)
		}
		if _, err := later.Account().Begin(); err == nil {
			t.Error("another token has another account")
		}

		<-first.Context().Done()
		if !errors.Is(context.Cause(first.Context()), access.ErrEnded) || later.Context().Err() != nil {
			t.Errorf("the token: %v, the later one: %v", context.Cause(first.Context()), later.Context().Err())
		}
		if _, err := v.Authenticate(t.Context(), token, ""); err == nil {
			t.Error("it is accepted although what runs for it has ended")
		}
		<-later.Context().Done()
		time.Sleep(time.Second)
		if v.ByID(first.ID) != nil {
			t.Error("it is there by its id")
		}
	})
}

// TestFile reads the keys from a file, again when it changes.
func TestFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oidctest.Offline(t, issuer)
		dir := t.TempDir()
		v := open(t, p, Options{KeyFile: p.Write(dir)})
		old := p.Token("a", nil)
		if _, err := v.Authenticate(t.Context(), old, ""); err != nil {
			t.Error(err)
		}
		p.Rotate()
		p.Write(dir)
		time.Sleep(2 * fileEvery)
		if _, err := v.Authenticate(t.Context(), p.Token("a", nil), ""); err != nil {
			t.Error(err)
		}
		if _, err := v.Authenticate(t.Context(), old, ""); err == nil {
			t.Error("a key is accepted that is not in the file any more")
		}
		if p.Fetched() > 0 {
			t.Error("the provider was asked")
		}
		if err := os.WriteFile(v.opts.KeyFile, []byte(`{"keys":[]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), v.opts); err == nil {
			t.Error("a file without keys is accepted")
		}
	})
}

// TestOptions refuses what would accept too much.
func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    Options
		ok   bool
	}{
		{"nothing", Options{}, true},
		{"all", Options{Issuer: issuer, Audience: "a"}, true},
		{"this machine", Options{Issuer: "http://127.0.0.1:8080/realm", Audience: "a"}, true},
		{"no audience", Options{Issuer: issuer}, false},
		{"no issuer", Options{Audience: "a", KeyFile: "x"}, false},
		{"claims alone", Options{TenantClaim: "a"}, false},
		{"plain HTTP", Options{Issuer: "http://idp.example", Audience: "a"}, false},
		{"a query", Options{Issuer: issuer + "?a", Audience: "a"}, false},
		{"no URL", Options{Issuer: "idp.example", Audience: "a"}, false},
	} {
		if err := tt.o.Check(); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestDiscovery asks a provider over HTTP, and trusts no document of another issuer or with keys at another host.
func TestDiscovery(t *testing.T) {
	p := oidctest.New(t)
	o := Options{Issuer: p.URL, Audience: oidctest.Audience, Log: slog.New(slog.DiscardHandler)}
	v, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Authenticate(t.Context(), p.Token("a", nil), ""); err != nil {
		t.Error(err)
	}
	for _, document := range []string{
		`{"issuer":"https://other.example","jwks_uri":"` + p.URL + `/keys"}`,
		`{"issuer":"ISSUER","jwks_uri":"https://other.example/keys"}`,
		`{"issuer":"ISSUER"}`,
		`[]`,
	} {
		var hs *httptest.Server
		hs = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte(strings.ReplaceAll(document, "ISSUER", hs.URL)))
		}))
		o.Issuer = hs.URL
		v, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if len(v.keys.keys) > 0 {
			t.Errorf("%s: %d keys", document, len(v.keys.keys))
		}
		hs.Close()
	}
}
