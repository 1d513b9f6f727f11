package server_test

import (
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// askAs asks with a host and headers, "name: value" each, and returns the status and the body.
func askAs(t *testing.T, method, url, host string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		req.Host = host
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}

	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// TestHosts takes requests for addresses and for the server's names, and for no others: a page whose name was
// rebound to the server's address has its own.
func TestHosts(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{
		Hosts: []string{"gpu-1", "Gpu-1.local", "*.corp.example"},
	})
	for host, status := range map[string]int{
		"":                       200,
		"localhost:8080":         200,
		"LOCALHOST":              200,
		"a.localhost":            200,
		"127.0.0.1":              200,
		"[::1]:8080":             200,
		"::1":                    200,
		"10.1.2.3:8080":          200, // a pod's, as Kubernetes probes it
		"[2001:db8::7]":          200,
		"GPU-1:8080":             200,
		"gpu-1.local.":           200,
		"llm.corp.example":       200,
		"evil.example":           403,
		"evil.example:8080":      403,
		"corp.example":           403,
		"evilcorp.example":       403,
		"127.0.0.1.nip.io":       403,
		"2130706433":             403,
		"0x7f.1":                 403,
		"localhost.evil.example": 403,
	} {
		got, body := askAs(t, "GET", hs.URL+"/v1/models", host)
		if got != status {
			t.Errorf("%s: got %d, want %d", host, got, status)
		}
		if status == 403 && !strings.Contains(body, "--allow-host") {
			t.Errorf("%s: the error does not say what to set: %s", host, body)
		}
	}

	for _, path := range []string{"/healthz", "/health", "/readyz"} {
		if got, _ := askAs(t, "GET", hs.URL+path, "balancer.example"); got != 200 {
			t.Errorf("%s, as a load balancer asks: %d", path, got)
		}
	}

	open, _ := servertest.Start(t, enginetest.Options{}, server.Options{Hosts: []string{"*"}})
	if got, _ := askAs(t, "GET", open.URL+"/v1/models", "any.example"); got != 200 {
		t.Errorf("any name: %d", got)
	}
}

// TestOwnOrigin compares the scheme, the name and the port of a page's origin with those of the server.
func TestOwnOrigin(t *testing.T) {
	o := server.Options{Hosts: []string{"chat.example"}}
	direct, _ := servertest.Start(t, enginetest.Options{}, o)
	behind := []string{"Origin: https://chat.example", "X-Forwarded-Proto: https", "X-Forwarded-For: 192.0.2.1"}
	if got, body := askAs(t, "GET", direct.URL+"/v1/models", "chat.example", behind...); got != 403 ||
		!strings.Contains(body, "--trust-proxy") {
		t.Errorf("behind a proxy that nobody has named: %d %s", got, body)
	}

	o.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	hs, _ := servertest.Start(t, enginetest.Options{}, o)
	const own = "localhost:8080"
	for _, tt := range []struct {
		name, host string
		headers    []string
		status     int
	}{
		{"our page", own, []string{"Origin: http://localhost:8080"}, 200},
		{"our page, as browsers tell", own, []string{"Origin: http://localhost:8080", "Sec-Fetch-Site: same-origin"}, 200},
		{"an address that was typed", own, []string{"Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"}, 200},
		{"another scheme", own, []string{"Origin: https://localhost:8080"}, 403},
		{"another port", own, []string{"Origin: http://localhost:3000"}, 403},
		{"no port", own, []string{"Origin: http://localhost"}, 403},
		{"another name", own, []string{"Origin: http://127.0.0.1:8080"}, 403},
		{"the scheme's own port", "chat.example:80", []string{"Origin: http://chat.example"}, 200},
		{"behind TLS", "chat.example", []string{"Origin: https://chat.example", "X-Forwarded-Proto: https"}, 200},
		{"behind TLS, at its port", "chat.example:443",
			[]string{"Origin: https://chat.example", "X-Forwarded-Proto: https, http",
				"X-Forwarded-For: 192.0.2.1, 127.0.0.2"}, 200},
		{"a page without TLS", "chat.example", []string{"Origin: http://chat.example", "X-Forwarded-Proto: https"}, 403},
		{"TLS that nobody has told of", "chat.example", []string{"Origin: https://chat.example"}, 403},
		{"an image of another site", own, []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"}, 403},
		{"a script of another port", own, []string{"Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"}, 403},
		{"a frame of another site", own,
			[]string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"}, 403},
		{"a link of another site", own,
			[]string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, 200},
		{"an origin that the browser denies", own,
			[]string{"Origin: http://localhost:8080", "Sec-Fetch-Site: cross-site"}, 403},
	} {
		if got, _ := askAs(t, "GET", hs.URL+"/v1/models", tt.host, tt.headers...); got != tt.status {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.status)
		}
	}

	form := []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}
	if got, _ := askAs(t, "POST", hs.URL+"/v1/chat/completions", own, form...); got != 403 {
		t.Errorf("a form of another site: %d", got)
	}
}
