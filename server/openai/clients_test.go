package openai_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// TestIgnoredFields sends what clients add within messages, tools and formats. It has no effect, and
// a header names it.
func TestIgnoredFields(t *testing.T) {
	message := func(fields string) string {
		return `"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b",` + fields + `},` +
			`{"role":"user","content":"c","timestamp":1}]`
	}

	for name, tt := range map[string]struct {
		path    string
		fields  string
		ignored string
	}{
		"none": {"/v1/chat/completions", servertest.Hello, ""},
		"of a message": {
			"/v1/chat/completions", message(`"id":"1","parsed":null,"provider_specific_fields":{"a":1},"prefix":true`),
			"messages[1].id, messages[1].prefix, messages[1].provider_specific_fields, messages[2].timestamp",
		},
		"the same of several": {
			"/v1/chat/completions", `"messages":[{"role":"user","content":"a","cache_control":{}},` +
				`{"role":"user","content":"b","cache_control":{}}]`, "messages[0].cache_control",
		},
		"of a part": {
			"/v1/chat/completions", `"messages":[{"role":"user","content":[` +
				`{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}]`, "messages[0].content[0].cache_control",
		},
		"of a call": {
			"/v1/chat/completions", `"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[` +
				`{"id":"1","type":"function","index":0,"extra_content":{},"function":` +
				`{"name":"f","arguments":"{}","parsed_arguments":{}}}]},{"role":"tool","tool_call_id":"1","content":"b"}]`,
			"messages[1].tool_calls[0].extra_content, messages[1].tool_calls[0].function.parsed_arguments",
		},
		"of a function": {
			"/v1/chat/completions", servertest.Hello + `,"tool_choice":"none","tools":[{"type":"function",` +
				`"copilot_cache_control":{},` +
				`"function":{"name":"f","returns":{}}}]`, "tools[0].copilot_cache_control, tools[0].function.returns",
		},
		"of a format": {
			"/v1/chat/completions", servertest.Hello + `,"response_format":{"type":"json_schema","json_schema":` +
				`{"name":"a","schema":{"type":"object"},"version":1}}`, "response_format.json_schema.version",
		},
		"of the stream": {
			"/v1/chat/completions", servertest.Hello + `,"stream":true,"stream_options":{"interval":1}`,
			"stream_options.interval",
		},
		"an unknown null": {"/v1/chat/completions", servertest.Hello + `,"colour":null`, ""},
		"a document":      {"/v1/rerank", `"query":"q","documents":[{"text":"a","title":"b"}]`, "documents[0].title"},
	} {
		t.Run(name, func(t *testing.T) {
			hs, _ := servertest.Start(t, enginetest.Options{
				Next:   sayLast(`{}`),
				Embeds: tt.path == "/v1/rerank",
				Ranks:  tt.path == "/v1/rerank",
			}, server.Options{})
			res, body := servertest.Post(t, hs, tt.path, `{"model":"fake",`+tt.fields+`}`)
			if res.StatusCode != 200 {
				t.Fatalf("%d %s", res.StatusCode, body)
			}
			if got := strings.Join(res.Header.Values("X-Ignored-Fields"), ", "); got != tt.ignored {
				t.Errorf("ignored %q, want %q", got, tt.ignored)
			}
		})
	}
}

// TestLenientFields accepts what is unknown at the top level, too, and still refuses what is known and
// cannot be done.
func TestLenientFields(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Next: enginetest.Say("ok")}, server.Options{LenientFields: true})
	for path, body := range map[string]string{
		"/v1/chat/completions": `{"model":"fake",` + servertest.Hello + `,"colour":1}`,
		"/v1/completions":      `{"model":"fake","prompt":"a","colour":1}`,
		"/v1/messages":         `{"model":"fake","max_tokens":9,` + servertest.Hello + `,"colour":1}`,
		"/v1/responses":        `{"model":"fake","input":"a","colour":1}`,
	} {
		res, text := servertest.Post(t, hs, path, body)
		if got := res.Header.Get("X-Ignored-Fields"); res.StatusCode != 200 || got != "colour" {
			t.Errorf("%s: ignored %q: %d %s", path, got, res.StatusCode, text)
		}
	}

	res, text := servertest.Post(t, hs, "/v1/chat/completions", `{"model":"fake",`+servertest.Hello+`,"audio":{}}`)
	if res.StatusCode != 400 || !strings.Contains(text, `"audio"`) {
		t.Errorf("audio: %d %s", res.StatusCode, text)
	}
}

