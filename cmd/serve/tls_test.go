package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"serve/certs/certstest"
	"serve/dial"
)

// judge runs a program that knows TLS better than the tests do.
func judge(t *testing.T, name string, args ...string) (out string, ok bool) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed; make test installs it: %v", name, err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader("Q\n")
	text, err := cmd.CombinedOutput()
	return string(text), err == nil
}

// TestTLS serves with a certificate that it makes, and has curl, openssl, Go and serve's own clients reach it.
func TestTLS(t *testing.T) {
	environ, home := homeOf(t)
	r := startServeIn(t, environ, modelFile(t), "--ctx-size", "1024", "--tls-self-signed", "--offline")
	ca := filepath.Join(home, "tls", "self-signed.pem")
	if !strings.HasPrefix(r.url, "https://") || !strings.Contains(r.errOut.String(), ca) ||
		!strings.Contains(r.errOut.String(), "SHA-256 fingerprint ") ||
		!strings.Contains(r.out.String(), "curl --cacert "+ca) {
		t.Errorf("it says:\n%s%s", r.out, r.errOut)
	}
	address := strings.TrimPrefix(r.url, "https://")
	_, port, _ := strings.Cut(address, ":")

	for _, tt := range []struct {
		name string
		args []string
		ok   bool
	}{
		{"curl", []string{"--cacert", ca, r.url + "/v1/models"}, true},
		{"curl", []string{"--cacert", ca, "https://localhost:" + port + "/v1/models"}, true},
		{"curl", []string{"--cacert", ca, "--http1.1", r.url + "/v1/models"}, true},
		{"curl", []string{"--cacert", ca, "--tls-max", "1.2", r.url + "/v1/models"}, true},
		{"curl", []string{r.url + "/v1/models"}, false},
		{"curl", []string{"--fail", "http://" + address + "/v1/models"}, false},
		{"openssl", []string{"s_client", "-connect", address, "-CAfile", ca, "-verify_return_error"}, true},
		{"openssl", []string{"s_client", "-connect", address, "-CAfile", ca, "-tls1_2"}, true},
		{"openssl", []string{"s_client", "-connect", address, "-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"}, true},
		{"openssl", []string{"s_client", "-connect", address, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"}, false},
		{
			"openssl",
			[]string{"s_client", "-connect", address, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0"},
			false,
		},
		{"openssl", []string{"s_client", "-connect", address, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"}, false},
	} {
		if out, ok := judge(t, tt.name, tt.args...); ok != tt.ok {
			t.Errorf("%s %q: got %v, want %v\n%s", tt.name, tt.args, ok, tt.ok, out)
		}
	}

	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: pool},
		ForceAttemptHTTP2: true,
	}}
	defer client.CloseIdleConnections()
	body := `{"model":"tiny","prompt":"a","max_tokens":8,"ignore_eos":true,"stream":true}`
	res, err := client.Post(r.url+"/v1/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if res.ProtoMajor != 2 || err != nil || !strings.Contains(string(answer), "[DONE]") {
		t.Errorf("Go's client: %s, %v\n%s", res.Proto, err, answer)
	}

	var list []dial.Status
	_, out, said := command(environ, "ps", "--json")
	err = json.Unmarshal([]byte(out), &list)
	if err != nil || len(list) != 1 || list[0].Status == nil || list[0].URL != r.url {
		t.Errorf("ps: %s%s", out, said)
	}
	if code, _, said := command(environ, "chat", "tiny", "Hello", "--param", "max_tokens=4"); code != 0 {
		t.Errorf("chat does not find it: %d %s", code, said)
	}
	for _, args := range [][]string{
		{"ps", "--url", r.url},
		{"chat", "tiny", "Hello", "--param", "max_tokens=4", "--url", r.url},
		{"bench", r.url, "--requests", "4", "--prompt", "8", "--answer", "4"},
	} {
		if code, _, said := command(environ, args...); code != exitError || !strings.Contains(said, "--ca-file") {
			t.Errorf("%q trusts anyone: %d %s", args, code, said)
		}
		if code, _, said := command(environ, append(args, "--ca-file", ca)...); code != 0 {
			t.Errorf("%q with the file: %d %s", args, code, said)
		}
	}
}

// TestClientCertificates lets those in who have a certificate, and serve's own commands with --client-cert.
func TestClientCertificates(t *testing.T) {
	dir := t.TempDir()
	authority := certstest.New(t, "CA")
	ca := certstest.Write(t, dir, "ca.pem", authority.PEM())
	cert, key := authority.Issue(certstest.Subject{}).Write(t, dir, "server")
	user := authority.Issue(certstest.Subject{Emails: []string{"a@example.com"}})
	both := certstest.Write(t, dir, "user.pem", append(user.Certificate, user.Key...))
	stranger := certstest.New(t, "Other").Issue(certstest.Subject{Emails: []string{"a@example.com"}})
	strange := certstest.Write(t, dir, "stranger.pem", append(stranger.Certificate, stranger.Key...))

	environ, _ := homeOf(t)
	// Certificates are authentication: other machines may reach it.
	r := startServeIn(t, environ, modelFile(t), "--ctx-size", "128", "--host", "0.0.0.0",
		"--tls-cert", cert, "--tls-key", key, "--tls-client-ca", ca)
	protection := regexp.MustCompile(`warning: .*\(--`) // which a flag allows to do without
	if protection.MatchString(r.errOut.String()) || !strings.HasPrefix(r.url, "https://127.0.0.1:") {
		t.Errorf("it says:\n%s", r.errOut)
	}
	for name, tt := range map[string]struct {
		args []string
		ok   bool
	}{
		"a user":     {[]string{"--cert", both}, true},
		"nobody":     {nil, false},
		"a stranger": {[]string{"--cert", strange}, false},
	} {
		out, ok := judge(t, "curl", append(tt.args, "--cacert", ca, r.url+"/v1/models")...)
		if ok != tt.ok {
			t.Errorf("%s: got %v, want %v\n%s", name, ok, tt.ok, out)
		}
	}

	if code, out, said := command(environ, "ps", "--client-cert", both); code != 0 || !strings.Contains(out, "tiny") {
		t.Errorf("ps: %d %s%s", code, out, said)
	}
	if code, _, said := command(environ, "ps"); code != exitError || !strings.Contains(said, "--client-cert") {
		t.Errorf("ps as nobody: %d %s", code, said)
	}
}

// TestExposed starts on an address that other machines reach only with what protects it, or with leave.
func TestExposed(t *testing.T) {
	for name, tt := range map[string]struct {
		environ []string
		args    []string
		words   []string
	}{
		"all addresses": {nil, []string{"--host", "0.0.0.0"}, []string{"serve key create", "--allow-anonymous"}},
		"IPv6":          {nil, []string{"--host", "::"}, []string{"[::]:", "--allow-anonymous"}},
		"no host":       {nil, []string{"--host", ""}, []string{"--allow-anonymous"}},
		"a variable":    {[]string{"SERVE_HOST=0.0.0.0"}, nil, []string{"--allow-anonymous"}},
		"Ollama's port": {nil, []string{"--host", "0.0.0.0", "--ollama-port", "0"}, []string{"--allow-anonymous"}},
		"plain text": {nil, []string{"--host", "0.0.0.0", "--allow-anonymous"},
			[]string{"--tls-self-signed", "--allow-plain-http", "--trust-proxy"}},
		"everyone, encrypted": {nil, []string{"--host", "0.0.0.0", "--tls-self-signed"}, []string{"--allow-anonymous"}},
		"any proxy": {nil, []string{"--host", "0.0.0.0", "--allow-anonymous", "--trust-proxy", "0.0.0.0/0"},
			[]string{"anyone could invent"}},
		"half a pair": {nil, []string{"--tls-key", "/nowhere"}, []string{"belong together"}},
		"a missing pair": {
			nil,
			[]string{"--tls-cert", "/nowhere", "--tls-key", "/nowhere"},
			[]string{"cannot read /nowhere"},
		},
		"clients and plain": {nil, []string{"--tls-client-ca", "/nowhere"}, []string{"needs TLS"}},
	} {
		code, said := runOnce(t, tt.environ, append([]string{"demo", "--port", "0"}, tt.args...)...)
		if code != exitUsage || !strings.Contains(said, "serve: hint: ") {
			t.Errorf("%s: exit code %d:\n%s", name, code, said)
		}
		for _, words := range tt.words {
			if !strings.Contains(said, words) {
				t.Errorf("%s: it does not say %q:\n%s", name, words, said)
			}
		}
	}

	r := startServe(t, modelFile(t), "--ctx-size", "128", "--host", "0.0.0.0", "--allow-anonymous", "--allow-plain-http")
	for _, words := range []string{"(--allow-anonymous)", "(--allow-plain-http)"} {
		if strings.Count(r.errOut.String(), words) != 1 {
			t.Errorf("it does not warn of %s:\n%s", words, r.errOut)
		}
	}
}
