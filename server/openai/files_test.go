package openai_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"serve/archive"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

func filesIn(t *testing.T, folder string) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(folder, "files"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestFiles stores, lists, reads and deletes files.
func TestFiles(t *testing.T) {
	folder := t.TempDir()
	_, s := servertest.Start(t, enginetest.Options{}, keeping(t, folder, archive.Limits{}))
	h := s.Handler()

	body, contentType := form(t, "notes ä.txt", "some text", "purpose=user_data", "expires_after[anchor]=created_at",
		"expires_after[seconds]=3600")
	status, text := asked(h, http.MethodPost, "/v1/files", body, contentType)
	var file struct {
		ID, Object, Filename, Purpose, Status string
		Bytes, Created_at, Expires_at         int64
	}
	if err := json.Unmarshal([]byte(text), &file); err != nil || status != 200 || file.Object != "file" ||
		file.Filename != "notes ä.txt" || file.Purpose != "user_data" || file.Status != "processed" || file.Bytes != 9 ||
		file.Expires_at-file.Created_at != 3600 {
		t.Fatalf("%d %s", status, text)
	}
	if _, again := asked(h, http.MethodGet, "/v1/files/"+file.ID, "", ""); again != text {
		t.Errorf("%s, then %s", text, again)
	}

	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/files/"+file.ID+"/content", nil))
	if w.Body.String() != "some text" || w.Header().Get("Content-Type") != "application/octet-stream" ||
		w.Header().Get("X-Content-Type-Options") != "nosniff" ||
		!strings.HasPrefix(w.Header().Get("Content-Disposition"), "attachment") {
		t.Errorf("%v %s", w.Header(), w.Body)
	}

	batch := uploaded(t, h, chats(1), "batch")
	_, text = asked(h, http.MethodGet, "/v1/files/"+batch, "", "")
	if err := json.Unmarshal([]byte(text), &file); err != nil || file.Expires_at-file.Created_at != 30*24*3600 {
		t.Errorf("a batch's file: %s", text)
	}
	for query, want := range map[string]string{
		"":                   batch,
		"?purpose=user_data": "notes",
		"?limit=1":           `"has_more":true`,
		"?after=" + batch:    `"has_more":false`,
		"?order=asc&limit=1": "notes",
		"?purpose=vision":    `"data":[]`,
	} {
		if status, text := asked(h, http.MethodGet, "/v1/files"+query, "", ""); status != 200 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", query, status, text)
		}
	}

	status, text = asked(h, http.MethodDelete, "/v1/files/"+batch, "", "")
	if status != 200 || text != `{"deleted":true,"id":"`+batch+`","object":"file"}` {
		t.Errorf("%d %s", status, text)
	}
	for _, path := range []string{"/v1/files/" + batch, "/v1/files/" + batch + "/content"} {
		if status, text := asked(h, http.MethodGet, path, "", ""); status != 404 || !strings.Contains(text, "No such File") {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if n := filesIn(t, folder); n != 1 {
		t.Errorf("%d files are left", n)
	}
}

// TestFilesRefused stores nothing, and leaves nothing.
func TestFilesRefused(t *testing.T) {
	folder := t.TempDir()
	o := keeping(t, folder, archive.Limits{Bytes: 1 << 16, ClientBytes: 1 << 16, Files: 5, ClientFiles: 5})
	o.MaxFile = 1 << 15
	_, s := servertest.Start(t, enginetest.Options{}, o)
	h := s.Handler()

	long := strings.Repeat("x", 1<<15)
	for name, tt := range map[string]struct {
		file, content string
		fields        []string
		status        int
		want          string
	}{
		"no file":         {"", "", []string{"purpose=batch"}, 400, `"param":"file"`},
		"no purpose":      {"a", "text", nil, 400, `"param":"purpose"`},
		"another purpose": {"a", "text", []string{"purpose=fun"}, 400, `"param":"purpose"`},
		"an expiry": {"a", "text", []string{"purpose=batch", "expires_after[anchor]=created_at",
			"expires_after[seconds]=5"}, 400, `"param":"expires_after.seconds"`},
		"half an expiry": {"a", "text", []string{"purpose=batch", "expires_after[seconds]=3600"}, 400,
			`"param":"expires_after.anchor"`},
		"an unknown field": {"a", "text", []string{"purpose=batch", "color=red"}, 400, `"param":"color"`},
		"too large":        {"a", long + "x", []string{"purpose=batch"}, 413, `"code":"request_too_large"`},
		"a long field":     {"a", "text", []string{"purpose=" + long}, 400, `"param":"purpose"`},
	} {
		body, contentType := form(t, tt.file, tt.content, tt.fields...)
		status, text := asked(h, http.MethodPost, "/v1/files", body, contentType)
		if status != tt.status || !strings.Contains(text, tt.want) {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if status, text := asked(h, http.MethodPost, "/v1/files", "{}", "application/json"); status != 400 {
		t.Errorf("JSON: %d %s", status, text)
	}
	body, contentType := form(t, "a", long, "purpose=batch")
	if status, text := asked(h, http.MethodPost, "/v1/files", body[:1000], contentType); status != 400 {
		t.Errorf("cut off: %d %s", status, text)
	}
	if n := filesIn(t, folder); n != 0 {
		t.Errorf("%d files are left", n)
	}

	uploaded(t, h, long, "user_data")
	uploaded(t, h, long, "user_data")
	body, contentType = form(t, "a", "text", "purpose=batch")
	status, text := asked(h, http.MethodPost, "/v1/files", body, contentType)
	if status != 507 || !strings.Contains(text, `"code":"storage_full"`) {
		t.Errorf("full: %d %s", status, text)
	}
	if n := filesIn(t, folder); n != 2 {
		t.Errorf("%d files are left", n)
	}
}

// TestUploadStops has the client go away in the middle of its file.
func TestUploadStops(t *testing.T) {
	folder := t.TempDir()
	hs, _ := servertest.Start(t, enginetest.Options{}, keeping(t, folder, archive.Limits{}))
	body, contentType := form(t, "a", strings.Repeat("x", 1<<20), "purpose=batch")
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, hs.URL+"/v1/files", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
			t.Error("it was answered")
		}
	}()
	io.WriteString(w, body[:1<<19])
	cancel()
	w.CloseWithError(context.Canceled)
	<-done
	hs.Close() // returns when the handler has
	if n := filesIn(t, folder); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

// TestNoFiles says what to set.
func TestNoFiles(t *testing.T) {
	_, s := servertest.Start(t, enginetest.Options{}, server.Options{})
	h := s.Handler()
	body, contentType := form(t, "a", "text", "purpose=batch")
	for _, r := range []struct{ method, path, body, contentType string }{
		{http.MethodPost, "/v1/files", body, contentType},
		{http.MethodGet, "/v1/files", "", ""},
		{http.MethodGet, "/v1/files/file-a", "", ""},
		{http.MethodGet, "/v1/files/file-a/content", "", ""},
		{http.MethodDelete, "/v1/files/file-a", "", ""},
		{http.MethodPost, "/v1/batches", "{}", "application/json"},
		{http.MethodGet, "/v1/batches", "", ""},
		{http.MethodGet, "/v1/batches/batch_a", "", ""},
		{http.MethodPost, "/v1/batches/batch_a/cancel", "", ""},
	} {
		status, text := asked(h, r.method, r.path, r.body, r.contentType)
		if status != 501 || !strings.Contains(text, "--data-dir") || !strings.Contains(text, `"code":"not_implemented"`) {
			t.Errorf("%s %s: %d %s", r.method, r.path, status, text)
		}
	}
}

// TestFileReferences gives stored files of text to the model.
func TestFileReferences(t *testing.T) {
	o := keeping(t, t.TempDir(), archive.Limits{})
	o.MaxBody = 1000
	_, s := servertest.Start(t, enginetest.Options{Next: enginetest.Say("ok")}, o)
	r := servertest.Record(s)
	h := s.Handler()
	file := uploaded(t, h, "hello", "user_data")
	large := uploaded(t, h, strings.Repeat("x", 600), "user_data")

	chat := func(parts string) (int, string) {
		return asked(h, http.MethodPost, "/v1/chat/completions",
			`{"model":"fake","messages":[{"role":"user","content":[`+parts+`]}]}`, "application/json")
	}
	part := func(id string) string { return `{"type":"file","file":{"file_id":"` + id + `"}}` }
	status, text := chat(part(file))
	if status != 200 || !strings.Contains(string(r.Chats[0].Messages), `"File input.jsonl:\nhello"`) {
		t.Errorf("%d %s: the model reads %s", status, text, r.Chats[0].Messages)
	}
	status, text = chat(part("file-no"))
	if status != 404 || !strings.Contains(text, `"param":"messages[0].content[0].file.file_id"`) {
		t.Errorf("%d %s", status, text)
	}
	status, text = chat(part(large) + "," + part(large))
	if status != 400 || !strings.Contains(text, "context_length_exceeded") {
		t.Errorf("%d %s", status, text)
	}

	// A response, and one that goes on from it.
	status, text = asked(h, http.MethodPost, "/v1/responses", `{"model":"fake","input":[{"role":"user","content":[`+
		`{"type":"input_file","file_id":"`+file+`"}]}]}`, "application/json")
	var first struct{ ID string }
	if err := json.Unmarshal([]byte(text), &first); err != nil || status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	status, text = asked(h, http.MethodPost, "/v1/responses",
		`{"model":"fake","input":"More","previous_response_id":"`+first.ID+`"}`, "application/json")
	if last := string(r.Chats[len(r.Chats)-1].Messages); status != 200 || !strings.Contains(last, `\nhello"`) ||
		!strings.Contains(last, "More") {
		t.Errorf("%d %s: the model reads %s", status, text, last)
	}
}
