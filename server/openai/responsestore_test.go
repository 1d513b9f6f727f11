package openai_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"serve/archive"
	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// parrot answers with the whole prompt.
func parrot(tokens []engine.Token) engine.Token {
	end := len(tokens) - 1
	for tokens[end] != '\n' {
		end--
	}
	if said := len(tokens) - 1 - end; said < end {
		return tokens[said]
	}
	return enginetest.EOS
}

func openArchive(t *testing.T, folder string) *archive.Archive {
	t.Helper()
	a, err := archive.Open(folder, time.Hour, archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// said reads a response, or the last event of one.
type said struct {
	ID, Status string
	Output     []struct{ Content []struct{ Text string } }
	Previous   string `json:"previous_response_id"`
	Store      bool
	Error      *struct{ Code, Message string }
}

func (s said) text() (text string) {
	for _, item := range s.Output {
		for _, part := range item.Content {
			text += part.Text
		}
	}
	return text
}

func respond(t *testing.T, hs *httptest.Server, fields string) said {
	t.Helper()
	res, body := servertest.Post(t, hs, "/v1/responses", `{"model":"fake",`+fields+`}`)
	if res.StatusCode != http.StatusOK {
		t.Fatal(body)
	}
	if at := strings.LastIndex(body, "data: "); at >= 0 {
		var event struct{ Response json.RawMessage }
		if err := json.Unmarshal([]byte(body[at+len("data: "):]), &event); err != nil {
			t.Fatal(err)
		}
		body = string(event.Response)
	}
	return decoded(t, body)
}

func decoded(t *testing.T, body string) (s said) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatal(err, body)
	}
	return s
}

// TestKeptResponses goes on from responses, whole and streamed, and over a restart.
func TestKeptResponses(t *testing.T) {
	folder := t.TempDir()
	kept := openArchive(t, folder)
	hs, _ := servertest.Start(t, enginetest.Options{
		Limits: engine.Limits{Context: 1024},
		Next:   parrot,
	}, server.Options{Archive: kept})

	first := respond(t, hs, `"input":"One","instructions":"Be kind."`)
	second := respond(
		t, hs, `"input":[{"role":"user","content":"Two"}],"stream":true,"previous_response_id":"`+first.ID+`"`,
	)
	// Instructions hold for their own response only.
	const want = "[user]One[assistant][system]Be kind.[user]One[user]Two"
	if second.text() != want || second.Previous != first.ID || !second.Store || second.Status != "completed" {
		t.Errorf("%+v", second)
	}

	if err := kept.Close(); err != nil {
		t.Fatal(err)
	}

	hs, _ = servertest.Start(t, enginetest.Options{
		Limits: engine.Limits{Context: 1024},
		Next:   parrot,
	}, server.Options{Archive: openArchive(t, folder)})

	third := respond(t, hs, `"input":"Three","store":false,"previous_response_id":"`+second.ID+`"`)
	if third.text() != want+"[assistant]"+want+"[user]Three" || third.Store {
		t.Errorf("%+v", third)
	}

	status, body := servertest.Request(t, hs, http.MethodGet, "/v1/responses/"+third.ID)
	if status != http.StatusNotFound {
		t.Errorf("what was not to be kept is: %s", body)
	}

	status, body = servertest.Request(t, hs, http.MethodGet, "/v1/responses/"+second.ID+"?include[]=x")
	if got := decoded(t, body); status != http.StatusOK || got.text() != second.text() || got.ID != second.ID {
		t.Errorf("%d %s", status, body)
	}

	for range 2 {
		status, body = servertest.Request(t, hs, http.MethodDelete, "/v1/responses/"+first.ID)
		if status == http.StatusOK && body != `{"deleted":true,"id":"`+first.ID+`","object":"response"}` {
			t.Error(body)
		}
	}

	if status != http.StatusNotFound {
		t.Errorf("deleted twice: %d %s", status, body)
	}

	for _, tt := range []struct{ fields, code string }{
		{`"previous_response_id":"resp_absent"`, "previous_response_not_found"},
		{`"previous_response_id":"` + second.ID + `"`, "previous_response_not_found"}, // its beginning was deleted
		{`"background":true,"store":false`, "invalid_value"},
		{`"background":true,"stream":true`, "unsupported_parameter"},
	} {
		res, body := servertest.Post(t, hs, "/v1/responses", `{"model":"fake","input":"x",`+tt.fields+`}`)
		if res.StatusCode != http.StatusBadRequest || !strings.Contains(body, `"`+tt.code+`"`) {
			t.Errorf("%s: %d %s", tt.fields, res.StatusCode, body)
		}
	}
}

