package server_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"serve/engine"
	"serve/engine/enginetest"
	"serve/server"
	"serve/server/servertest"
)

// compressed returns a text in every encoding, by names of which some have a dash and a remark.
func compressed(t *testing.T, text string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for name, open := range map[string]func(io.Writer) (io.WriteCloser, error){
		"gzip":        func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		"deflate":     func(w io.Writer) (io.WriteCloser, error) { return zlib.NewWriter(w), nil },
		"deflate-raw": func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, 9) },
		"zstd":        func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
	} {
		var b bytes.Buffer
		w, err := open(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		all[name] = b.Bytes()
	}
	return all
}

// TestContentEncoding sends compressed bodies: whole, cut, too large when they are decoded, and in an
// encoding that is not known; to every API.
func TestContentEncoding(t *testing.T) {
	const limit = 1 << 20
	hs, _ := servertest.Start(t, enginetest.Options{Next: func([]engine.Token) engine.Token { return enginetest.EOS }},
		server.Options{MaxBody: limit})
	send := func(path, coding string, body []byte) (int, http.Header, string) {
		t.Helper()
		coding, _, _ = strings.Cut(coding, "-raw")
		r, err := http.NewRequest(http.MethodPost, hs.URL+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Content-Encoding", coding)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, res.Header, string(b)
	}

	const good = `{"model":"fake","max_tokens":5,"messages":[{"role":"user","content":"Hi"}]}`
	for _, path := range []string{"/v1/chat/completions", "/v1/messages"} {
		for coding, body := range compressed(t, good) {
			if status, _, answer := send(path, coding, body); status != http.StatusOK {
				t.Errorf("%s %s: %d %s", path, coding, status, answer)
			}
			if status, _, answer := send(path, coding, body[:len(body)/2]); status != http.StatusBadRequest {
				t.Errorf("%s %s, cut: %d %s", path, coding, status, answer)
			}
			if status, _, answer := send(path, coding, nil); status != http.StatusBadRequest {
				t.Errorf("%s %s, empty: %d %s", path, coding, status, answer)
			}
		}
		bomb := strings.Repeat(" ", 100*limit) + good
		for coding, body := range compressed(t, bomb) {
			if status, _, answer := send(path, coding, body); status != http.StatusRequestEntityTooLarge {
				t.Errorf("%s %s of %d bytes: %d %s", path, coding, len(body), status, answer)
			}
		}
		for _, coding := range []string{"br", "gzip, gzip"} {
			status, header, answer := send(path, coding, []byte(good))
			if status != http.StatusUnsupportedMediaType || header.Get("Accept-Encoding") != "gzip, deflate, zstd" ||
				!strings.Contains(answer, `"error"`) {
				t.Errorf("%s %s: %d %v %s", path, coding, status, header, answer)
			}
		}
		if status, _, answer := send(path, "identity", []byte(good)); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, answer)
		}
	}
}
