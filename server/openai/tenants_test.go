package openai_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"serve/archive"
	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// tenants is a server whose clients are of tenants.
type tenants struct {
	t  *testing.T
	hs *httptest.Server
}

func startTenants(t *testing.T, fo enginetest.Options, so server.Options) (tenants, *servertest.Server) {
	t.Helper()
	s, end := servertest.Unconnected(t, fo, engine.Options{}, so)
	hs := httptest.NewServer(servertest.Tenants(s.Handler()))
	t.Cleanup(func() {
		hs.Close()
		end()
	})
	return tenants{t, hs}, s
}

// ask sends a tenant's request. A body that is a form has its content type.
func (s tenants) ask(tenant, method, path, body, contentType string) (int, http.Header, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.hs.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set(servertest.TenantHeader, tenant)
	if body != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(text)
}

// make sends a request that must succeed, and returns the ID in its answer.
func (s tenants) make(tenant, method, path, body, contentType string) string {
	s.t.Helper()
	status, _, text := s.ask(tenant, method, path, body, contentType)
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(text), &made); err != nil || status != http.StatusOK {
		s.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	return made.ID
}

// post is make for JSON.
func (s tenants) post(tenant, path, body string) string {
	s.t.Helper()
	return s.make(tenant, http.MethodPost, path, body, "application/json")
}

// upload is make for a file.
func (s tenants) upload(tenant, content, purpose string) string {
	s.t.Helper()
	body, contentType := form(s.t, "a.jsonl", content, "purpose="+purpose)
	return s.make(tenant, http.MethodPost, "/v1/files", body, contentType)
}