// TestKeptInMemory goes on from responses of a server that has no archive.
func TestKeptInMemory(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{
		Limits: engine.Limits{Context: 1024},
		Next:   parrot,
	}, server.Options{})

	first := respond(t, hs, `"input":"One"`)
	second := respond(t, hs, `"input":"Two","previous_response_id":"`+first.ID+`"`)
	const want = "[user]One[assistant][user]One[user]Two"
	if second.text() != want || !second.Store {
		t.Errorf("%+v", second)
	}

	var items struct{ Data []struct{ ID string } }
	_, body := servertest.Request(t, hs, http.MethodGet, "/v1/responses/"+first.ID+"/input_items")
	if err := json.Unmarshal([]byte(body), &items); err != nil || len(items.Data) != 1 {
		t.Fatal(err, body)
	}

	// As the AI SDK goes on: references to what was said, with and without their type.
	var output struct{ Output []struct{ ID string } }
	status, body := servertest.Request(t, hs, http.MethodGet, "/v1/responses/"+first.ID)
	if err := json.Unmarshal([]byte(body), &output); err != nil || status != http.StatusOK {
		t.Fatal(err, body)
	}
	referring := respond(t, hs, `"input":[{"type":"item_reference","id":"`+items.Data[0].ID+`"},{"id":"`+
		output.Output[0].ID+`"},{"role":"user","content":"Two"}]`)
	if referring.text() != want {
		t.Errorf("%+v", referring)
	}

	background := respond(t, hs, `"input":"One","background":true`)
	if background.Status != "in_progress" {
		t.Errorf("%+v", background)
	}

	unkept := respond(t, hs, `"input":"One","store":false`)
	if status, body := servertest.Request(t, hs, http.MethodDelete, "/v1/responses/"+first.ID); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	for _, id := range []string{first.ID, unkept.ID, "absent"} {
		for _, path := range []string{"GET /v1/responses/" + id, "DELETE /v1/responses/" + id,
			"POST /v1/responses/" + id + "/cancel", "GET /v1/responses/" + id + "/input_items"} {
			method, path, _ := strings.Cut(path, " ")
			if status, body := servertest.Request(t, hs, method, path); status != http.StatusNotFound {
				t.Errorf("%s: %d %s", path, status, body)
			}
		}
	}
	for _, id := range []string{output.Output[0].ID, "msg_1", "x", "msg_" + strings.TrimPrefix(second.ID, "resp_") +
		"_9"} {
		res, body := servertest.Post(
			t, hs, "/v1/responses", `{"model":"fake","input":[{"type":"item_reference","id":"`+id+`"}]}`,
		)
		if res.StatusCode != http.StatusNotFound || !strings.Contains(body, `Item with id '`+id) {
			t.Errorf("%s: %d %s", id, res.StatusCode, body)
		}
	}

	res, body := servertest.Post(t, hs, "/v1/responses/input_tokens", `{"model":"fake","input":"Hello"}`)
	if res.StatusCode != http.StatusOK || body != `{"input_tokens":12,"object":"response.input_tokens"}` {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

func TestInputItems(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{Next: parrot}, server.Options{Archive: openArchive(t, t.TempDir())})
	got := respond(
		t,
		hs,
		`"input":[{"role":"user","content":"a"},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},`+
			`{"type":"function_call_output","call_id":"c","output":"3","id":"fco_mine"},{"role":"user",
		"content":[{"type":"input_text","text":"b"}]}]`,
	)
	status, body := servertest.Request(t, hs, http.MethodGet, "/v1/responses/"+got.ID+"/input_items?order=asc&limit=3")
	if status != http.StatusOK {
		t.Fatal(body)
	}

	golden(t, "input_items.json", body)
	var list struct {
		LastID  string `json:"last_id"`
		HasMore bool   `json:"has_more"`
		Data    []struct{ Type string }
	}

	if err := json.Unmarshal([]byte(body), &list); err != nil || !list.HasMore || list.LastID != "fco_mine" {
		t.Errorf("%v %s", err, body)
	}

	_, body = servertest.Request(
		t, hs, http.MethodGet, "/v1/responses/"+got.ID+"/input_items?order=asc&after="+list.LastID,
	)
	err := json.Unmarshal([]byte(body), &list)
	if err != nil || list.HasMore || len(list.Data) != 1 ||
		list.Data[0].Type != "message" {
		t.Errorf("%v %s", err, body)
	}

	for _, bad := range []string{"limit=0", "order=up", "after=absent", "page=2"} {
		status, body := servertest.Request(t, hs, http.MethodGet, "/v1/responses/"+got.ID+"/input_items?"+bad)
		if status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", bad, status, body)
		}
	}
}

