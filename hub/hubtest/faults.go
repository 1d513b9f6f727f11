package hubtest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
)

// Times lets a fault answer the first n requests.
func Times(n int64, f Fault) Fault {
	var seen atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) bool { return seen.Add(1) <= n && f(w, r) }
}

// Status answers with a status and headers, given as pairs.
func Status(status int, header ...string) Fault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprint(w, `{"error":"as the test wants it"}`)
		return true
	}
}

// HTML answers with a login page and the status 200; typed says so in the header.
func HTML(typed bool) Fault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/octet-stream")
		if typed {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
		}
		fmt.Fprint(w, "<!DOCTYPE html><html><body>Please log in to the network</body></html>")
		return true
	}
}

// HTMLOfSize is a web page as long as the answer should be, with all the headers
// of that.
func HTMLOfSize(h *Hub) Fault {
	return h.rewrite(func(b []byte) []byte {
		copy(b, "<!DOCTYPE html><html><body>")
		return b
	})
}

// WrongByte changes one byte of every answer.
func WrongByte(h *Hub) Fault {
	return h.rewrite(func(b []byte) []byte {
		if len(b) > 0 {
			b[len(b)/2] ^= 1
		}
		return b
	})
}

// Whole ignores the Range header, as some mirrors and proxies do.
func Whole() Fault {
	return func(_ http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("Range")
		return false
	}
}

// Cut ends every connection after n bytes of the body.
func Cut(h *Hub, n int) Fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		answer := h.answer(r)
		body := answer.Body.Bytes()
		if len(body) <= n {
			return false
		}
		send(w, answer, body[:n])
		panic(http.ErrAbortHandler)
	}
}

// answer is what the CDN would say.
func (h *Hub) answer(r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.serveCDN(rec, r)
	return rec
}

// send writes a part of an answer's body under the headers of the whole.
func send(w http.ResponseWriter, answer *httptest.ResponseRecorder, part []byte) {
	for key, values := range answer.Header() {
		w.Header()[key] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
	w.WriteHeader(answer.Code)
	w.Write(part)
	w.(http.Flusher).Flush()
}

func (h *Hub) rewrite(change func([]byte) []byte) Fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		answer := h.answer(r)
		send(w, answer, change(answer.Body.Bytes()))
		return true
	}
}

// Hold sends n bytes of every answer and then holds still until the client has
// gone or release is closed; told is called when it begins to wait.
func Hold(h *Hub, n int, told func(), release <-chan struct{}) Fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		answer := h.answer(r)
		send(w, answer, answer.Body.Bytes()[:min(n, answer.Body.Len())])
		told()
		select {
		case <-r.Context().Done():
		case <-release:
		}
		panic(http.ErrAbortHandler)
	}
}
