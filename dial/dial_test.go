package dial

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"serve/hub"
	"serve/registry"
	"serve/terminal"
)

// newDialer returns a dialer with variables, whose only server is at an address, and what it says.
func newDialer(address string, environ map[string]string) (*Dialer, *bytes.Buffer) {
	var said bytes.Buffer
	lookup := func(name string) string { return environ[name] }
	return &Dialer{
		Terminal: terminal.New(&said, &said, lookup),
		Lookup:   lookup,
		Network:  func() (hub.Options, error) { return hub.Options{}, nil },
		Servers:  func() ([]registry.Server, error) { return []registry.Server{{PID: 1, URL: address}}, nil },
	}, &said
}

// TestFind finds a server that wants a key with one that may see its status, with one that may only list its models,
// and with none not.
func TestFind(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get("Authorization")
		switch {
		case key == "Bearer metrics" && r.URL.Path == "/status":
			json.NewEncoder(w).Encode(map[string]any{"pid": 1, "models": []map[string]string{{"id": "demo"}}})
		case key == "Bearer inference" && r.URL.Path == "/status":
			w.WriteHeader(http.StatusForbidden)
		case key == "Bearer inference" && r.URL.Path == "/v1/models":
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(`{"object":"list","data":[{"id":"demo","object":"model"}]}`))
		case key == "Bearer broken" && r.URL.Path == "/v1/models":
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotImplemented)
			w.Write([]byte(`{"error":{"message":"It is broken."}}`))
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer server.Close()

	for _, tt := range []struct {
		key, model string
		found      bool
	}{
		{"metrics", "", true},
		{"metrics", "demo", true},
		{"metrics", "other", false},
		{"inference", "", true},
		{"inference", "demo", true},
		{"inference", "other", false},
		{"", "demo", false},
		{"wrong", "demo", false},
		{"broken", "demo", false},
	} {
		d, said := newDialer(server.URL, map[string]string{registry.KeyVariable: tt.key})
		s, key, err := d.Find(t.Context(), tt.model)
		if err != nil || (s.URL == server.URL) != tt.found || tt.found && key.Secret != tt.key {
			t.Errorf("%+v: %+v, %v", tt, s, err)
		}
		hinted := strings.Contains(said.String(), "SERVE_API_KEY")
		if hinted != (tt.key == "" || tt.key == "wrong") {
			t.Errorf("%+v: said %s", tt, said)
		}
		if strings.Contains(said.String(), "It is broken") != (tt.key == "broken") {
			t.Errorf("%+v: said %s", tt, said)
		}
	}
}

// TestStatuses asks with a key, and refuses to send it where others can read it.
func TestStatuses(t *testing.T) {
	d, _ := newDialer("http://127.0.0.1:1", map[string]string{registry.KeyVariable: "secret"})
	list, err := d.Statuses(t.Context(), nil)
	if err != nil || len(list) != 1 || !strings.Contains(list[0].Error, "no server answers") {
		t.Errorf("%+v, %v", list, err)
	}
	for _, address := range []string{"http://192.0.2.1:8080", "ftp://127.0.0.1"} {
		_, err := d.Statuses(t.Context(), []string{address})
		if !errors.Is(err, ErrUsage) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", address, err)
		}
	}
	d.Network = func() (hub.Options, error) { return hub.Options{Offline: true}, nil }
	if _, err := d.Transport(registry.Server{URL: "https://192.0.2.1"}, registry.Key{}); !errors.Is(err, ErrUsage) {
		t.Errorf("offline: %v", err)
	}
}
