package openai_test

import (
	"encoding/json"
	"net/http/httptest"
	"slices"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// rendered is what a router reads of a rendered prompt.
type rendered struct {
	Model    string
	Tokens   []uint32 `json:"token_ids"`
	Features *struct {
		Hashes       map[string][]string                       `json:"mm_hashes"`
		Placeholders map[string][]struct{ Offset, Length int } `json:"mm_placeholders"`
	}
}

// TestRender compares what the render endpoints return with the prompts that the model is asked.
func TestRender(t *testing.T) {
	hs, s := servertest.Start(t, enginetest.Options{}, server.Options{})
	recorder := servertest.Record(s)
	asked := func() (list []uint32) {
		for _, token := range recorder.Last.Prompt {
			list = append(list, uint32(token))
		}
		return list
	}

	chat := `{"model":"fake","max_tokens":2,` + servertest.Hello + `}`
	servertest.Post(t, hs, "/v1/chat/completions", chat)
	var one rendered
	decodeAnswer(t, post(t, hs, "/v1/chat/completions/render", chat), &one)
	if want := asked(); len(want) == 0 || !slices.Equal(one.Tokens, want) {
		t.Errorf("rendered are %v, asked was %v", one.Tokens, want)
	}
	if one.Model != "fake" || one.Features != nil {
		t.Errorf("%+v", one)
	}

	text := `{"model":"fake","max_tokens":2,"prompt":["one","two more"]}`
	var two []rendered
	decodeAnswer(t, post(t, hs, "/v1/completions/render", text), &two)
	servertest.Post(t, hs, "/v1/completions", `{"model":"fake","max_tokens":2,"prompt":"two more"}`)
	if want := asked(); len(two) != 2 || !slices.Equal(two[1].Tokens, want) {
		t.Errorf("rendered are %v, asked was %v", two, want)
	}
}

// TestRenderImages looks for the places of two images, of which one is there twice.
func TestRenderImages(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{
		Vision: true,
		Limits: engine.Limits{Sequences: 2, Context: 512, Cells: 1024, Batch: 64},
	}, server.Options{})
	picture := func(width int) string {
		return `{"type":"image_url","image_url":{"url":"` + dataURL(servertest.PNG(width, 2)) + `"}}`
	}
	body := `{"model":"fake","messages":[{"role":"user","content":[` +
		picture(3) + `,{"type":"text","text":"and"},` + picture(5) + `,` + picture(3) + `]}]}`
	var r rendered
	decodeAnswer(t, post(t, hs, "/v1/chat/completions/render", body), &r)
	if r.Features == nil {
		t.Fatalf("there is no image in %+v", r)
	}
	places := r.Features.Placeholders["image"]
	hashes := r.Features.Hashes["image"]
	if len(places) != 3 || len(hashes) != 3 || hashes[0] != hashes[2] || hashes[0] == hashes[1] {
		t.Fatalf("images at %v are %v", places, hashes)
	}
	for i, want := range []int{3, 5, 3} {
		place := places[i]
		if place.Length != want || slices.Max(r.Tokens[place.Offset:place.Offset+want]) != 0 ||
			r.Tokens[place.Offset-1] != '{' || r.Tokens[place.Offset+want] != '}' {
			t.Errorf("image %d is at %v of %v", i, place, r.Tokens)
		}
	}
}

func post(t *testing.T, hs *httptest.Server, path, body string) string {
	t.Helper()
	res, text := servertest.Post(t, hs, path, body)
	if res.StatusCode != 200 {
		t.Fatalf("%s: %s %s", path, res.Status, text)
	}
	return text
}

func decodeAnswer(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}
