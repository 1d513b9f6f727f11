package openai_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"serve/archive"
	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/openai"
	"serve/server/servertest"
	"serve/testfiles"
)

// keeping returns options of a server that keeps files in a folder.
func keeping(t *testing.T, folder string, limits archive.Limits) server.Options {
	t.Helper()
	a, err := archive.Open(folder, 0, limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	files, err := a.Files()
	if err != nil {
		t.Fatal(err)
	}
	return server.Options{Archive: a, Files: files}
}

// form returns a form with a file, and its content type.
func form(t *testing.T, name, content string, fields ...string) (body, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if name != "" {
		part, err := w.CreateFormFile("file", name)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(part, content)
	}
	for _, f := range fields {
		key, value, _ := strings.Cut(f, "=")
		if err := w.WriteField(key, value); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return b.String(), w.FormDataContentType()
}

// uploaded stores a file and returns its id.
func uploaded(t *testing.T, h http.Handler, content, purpose string) string {
	t.Helper()
	body, contentType := form(t, "input.jsonl", content, "purpose="+purpose)
	status, text := asked(h, http.MethodPost, "/v1/files", body, contentType)
	var file struct{ ID string }
	if err := json.Unmarshal([]byte(text), &file); status != 200 || err != nil {
		t.Fatalf("%d %s", status, text)
	}
	return file.ID
}

// asked asks without a network.
func asked(h http.Handler, method, path, body, contentType string) (int, string) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// aBatch is what tests read of a batch.
type aBatch struct {
	ID     string
	Status string
	Errors *struct{ Data []struct{ Code string } }
	Output string                                 `json:"output_file_id"`
	Error  string                                 `json:"error_file_id"`
	Counts struct{ Total, Completed, Failed int } `json:"request_counts"`
	Usage  struct {
		Total int `json:"total_tokens"`
	}
}

func readBatch(t *testing.T, status int, text string) (b aBatch) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &b); status != 200 || err != nil {
		t.Fatalf("%d %s", status, text)
	}
	return b
}

func begun(t *testing.T, h http.Handler, file, endpoint string) aBatch {
	t.Helper()
	status, text := asked(h, http.MethodPost, "/v1/batches", `{"input_file_id":"`+file+`","endpoint":"`+endpoint+
		`","completion_window":"24h","metadata":{"a":"b"}}`, "application/json")
	return readBatch(t, status, text)
}

func batchNow(t *testing.T, h http.Handler, id string) aBatch {
	t.Helper()
	status, text := asked(h, http.MethodGet, "/v1/batches/"+id, "", "")
	return readBatch(t, status, text)
}