// TestTenantsFindNothingOfOthers has a tenant keep everything that can be kept, some of which is being made. Another
// tenant, and a client of none, send its IDs everywhere: every answer, its headers included, is that for an ID that
// never was.
func TestTenantsFindNothingOfOthers(t *testing.T) {
	var held atomic.Bool
	gate := make(chan struct{})
	fo := enginetest.Options{BeforeDecode: func(*engine.Batch) error {
		if held.Load() {
			<-gate
		}
		return nil
	}}
	s, _ := startTenants(t, fo, keeping(t, t.TempDir(), archive.Limits{}))
	defer close(gate)

	const respond = `{"model":"fake","input":"Hi","max_output_tokens":2`
	response := s.post("A", "/v1/responses", respond+"}")
	conversation := s.post("A", "/v1/conversations", `{"items":[{"role":"user","content":"A secret"}]}`)
	item := ""
	_, _, items := s.ask("A", http.MethodGet, "/v1/conversations/"+conversation+"/items", "", "")
	if _, rest, ok := strings.Cut(items, `"first_id":"`); ok {
		item, _, _ = strings.Cut(rest, `"`)
	}
	file := s.upload("A", "some text", "user_data")
	held.Store(true)
	background := s.post("A", "/v1/responses", respond+`,"background":true,"conversation":"`+conversation+`"}`)
	lines := s.upload("A", chats(3), "batch")
	batch := s.post("A", "/v1/batches",
		`{"input_file_id":"`+lines+`","endpoint":"/v1/chat/completions","completion_window":"24h"}`)
	output := strings.TrimPrefix(response, "resp_")

	for _, tt := range []struct{ method, path, body, id string }{
		{"GET", "/v1/responses/ID", "", response},
		{"GET", "/v1/responses/ID", "", background},
		{"GET", "/v1/responses/ID/input_items", "", response},
		{"POST", "/v1/responses/ID/cancel", "", background},
		{"DELETE", "/v1/responses/ID", "", background},
		{"POST", "/v1/responses", respond + `,"previous_response_id":"ID"}`, response},
		{"POST", "/v1/responses", respond + `,"previous_response_id":"ID"}`, background},
		{"POST", "/v1/responses/input_tokens", respond + `,"previous_response_id":"ID"}`, response},
		{"POST", "/v1/responses/compact", `{"model":"fake","previous_response_id":"ID"}`, response},
		{"POST", "/v1/responses", respond + `,"conversation":"ID"}`, conversation},
		{"POST", "/v1/responses", `{"model":"fake","input":[{"type":"item_reference","id":"msg_ID_0"}]}`, output},
		{"POST", "/v1/responses", `{"model":"fake","input":[{"type":"item_reference","id":"ID"}]}`, item},
		{"POST", "/v1/conversations", `{"items":[{"type":"item_reference","id":"ID"}]}`, item},
		{"GET", "/v1/conversations/ID", "", conversation},
		{"POST", "/v1/conversations/ID", `{"metadata":{"a":"b"}}`, conversation},
		{"DELETE", "/v1/conversations/ID", "", conversation},
		{"GET", "/v1/conversations/ID/items", "", conversation},
		{"GET", "/v1/conversations/ID/items/" + item, "", conversation},
		{"POST", "/v1/conversations/ID/items", `{"items":[{"role":"user","content":"x"}]}`, conversation},
		{"DELETE", "/v1/conversations/ID/items/" + item, "", conversation},
		{"GET", "/v1/files/ID", "", file},
		{"GET", "/v1/files/ID/content", "", file},
		{"DELETE", "/v1/files/ID", "", file},
		{"DELETE", "/v1/files/ID", "", lines},
		{"GET", "/v1/files?after=ID", "", file},
		{"POST", "/v1/chat/completions", `{"model":"fake","messages":[{"role":"user","content":[` +
			`{"type":"file","file":{"file_id":"ID"}}]}]}`, file},
		{"POST", "/v1/batches", `{"input_file_id":"ID","endpoint":"/v1/responses","completion_window":"24h"}`, lines},
		{"GET", "/v1/batches/ID", "", batch},
		{"POST", "/v1/batches/ID/cancel", "", batch},
		{"GET", "/v1/batches?after=ID", "", batch},
	} {
		never := unlike(tt.id)
		for _, tenant := range []string{"B", ""} {
			answer := func(id string) string {
				put := strings.NewReplacer("ID", id)
				status, header, text := s.ask(tenant, tt.method, put.Replace(tt.path), put.Replace(tt.body), "application/json")
				for _, name := range []string{"Date", "X-Request-Id", "Openai-Processing-Ms"} {
					header.Del(name)
				}
				if status < 400 {
					t.Errorf("%q: %s %s: %d %s", tenant, tt.method, tt.path, status, text)
				}
				return strings.ReplaceAll(fmt.Sprint(status, header, text), id, "ID")
			}
			if got, want := answer(tt.id), answer(never); got != want {
				t.Errorf("%q: %s %s\n%s\n%s\nfor what never was\n%s", tenant, tt.method, tt.path, tt.body, got, want)
			}
		}
	}

	for _, tenant := range []string{"B", ""} {
		for _, path := range []string{"/v1/files", "/v1/batches"} {
			if _, _, text := s.ask(tenant, http.MethodGet, path, "", ""); !strings.Contains(text, `"data":[]`) {
				t.Errorf("%q lists %s", tenant, text)
			}
		}
	}
	for _, path := range []string{
		"/v1/responses/" + response, "/v1/responses/" + background, "/v1/conversations/" + conversation + "/items/" + item,
		"/v1/files/" + file, "/v1/files/" + lines, "/v1/batches/" + batch,
	} {
		status, _, text := s.ask("A", http.MethodGet, path, "", "")
		if status != http.StatusOK || strings.Contains(text, `"status":"cancel`) {
			t.Errorf("the tenant's own %s: %d %s", path, status, text)
		}
	}
}

// unlike returns an ID of the same form that nobody has.
func unlike(id string) string {
	last := "0"
	if strings.HasSuffix(id, last) {
		last = "1"
	}
	return id[:len(id)-1] + last
}

