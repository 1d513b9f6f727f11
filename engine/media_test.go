package engine_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
)

// picture is an image as the fake sees it: a letter a column. Fewer rows than columns
// put it on a grid.
func picture(letters string, rows int, whole bool) *engine.Bitmap {
	img := &engine.Bitmap{Width: len(letters), Height: rows, Pixels: make([]byte, 3*len(letters)*rows)}
	for i := range len(letters) {
		img.Pixels[3*i] = letters[i]
	}
	if whole {
		img.Pixels[2] = 255
	}
	return img
}

// source brings an image, by its content.
func source(img *engine.Bitmap) *engine.ImageSource {
	key := sha256.Sum256(fmt.Appendf(nil, "%d %d %s", img.Width, img.Height, img.Pixels))
	return &engine.ImageSource{Key: key, Open: func(context.Context) (*engine.Bitmap, error) { return img, nil }}
}

// prompt makes a prompt of texts and images.
func prompt(t testing.TB, e *engine.Engine, parts ...any) ([]engine.Token, []*engine.Media) {
	t.Helper()
	list := make([]engine.Part, len(parts))
	for i, p := range parts {
		switch p := p.(type) {
		case string:
			list[i].Text = p
		case *engine.Bitmap:
			list[i].Image = source(p)
		}
	}
	tokens, media, err := e.Prompt(context.Background(), engine.Caller{}, list, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return tokens, media
}

func TestCrowdLooksAtImages(t *testing.T) {
	layouts := map[string]engine.Limits{
		"buffers of their own": {Sequences: 4, Context: 128, Batch: 24, RollsBack: true},
		"one buffer":           {Sequences: 6, Context: 128, Batch: 24, RollsBack: true, Shared: true, Cells: 200},
		"one tight buffer":     {Sequences: 8, Context: 128, Batch: 24, RollsBack: true, Shared: true, Cells: 128},
		"no rolling back":      {Sequences: 4, Context: 128, Batch: 24},
		"one sequence":         {Sequences: 1, Context: 128, Batch: 20, RollsBack: true},
		"saved":                {Sequences: 3, Context: 128, Batch: 24, RollsBack: true, Saves: true},
	}

	for name, limits := range layouts {
		t.Run(name, func(t *testing.T) {
			e, fake := startAsIs(t, enginetest.Options{Limits: limits, Vision: true}, engine.Options{})
			rng := rand.New(rand.NewSource(1))
			var images []*engine.Bitmap
			for i := range 8 {
				letters := strings.Repeat("image "+string(rune('a'+i)), 1+i%2)
				images = append(images, picture(letters, 1+rng.Intn(2*len(letters)), rng.Intn(2) == 0))
			}

			var wg sync.WaitGroup
			for i := range 120 {
				parts := []any{strings.Repeat("you are kind. ", rng.Intn(2)), images[rng.Intn(len(images))]}
				for range rng.Intn(3) {
					parts = append(parts, "and ", images[rng.Intn(len(images))])
				}

				parts = append(parts, fmt.Sprintf("canary %d ", rng.Intn(10)))
				n := 1 + rng.Intn(20)
				choices := 1 + rng.Intn(3)
				vanish := rng.Intn(5) == 0
				wg.Go(func() {
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					tokens, media := prompt(t, e, parts...)
					s, err := e.Generate(ctx, engine.Request{Prompt: tokens, Media: media, MaxTokens: n, Choices: choices})
					if err != nil {
						t.Error(err)
						return
					}

					if vanish {
						if i%2 == 0 {
							_, _ = s.Next(ctx)
						}
						cancel()
						return
					}

					sameAsAlone(t, s, len(tokens), choices, text(fake.Answer(tokens, n, media...)))
				})
			}

			wg.Wait()
			if fake.EncodedImages() != len(images) {
				t.Errorf("%d looks at %d images", fake.EncodedImages(), len(images))
			}
			if s := e.Stats(); limits.Cells == 128 && s.Preempted == 0 {
				t.Error("nothing was preempted: the test is too easy")
			}
		})
	}
}

func TestImagesAreReusedOnlyWhereTheyAreTheSame(t *testing.T) {
	e, _ := start(t, enginetest.Options{Vision: true}, engine.Options{})
	cached := func(parts ...any) int {
		t.Helper()
		tokens, media := prompt(t, e, parts...)
		s, err := e.Generate(context.Background(), engine.Request{Prompt: tokens, Media: media, MaxTokens: 4})
		if err != nil {
			t.Fatal(err)
		}
		read(t, s, 1)
		return s.Usage().Cached
	}

	story := strings.Repeat("s", 100)
	cat := strings.Repeat("cat", 10)
	for _, rows := range []int{50, 5} {
		first := picture(cat, rows, false)
		want := func(what string, got, want int) {
			t.Helper()
			if got != want {
				t.Errorf("%d rows, %s: %d tokens were cached, want %d", rows, what, got, want)
			}
		}

		known := 0 // of the story, from the round before
		if rows == 5 {
			known = 101
		}

		want("a first image", cached(story, first, "what is it"), known)
		want("the same again", cached(story, picture(cat, rows, false), "what is it"), 141)
		want("two images", cached(story, first, "what is it?", first, "?"), 142)
		want("another question", cached(story, first, "who is it"), 134)
		want("another image", cached(story, picture("cab"+cat[3:], rows, false), "what is it"), 101)
		want("an image of another size", cached(story, picture(cat, rows+60, false), "what is it"), 101)
		want("no image", cached(story, "{what is it"), 101)
	}
}

func TestInvalidImages(t *testing.T) {
	limits := engine.Limits{Sequences: 1, Context: 64, Batch: 16, RollsBack: true}
	e, _ := start(t, enginetest.Options{Limits: limits, Vision: true}, engine.Options{})
	seen, media := prompt(t, e, "a ", picture("image", 5, false), " b")
	tests := map[string]engine.Request{
		"no image":              {Prompt: seen},
		"an image too many":     {Prompt: seen, Media: append(slices.Clone(media), media[0])},
		"a part of an image":    {Prompt: slices.Delete(slices.Clone(seen), 3, 4), Media: media},
		"an image at the end":   {Prompt: seen[:3+5], Media: media},
		"another image's token": {Prompt: []engine.Token{'a', -100, 'b'}, Media: media},
		"a scored image":        {Prompt: seen, Media: media, Score: true},
	}

	for name, r := range tests {
		if _, err := e.Generate(context.Background(), r); !errors.Is(err, engine.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}

	var length *engine.LengthError
	big := []engine.Part{{Text: "look: "}, {Image: source(picture(strings.Repeat("x", 60), 60, false))}}
	_, _, err := e.Prompt(context.Background(), engine.Caller{}, big, 63)
	if !errors.As(err, &length) || length.Tokens != 68 ||
		length.Limit != 63 {
		t.Errorf("an image without room: %v", err)
	}

	whole := []engine.Part{{Image: source(picture(strings.Repeat("x", 20), 20, true))}, {Text: "?"}}
	if _, _, err := e.Prompt(context.Background(), engine.Caller{}, whole, 63); !errors.Is(err, engine.ErrCannot) {
		t.Errorf("an image larger than a batch: %v", err)
	}

	blind, _ := start(t, enginetest.Options{}, engine.Options{})
	if _, _, err := blind.Prompt(context.Background(), engine.Caller{}, big, 63); !errors.Is(err, engine.ErrCannot) {
		t.Errorf("a model that does not see: %v", err)
	}
	_, err = blind.Generate(context.Background(), engine.Request{Prompt: seen, Media: media})
	if !errors.Is(err, engine.ErrRequest) {
		t.Errorf("an image for a model that does not see: %v", err)
	}
}

func TestImagesHaveIDsOfTheirOwn(t *testing.T) {
	e, fake := start(t, enginetest.Options{Vision: true}, engine.Options{})
	ids := map[engine.Token]bool{}
	for i := range 100 {
		_, media := prompt(t, e, picture(fmt.Sprintf("image %d", i), 3, false), "?")
		if ids[media[0].ID] || media[0].ID >= 0 {
			t.Fatalf("image %d has the ID %d of another", i, media[0].ID)
		}
		ids[media[0].ID] = true
	}
	if fake.EncodedImages() != 100 {
		t.Errorf("%d looks at 100 images", fake.EncodedImages())
	}
}

// TestPromptThatIsSplit takes the tokens that came with a text, and keeps to the limit all the same.
func TestPromptThatIsSplit(t *testing.T) {
	e, _ := start(t, enginetest.Options{}, engine.Options{})
	want := []engine.Token{7, 8}
	part := []engine.Part{{Text: "another text", Split: want}}
	tokens, _, err := e.Prompt(t.Context(), engine.Caller{}, part, 10)
	if err != nil || !slices.Equal(tokens, want) {
		t.Errorf("%v, %v", tokens, err)
	}

	part[0].Text = strings.Repeat("x", 10*e.LongestPiece()+e.LongestPiece())
	var length *engine.LengthError
	if _, _, err := e.Prompt(t.Context(), engine.Caller{}, part, 10); !errors.As(err, &length) {
		t.Errorf("a text that is too long: %v", err)
	}
}