// ended waits, in the test's time, until a batch has ended.
func ended(t *testing.T, h http.Handler, id string) aBatch {
	t.Helper()
	for range 100_000 {
		b := batchNow(t, h, id)
		if !slices.Contains([]string{"validating", "in_progress", "finalizing", "cancelling"}, b.Status) {
			return b
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the batch does not end")
	return aBatch{}
}

// results returns the lines of a file of results, by their custom_id.
func results(t *testing.T, h http.Handler, id string) map[string]string {
	t.Helper()
	list := map[string]string{}
	if id == "" {
		return list
	}
	status, text := asked(h, http.MethodGet, "/v1/files/"+id+"/content", "", "")
	if status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	for line := range strings.Lines(text) {
		var result struct {
			ID string `json:"custom_id"`
		}
		if err := json.Unmarshal([]byte(line), &result); err != nil || list[result.ID] != "" {
			t.Fatalf("%v, or twice: %s", err, line)
		}
		list[result.ID] = line
	}
	return list
}

// chats returns the lines of a batch of chats.
func chats(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"custom_id":"line-%d","method":"POST","url":"/v1/chat/completions","body":`+
			`{"model":"fake","max_tokens":5,"messages":[{"role":"user","content":"Hello %d"}]}}`+"\n", i, i)
	}
	return b.String()
}

// inBubble runs a test with a server in virtual time.
func inBubble(t *testing.T, folder string, fo enginetest.Options, test func(t *testing.T, s *bubbled)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := startBubbled(t, folder, fo)
		defer s.close()
		test(t, s)
	})
}

// bubbled is a server without a network.
type bubbled struct {
	*server.Server
	http.Handler
	close func()
}

func startBubbled(t *testing.T, folder string, fo enginetest.Options) *bubbled {
	t.Helper()
	a, err := archive.Open(folder, 0, archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := a.Files()
	if err != nil {
		t.Fatal(err)
	}
	s, end := servertest.Unconnected(t, fo, engine.Options{}, server.Options{Archive: a, Files: files, BatchLines: 4})
	return &bubbled{s.Server, s.Handler(), func() {
		end()
		a.Close()
	}}
}

func TestBatch(t *testing.T) {
	inBubble(t, t.TempDir(), enginetest.Options{Next: enginetest.Say("ok")}, func(t *testing.T, s *bubbled) {
		lines := chats(10) +
			`{"custom_id":"streams","method":"POST","url":"/v1/chat/completions","body":{"model":"fake","stream":true,` +
			servertest.Hello + `}}` + "\n" +
			`{"custom_id":"wrong","method":"POST","url":"/v1/chat/completions","body":{"model":"fake","nonsense":1,` +
			servertest.Hello + `}}`
		file := uploaded(t, s, lines, "batch")
		b := begun(t, s, file, "/v1/chat/completions")
		if b.Status != "validating" {
			t.Errorf("%+v", b)
		}
		b = ended(t, s, b.ID)
		if b.Status != "completed" || b.Counts.Total != 12 || b.Counts.Completed != 10 || b.Counts.Failed != 2 ||
			b.Usage.Total == 0 {
			t.Fatalf("%+v", b)
		}

		good := results(t, s, b.Output)
		bad := results(t, s, b.Error)
		if len(good) != 10 || !strings.Contains(good["line-3"], `"status_code":200`) ||
			!strings.Contains(good["line-3"], `request_id":"req_`) || !strings.Contains(good["line-3"], `"content":"ok"`) ||
			!strings.Contains(good["line-3"], `service_tier":"flex"`) {
			t.Errorf("%d results: %s", len(good), good["line-3"])
		}
		if !strings.Contains(bad["streams"], `"param":"stream"`) || !strings.Contains(bad["wrong"], `"param":"nonsense"`) ||
			!strings.Contains(bad["wrong"], `"status_code":400`) {
			t.Errorf("%v", bad)
		}
		status, text := asked(s, http.MethodPost, "/v1/batches/"+b.ID+"/cancel", "", "")
		if status != 400 {
			t.Errorf("cancelled at its end: %d %s", status, text)
		}
		if status, text := asked(s, http.MethodDelete, "/v1/files/"+file, "", ""); status != 200 {
			t.Errorf("%d %s", status, text)
		}
	})
}

// TestBatchEndpoints computes a line of each endpoint.
func TestBatchEndpoints(t *testing.T) {
	for endpoint, body := range map[string]string{
		"/v1/completions": `"prompt":"a","max_tokens":3`,
		"/v1/responses":   `"input":"a","max_output_tokens":16,"store":false`,
		"/v1/embeddings":  `"input":"a"`,
	} {
		fo := enginetest.Options{Embeds: endpoint == "/v1/embeddings"}
		inBubble(t, t.TempDir(), fo, func(t *testing.T, s *bubbled) {
			file := uploaded(t, s, `{"custom_id":"a","method":"POST","url":"`+endpoint+`","body":{"model":"fake",`+body+`}}`,
				"batch")
			b := ended(t, s, begun(t, s, file, endpoint).ID)
			if b.Status != "completed" || b.Counts.Completed != 1 || b.Usage.Total == 0 {
				t.Errorf("%s: %+v %v", endpoint, b, results(t, s, b.Error))
			}
		})
	}
}

func TestBatchFails(t *testing.T) {
	inBubble(t, t.TempDir(), enginetest.Options{}, func(t *testing.T, s *bubbled) {
		file := uploaded(t, s, chats(1)+"{\n"+chats(1), "batch")
		b := ended(t, s, begun(t, s, file, "/v1/chat/completions").ID)
		if b.Status != "failed" || b.Errors == nil || len(b.Errors.Data) != 2 ||
			b.Errors.Data[0].Code != "invalid_json_line" || b.Errors.Data[1].Code != "duplicate_custom_id" || b.Output != "" {
			t.Errorf("%+v", b)
		}

		for want, body := range map[string]string{
			`"param":"input_file_id"`:     `"input_file_id":"file-no","endpoint":"/v1/embeddings","completion_window":"24h"`,
			`"param":"endpoint"`:          `"input_file_id":"` + file + `","endpoint":"/v1/files","completion_window":"24h"`,
			`"param":"completion_window"`: `"input_file_id":"` + file + `","endpoint":"/v1/embeddings","completion_window":"1h"`,
			`purpose is 'user_data', but must be 'batch'`: `"input_file_id":"` + uploaded(t, s, "a", "user_data") +
				`","endpoint":"/v1/embeddings","completion_window":"24h"`,
		} {
			status, text := asked(s, http.MethodPost, "/v1/batches", "{"+body+"}", "application/json")
			if status < 400 || status >= 500 || !strings.Contains(text, want) {
				t.Errorf("%s: %d %s", want, status, text)
			}
		}
	})
}