// TestCachedTokensOfTenants counts what a tenant itself has asked before, in every way to ask.
func TestCachedTokensOfTenants(t *testing.T) {
	s, _ := startTenants(t, enginetest.Options{Limits: engine.Limits{Sequences: 16}}, server.Options{})
	const secret = "Patient file, confidential: the patient is Ada and has gout"
	for path, body := range map[string]string{
		"/v1/completions":      `{"model":"fake","max_tokens":2,"prompt":"completion. ` + secret + `"}`,
		"/v1/chat/completions": `{"model":"fake","max_tokens":2,"messages":[{"role":"user","content":"` + secret + `"}]}`,
		"/v1/responses":        `{"model":"fake","max_output_tokens":2,"input":"response. ` + secret + `"}`,
	} {
		for _, tt := range []struct {
			tenant string
			finds  bool
		}{{"A", false}, {"B", false}, {"", false}, {"A", true}, {"B", true}, {"", true}} {
			status, _, text := s.ask(tt.tenant, http.MethodPost, path, body, "application/json")
			_, cached, told := strings.Cut(text, `"cached_tokens":`)
			if status != http.StatusOK || !told || strings.HasPrefix(cached, "0") == tt.finds {
				t.Errorf("%s: %q: %d %s", path, tt.tenant, status, text)
			}
		}
	}
}

// TestOlderIDs shows what no tenant has stored to clients of no tenant alone, as where keys came later.
func TestOlderIDs(t *testing.T) {
	s, _ := startTenants(t, enginetest.Options{}, server.Options{})
	id := s.post("", "/v1/responses", `{"model":"fake","input":"Hi","max_output_tokens":2}`)
	for tenant, want := range map[string]int{"": http.StatusOK, "A": http.StatusNotFound} {
		if status, _, text := s.ask(tenant, http.MethodGet, "/v1/responses/"+id, "", ""); status != want {
			t.Errorf("%q: %d %s", tenant, status, text)
		}
	}
}

// as asks as a tenant, without a network.
func as(tenant string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set(servertest.TenantHeader, tenant)
		servertest.Tenants(h).ServeHTTP(w, r)
	})
}

// TestBatchOfTenant has each line of a batch go on from a response of its tenant: before and after the server starts
// again, it is found. The results are the tenant's, too.
func TestBatchOfTenant(t *testing.T) {
	folder := t.TempDir()
	var steps atomic.Int64
	const lines = 12
	batch := ""
	interrupted := false
	for round := range 20 {
		done := false
		inBubble(t, folder, slow(&steps), func(t *testing.T, s *bubbled) {
			a := as("A", s)
			if round == 0 {
				status, text := asked(a, http.MethodPost, "/v1/responses", `{"model":"fake","input":"Hi","max_output_tokens":2}`,
					"application/json")
				var response struct{ ID string }
				if err := json.Unmarshal([]byte(text), &response); err != nil || status != http.StatusOK {
					t.Fatal(status, text)
				}
				var input strings.Builder
				for i := range lines {
					fmt.Fprintf(&input, `{"custom_id":"line-%d","method":"POST","url":"/v1/responses","body":`+
						`{"model":"fake","input":"And?","max_output_tokens":3,"previous_response_id":%q}}`+"\n", i, response.ID)
				}
				batch = begun(t, a, uploaded(t, a, input.String(), "batch"), "/v1/responses").ID
			}
			time.Sleep(5 * time.Second)

			b := batchNow(t, a, batch)
			if done = b.Status == "completed"; !done {
				interrupted = true
				return
			}
			if good := results(t, a, b.Output); len(good) != lines || b.Error != "" {
				t.Errorf("%+v, %d results", b, len(good))
			}
			if status, _ := asked(as("B", s), http.MethodGet, "/v1/files/"+b.Output, "", ""); status != http.StatusNotFound {
				t.Errorf("another tenant has its results: %d", status)
			}
		})
		if done {
			if !interrupted {
				t.Error("the batch was never interrupted")
			}
			return
		}
	}
	t.Error("the batch does not end")
}
