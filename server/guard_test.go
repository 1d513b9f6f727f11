package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"serve/access"
	"serve/engine/enginetest"
	"serve/oidc"
	"serve/oidc/oidctest"
	"serve/pool"
	"serve/server"
	"serve/server/dialect"
	"serve/server/servertest"
)

// keyed is a file of keys for tests.
type keyed struct {
	t    testing.TB
	path string
}

// newKeyed creates keys, and returns their secrets by name.
func newKeyed(t testing.TB, list ...access.NewKey) (*keyed, map[string]string) {
	t.Helper()
	k := &keyed{t: t, path: filepath.Join(t.TempDir(), "keys.json")}
	secrets := map[string]string{}
	for _, n := range list {
		_, secret, err := access.Create(k.path, n)
		if err != nil {
			t.Fatal(err)
		}
		secrets[n.Name] = secret
	}
	return k, secrets
}

// open reads the keys until the test ends.
func (k *keyed) open() *access.Keys {
	k.t.Helper()
	keys, err := access.Open(access.Options{
		File:     k.path,
		Required: true,
		Failures: 1 << 30,
		Log:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { keys.Close() })
	return keys
}

// unread is a body that nobody may read.
type unread struct {
	read bool
	text *strings.Reader
}

func (u *unread) Read(p []byte) (int, error) { u.read = true; return u.text.Read(p) }
func (u *unread) Close() error               { return nil }

// outcome is what a server has answered.
type outcome struct {
	status int
	header http.Header
	body   string
	read   bool // the request's body
}

// certificateHeader stands for a connection with a client certificate, which has the URI that is its value.
const certificateHeader = "Test-Certificate"

// certified returns the state of a connection whose client has a certificate with a URI.
func certified(uri string) *tls.ConnectionState {
	u, err := url.Parse(uri)
	if err != nil {
		panic(err)
	}
	chain := []*x509.Certificate{{URIs: []*url.URL{u}}}
	return &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{chain}}
}

