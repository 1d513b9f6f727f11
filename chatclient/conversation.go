// Package chatclient holds a conversation with a model through OpenAI's API, on any server. It does
// not depend on a terminal.
package chatclient

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Conversation has the messages so far, and the parameters for the next request. Its JSON is
// that of a request, so that other tools can read saved files.
type Conversation struct {
	Model    string                     `json:"model"`
	Messages []Message                  `json:"messages"`
	Params   map[string]json.RawMessage `json:"params,omitempty"` // other fields of the request
}

// Message is a message of a conversation.
type Message struct {
	Role    string
	Text    string
	Images  []string // as data URLs
	Thought string   // the model's reasoning before its answer; it is not sent again
}

type part struct {
	Type  string    `json:"type"`
	Text  string    `json:"text,omitempty"`
	Image *imageURL `json:"image_url,omitempty"`
}

type imageURL struct {
	URL string `json:"url"`
}

// MarshalJSON encodes the message for OpenAI's API.
func (m Message) MarshalJSON() ([]byte, error) {
	var content any = m.Text
	if len(m.Images) > 0 {
		var parts []part
		for _, url := range m.Images {
			parts = append(parts, part{Type: "image_url", Image: &imageURL{url}})
		}
		content = append(parts, part{Type: "text", Text: m.Text})
	}
	return json.Marshal(map[string]any{"role": m.Role, "content": content})
}

// UnmarshalJSON decodes a message of OpenAI's API, with text and images.
func (m *Message) UnmarshalJSON(b []byte) error {
	var wire struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	}
	if err := json.Unmarshal(b, &wire); err != nil {
		return err
	}

	*m = Message{Role: wire.Role}
	if !slices.Contains([]string{"system", "developer", "user", "assistant"}, m.Role) {
		return fmt.Errorf("unknown role %q of a message", m.Role)
	}
	if len(wire.Content) > 0 && wire.Content[0] == '"' {
		return json.Unmarshal(wire.Content, &m.Text)
	}

	var parts []part
	if err := json.Unmarshal(wire.Content, &parts); err != nil {
		return fmt.Errorf("a message's content: %w", err)
	}

	for _, p := range parts {
		switch {
		case p.Type == "text":
			m.Text += p.Text
		case p.Type == "image_url" && p.Image != nil:
			m.Images = append(m.Images, p.Image.URL)
		default:
			return fmt.Errorf("unsupported type %q in a message's content", p.Type)
		}
	}

	return nil
}

// System returns the system message, or "".
func (c *Conversation) System() string {
	if len(c.Messages) > 0 && c.Messages[0].Role == "system" {
		return c.Messages[0].Text
	}
	return ""
}

// SetSystem replaces the system message; "" removes it.
func (c *Conversation) SetSystem(text string) {
	if c.System() != "" {
		c.Messages = c.Messages[1:]
	}
	if text != "" {
		c.Messages = slices.Insert(c.Messages, 0, Message{Role: "system", Text: text})
	}
}

// Clear removes all messages except the system message.
func (c *Conversation) Clear() {
	system := c.System()
	c.Messages = nil
	c.SetSystem(system)
}

// Set sets a field of future requests. The value is JSON, or else a string; "" removes the
// field.
func (c *Conversation) Set(name, value string) error {
	switch name {
	case "model", "messages", "stream", "stream_options", "n", "tools":
		return fmt.Errorf("%s cannot be set", name) // there is one answer, and no tool calls
	}
	if c.Params == nil {
		c.Params = map[string]json.RawMessage{}
	}
	if value == "" {
		delete(c.Params, name)
		return nil
	}
	raw := json.RawMessage(value)
	if !json.Valid(raw) {
		quoted, err := json.Marshal(value)
		if err != nil {
			return err
		}
		raw = quoted
	}
	c.Params[name] = raw
	return nil
}

// Limits of files.
const (
	maxSaved = 64 << 20
	maxImage = 20 << 20
)

// Save writes the conversation to a new file that other users cannot read. It does not replace a file.
func (c *Conversation) Save(path string) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(text, '\n'))
	if err = errors.Join(err, file.Close()); err != nil {
		os.Remove(path)
	}
	return err
}

// Load reads a conversation written by Save.
func Load(path string) (*Conversation, error) {
	text, err := readFile(path, maxSaved)
	if err != nil {
		return nil, err
	}
	c := new(Conversation)
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("%s is not a saved conversation: %w", path, err)
	}
	return c, nil
}

// Image reads an image file and returns a data URL. The server checks the image.
func Image(path string) (string, error) {
	data, err := readFile(path, maxImage)
	if err != nil {
		return "", err
	}
	kind := "image/png"
	switch {
	case strings.HasPrefix(string(data), "\xff\xd8"):
		kind = "image/jpeg"
	case strings.HasPrefix(string(data), "GIF8"):
		kind = "image/gif"
	case len(data) > 12 && string(data[8:12]) == "WEBP":
		kind = "image/webp"
	case !strings.HasPrefix(string(data), "\x89PNG"):
		return "", fmt.Errorf("%s is not a PNG, JPEG, GIF or WebP image", path)
	}
	return "data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(data), nil
}

func readFile(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return data, err
}
