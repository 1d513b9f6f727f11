package openai_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"serve/archive"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// TestStoredBounds stores nothing of which OpenAI's bounds do not say how large it may be.
func TestStoredBounds(t *testing.T) {
	a := openArchive(t, t.TempDir())
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{Archive: a})
	long := strings.Repeat("é", 65)
	for name, tt := range map[string]struct{ fields, want string }{
		"user":              {`"user":"` + long + `"`, `"param":"user","code":"string_above_max_length"`},
		"safety_identifier": {`"safety_identifier":"` + long + `"`, "maximum length 64, but got a string with length 65"},
		"prompt_cache_key":  {`"prompt_cache_key":"` + long + `"`, "string_above_max_length"},
		"a label":           {`"metadata":{"a":"` + strings.Repeat("x", 513) + `"}`, "at most 512"},
		"its name":          {`"metadata":{"` + long + `":"a"}`, "at most 64 characters"},
	} {
		res, body := servertest.Post(t, hs, "/v1/responses", `{"model":"fake","input":"Hi",`+tt.fields+`}`)
		if res.StatusCode != 400 || !strings.Contains(body, tt.want) {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
	}

	exact := strings.Repeat("é", 64)
	got := respond(t, hs, `"input":"Hi","user":"`+exact+`","max_output_tokens":2,`+
		`"metadata":{"a":"b","`+strings.Repeat("x", 1<<20)+`":null}`)
	kept, err := a.Get(t.Context(), archive.Key{ID: got.ID})
	if err != nil || len(kept.Body) > 10_000 || !strings.Contains(string(kept.Body), `"metadata":{"a":"b"}`) {
		t.Errorf("%d bytes are stored, %v", len(kept.Body), err)
	}
}

// TestQuota refuses what cannot be stored before the model is asked, and only to the client whose share is used.
func TestQuota(t *testing.T) {
	a, err := archive.Open(t.TempDir(), time.Hour, archive.Limits{Bytes: 1 << 20, ClientBytes: 8 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	hs, s := servertest.Start(t, enginetest.Options{}, server.Options{Archive: a})
	ask := func(key, more string) (int, string) {
		request := `{"model":"fake","input":"` + strings.Repeat("x", 100) + `","max_output_tokens":2` + more + `}`
		res, body := servertest.Ask(t, hs, "/v1/responses", request, "Authorization: Bearer "+key)
		return res.StatusCode, body
	}

	var (
		status int
		body   string
	)
	for range 20 {
		if status, body = ask("a", ""); status != 200 {
			break
		}
	}
	if status != 507 || !strings.Contains(body, "storage_full") || !strings.Contains(body, "'store': false") {
		t.Fatalf("the one whose share is used: %d %s", status, body)
	}
	before := s.Engine.Stats().Steps
	if status, _ := ask("a", ""); status != 507 || s.Engine.Stats().Steps != before {
		t.Errorf("%d, after %d steps", status, s.Engine.Stats().Steps-before)
	}
	if status, body := ask("a", `,"store":false`); status != 200 {
		t.Errorf("what is not stored: %d %s", status, body)
	}
	if status, body := ask("b", ""); status != 200 {
		t.Errorf("another client: %d %s", status, body)
	}
}

// TestLongChain refuses a conversation that is too long to be read for a short request.
func TestLongChain(t *testing.T) {
	a := openArchive(t, t.TempDir())
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{Archive: a})
	input := `["` + strings.Repeat("x", 6<<20) + `"]`
	previous := ""
	for i := range 3 {
		r := &archive.Record{
			ID:       fmt.Sprint("resp_", i),
			Previous: previous,
			Created:  time.Now(),
			Input:    []byte(input),
			Body:     []byte(`{"status":"completed","output":[]}`),
		}
		if err := a.Put(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		previous = r.ID
	}

	res, body := servertest.Post(t, hs, "/v1/responses", `{"model":"fake","input":"Hi","previous_response_id":"resp_2"}`)
	if res.StatusCode != 400 || !strings.Contains(body, "more than 16777216 bytes") {
		t.Errorf("%d %.300s", res.StatusCode, body)
	}
}

// TestReservedTemplateArgs refuses to let a client replace what the renderer gives to a chat template.
func TestReservedTemplateArgs(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{})
	for name, status := range map[string]int{
		"messages":              400,
		"tools":                 400,
		"add_generation_prompt": 400,
		"bos_token":             400,
		"eos_token":             400,
		"raise_exception":       400,
		"enable_thinking":       200,
		"documents":             200,
		"Messages":              200,
	} {
		res, body := servertest.Post(t, hs, "/v1/chat/completions",
			`{"model":"fake","max_tokens":1,`+servertest.Hello+`,"chat_template_kwargs":{"a":1,"`+name+`":[]}}`)
		if res.StatusCode != status || status == 400 && !strings.Contains(body, `"param":"chat_template_kwargs.`+name+`"`) {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
	}
}