// ask asks a server's handler, with headers "name: value" each.
func ask(s http.Handler, method, path, body string, headers ...string) outcome {
	r := httptest.NewRequest(method, "http://localhost"+path, nil)
	u := &unread{text: strings.NewReader(body)}
	if body != "" {
		r.Body = u
		r.ContentLength = int64(len(body))
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == certificateHeader {
			r.TLS = certified(value)
			continue
		}
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return outcome{w.Code, w.Header(), w.Body.String(), u.read}
}

// scopeOf is the table that the matrix is compared with: of which scopes a right needs one.
var scopeOf = map[dialect.Right]access.Scope{
	dialect.RightUse:    access.Inference,
	dialect.RightList:   access.Models | access.Inference | access.Admin,
	dialect.RightStatus: access.Metrics | access.Admin,
	dialect.RightManage: access.Admin,
	dialect.RightAny:    access.Inference | access.Models | access.Metrics | access.Admin,
}

// open are the endpoints that anybody may use. They say no more than that the server is there.
var open = []string{"/", "/icon.svg", "/assets/:file", "/healthz", "/health", "/readyz"}

// allScopes is every scope, alone.
var allScopes = []access.Scope{access.Inference, access.Models, access.Metrics, access.Admin}

// TestMatrix asks for every endpoint in the name of every kind of principal. What comes follows from the right that the
// endpoint declares.
func TestMatrix(t *testing.T) {
	var list []access.NewKey
	for _, s := range allScopes {
		list = append(list,
			access.NewKey{Name: s.String(), Scopes: s},
			access.NewKey{Name: "certified-" + s.String(), Scopes: s, Certificate: "spiffe://test/" + s.String()},
		)
	}
	list = append(list,
		access.NewKey{Name: "revoked"},
		access.NewKey{Name: "expired", Expires: time.Nanosecond},
		access.NewKey{Name: "certificate-revoked", Certificate: "spiffe://test/revoked"},
		access.NewKey{Name: "certificate-expired", Certificate: "spiffe://test/expired", Expires: time.Nanosecond},
	)
	k, secrets := newKeyed(t, list...)
	for _, name := range []string{"revoked", "certificate-revoked"} {
		if _, err := access.Revoke(k.path, name); err != nil {
			t.Fatal(err)
		}
	}
	tokens := newTokens(t, oidc.Options{ScopeClaim: "scope"})
	hour := time.Hour.Seconds()
	_, other := newKeyed(t, access.NewKey{Name: "other"})
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{
		Keys:    k.open(),
		Tokens:  tokens.verifier,
		Library: &servertest.Library{},
	})
	h := s.Handler()

	bearer := func(secret string) []string { return []string{"Authorization: Bearer " + secret} }
	nobody := map[string][]string{
		"none":        nil,
		"empty":       {"Authorization: Bearer "},
		"malformed":   bearer("sk-123"),
		"basic":       {"Authorization: Basic " + secrets["inference"]},
		"wrong":       bearer(other["other"]),
		"revoked":     bearer(secrets["revoked"]),
		"expired":     bearer(secrets["expired"]),
		"two keys":    append(bearer(secrets["inference"]), "X-Api-Key: "+secrets["admin"]),
		"two headers": append(bearer(secrets["inference"]), bearer(other["other"])...),

		"an expired token": bearer(tokens.Token("alice", oidctest.Claims{
			"scope": "serve:admin serve:inference",
			"exp":   time.Now().Unix() - int64(hour),
		})),
		"a token of another":        bearer(newTokens(t, oidc.Options{}).Token("alice", nil)),
		"a token for another":       bearer(tokens.Token("alice", oidctest.Claims{"aud": "another", "scope": "serve:admin"})),
		"a token and a key":         append(bearer(tokens.Token("alice", nil)), "X-Api-Key: "+secrets["admin"]),
		"an unknown certificate":    {certificateHeader + ": spiffe://test/unknown"},
		"a revoked certificate":     {certificateHeader + ": spiffe://test/revoked"},
		"an expired certificate":    {certificateHeader + ": spiffe://test/expired"},
		"a certificate and a wrong": append(bearer(other["other"]), certificateHeader+": spiffe://test/admin"),
	}
	seen := 0
	for _, d := range s.Declared() {
		seen++
		methods := []string{d.Method}
		if d.Method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
		for _, method := range methods {
			name := method + " " + d.Path + " (" + d.API + ")"
			isOpen := slices.Contains(open, d.Path)
			if (d.Route.Right == dialect.RightNone) != isOpen || !isOpen && scopeOf[d.Route.Right] == 0 {
				t.Errorf("%s: the right is %q", name, d.Route.Right)
				continue
			}
			try := func(who string, headers []string, want func(int) bool) {
				t.Helper()
				body := ""
				if d.Method == http.MethodPost || d.Route.Work && d.Method != http.MethodGet {
					body = "{}"
				}
				if d.API == "Anthropic" {
					headers = append(slices.Clone(headers), "anthropic-version: 2023-06-01")
				}
				path := strings.NewReplacer(":", "", "*", "").Replace(d.Path)
				o := ask(h, method, path, body, headers...)
				if !want(o.status) {
					t.Errorf("%s, %s: %d %s", name, who, o.status, o.body)
				}
				refused := o.status == http.StatusUnauthorized || o.status == http.StatusForbidden
				if refused && o.read {
					t.Errorf("%s, %s: the body was read", name, who)
				}
				if (o.status == http.StatusUnauthorized) != (o.header.Get("WWW-Authenticate") == "Bearer") {
					t.Errorf("%s, %s: %d with WWW-Authenticate %q", name, who, o.status, o.header.Get("WWW-Authenticate"))
				}
				if strings.Contains(o.body, "fake") && !isAllowed(o.status) {
					t.Errorf("%s, %s: a model is named: %s", name, who, o.body)
				}
			}

			for who, headers := range nobody {
				try(who, headers, func(status int) bool {
					if isOpen {
						return isAllowed(status)
					}
					return status == http.StatusUnauthorized
				})
			}
			for _, scope := range allScopes {
				name := scope.String()
				for kind, headers := range map[string][]string{
					"key":         bearer(secrets[name]),
					"token":       bearer(tokens.Token("alice", oidctest.Claims{"scope": "openid serve:" + name})),
					"certificate": {certificateHeader + ": spiffe://test/" + name},
				} {
					try(kind+" for "+name, headers, func(status int) bool {
						if isOpen || scopeOf[d.Route.Right]&scope != 0 {
							return isAllowed(status)
						}
						return status == http.StatusForbidden
					})
				}
			}
			try("token for nothing", bearer(tokens.Token("alice", oidctest.Claims{"scope": "openid"})), func(status int) bool {
				return isOpen && isAllowed(status) || status == http.StatusForbidden
			})
		}
	}
	if seen < 60 {
		t.Errorf("%d endpoints were tried", seen)
	}
}

