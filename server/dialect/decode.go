package dialect

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"unicode/utf8"

	"serve/fault"
	"serve/server/wire"
	"serve/service"
)

// MaxText is the maximum size of a body without pictures, in bytes: more than any context has room for.
const MaxText = 4 << 20

// Body says how the body of a request is read.
type Body struct {
	Service *service.Service
	Notes   *wire.Notes
	// Model returns the name of the model that the body asks for, which is asked first whether it has a place for the
	// request; nil if there is none.
	Model func(body []byte) string
	// Empty is what is said of an empty body, unless it is empty itself.
	Empty string
	// Check is called after the body has been decoded; may be nil.
	Check func() *fault.Error
}

// NamedModel returns the model that a body names, or else its path does. It is a Body's Model.
func NamedModel(n *wire.Notes) func(body []byte) string {
	return func(body []byte) string {
		name := wire.Member(body, "model")
		if name == "" {
			_ = json.Unmarshal(n.Defaults["model"], &name)
		}
		return name
	}
}

// valuesAtATime is how many values of a body are decoded before the request makes way for others.
const valuesAtATime = 256

// Decode reads the body of a request by a table. Of a request for a model that is not served or has no place for it,
// nothing else is decoded.
func Decode[T any](r *http.Request, how Body, table wire.Table[T], into *T) *fault.Error {
	body, e := readBody(r)
	if e != nil {
		return e
	}
	service.CallOf(r.Context()).Received(body)

	if how.Empty != "" && len(bytes.TrimSpace(body)) == 0 {
		return fault.New(fault.Malformed, "", "%s", how.Empty)
	}
	if how.Model != nil && utf8.Valid(body) {
		if e := admit(r.Context(), how.Service, how.Model(body), len(body)); e != nil {
			return e
		}
	}
	return service.Compute(r.Context(), func(ctx context.Context) *fault.Error {
		how.Notes.Budget.Pause(func() { service.Pause(ctx) })
		defer how.Notes.Budget.Pause(nil)
		values := 0
		how.Notes.Ended = func() *fault.Error {
			if values++; values%valuesAtATime == 0 {
				service.Pause(ctx)
			}
			if ctx.Err() == nil {
				return nil
			}
			return service.Fault(context.Cause(ctx), "")
		}
		defer func() { how.Notes.Ended = nil }() // some values are read later
		if e := table.Decode(body, into, how.Notes); e != nil || how.Check == nil {
			return e
		}
		return how.Check()
	})
}

// admit asks a model whether it has a place for a request with a body of so many bytes. A body that names no model is
// refused for that, or not at all.
func admit(ctx context.Context, s *service.Service, model string, size int) *fault.Error {
	if model == "" {
		return nil
	}
	if e := s.Admits(ctx, model); e != nil {
		return e
	}
	if size > MaxText && !s.Sees(ctx, model) {
		return fault.New(fault.BodyTooLarge, "",
			"The request body is too large (maximum %d bytes for a model that reads no images).", MaxText)
	}
	return nil
}

// readBody reads a body, which the server has limited.
func readBody(r *http.Request) ([]byte, *fault.Error) {
	body := make([]byte, 0, max(r.ContentLength, 0)+1) // with room for the read that finds its end
	if r.Header.Get("Content-Encoding") != "" || r.ContentLength < 0 {
		body = make([]byte, 0, 4096)
	}
	for {
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case err == io.EOF:
			return body, nil
		case err != nil:
			return nil, service.Fault(err, "")
		case len(body) == cap(body):
			body = append(body, 0)[:len(body)]
		}
	}
}
