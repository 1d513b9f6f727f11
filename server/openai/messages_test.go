package openai

import (
	"encoding/json"
	"strings"
	"testing"

	"serve/server/wire"
)

// TestParts joins what a message is made of.
func TestParts(t *testing.T) {
	v := wire.Value{
		Name: "content",
		Raw: json.RawMessage(
			`[{"type":"text","text":"a"},{"type":"text","text":"b"},{"type":"image_url","image_url":{"url":"x"}},` +
				`{"type":"text","text":"c"},{"type":"text","text":"d"}]`,
		),
	}
	text, images, e := readParts(v, chatParts)
	if e != nil || len(images) != 1 || strings.ReplaceAll(text, images[0].Mark, "<image>") != "a\nb<image>c\nd" {
		t.Errorf("%q, %d images, %v", text, len(images), e)
	}
}