// slow is a model that takes a second for each step.
func slow(steps *atomic.Int64) enginetest.Options {
	return enginetest.Options{BeforeDecode: func(*engine.Batch) error {
		steps.Add(1)
		time.Sleep(time.Second)
		return nil
	}}
}

func TestBatchCancelled(t *testing.T) {
	var steps atomic.Int64
	inBubble(t, t.TempDir(), slow(&steps), func(t *testing.T, s *bubbled) {
		file := uploaded(t, s, chats(100), "batch")
		b := begun(t, s, file, "/v1/chat/completions")
		for batchNow(t, s, b.ID).Counts.Completed < 8 {
			time.Sleep(time.Second)
		}
		if status, text := asked(s, http.MethodDelete, "/v1/files/"+file, "", ""); status != 400 {
			t.Errorf("the input is deleted: %d %s", status, text)
		}
		status, text := asked(s, http.MethodPost, "/v1/batches/"+b.ID+"/cancel", "", "")
		if got := readBatch(t, status, text); got.Status != "cancelling" && got.Status != "cancelled" {
			t.Errorf("%+v", got)
		}
		b = ended(t, s, b.ID)
		if good := results(t, s, b.Output); b.Status != "cancelled" || len(good) != b.Counts.Completed || len(good) < 8 ||
			b.Counts.Failed != 0 {
			t.Errorf("%+v, %d results", b, len(good))
		}
	})
}

// TestBatchExpires has a batch whose time is over before it is done.
func TestBatchExpires(t *testing.T) {
	var waits atomic.Bool
	fo := enginetest.Options{BeforeDecode: func(*engine.Batch) error {
		if waits.Load() {
			time.Sleep(23 * time.Hour)
		}
		return nil
	}}
	inBubble(t, t.TempDir(), fo, func(t *testing.T, s *bubbled) {
		file := uploaded(t, s, chats(20), "batch")
		waits.Store(true)
		b := begun(t, s, file, "/v1/chat/completions")
		time.Sleep(25 * time.Hour)
		waits.Store(false)
		b = ended(t, s, b.ID)
		bad := results(t, s, b.Error)
		if b.Status != "expired" || b.Counts.Completed+b.Counts.Failed != 20 || len(bad) != b.Counts.Failed ||
			!strings.Contains(bad["line-19"], `"code":"batch_expired"`) {
			t.Errorf("%+v: %s", b, bad["line-19"])
		}
	})
}

// TestBatchResumes has the server stop again and again while a batch is computed. No line is computed
// again once it is on disk, none is lost, and a line that was cut off is dropped.
func TestBatchResumes(t *testing.T) {
	folder := t.TempDir()
	var steps atomic.Int64
	id := ""
	const lines = 30
	before := map[string]string{} // what was on the disk at the last stop
	for round := 0; ; round++ {
		if round == 100 {
			t.Fatal("the batch does not end")
		}
		done := false
		inBubble(t, folder, slow(&steps), func(t *testing.T, s *bubbled) {
			if id == "" {
				id = begun(t, s, uploaded(t, s, chats(lines), "batch"), "/v1/chat/completions").ID
			}
			time.Sleep(time.Duration(7+round%3) * time.Second)
			b := batchNow(t, s, id)
			if done = b.Status == "completed"; !done {
				return
			}
			good := results(t, s, b.Output)
			if len(good) != lines || b.Counts.Completed != lines || b.Error != "" {
				t.Errorf("%+v, %d results", b, len(good))
			}
			for id, line := range before {
				if good[id] != line {
					t.Errorf("computed again: %s, was %s", good[id], line)
				}
			}
		})
		if done {
			break
		}

		// A line that is cut off, as a crash may leave it.
		path := filepath.Join(folder, "files", "file-"+strings.TrimPrefix(id, "batch_")+"_output.part")
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // the lines that were under way were the last ones
		}
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var result struct {
				ID string `json:"custom_id"`
			}
			if json.Unmarshal([]byte(line), &result) != nil {
				t.Fatalf("on disk: %s", line)
			}
			before[result.ID] = line
		}
		if err := os.WriteFile(path, append(text, `{"id":"batch_req_1","custom_id":"line-29"`...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if len(before) == 0 {
		t.Error("the batch was never interrupted")
	}
}

// TestBatchLetsOthersPass asks while a batch fills all slots: a request waits for the step that is under
// way, and for nothing else. Prompts of lines come between its tokens as those of anybody do.
func TestBatchLetsOthersPass(t *testing.T) {
	var steps atomic.Int64
	fo := slow(&steps)
	fo.Limits.Sequences = 2
	inBubble(t, t.TempDir(), fo, func(t *testing.T, s *bubbled) {
		ask := func() (took time.Duration, waited string) {
			begin := time.Now()
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/chat/completions",
				strings.NewReader(`{"model":"fake","max_tokens":5,`+servertest.Hello+`}`)))
			if w.Code != http.StatusOK {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			return time.Since(begin), w.Header().Get("X-Queue-Wait-Ms")
		}

		alone, _ := ask()
		b := begun(t, s, uploaded(t, s, chats(50), "batch"), "/v1/chat/completions")
		for batchNow(t, s, b.ID).Counts.Completed < 4 {
			time.Sleep(time.Second)
		}
		for range 5 {
			took, waited := ask()
			if ms, err := strconv.Atoi(waited); err != nil || ms > 1000 || took > 2*alone {
				t.Errorf("it waited %s ms and took %v beside a batch, and %v alone", waited, took, alone)
			}
			time.Sleep(300 * time.Millisecond) // the next one comes in the middle of a step
		}
		if b = ended(t, s, b.ID); b.Status != "completed" || b.Counts.Completed != 50 {
			t.Errorf("%+v", b)
		}
	})
}