// TestBackground fetches, cancels and loses responses that no client waits for.
func TestBackground(t *testing.T) {
	folder := t.TempDir()
	kept := openArchive(t, folder)
	gate := make(chan struct{})
	hs, s := servertest.Start(t, enginetest.Options{
		Next:         parrot,
		BeforeDecode: func(*engine.Batch) error { <-gate; return nil },
	}, server.Options{Archive: kept})

	show := func(id string) said {
		t.Helper()
		status, body := servertest.Request(t, hs, http.MethodGet, "/v1/responses/"+id)
		if status != http.StatusOK {
			t.Fatal(body)
		}
		return decoded(t, body)
	}

	ended := respond(t, hs, `"input":"One","background":true`)
	cancelled := respond(t, hs, `"input":"Two","background":true`)
	if ended.Status != "in_progress" || show(ended.ID).Status != "in_progress" {
		t.Errorf("%+v", ended)
	}

	res, body := servertest.Post(
		t, hs, "/v1/responses", `{"model":"fake","input":"x","previous_response_id":"`+ended.ID+`"}`,
	)
	if res.StatusCode != http.StatusBadRequest ||
		!strings.Contains(body, "in progress") {
		t.Errorf("%d %s", res.StatusCode, body)
	}

	for range 2 { // the second time it is so already
		status, body := servertest.Request(t, hs, http.MethodPost, "/v1/responses/"+cancelled.ID+"/cancel")
		if got := decoded(t, body); status != http.StatusOK || got.Status != "cancelled" {
			t.Errorf("%d %s", status, body)
		}
	}

	// What is wrong with a request is said at once.
	res, body = servertest.Post(
		t, hs, "/v1/responses", `{"model":"fake","background":true,"input":"`+strings.Repeat("long ", 3000)+`"}`,
	)
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("%d %s", res.StatusCode, body)
	}

	close(gate)
	s.Wait(t.Context())
	if got := show(ended.ID); got.Status != "completed" || got.text() != "[user]One" {
		t.Errorf("%+v", got)
	}

	plain := respond(t, hs, `"input":"Three"`)
	status, body := servertest.Request(t, hs, http.MethodPost, "/v1/responses/"+plain.ID+"/cancel")
	if status != http.StatusBadRequest {
		t.Errorf("%d %s", status, body)
	}

	// One that was cut off with the process is told so.
	lost := `{"id":"resp_lost","object":"response","status":"in_progress","background":true,"output":[]}`
	if err := kept.Put(t.Context(), &archive.Record{
		ID:      "resp_lost",
		Created: time.Now(),
		Input:   json.RawMessage("[]"),
		Body:    json.RawMessage(lost),
	}); err != nil {
		t.Fatal(err)
	}

	got := show("resp_lost")
	if got.Status != "failed" || got.Error == nil ||
		!strings.Contains(got.Error.Message, "stopped") {
		t.Errorf("%+v", got)
	}

	// A server that stops ends what runs, and says so.
	blocked := make(chan struct{})
	hs, s = servertest.Start(t, enginetest.Options{
		Next:         parrot,
		BeforeDecode: func(*engine.Batch) error { <-blocked; return nil },
	}, server.Options{Archive: kept})

	stopped := respond(t, hs, `"input":"Four","background":true`)
	s.Close()
	close(blocked)
	if got := show(stopped.ID); got.Status != "failed" || got.Error == nil || got.Error.Code != "model_unavailable" {
		t.Errorf("%+v", got)
	}

	res, body = servertest.Post(t, hs, "/v1/responses", `{"model":"fake","input":"x","background":true}`)
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

