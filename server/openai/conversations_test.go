package openai_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// conversing starts a server whose model says the prompt that it reads.
func conversing(t *testing.T, o server.Options) *httptest.Server {
	t.Helper()
	hs, _ := servertest.Start(t, enginetest.Options{
		Limits: engine.Limits{Context: 1024},
		Next:   parrot,
	}, o)
	return hs
}

// call makes a request, and returns its status and body.
func call(t *testing.T, hs *httptest.Server, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, hs.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := hs.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// created creates a conversation and returns its id.
func created(t *testing.T, hs *httptest.Server, fields string) string {
	t.Helper()
	status, body := call(t, hs, http.MethodPost, "/v1/conversations", `{`+fields+`}`)
	var c struct{ ID string }
	if err := json.Unmarshal([]byte(body), &c); err != nil || status != http.StatusOK {
		t.Fatal(status, body, err)
	}
	return c.ID
}

// itemsIn lists the items of a conversation, the oldest first: their roles or types, and texts.
func itemsIn(t *testing.T, hs *httptest.Server, id string) (list []string) {
	t.Helper()
	status, body := call(t, hs, http.MethodGet, "/v1/conversations/"+id+"/items?order=asc&limit=100", "")
	var got struct {
		Data []struct {
			Type    string
			Role    string
			Content []struct{ Text string }
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || status != http.StatusOK {
		t.Fatal(status, body, err)
	}
	for _, item := range got.Data {
		text := item.Role
		if item.Type != "message" {
			text = item.Type
		}
		for _, part := range item.Content {
			text += ":" + part.Text
		}
		list = append(list, text)
	}
	return list
}

// TestConversationObjects compares what each endpoint answers.
func TestConversationObjects(t *testing.T) {
	hs := conversing(t, server.Options{})
	id := created(t, hs, `"metadata":{"topic":"a"},"items":[{"role":"user","content":"One"},`+
		`{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Two"}]}]`)

	var out strings.Builder
	step := func(method, path, body string) string {
		status, answer := call(t, hs, method, "/v1/conversations/"+id+path, body)
		var indented bytes.Buffer
		if err := json.Indent(&indented, []byte(answer), "", " "); err != nil {
			t.Fatal(err, answer)
		}
		fmt.Fprintf(&out, "%s %s %s\n%d %s\n\n", method, path, body, status, &indented)
		return answer
	}

	step(http.MethodGet, "", "")
	step(http.MethodPost, "", `{"metadata":{"topic":"b"}}`)
	var added struct{ Data []struct{ ID string } }
	answer := step(http.MethodPost, "/items", `{"items":[{"role":"user","content":"Three"},`+
		`{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},`+
		`{"type":"function_call_output","call_id":"c","output":"4"}]}`)
	if err := json.Unmarshal([]byte(answer), &added); err != nil || len(added.Data) != 3 {
		t.Fatal(err, answer)
	}
	step(http.MethodGet, "/items?limit=2", "")
	step(http.MethodGet, "/items/"+added.Data[1].ID, "")
	step(http.MethodDelete, "/items/"+added.Data[0].ID, "")
	step(http.MethodGet, "/items/"+added.Data[0].ID, "")
	step(http.MethodGet, "/items?order=asc&limit=1&include[]=reasoning.encrypted_content&after="+added.Data[1].ID, "")
	step(http.MethodDelete, "", "")
	step(http.MethodGet, "", "")
	golden(t, "conversation.txt", out.String())
}

// TestConversationRefusals sends what is wrong.
func TestConversationRefusals(t *testing.T) {
	hs := conversing(t, server.Options{})
	id := created(t, hs, `"items":[{"id":"msg_mine","role":"user","content":"One"}]`)
	response := respond(t, hs, `"input":"One"`).ID
	many := strings.Repeat(`{"role":"user","content":"x"},`, 20) + `{"role":"user","content":"x"}`
	labels := make([]string, 17)
	for i := range labels {
		labels[i] = fmt.Sprintf(`"k%d":"v"`, i)
	}
	labeled := `{"metadata":{` + strings.Join(labels, ",") + `}}`
	twice := `{"items":[{"id":"msg_mine","role":"user","content":"x"}]}`

	for name, tt := range map[string]struct {
		request string // method and path
		body    string
		status  int
		want    string
	}{
		"many items":          {"POST /v1/conversations", `{"items":[` + many + `]}`, 400, `"array_above_max_length"`},
		"no item":             {"POST /v1/conversations", `{"items":[{"role":"user"}]}`, 400, `"items[0].content"`},
		"many labels":         {"POST /v1/conversations", labeled, 400, "too many keys: 17"},
		"a long label":        {"POST /v1/conversations", `{"metadata":{"` + strings.Repeat("k", 65) + `":""}}`, 400, "64 characters"},
		"a number as label":   {"POST /v1/conversations", `{"metadata":{"a":1}}`, 400, `"metadata.a"`},
		"an unknown field":    {"POST /v1/conversations", `{"name":"x"}`, 400, `"unknown_parameter"`},
		"two of one id":       {"POST /v1/conversations/" + id + "/items", twice, 400, "msg_mine"},
		"nothing to add":      {"POST /v1/conversations/" + id + "/items", `{}`, 400, `"items"`},
		"no labels":           {"POST /v1/conversations/" + id, `{}`, 400, `"metadata"`},
		"no conversation":     {"GET /v1/conversations/conv_absent", ``, 404, "conv_absent"},
		"another's id":        {"GET /v1/conversations/" + response, ``, 404, "not found"},
		"as a response":       {"GET /v1/responses/" + id, ``, 404, "not found"},
		"no item of it":       {"DELETE /v1/conversations/" + id + "/items/msg_x", ``, 404, "msg_x"},
		"a bad limit":         {"GET /v1/conversations/" + id + "/items?limit=101", ``, 400, `"limit"`},
		"a bad parameter":     {"GET /v1/conversations/" + id + "/items?page=1", ``, 400, `"page"`},
		"an absent reference": {"POST /v1/conversations/" + id + "/items", `{"items":[{"type":"item_reference","id":"msg_1"}]}`, 404, "msg_1"},
		"both": {"POST /v1/responses", `{"model":"fake","input":"x","conversation":"` + id +
			`","previous_response_id":"` + response + `"}`, 400, `"conversation"`},
		"of a conversation that is not there": {"POST /v1/responses", `{"model":"fake","input":"x","conversation":{"id":"conv_x"}}`, 404, `"conversation"`},
		"of a response":                       {"POST /v1/responses", `{"model":"fake","input":"x","previous_response_id":"` + id + `"}`, 400, "previous_response_not_found"},
		"an item again": {"POST /v1/responses", `{"model":"fake","conversation":"` + id +
			`","input":[{"id":"msg_mine","role":"user","content":"x"}]}`, 400, "msg_mine"},
	} {
		method, path, _ := strings.Cut(tt.request, " ")
		if status, body := call(t, hs, method, path, tt.body); status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}

	if got := itemsIn(t, hs, id); len(got) != 1 {
		t.Errorf("the conversation has %q", got)
	}
}

// TestConversationGoesOn makes responses of a conversation, whole and streamed, over a restart, and without
// storing them.
func TestConversationGoesOn(t *testing.T) {
	folder := t.TempDir()
	kept := openArchive(t, folder)
	hs := conversing(t, server.Options{Archive: kept})
	id := created(t, hs, `"items":[{"role":"developer","content":"Be kind."}]`)

	first := respond(t, hs, `"input":"One","conversation":"`+id+`"`)
	const one = "[system]Be kind.[user]One"
	if first.text() != one {
		t.Errorf("%+v", first)
	}
	second := respond(t, hs, `"input":"Two","store":false,"stream":true,"conversation":{"id":"`+id+`"}`)
	const two = one + "[assistant]" + one + "[user]Two"
	if second.text() != two {
		t.Errorf("%+v", second)
	}
	if status, body := call(t, hs, http.MethodGet, "/v1/responses/"+second.ID, ""); status != http.StatusNotFound {
		t.Errorf("%d %s", status, body)
	}
	if _, body := call(t, hs, http.MethodGet, "/v1/responses/"+first.ID, ""); !strings.Contains(body,
		`"conversation":{"id":"`+id+`"}`) {
		t.Error(body)
	}

	// Counting and compacting read it, and leave it as it is.
	before := itemsIn(t, hs, id)
	_, counted := call(t, hs, http.MethodPost, "/v1/responses/input_tokens",
		`{"model":"fake","input":"x","conversation":"`+id+`"}`)
	_, alone := call(t, hs, http.MethodPost, "/v1/responses/input_tokens", `{"model":"fake","input":"x"}`)
	if counted == alone {
		t.Error(counted)
	}
	if status, body := call(t, hs, http.MethodPost, "/v1/responses/compact",
		`{"model":"fake","input":"x","conversation":"`+id+`"}`); status != http.StatusOK {
		t.Error(body)
	}
	if got := itemsIn(t, hs, id); strings.Join(got, "|") != strings.Join(before, "|") {
		t.Errorf("%q", got)
	}

	if err := kept.Close(); err != nil {
		t.Fatal(err)
	}
	hs = conversing(t, server.Options{Archive: openArchive(t, folder)})
	if got := itemsIn(t, hs, id); strings.Join(got, "|") !=
		"developer:Be kind.|user:One|assistant:"+one+"|user:Two|assistant:"+two {
		t.Errorf("%q", got)
	}

	// An item of a conversation is found by its id.
	_, body := call(t, hs, http.MethodGet, "/v1/conversations/"+id+"/items?order=asc&limit=1", "")
	var list struct{ Data []struct{ ID string } }
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	referring := respond(t, hs, `"input":[{"type":"item_reference","id":"`+list.Data[0].ID+`"},`+
		`{"role":"user","content":"One"}]`)
	if referring.text() != one {
		t.Errorf("%+v", referring)
	}

	if status, body := call(t, hs, http.MethodDelete, "/v1/conversations/"+id, ""); status != http.StatusOK {
		t.Error(body)
	}
	if status, body := call(t, hs, http.MethodGet, "/v1/responses/"+first.ID, ""); status != http.StatusOK {
		t.Errorf("the response is gone with its conversation: %s", body)
	}
}

// TestConversationLocked asks for a second response, and changes items, while one is being made in the
// background. What fails and what is canceled adds nothing, and frees the conversation.
func TestConversationLocked(t *testing.T) {
	gate := make(chan struct{})
	hs, s := servertest.Start(t, enginetest.Options{
		Limits:       engine.Limits{Context: 1024},
		Next:         parrot,
		BeforeDecode: func(*engine.Batch) error { <-gate; return nil },
	}, server.Options{})
	id := created(t, hs, `"items":[{"id":"msg_mine","role":"user","content":"One"}]`)
	other := created(t, hs, ``)
	belongs := `"conversation":"` + id + `"`
	running := respond(t, hs, `"input":"Two","background":true,`+belongs)
	cancelled := respond(t, hs, `"input":"Two","background":true,"conversation":"`+other+`"`)

	for request, body := range map[string]string{
		"POST /v1/responses":                                  `{"model":"fake","input":"x",` + belongs + `}`,
		"POST /v1/conversations/" + id + "/items":             `{"items":[{"role":"user","content":"x"}]}`,
		"DELETE /v1/conversations/" + id + "/items/msg_mine":  ``,
		"DELETE /v1/conversations/" + id:                      ``,
		"POST /v1/responses?a second time, in the background": `{"model":"fake","input":"x","background":true,` + belongs + `}`,
	} {
		method, path, _ := strings.Cut(request, " ")
		path, _, _ = strings.Cut(path, "?")
		status, got := call(t, hs, method, path, body)
		if status != http.StatusBadRequest || !strings.Contains(got, `"conversation_locked"`) {
			t.Errorf("%s: %d %s", request, status, got)
		}
	}
	if status, body := call(t, hs, http.MethodPost, "/v1/conversations/"+id, `{"metadata":{"a":"b"}}`); status != http.StatusOK {
		t.Error(body)
	}

	if status, body := call(t, hs, http.MethodPost, "/v1/responses/"+cancelled.ID+"/cancel", ""); status != http.StatusOK {
		t.Error(body)
	}
	if got := itemsIn(t, hs, other); len(got) != 0 {
		t.Errorf("%q", got)
	}
	close(gate)
	s.Wait(t.Context())
	if got := itemsIn(t, hs, id); strings.Join(got, "|") != "user:One|user:Two|assistant:[user]One[user]Two" {
		t.Errorf("%s: %q", running.ID, got)
	}
	if _, body := call(t, hs, http.MethodGet, "/v1/conversations/"+id, ""); !strings.Contains(body, `{"a":"b"}`) {
		t.Errorf("the labels are lost: %s", body)
	}

	// Too long for the model: the conversation is free, and as before.
	long := strings.Repeat("long ", 400)
	if status, body := call(t, hs, http.MethodPost, "/v1/responses",
		`{"model":"fake","input":"`+long+`",`+belongs+`}`); status != http.StatusBadRequest {
		t.Errorf("%d %s", status, body)
	}
	if got := respond(t, hs, `"input":"Three",`+belongs); !strings.HasSuffix(got.text(), "[user]Three") {
		t.Errorf("%+v", got)
	}
}

// TestConversationBytes fills a conversation: what has no room is refused before it is answered.
func TestConversationBytes(t *testing.T) {
	hs := conversing(t, server.Options{})
	id := created(t, hs, ``)
	item := `{"role":"user","content":"` + strings.Repeat("x", 1<<20) + `"}`
	status := 0
	body := ""
	added := 0
	for added = 0; added < 20; added++ {
		status, body = call(t, hs, http.MethodPost, "/v1/conversations/"+id+"/items", `{"items":[`+item+`]}`)
		if status != http.StatusOK {
			break
		}
	}
	if status != http.StatusBadRequest || added != 15 || !strings.Contains(body, "16777216 bytes") {
		t.Errorf("%d added, then %d %.200s", added, status, body)
	}
	status, body = call(t, hs, http.MethodPost, "/v1/responses", `{"model":"fake","conversation":"`+id+`","input":[`+item+`]}`)
	if status != http.StatusBadRequest || !strings.Contains(body, "16777216 bytes") {
		t.Errorf("%d %.200s", status, body)
	}
}
