package openai_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// portray writes an image as the fake sees it: a letter a column, in as many rows.
func portray(t testing.TB, letters string) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, len(letters), len(letters)))
	for x := range len(letters) {
		for y := range len(letters) {
			img.Set(x, y, color.RGBA{R: letters[x], A: 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func dataURL(data []byte) string {
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(data)
}

// describe answers with the whole prompt, an image as its letters.
func describe(tokens []engine.Token) engine.Token {
	read := make([]engine.Token, len(tokens))
	for i, t := range tokens {
		if read[i] = t; t < 0 {
			read[i] = enginetest.Letter(t)
		}
	}
	return parrot(read)
}

var seer = enginetest.Options{
	Vision: true,
	Next:   describe,
	Limits: engine.Limits{Context: 2048, Batch: 64},
}

func TestImages(t *testing.T) {
	hs, _ := servertest.Start(t, seer, server.Options{Archive: openArchive(t, t.TempDir())})
	client := openai.NewClient(option.WithBaseURL(hs.URL+"/v1"), option.WithAPIKey("none"))
	look := func(parts ...openai.ChatCompletionContentPartUnionParam) *openai.ChatCompletion {
		t.Helper()
		c, err := client.Chat.Completions.New(t.Context(), openai.ChatCompletionNewParams{
			Model:    "fake",
			Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(parts)},
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	text := openai.TextContentPart
	picture := func(letters, detail string) openai.ChatCompletionContentPartUnionParam {
		return openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{
			URL:    dataURL(portray(t, letters)),
			Detail: detail,
		})
	}

	c := look(
		text("Look: "), picture("cat", "high"), text("and "), picture("dog", ""), picture("emu", "auto"), text("what?"),
	)
	const want = "[user]Look: {cat}and {dog}{emu}what?"
	if got := c.Choices[0].Message.Content; got != want {
		t.Errorf("the model reads %q, want %q", got, want)
	}

	if n := c.Usage.PromptTokens; n != int64(len(want)+1) {
		t.Errorf("%d prompt tokens, want %d", n, len(want)+1)
	}

	if c := look(text("Again: "), picture("cat", ""), text("?")); c.Choices[0].Message.Content != "[user]Again: {cat}?" {
		t.Errorf("the model reads %q", c.Choices[0].Message.Content)
	}

	n := look(picture(strings.Repeat("wide", 200), "low"), text("?")).Usage.PromptTokens
	if n != int64(len("[user]{}?\n")+512) {
		t.Errorf("an image of 800 columns in low detail is %d tokens", n)
	}

	n = look(picture(strings.Repeat("wide", 200), "high"), text("?")).Usage.PromptTokens
	if n != int64(len("[user]{}?\n")+800) {
		t.Errorf("an image of 800 columns in high detail is %d tokens", n)
	}

	input := fmt.Sprintf(
		`[{"role":"user","content":[{"type":"input_image","image_url":%q,"detail":"auto"},{"type":"input_text",`+
			`"text":"What?"}]}]`,
		dataURL(portray(t, "owl")),
	)
	first := respond(t, hs, `"input":`+input)
	if got := first.text(); got != "[user]{owl}What?" {
		t.Errorf("the model reads %q of a response's input", got)
	}

	second := respond(t, hs, `"input":"Why?","stream":true,"previous_response_id":"`+first.ID+`"`)
	if got := second.text(); got != "[user]{owl}What?[assistant][user]{owl}What?[user]Why?" {
		t.Errorf("the model reads %q of a response that goes on", got)
	}

	call := fmt.Sprintf(
		`[{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output",`+
			`"call_id":"c","output":[{"type":"input_image","image_url":%q}]}]`,
		dataURL(portray(t, "fox")),
	)
	if got := respond(t, hs, `"input":`+call).text(); !strings.Contains(got, "{fox}") {
		t.Errorf("the model reads %q of a function's image", got)
	}

	_, body := servertest.Post(t, hs, "/v1/responses/input_tokens", `{"model":"fake","input":`+input+`}`)
	if !strings.Contains(body, fmt.Sprint(len("[user]{owl}What?\n"))) {
		t.Errorf("counted: %s", body)
	}
}

func TestBadImages(t *testing.T) {
	hs, _ := servertest.Start(t, seer, server.Options{})
	chat := func(part string) string {
		return `{"model":"fake","messages":[{"role":"user","content":[` + part + `]}]}`
	}

	good := dataURL(portray(t, "cat"))
	of := func(url string) string { return chat(`{"type":"image_url","image_url":{"url":"` + url + `"}}`) }
	const field = "messages[0].content[0].image_url.url"
	for name, tt := range map[string]struct{ body, code, param, words string }{
		"no URL": {chat(`{"type":"image_url","image_url":{}}`), "missing_required_parameter", field, "url"},
		"no image": {chat(`{"type":"image_url"}`), "missing_required_parameter",
			"messages[0].content[0].image_url", "image_url"},
		"an unknown detail": {chat(`{"type":"image_url","image_url":{"url":"` + good + `","detail":"huge"}}`),
			"invalid_value", "messages[0].content[0].image_url.detail", "huge"},
		"a file of OpenAI's": {chat(`{"type":"image_url","file_id":"file-1"}`), "unsupported_parameter",
			"messages[0].content[0].file_id", "data URL"},
		"a web page's":    {of("https://example.com/cat.png"), "invalid_image_url", field, "--image-host"},
		"a local file":    {of("file:///etc/passwd"), "invalid_image_url", field, "file"},
		"no scheme":       {of("cat.png"), "invalid_image_url", field, "scheme"},
		"not Base64":      {of("data:image/png;base64,%%%"), "invalid_base64_image", field, "Base64"},
		"not in Base64":   {of("data:image/png,abc"), "invalid_image_url", field, "base64"},
		"nothing":         {of("data:image/png;base64,"), "empty_image_file", field, "empty"},
		"no image at all": {of("data:image/png;base64,aGVsbG8="), "image_parse_error", field, "not a PNG"},
		"an image without room": {of(dataURL(portray(t, strings.Repeat("x", 2100)))), "context_length_exceeded",
			"messages", "2047"},
		"audio": {chat(`{"type":"input_audio","input_audio":{}}`), "unsupported_parameter",
			"messages[0].content[0].type", "input_audio"},
		"an image by the system": {`{"model":"fake","messages":[{"role":"system","content":[{"type":"image_url",` +
			`"image_url":{"url":"` + good + `"}}]}]}`, "unsupported_parameter", "messages[0].content[0].type", "image_url"},
		"too many": {chat(strings.Repeat(`{"type":"image_url","image_url":{"url":"`+good+`"}},`, 128) +
			`{"type":"image_url","image_url":{"url":"x"}}`), "array_above_max_length",
			"messages[0].content[128].image_url.url", "129"},
	} {
		res, body := servertest.Post(t, hs, "/v1/chat/completions", tt.body)
		var e struct {
			Error struct{ Code, Param, Message string }
		}
		err := json.Unmarshal([]byte(body), &e)
		if err != nil || res.StatusCode != 400 || e.Error.Code != tt.code || e.Error.Param != tt.param ||
			!strings.Contains(e.Error.Message, tt.words) {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
	}

	// A template that has no place for an image says nothing of it.
	hs, s := servertest.Start(t, seer, server.Options{})
	servertest.Record(s).Rewrite = func(r *engine.Rendered) { r.Prompt = "no place\n" }
	_, body := servertest.Post(t, hs, "/v1/chat/completions", of(good))
	if !strings.Contains(body, "no place for this image") {
		t.Errorf("a template without a place: %s", body)
	}
}

// TestFetchedImages takes images from hosts that are allowed, and from no other.
func TestFetchedImages(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t.Error("a host that is not allowed was asked")
	}))
	defer other.Close()
	data := portray(t, "cat")
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/cat.png":
			w.Write(data)
		case "/moved":
			http.Redirect(w, r, "/cat.png", http.StatusFound)
		case "/away":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/empty":
		case "/large":
			w.Write(make([]byte, 1<<20))
		default:
			http.NotFound(w, r)
		}
	}))
	defer host.Close()

	hs, _ := servertest.Start(t, seer, server.Options{ImageHosts: []string{host.URL}, MaxBody: 1 << 19})
	for path, want := range map[string]string{
		"/cat.png?key=secret": "[user]{cat}?",
		"/moved":              "[user]{cat}?",
		"/away":               "redirects to another one",
		"/round":              "too many redirects",
		"/empty":              "empty_image_file",
		"/large":              "image_file_too_large",
		"/none?key=secret":    "404 Not Found",
	} {
		_, body := servertest.Post(
			t,
			hs,
			"/v1/chat/completions",
			`{"model":"fake","messages":[{"role":"user","content":[{"type":"image_url",
		"image_url":{"url":"`+host.URL+path+`"}},{"type":"text","text":"?"}]}]}`,
		)
		if !strings.Contains(body, want) || strings.Contains(body, "secret") {
			t.Errorf("%s: %s", path, body)
		}
	}
}
