package wire

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"

	"serve/fault"
)

// RandomID returns 24 random hexadecimal digits.
func RandomID() string {
	var b [12]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// ShouldRetry is the header that tells clients whether to repeat a request, whatever its status.
const ShouldRetry = "X-Should-Retry"

// WriteFault writes an error response in an API's form. Final says that repeating the request does
// not help, although its status has clients do that.
func WriteFault(w http.ResponseWriter, e *fault.Error, status int, body []byte, final bool) {
	h := w.Header()
	if e.RetryAfter > 0 {
		h.Set("Retry-After", RetryAfter(e.RetryAfter))
	}
	if e.Queue != nil {
		h.Set("X-Queue-Position", strconv.Itoa(e.Queue.Position))
		if e.Queue.Expected > 0 {
			h.Set("X-Queue-Expected-Ms", Milliseconds(e.Queue.Expected))
		}
	}
	if final || e.Final {
		h.Set(ShouldRetry, "false")
	}

	WriteBody(w, status, body)
}

// NotesHeader lists what was changed in a conversation so that the model's template takes it.
const NotesHeader = "X-Prompt-Changed"

// Limits on a header that lists something: clients refuse responses with 16 KiB of headers.
const (
	maxListLines = 8
	maxListBytes = 4096
)

// AddList adds a header line for each entry of a list. What has no room is counted in a last line.
func AddList(h http.Header, name string, list []string) {
	bytes := 0
	for i, entry := range list {
		entry = printable(entry)
		bytes += len(entry)
		left := len(list) - i
		if i == maxListLines-1 && left > 1 || bytes > maxListBytes {
			h.Add(name, "and "+strconv.Itoa(left)+" more")
			return
		}
		h.Add(name, entry)
	}
}

// printable returns a text as a header can have it: with all but printable ASCII as in a string of
// JSON.
func printable(s string) string {
	const first, last = ' ', '~'
	if strings.IndexFunc(s, func(r rune) bool { return r < first || r > last }) < 0 {
		return s
	}
	quoted := strconv.QuoteToASCII(s)
	return quoted[1 : len(quoted)-1]
}
