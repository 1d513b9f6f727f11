package llama

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"serve/engine"
	"serve/models/testmodel"
)

func writeProjector(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mmproj.gguf")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// noise is an image of random pixels.
func noise(seed int64, width, height int) *engine.Bitmap {
	img := &engine.Bitmap{Width: width, Height: height, Pixels: make([]byte, 3*width*height)}
	rand.New(rand.NewSource(seed)).Read(img.Pixels)
	return img
}

func noiseSource(seed, width, height int) *engine.ImageSource {
	return &engine.ImageSource{
		Key:  engine.ImageKey{byte(seed), byte(width)},
		Open: func(context.Context) (*engine.Bitmap, error) { return noise(int64(seed), width, height), nil },
	}
}

// seeing are the kinds of projectors, and the models that they go with.
var seeing = map[string]testmodel.Options{
	testmodel.MLP:   {},
	testmodel.Gemma: {},
	testmodel.Qwen:  {Architecture: "qwen2vl"},
}

func TestSee(t *testing.T) {
	type shape struct {
		n, span     int
		grid, whole bool
	}
	want := map[string]shape{
		testmodel.MLP:   {n: testmodel.Patches, span: testmodel.Patches},
		testmodel.Gemma: {n: testmodel.GemmaPatches, span: testmodel.GemmaPatches, whole: true},
		testmodel.Qwen:  {n: 8 * 4, span: 8, grid: true},
	}
	for kind, o := range seeing {
		t.Run(kind, func(t *testing.T) {
			m := loadModel(t, o)
			p, err := NewProjector(m, writeProjector(t, testmodel.Projector(kind)), ProjectorDevice{}, 2)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			look := func(img *engine.Bitmap) *engine.Media {
				t.Helper()
				chunks, err := p.EncodeImage(img, 100)
				if err != nil {
					t.Fatal(err)
				}
				i := slices.IndexFunc(chunks, func(c engine.Chunk) bool { return c.Media != nil })
				return chunks[i].Media
			}

			first := look(noise(1, 8*testmodel.QwenPixels, 4*testmodel.QwenPixels))
			got := shape{first.Len, first.Span, first.Grid != nil, first.Whole}
			if got != want[kind] || len(first.Embeddings) != first.Len*64 {
				t.Errorf("got %+v with %d floats, want %+v", got, len(first.Embeddings), want[kind])
			}
			if again := look(noise(1, 64, 32)); !slices.Equal(again.Embeddings, first.Embeddings) {
				t.Error("the same image looks different the second time")
			}
			if other := look(noise(2, 64, 32)); slices.Equal(other.Embeddings, first.Embeddings) {
				t.Error("another image looks the same")
			}
			if kind == testmodel.Qwen && (first.Grid[8] != 0 || first.Grid[32+8] != 1 || first.Grid[64+9] != 1) {
				t.Errorf("the ninth embedding is not the first of the second row: %v", first.Grid)
			}

			var length *engine.LengthError
			_, err = p.EncodeImage(noise(1, 64, 32), 3)
			if !errors.As(err, &length) || length.Tokens < want[kind].n ||
				length.Limit != 3 {
				t.Errorf("an image without room: %v", err)
			}

			for _, bad := range []*engine.Bitmap{{}, {Width: 2, Height: 2, Pixels: make([]byte, 11)}, {Width: -1, Height: -1,
				Pixels: make([]byte, 3)}} {
				if _, err := p.EncodeImage(bad, 100); !errors.Is(err, engine.ErrRequest) {
					t.Errorf("an image of %d bytes: %v", len(bad.Pixels), err)
				}
			}
		})
	}
}

// margin is how far a token must stand out, in log-probability, to be the same in
// batches of any shape: llama.cpp's kernels round differently.
const margin = 0.1

// answerAlone continues a prompt greedily in an empty context, each run of tokens and
// each image in one batch, as long as every token is clear.
func answerAlone(t *testing.T, c *Context, tokens []engine.Token, media []*engine.Media, n int) []engine.Token {
	t.Helper()
	c.ClearKV()
	pos := 0
	answer := []engine.Token{}
	var b engine.Batch
	decode := func() {
		t.Helper()
		if b.Len() > 0 {
			if err := c.Decode(&b); err != nil {
				t.Fatal(err)
			}
		}
	}

	for i := 0; i < len(tokens); {
		if tokens[i] < 0 {
			decode()
			b.Reset()
			b.AddEmbeddings(media[0], 0, media[0].Len, pos, 0)
			decode()
			b.Reset()
			i = i + media[0].Len
			pos = pos + media[0].Span
			media = media[1:]
			continue
		}
		b.Add(tokens[i], pos, 0, i == len(tokens)-1)
		i = i + 1
		pos = pos + 1
	}

	for range n {
		decode()
		logits, err := c.Logits(b.Len() - 1)
		if err != nil {
			t.Fatal(err)
		}
		sorted := slices.Sorted(slices.Values(logits))
		best := sorted[len(sorted)-1]
		second := sorted[len(sorted)-2]
		if best-second < margin {
			break
		}
		next := engine.Token(slices.Index(logits, best))
		answer = append(answer, next)
		b.Reset()
		b.Add(next, pos, 0, true)
		pos++
	}

	return answer
}

// TestImagesInACrowd says that an answer about images is the same among others, in
// every layout of the cells, as it is alone.
func TestImagesInACrowd(t *testing.T) {
	layouts := map[string]Options{
		"buffers of their own": {Context: 256, Sequences: 4},
		"one buffer":           {Context: 256, Sequences: 4, Cells: 600},
	}
	for kind, mo := range seeing {
		for name, o := range layouts {
			t.Run(kind+", "+name, func(t *testing.T) {
				o.Projector = writeProjector(t, testmodel.Projector(kind))
				o.Threads = oneThread
				o.Batch = 24 // so that Qwen's image takes several
				e := startEngine(t, write(t, mo), o)
				crowd(
					t,
					e,
					newContext(t, loadModel(t, mo), ContextOptions{Cells: 512, Sequences: 1, Batch: 256, Threads: oneThread}),
				)
			})
		}
	}
}

// startEngine runs an engine until the test ends.
func startEngine(t *testing.T, path string, o Options) *engine.Engine {
	t.Helper()
	r, err := Load(path, o)
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(r, r, engine.Options{})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return e
}

// crowd compares answers about images given together with those of one context.
func crowd(t *testing.T, e *engine.Engine, alone *Context) {
	const n = 8
	type asked struct {
		tokens, want []engine.Token
		media        []*engine.Media
	}
	requests := make([]asked, 24)
	answers := map[string]bool{}
	for i := range requests {
		parts := []engine.Part{
			{Text: strings.Repeat("the story of ", i%3)},
			{Image: noiseSource(i%5, 64, 32)},
			{Text: "what can you see"},
		}
		if i%4 == 0 {
			parts = append(parts, engine.Part{Image: noiseSource(i%7, 32, 64)}, engine.Part{Text: "and here"})
		}
		tokens, media, err := e.Prompt(t.Context(), engine.Caller{}, parts, 200)
		if err != nil {
			t.Fatal(err)
		}
		requests[i] = asked{tokens, answerAlone(t, alone, tokens, media, n), media}
		answers[fmt.Sprint(requests[i].want)] = true
	}

	if len(answers) < 8 {
		t.Errorf("only %d different answers to different images", len(answers))
	}

	sampling := engine.DefaultSampling()
	sampling.Temperature = 0
	var wg sync.WaitGroup
	for i, r := range requests {
		if len(r.want) == 0 {
			continue
		}
		wg.Go(func() {
			s, err := e.Generate(
				t.Context(),
				engine.Request{Prompt: r.tokens, Media: r.media, MaxTokens: len(r.want), LogProbs: true, Sampling: sampling},
			)
			if err != nil {
				t.Error(err)
				return
			}
			var got []engine.Token
			for {
				events, err := s.Next(t.Context())
				if err != nil {
					t.Error(err)
				}
				if events == nil {
					break
				}
				for _, ev := range events {
					for _, info := range ev.Tokens {
						got = append(got, info.Token)
					}
					if ev.Finish == engine.FinishStop {
						got = append(got, e.Model().Marks.EOS)
					}
				}
			}
			if want := r.want[:min(len(got), len(r.want))]; len(got) == 0 || !slices.Equal(got, want) ||
				len(got) < len(r.want) && got[len(got)-1] != e.Model().Marks.EOS {
				t.Errorf("request %d: got %v, alone it is %v", i, got, r.want)
			}
		})
	}

	wg.Wait()
}

func TestBadProjectors(t *testing.T) {
	m := loadModel(t, testmodel.Options{})
	good := testmodel.Projector(testmodel.MLP)
	files := map[string][]byte{
		"no GGUF": []byte("no"),
		"cut off": good[:len(good)/2],
		"a model": testmodel.Bytes(testmodel.Options{}),
		"of an unknown kind": []byte(
			strings.Replace(string(good), "\x03\x00\x00\x00\x00\x00\x00\x00mlp", "\x03\x00\x00\x00\x00\x00\x00\x00abc", 1),
		),
	}
	for name, data := range files {
		p, err := NewProjector(m, writeProjector(t, data), ProjectorDevice{}, 2)
		if err == nil {
			p.Close()
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "<nil>") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewProjector(m, "/nowhere/mmproj.gguf", ProjectorDevice{}, 2); err == nil {
		t.Error("a file that is not there: no error")
	}
}

func TestMeasureCountsTheProjector(t *testing.T) {
	path := write(t, testmodel.Options{})
	o := Options{Context: 256, Sequences: 2}
	without, err := Measure(path, o)
	if err != nil {
		t.Fatal(err)
	}
	o.Projector = writeProjector(t, testmodel.Projector(testmodel.MLP))
	with, err := Measure(path, o)
	if err != nil {
		t.Fatal(err)
	}
	more := with.Devices[len(with.Devices)-1].Needs() - without.Devices[len(without.Devices)-1].Needs()
	if least := uint64(len(testmodel.Projector(testmodel.MLP)) * 9 / 10); more < least {
		t.Errorf("the projector takes %d bytes, want at least the %d of its weights", more, least)
	}
}
