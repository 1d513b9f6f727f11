package console

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"serve/chatclient"
)

// TestImages sends a picture beside the text.
func TestImages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dot.png")
	dot := []byte("\x89PNG\r\n\x1a\n")
	if err := os.WriteFile(path, dot, 0o600); err != nil {
		t.Fatal(err)
	}

	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	s := &Session{
		Conversation: new(chatclient.Conversation),
		Lookup:       func(string) string { return "" },
		editor:       &plainEditor{out: null},
	}
	if err := s.command("image", path); err != nil || len(s.images) != 1 {
		t.Fatal(err, s.images)
	}

	text, err := json.Marshal(chatclient.Message{Role: "user", Text: "what?", Images: s.images})
	if want := `{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}},` +
		`{"type":"text","text":"what?"}],"role":"user"}`; err != nil ||
		string(text) != want {
		t.Errorf("%s %v", text, err)
	}
	if err := s.command("image", "/etc/passwd"); err == nil {
		t.Error("no image is one")
	}
}