// isAllowed reports whether a status is none of those for whoever may not ask.
func isAllowed(status int) bool {
	return status != http.StatusUnauthorized && status != http.StatusForbidden && status != http.StatusTooManyRequests
}

// TestPathsThatAreNotThere tells only those who have a key what there is not. A browser may ask what it may send.
func TestPathsThatAreNotThere(t *testing.T) {
	k, secrets := newKeyed(t, access.NewKey{Name: "scraper", Scopes: access.Metrics})
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{
		Keys:           k.open(),
		AllowedOrigins: []string{"https://app.example"},
	})
	h := s.Handler()
	for _, tt := range []struct {
		method, path string
		without      int
		with         int
	}{
		{"GET", "/nothing", 401, 404},
		{"POST", "/nothing", 401, 404},
		{"GET", "/api/nothing", 401, 404},
		{"GET", "/v1/chat/completions", 401, 405},
		{"PUT", "/healthz", 401, 405},
		{"PATCH", "/metrics", 401, 405},
		{"OPTIONS", "/v1/chat/completions", 204, 204},
		{"OPTIONS", "/metrics", 204, 204},
		{"OPTIONS", "/nothing", 404, 404},
		{"GET", "/healthz", 200, 200},
	} {
		if o := ask(h, tt.method, tt.path, ""); o.status != tt.without {
			t.Errorf("%s %s without a key: %d %s", tt.method, tt.path, o.status, o.body)
		}
		if o := ask(h, tt.method, tt.path, "", "Authorization: bEARER "+secrets["scraper"]); o.status != tt.with {
			t.Errorf("%s %s with a key: %d %s", tt.method, tt.path, o.status, o.body)
		}
	}

	o := ask(h, "OPTIONS", "/v1/chat/completions", "", "Origin: https://app.example",
		"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: x-api-key")
	allowed := o.header.Get("Access-Control-Allow-Headers")
	if o.status != 204 || !strings.Contains(allowed, "authorization") || !strings.Contains(allowed, "x-api-key") {
		t.Errorf("a preflight: %d, %v", o.status, o.header)
	}
	// A key does not replace the checks of hosts and origins.
	o = ask(h, "GET", "/metrics", "", "Authorization: Bearer "+secrets["scraper"], "Origin: https://evil.example")
	if o.status != 403 {
		t.Errorf("another origin with a key: %d", o.status)
	}
}

// TestHeaders takes the key from where each API's clients send it, and never from a URL.
func TestHeaders(t *testing.T) {
	k, secrets := newKeyed(t, access.NewKey{Name: "alice"})
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{Keys: k.open()})
	h := s.Handler()
	secret := secrets["alice"]
	for _, headers := range [][]string{
		{"Authorization: Bearer " + secret},
		{"Authorization: BEARER " + secret},
		{"X-Api-Key: " + secret},
		{"Api-Key: " + secret},
		{"Authorization: Bearer " + secret, "X-Api-Key: " + secret},
		{"Authorization: Bearer ", "X-Api-Key: " + secret},
	} {
		if o := ask(h, "GET", "/v1/models", "", headers...); o.status != 200 {
			t.Errorf("%q: %d %s", headers, o.status, o.body)
		}
	}
	for _, query := range []string{"key=", "api_key=", "x=1&API-Key=", "access_token=", "api%5fkey=", "k%65y="} {
		o := ask(h, "GET", "/v1/models?"+query+secret, "", "Authorization: Bearer "+secret)
		if o.status != 401 || strings.Contains(o.body, secret) || !strings.Contains(o.body, "URL") {
			t.Errorf("%s: %d %s", query, o.status, o.body)
		}
	}
}

