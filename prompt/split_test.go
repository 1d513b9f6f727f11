package prompt

import (
	"slices"
	"testing"

	"serve/engine"
)

// TestSplitOfThePrompt uses the tokens that came with a rendered prompt, unless its text has been changed since or has
// images.
func TestSplitOfThePrompt(t *testing.T) {
	tokens := []engine.Token{1, 2, 3}
	image := Image{Mark: NewMark()}
	for _, c := range []struct {
		name   string
		prompt string
		split  string
		images []Image
		want   []engine.Token
	}{
		{"the same", "hello", "hello", nil, tokens},
		{"changed", "hello!", "hello", nil, nil},
		{"an image", "see " + image.Mark, "see " + image.Mark, []Image{image}, nil},
	} {
		rendered := &engine.Rendered{Prompt: c.prompt, Split: &engine.Split{Text: c.split, Tokens: tokens}}
		parts := cutAt(rendered, c.images, []*engine.ImageSource{{}}[:len(c.images)])
		last := parts[len(parts)-1]
		if !slices.Equal(last.Split, c.want) {
			t.Errorf("%s: %v", c.name, last.Split)
		}
		for _, p := range parts[:len(parts)-1] {
			if p.Split != nil {
				t.Errorf("%s: a part has tokens", c.name)
			}
		}
	}
}
