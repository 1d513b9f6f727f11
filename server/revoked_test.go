package server_test

import (
	"bytes"
	"context"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"serve/access"
	"serve/archive"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
	"serve/service"
)

// waiting is a library whose downloads last until nobody wants them any more.
type waiting struct {
	*servertest.Library
	begun chan struct{}
}

// Pull implements service.Library.
func (w *waiting) Pull(ctx context.Context, _ string, _ func(service.PullProgress)) error {
	close(w.begun)
	<-ctx.Done()
	return context.Cause(ctx)
}

// withFiles starts a server with keys and files.
func withFiles(t *testing.T, k *keyed, l service.Library) string {
	t.Helper()
	a, err := archive.Open(t.TempDir(), 0, archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	files, err := a.Files()
	if err != nil {
		t.Fatal(err)
	}
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{Keys: k.open(), Files: files, Library: l})
	return hs.URL
}

// send sends a request with a key.
func send(t *testing.T, method, url, secret, kind string, body io.Reader) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Content-Type", kind)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// TestRevokedUpload ends an upload whose client sends nothing for the moment, with what it is told of its key.
func TestRevokedUpload(t *testing.T) {
	k, secrets := newKeyed(t, access.NewKey{Name: "alice"})
	url := withFiles(t, k, nil)
	reader, writer := io.Pipe()
	defer writer.Close()
	form := multipart.NewWriter(writer)
	go func() {
		part, err := form.CreateFormFile("file", "a.jsonl")
		if err == nil {
			_, err = part.Write(bytes.Repeat([]byte("a"), 1<<20)) // most of it is read when this returns
		}
		if err == nil {
			_, err = access.Revoke(k.path, "alice")
		}
		if err != nil {
			t.Error(err)
		}
	}()
	res := send(t, http.MethodPost, url+"/v1/files", secrets["alice"], form.FormDataContentType(), reader)
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 401 || !strings.Contains(string(text), "was revoked") {
		t.Errorf("%d %s, %v", res.StatusCode, text, err)
	}
}

// TestRevokedDownload cuts a file off that is being sent.
func TestRevokedDownload(t *testing.T) {
	k, secrets := newKeyed(t, access.NewKey{Name: "alice"})
	url := withFiles(t, k, nil)
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "a.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	const size = 64 << 20 // far more than sockets hold
	part.Write(make([]byte, size))
	form.WriteField("purpose", "user_data")
	form.Close()
	res := send(t, http.MethodPost, url+"/v1/files", secrets["alice"], form.FormDataContentType(), &body)
	text, _ := io.ReadAll(res.Body)
	_, rest, _ := strings.Cut(string(text), `"id":"`)
	id, _, _ := strings.Cut(rest, `"`)
	if res.StatusCode != 200 || id == "" {
		t.Fatalf("%d %s", res.StatusCode, text)
	}

	// Another stream tells when the server has noticed.
	ended := make(chan struct{})
	keys, err := access.Open(access.Options{File: k.path})
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	p, err := keys.Authenticate(secrets["alice"], "")
	if err != nil {
		t.Fatal(err)
	}
	context.AfterFunc(p.Context(), func() { close(ended) })

	content := send(t, http.MethodGet, url+"/v1/files/"+id+"/content", secrets["alice"], "", nil)
	if _, err := access.Revoke(k.path, "alice"); err != nil {
		t.Fatal(err)
	}
	<-ended
	for { // the server may notice a moment later
		res := send(t, http.MethodGet, url+"/v1/files", secrets["alice"], "", nil)
		if res.StatusCode == 401 {
			break
		}
	}
	n, err := io.Copy(io.Discard, content.Body)
	if err == nil || n >= size {
		t.Errorf("%d bytes have come, %v", n, err)
	}
}

// TestRevokedPull ends a download of a model.
func TestRevokedPull(t *testing.T) {
	for _, stream := range []string{"true", "false"} {
		k, secrets := newKeyed(t, access.NewKey{Name: "alice", Scopes: access.Admin})
		l := &waiting{new(servertest.Library), make(chan struct{})}
		url := withFiles(t, k, l)
		go func() {
			<-l.begun
			if _, err := access.Revoke(k.path, "alice"); err != nil {
				t.Error(err)
			}
		}()
		res := send(t, http.MethodPost, url+"/api/pull", secrets["alice"], "application/json",
			strings.NewReader(`{"model":"big","stream":`+stream+`}`))
		text, err := io.ReadAll(res.Body)
		if want := service.Fault(access.ErrEnded, "").Message; err != nil || !strings.Contains(string(text), want) {
			t.Errorf("stream=%s: %d %s, %v", stream, res.StatusCode, text, err)
		}
	}
}
