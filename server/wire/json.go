package wire

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"serve/fault"
)

// Streamed chunks are encoded by hand: encoding/json takes longer than everything else that the
// server does for a token (docs/performance.md).

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string. Bytes that are not UTF-8 become the
// replacement character.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0 // everything before it has been appended

	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[from:i]...), "\uFFFD"...)
				from = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}

		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		from = i
	}
	return append(append(b, s[from:]...), '"')
}

// AppendFloat appends a float32 in its shortest form. Infinities and NaN, which JSON does not have,
// become -9999.0, OpenAI's value for a very unlikely token.
func AppendFloat(b []byte, f float32) []byte {
	if math.IsInf(float64(f), 0) || math.IsNaN(float64(f)) {
		return append(b, "-9999.0"...)
	}
	return strconv.AppendFloat(b, float64(f), 'g', -1, 32)
}

// AppendBytes appends bytes as an array of numbers.
func AppendBytes(b, bytes []byte) []byte {
	b = append(b, '[')
	for i, c := range bytes {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(c), 10)
	}
	return append(b, ']')
}

// AppendLogprob appends the object of a token's log-probability, without the closing brace.
func AppendLogprob(b, piece []byte, logprob float32) []byte {
	b = AppendString(append(b, `{"token":`...), string(piece))
	b = AppendFloat(append(b, `,"logprob":`...), logprob)
	return AppendBytes(append(b, `,"bytes":`...), piece)
}

// WriteJSON writes a response with status 200.
func WriteJSON(w http.ResponseWriter, body any) *fault.Error {
	return WriteJSONAs(w, http.StatusOK, body)
}

// WriteJSONAs writes a response with the given status.
func WriteJSONAs(w http.ResponseWriter, status int, body any) *fault.Error {
	b, err := json.Marshal(body)
	if err != nil {
		return fault.New(fault.Internal, "", "Internal server error: %v.", err)
	}
	WriteBody(w, status, b)
	return nil
}

// WriteBody writes a response whose body is JSON already.
func WriteBody(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

// Milliseconds formats a duration for a header.
func Milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// RetryAfter formats a duration for the header Retry-After: in whole seconds.
func RetryAfter(d time.Duration) string {
	return strconv.Itoa(int(math.Ceil(d.Seconds())))
}
