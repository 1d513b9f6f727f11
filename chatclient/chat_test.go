package chatclient

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestConversation(t *testing.T) {
	c := &Conversation{Model: "m"}
	c.SetSystem("one")
	c.Messages = append(
		c.Messages,
		Message{Role: "user", Text: "a", Images: []string{"data:x"}},
		Message{Role: "assistant", Text: "b", Thought: "hm"},
	)
	c.SetSystem("two")
	if c.System() != "two" || len(c.Messages) != 3 {
		t.Errorf("%+v", c)
	}

	for _, p := range [][2]string{{"temperature", "0.5"}, {"stop", "END"}, {"gone", "1"}, {"gone", ""}} {
		if err := c.Set(p[0], p[1]); err != nil {
			t.Error(err)
		}
	}

	if err := c.Set("messages", "[]"); err == nil {
		t.Error("the messages can be set")
	}

	path := filepath.Join(t.TempDir(), "c.json")
	if err := c.Save(path); err != nil {
		t.Fatal(err)
	}
	if err := c.Save(path); err == nil {
		t.Error("a file is replaced")
	}

	back, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}

	c.Messages[2].Thought = "" // which is not sent, and so not kept
	if !reflect.DeepEqual(back.Messages, c.Messages) || string(back.Params["stop"]) != `"END"` || len(back.Params) != 2 {
		t.Errorf("%+v, want %+v", back, c)
	}

	c.Clear()
	if len(c.Messages) != 1 {
		t.Error("the system's message is forgotten, too, or the rest is not")
	}

	c.SetSystem("")
	if len(c.Messages) != 0 {
		t.Error("the system's message stays")
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON": "hello", "a role": `{"messages":[{"role":"tool","content":"x"}]}`,
		"a part":     `{"messages":[{"role":"user","content":[{"type":"video"}]}]}`,
		"no content": `{"messages":[{"role":"user"}]}`,
	} {
		path := filepath.Join(t.TempDir(), "c.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(`{"role":"user","content":"a"}`)
	f.Add(`{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:"}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var m, again Message
		if json.Unmarshal([]byte(text), &m) != nil {
			return
		}
		out, err := json.Marshal(m)
		if err != nil || json.Unmarshal(out, &again) != nil || !reflect.DeepEqual(m, again) {
			t.Errorf("%q becomes %s, %v", text, out, err)
		}
	})
}
