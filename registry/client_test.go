package registry

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"serve/certs"
	"serve/certs/certstest"
	"serve/hub"
)

// served starts a server with TLS, which requires certificates of clients if it is given their authority.
func served(t *testing.T, pair certstest.Pair, clients *certstest.Authority) (s Server) {
	t.Helper()
	hs := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/status" {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return
		}
		w.Write([]byte(`{"version":"1"}`))
	}))
	hs.TLS = &tls.Config{Certificates: []tls.Certificate{pair.TLS(t)}}
	if clients != nil {
		hs.TLS.ClientAuth = tls.RequireAndVerifyClientCert
		hs.TLS.ClientCAs = clients.Pool()
	}
	hs.StartTLS()
	t.Cleanup(hs.Close)
	return Server{URL: hs.URL, Fingerprint: certs.Fingerprint(hs.Certificate())}
}

// TestVerification reaches servers that the authorities or the registry vouch for, and no others.
func TestVerification(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.New(t, "CA")
	file := certstest.Write(t, dir, "ca.pem", ca.PEM())
	user := ca.Issue(certstest.Subject{Emails: []string{"a@example.com"}})
	identity := certstest.Write(t, dir, "user.pem", append(user.Certificate, user.Key...))
	open := served(t, ca.Issue(certstest.Subject{}), nil)
	closed := served(t, ca.Issue(certstest.Subject{}), ca)
	elsewhere := served(t, ca.Issue(certstest.Subject{Names: []string{"other.example"}}), nil)

	registered := func(s Server) Server { s.PID = os.Getpid(); return s }
	named := func(s Server) Server { s.Fingerprint = ""; return s }
	exchanged := registered(open)
	exchanged.Fingerprint = closed.Fingerprint
	for _, tt := range []struct {
		name   string
		client Connector
		server Server
		want   string // in the error and its hint; "" for none
	}{
		{"of the registry", Connector{}, registered(open), ""},
		{"of the registry, under another name", Connector{}, registered(elsewhere), ""},
		{"of the registry, exchanged", Connector{}, exchanged, "not the one that it has registered"},
		{
			"of the registry, exchanged, with the authority",
			Connector{Network: hub.Options{CAFile: file}},
			exchanged,
			"not the one",
		},
		{"by its URL", Connector{}, named(open), "--ca-file"},
		{"by its URL, with the authority", Connector{Network: hub.Options{CAFile: file}}, named(open), ""},
		{"by another name, with the authority", Connector{Network: hub.Options{CAFile: file}}, named(elsewhere), "--ca-file"},
		{"that wants to know its clients", Connector{}, registered(closed), "--client-cert"},
		{"that knows its client", Connector{CertFile: identity}, registered(closed), ""},
		{
			"that knows its client, by its URL",
			Connector{Network: hub.Options{CAFile: file}, CertFile: identity},
			named(closed),
			"",
		},
	} {
		transport, err := tt.client.Transport(tt.server, Key{Secret: "secret"})
		if err != nil {
			t.Fatal(tt.name, err)
		}
		var status struct{ Version string }
		err = Ask(t.Context(), transport, tt.server, Key{}, &status)
		switch {
		case tt.want == "" && (err != nil || status.Version != "1"):
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && err == nil:
			t.Errorf("%s: it answers", tt.name)
		case tt.want != "":
			var explained *Error
			if !errors.As(Explain(tt.server, err), &explained) {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if !strings.Contains(explained.Error()+explained.Hint(), tt.want) {
				t.Errorf("%s: %v (%s)", tt.name, explained, explained.Hint())
			}
		}
	}

	lost := open
	lost.URL += "/behind" // and from there it is led elsewhere
	transport, err := (&Connector{}).Transport(registered(lost), Key{})
	if err != nil {
		t.Fatal(err)
	}
	if err := Ask(t.Context(), transport, lost, Key{}, new(any)); err == nil || !strings.Contains(err.Error(), "302") {
		t.Errorf("it followed a redirect: %v", err)
	}
}

// TestTransport refuses what the user has given before anything is sent.
func TestTransport(t *testing.T) {
	secret := Key{Secret: "secret"}
	nothing := certstest.Write(t, t.TempDir(), "nothing.pem", []byte("nothing"))
	for _, tt := range []struct {
		url    string
		client Connector
		key    Key
		want   string
	}{
		{"http://127.0.0.1:1", Connector{Network: hub.Options{Offline: true}}, secret, ""},
		{"http://localhost:1/v1", Connector{}, secret, ""},
		{"https://192.0.2.1", Connector{}, secret, ""},
		{"http://192.0.2.1", Connector{}, Key{}, ""},
		{"http://192.0.2.1", Connector{}, secret, "could read the API key"},
		{"http://192.0.2.1", Connector{}, Key{Secret: "secret", Plain: true}, ""},
		{"http://[::1]:8080", Connector{}, secret, ""},
		{"http://localhost.example:1", Connector{}, secret, "could read the API key"},
		{"https://192.0.2.1", Connector{Network: hub.Options{Offline: true}}, Key{}, "--offline forbids"},
		{"192.0.2.1", Connector{}, Key{}, "--url"},
		{"https://192.0.2.1", Connector{CertFile: nothing}, Key{}, "--client-cert"},
		{"https://192.0.2.1", Connector{CertFile: nothing + "-not"}, Key{}, "no such file"},
		{"https://192.0.2.1", Connector{Network: hub.Options{CAFile: nothing}}, Key{}, "no PEM certificate"},
	} {
		_, err := tt.client.Transport(Server{URL: tt.url}, tt.key)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, key %+v: %v", tt.url, tt.key, err)
		}
	}

	// A server of this machine may listen on an address of a network.
	own := Server{PID: os.Getpid(), URL: "http://192.0.2.1:8080"}
	if _, err := (&Connector{Network: hub.Options{Offline: true}}).Transport(own, secret); err != nil {
		t.Error(err)
	}
}