// TestModelsOfKeys lets a key use the models that it is for, by whatever name. The others answer as none.
func TestModelsOfKeys(t *testing.T) {
	k, secrets := newKeyed(t,
		access.NewKey{Name: "fakes", Models: []string{"gpt-4o"}},
		access.NewKey{Name: "others", Models: []string{"other"}, Scopes: access.Inference | access.Models | access.Metrics},
		access.NewKey{Name: "nones", Models: []string{"none"}},
	)
	other := &pool.Model{ID: "other", Aliases: []string{"fast"}}
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{
		Keys:   k.open(),
		Models: []*pool.Model{other},
	})
	h := s.Handler()
	asked := func(key, path, model string) outcome {
		body := fmt.Sprintf(`{"model":%q,"max_tokens":4,"stream":false,"input":"a","prompt":"a",%s}`, model, servertest.Hello)
		switch path {
		case "/v1/chat/completions", "/v1/messages":
			body = fmt.Sprintf(`{"model":%q,"max_tokens":4,%s}`, model, servertest.Hello)
		case "/v1/embeddings":
			body = fmt.Sprintf(`{"model":%q,"input":"a"}`, model)
		case "/v1/responses":
			body = fmt.Sprintf(`{"model":%q,"max_output_tokens":16,"input":"a"}`, model)
		case "/v1/completions":
			body = fmt.Sprintf(`{"model":%q,"max_tokens":4,"prompt":"a"}`, model)
		case "/tokenize":
			body = fmt.Sprintf(`{"model":%q,"prompt":"a"}`, model)
		case "/api/show":
			body = fmt.Sprintf(`{"model":%q}`, model)
		case "/api/chat":
			body = fmt.Sprintf(`{"model":%q,"stream":false,%s}`, model, servertest.Hello)
		}
		return ask(h, "POST", path, body, "Authorization: Bearer "+secrets[key])
	}
	for _, path := range []string{
		"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings", "/tokenize",
		"/api/chat", "/api/show",
	} {
		if path != "/v1/embeddings" {
			for _, name := range []string{"fake", "gpt-4o", "org/fake", "GPT-4O:latest"} {
				if o := asked("fakes", path, name); o.status != 200 {
					t.Errorf("%s of %s with the right key: %d %s", path, name, o.status, o.body)
				}
			}
		}
		for _, key := range []string{"others", "nones"} {
			secret := asked(key, path, "gpt-4o")
			never := asked(key, path, "gpt-5x")
			same := strings.ReplaceAll(never.body, "gpt-5x", "gpt-4o")
			if secret.status != 404 || never.status != 404 || withoutID(secret.body) != withoutID(same) {
				t.Errorf("%s with the key of %s: %d %s, but for a model that is not there: %d %s",
					path, key, secret.status, secret.body, never.status, never.body)
			}
			if strings.Contains(secret.body, "fake") {
				t.Errorf("%s with the key of %s tells: %s", path, key, secret.body)
			}
		}
	}

	for _, path := range []string{"/v1/models", "/v1/models?beta=true", "/api/tags", "/api/ps", "/status"} {
		headers := []string{"Authorization: Bearer " + secrets["others"]}
		if strings.HasSuffix(path, "beta=true") {
			headers = append(headers, "anthropic-version: 2023-06-01")
		}
		o := ask(h, "GET", path, "", headers...)
		if o.status != 200 || strings.Contains(o.body, "fake") || strings.Contains(o.body, "gpt-4o") {
			t.Errorf("%s lists: %d %s", path, o.status, o.body)
		}
		if !strings.Contains(o.body, `"other`) && path != "/api/ps" {
			t.Errorf("%s lists less than there is: %s", path, o.body)
		}
	}
	for _, name := range []string{"fake", "gpt-4o"} {
		if o := ask(h, "GET", "/v1/models/"+name, "", "X-Api-Key: "+secrets["others"]); o.status != 404 {
			t.Errorf("%s is described: %s", name, o.body)
		}
	}
	// A name of theirs does not lead to another model.
	if o := ask(h, "GET", "/v1/models/fast", "", "X-Api-Key: "+secrets["others"]); o.status != 200 {
		t.Errorf("an alias: %d %s", o.status, o.body)
	}
}

// withoutID returns an answer without the id of its request.
func withoutID(body string) string {
	before, id, found := strings.Cut(body, "req_")
	if !found {
		return body
	}
	return before + id[24:]
}

// TestReadyTellsNoNames names models in /readyz only to those who may know them.
func TestReadyTellsNoNames(t *testing.T) {
	k, secrets := newKeyed(t,
		access.NewKey{Name: "alice"},
		access.NewKey{Name: "scraper", Scopes: access.Metrics},
	)
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{Keys: k.open()})
	h := s.Handler()
	for _, tt := range []struct {
		query, secret string
		status        int
		names         bool
	}{
		{"", "", 200, false},
		{"", secrets["alice"], 200, false},
		{"", secrets["scraper"], 200, true},
		{"?model=fake", "", 401, false},
		{"?model=none", "", 401, false},
		{"?model=fake", secrets["alice"], 403, false},
		{"?model=fake", secrets["scraper"], 200, true},
	} {
		o := ask(h, "GET", "/readyz"+tt.query, "", "Authorization: Bearer "+tt.secret)
		if o.status != tt.status || strings.Contains(o.body, "fake") != tt.names {
			t.Errorf("%+v: %d %s", tt, o.status, o.body)
		}
	}
}