// TestPartsOfEitherAPI sends the parts of responses in a chat, files of text, images in the results of
// tools, and results that name a function. The fake says the prompt that it reads.
func TestPartsOfEitherAPI(t *testing.T) {
	file := func(data string) string {
		return "data:text/plain;base64," + base64.StdEncoding.EncodeToString([]byte(data))
	}
	user := func(parts string) string { return `{"role":"user","content":[` + parts + `]}` }
	call := `{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]}`
	image := dataURL(portray(t, "cat"))

	for name, tt := range map[string]struct {
		messages string
		status   int
		want     string
	}{
		"input_text":    {user(`{"type":"input_text","text":"a"}`), 200, "[user]a"},
		"output_text":   {user(`{"type":"output_text","text":"a","annotations":[]}`), 200, "[user]a"},
		"input_image":   {user(fmt.Sprintf(`{"type":"input_image","image_url":%q}`, image)), 200, "[user]{cat}"},
		"an input_file": {user(`{"type":"input_file","file_data":"` + file("hello") + `"}`), 200, "[user]hello"},
		"base64 alone":  {user(`{"type":"file","file":{"file_data":"aGVsbG8="}}`), 200, "[user]hello"},
		"a PDF":         {user(`{"type":"file","file":{"file_data":"` + file("%PDF-1.7") + `"}}`), 400, "PDF"},
		"not text":      {user(`{"type":"file","file":{"file_data":"` + file("a\x00b") + `"}}`), 400, "UTF-8 text"},
		"not base64":    {user(`{"type":"file","file":{"file_data":"%%"}}`), 400, "Base64"},
		"a file's id":   {user(`{"type":"file","file":{"file_id":"file-1"}}`), 400, "messages[0].content[0].file.file_id"},
		"a tool's image": {
			user(`{"type":"text","text":"a"}`) + "," + call + `,{"role":"tool","tool_call_id":"1","content":[` +
				fmt.Sprintf(`{"type":"image_url","image_url":{"url":%q}}`, image) + `]}`, 200, "[tool]{cat}",
		},
		"a result by name": {
			user(`{"type":"text","text":"a"}`) + "," + call + `,{"role":"tool","name":"f","content":"b"}`, 200, "[tool]b",
		},
		"a result of nothing": {
			user(`{"type":"text","text":"a"}`) + `,{"role":"tool","content":"b"}`, 400, "messages[1].tool_call_id",
		},
	} {
		hs, _ := servertest.Start(t, seer, server.Options{})
		res, body := servertest.Post(t, hs, "/v1/chat/completions", `{"model":"fake","messages":[`+tt.messages+`]}`)
		if res.StatusCode != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
	}
}

// TestFileNames gives files of text to the model with their names.
func TestFileNames(t *testing.T) {
	hs, s := servertest.Start(t, enginetest.Options{Next: enginetest.Say("ok")}, server.Options{})
	r := servertest.Record(s)
	res, body := servertest.Post(t, hs, "/v1/chat/completions", `{"model":"fake","messages":[{"role":"user","content":[`+
		`{"type":"text","text":"Read:"},`+
		`{"type":"file","file":{"filename":"a.txt","file_data":"data:text/plain;base64,aGVsbG8="}}]}]}`)
	if res.StatusCode != 200 || !strings.Contains(string(r.Chats[0].Messages), `"Read:\nFile a.txt:\nhello"`) {
		t.Errorf("%d %s: the model reads %s", res.StatusCode, body, r.Chats[0].Messages)
	}
}
