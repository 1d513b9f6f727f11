package chatclient

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestRedirect follows none: neither the key nor the conversation goes to another server.
func TestRedirect(t *testing.T) {
	asked := 0
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"object":"list","data":[{"id":"m","object":"model"}]}`))
	}))
	defer other.Close()
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer hs.Close()

	c := NewClient(hs.URL, "secret", http.DefaultTransport)
	if names, err := c.Models(t.Context()); err == nil && len(names) > 0 || asked != 0 {
		t.Errorf("models: %q, %v; the other server was asked %d times", names, err, asked)
	}
	conversation := &Conversation{Model: "m", Messages: []Message{{Role: "user", Text: "private"}}}
	if _, err := c.Ask(t.Context(), conversation, func(Delta) {}); asked != 0 {
		t.Errorf("a conversation: %v; the other server was asked %d times", err, asked)
	}
}