func TestListBatches(t *testing.T) {
	inBubble(t, t.TempDir(), enginetest.Options{}, func(t *testing.T, s *bubbled) {
		var ids []string
		for range 3 {
			b := begun(t, s, uploaded(t, s, chats(1), "batch"), "/v1/chat/completions")
			ended(t, s, b.ID)
			ids = append(ids, b.ID)
		}
		var page struct {
			Data []aBatch
			More bool `json:"has_more"`
		}
		_, text := asked(s, http.MethodGet, "/v1/batches?limit=2", "", "")
		if err := json.Unmarshal([]byte(text), &page); err != nil || len(page.Data) != 2 || !page.More ||
			page.Data[0].ID != ids[2] {
			t.Errorf("%s", text)
		}
		_, text = asked(s, http.MethodGet, "/v1/batches?after="+ids[1], "", "")
		if err := json.Unmarshal([]byte(text), &page); err != nil || len(page.Data) != 1 || page.More {
			t.Errorf("%s", text)
		}
		if status, text := asked(s, http.MethodGet, "/v1/batches?after=batch_no", "", ""); status != 400 {
			t.Errorf("%d %s", status, text)
		}
	})
}

// random matches what is different each time: ids.
var random = regexp.MustCompile(`(file-|batch_|batch_req_|req_|chatcmpl-)[0-9a-f]{24}`)

// TestBatchGolden compares all that clients get of a file and a batch. Virtual time makes it the same.
func TestBatchGolden(t *testing.T) {
	inBubble(t, t.TempDir(), enginetest.Options{Next: enginetest.Say("ok")}, func(t *testing.T, s *bubbled) {
		var b strings.Builder
		tell := func(text string) { b.WriteString(random.ReplaceAllString(strings.TrimSpace(text), "${1}ID") + "\n") }
		show := func(method, path string) {
			_, text := asked(s, method, path, "", "")
			tell(method + " " + path + "\n" + text + "\n")
		}

		input := uploaded(t, s, chats(1)+`{"custom_id":"wrong","method":"POST","url":"/v1/chat/completions",`+
			`"body":{"model":"fake","messages":[]}}`, "batch")
		show(http.MethodGet, "/v1/files/"+input)
		id := begun(t, s, input, "/v1/chat/completions").ID
		done := ended(t, s, id)
		show(http.MethodGet, "/v1/batches/"+id)
		show(http.MethodGet, "/v1/files/"+done.Output)
		show(http.MethodGet, "/v1/files/"+done.Output+"/content")
		show(http.MethodGet, "/v1/files/"+done.Error+"/content")
		show(http.MethodGet, "/v1/batches?limit=1")
		show(http.MethodPost, "/v1/batches/"+id+"/cancel")

		failed := begun(t, s, uploaded(t, s, "{}", "batch"), "/v1/chat/completions").ID
		ended(t, s, failed)
		show(http.MethodGet, "/v1/batches/"+failed)
		show(http.MethodDelete, "/v1/files/"+done.Error)
		show(http.MethodGet, "/v1/files/"+done.Error)
		show(http.MethodGet, "/v1/files?purpose=batch_output")
		testfiles.Golden(t, "batch.txt", b.String(), *openai.Update)
	})
}