// TestArchiveFails closes the archive under the server, as a full disk would: an
// error, and never an answer that is said to be kept.
func TestArchiveFails(t *testing.T) {
	kept := openArchive(t, t.TempDir())
	hs, _ := servertest.Start(t, enginetest.Options{Next: parrot}, server.Options{Archive: kept})
	kept.Close()
	for _, fields := range []string{``, `,"background":true`, `,"previous_response_id":"resp_1"`} {
		res, body := servertest.Post(t, hs, "/v1/responses", `{"model":"fake","input":"x"`+fields+`}`)
		if res.StatusCode != http.StatusInternalServerError || !strings.Contains(body, "storage_failed") {
			t.Errorf("%s: %d %s", fields, res.StatusCode, body)
		}
	}
	_, body := servertest.Post(t, hs, "/v1/responses", `{"model":"fake","input":"x","stream":true}`)
	if !strings.Contains(body, "response.failed") || strings.Contains(body, "response.completed") ||
		!strings.Contains(body, "storage_failed") {
		t.Error(body)
	}
	if got := respond(t, hs, `"input":"x","store":false`); got.Status != "completed" {
		t.Errorf("%+v", got)
	}
}

// TestKeptCalls answers a call that the server remembers: only its result comes.
func TestKeptCalls(t *testing.T) {
	var seen []templateMessage
	hs, _ := servertest.Start(t, enginetest.Options{
		Next:  sayLast(`<think>why<f {"a":1}>`),
		Parse: scripted,
		RenderError: func(messages []byte) error {
			seen = nil
			return json.Unmarshal(messages, &seen)
		},
	}, server.Options{Archive: openArchive(t, t.TempDir())})

	const tools = `"tools":[{"type":"function","name":"f","parameters":{"type":"object"}}]`
	_, body := servertest.Post(t, hs, "/v1/responses", `{"model":"fake","input":"Call it.",`+tools+`}`)
	var first struct {
		ID     string
		Output []struct {
			Type   string
			CallID string `json:"call_id"`
		}
	}

	if err := json.Unmarshal([]byte(body), &first); err != nil {
		t.Fatal(err, body)
	}

	call := first.Output[len(first.Output)-1]
	if call.Type != "function_call" {
		t.Fatal(body)
	}

	res, body := servertest.Post(
		t,
		hs,
		"/v1/responses",
		`{"model":"fake",`+tools+`,"previous_response_id":"`+first.ID+`","input":[{"type":"function_call_output",`+
			`"call_id":"`+call.CallID+`","output":"3"}]}`,
	)
	if res.StatusCode != http.StatusOK {
		t.Fatal(body)
	}

	if len(seen) != 3 || seen[1].Role != "assistant" || !strings.Contains(string(seen[1].ToolCalls), call.CallID) ||
		seen[2].Role != "tool" || seen[2].Content != "3" || seen[2].ToolCallID != call.CallID {
		t.Errorf("the model reads %+v", seen)
	}
}
