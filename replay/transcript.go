// Package replay asks a server again what it was asked before, as an audit log has captured it, and compares the
// answers. It is serve replay.
package replay

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"

	"serve/audit"
)

// Transcript is a captured exchange.
type Transcript struct {
	Method string
	Path   string // and query
	Header http.Header
	Body   []byte
	Answer *Response // nil if there was none
}

// Response is an answer as it was sent.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// maxBody bounds what is read of a body, in bytes.
const maxBody = 256 << 20

// ReadTranscript reads a capture: a request and its answer as HTTP/1.1 messages.
func ReadTranscript(r io.Reader) (*Transcript, error) {
	messages := bufio.NewReader(r)
	request, err := http.ReadRequest(messages)
	if err != nil {
		return nil, unreadable(err)
	}
	t := &Transcript{Method: request.Method, Path: request.RequestURI, Header: request.Header}
	if t.Body, err = read(request.Body); err != nil {
		return nil, unreadable(err)
	}
	if _, err := messages.Peek(1); errors.Is(err, io.EOF) {
		return t, nil
	}

	response, err := http.ReadResponse(messages, request)
	if err != nil {
		return nil, unreadable(err)
	}
	defer response.Body.Close()
	if t.Answer, err = readResponse(response); err != nil {
		return nil, unreadable(err)
	}
	if _, err := messages.Peek(1); !errors.Is(err, io.EOF) {
		return nil, unreadable(fmt.Errorf("there is something behind the answer (%w)", err))
	}
	return t, nil
}

// unreadable returns the error for a capture whose digest is right and that cannot be read all the same.
func unreadable(err error) error {
	if errors.Is(err, audit.ErrProof) {
		return err
	}
	return fmt.Errorf("%w: read the capture: %w", audit.ErrProof, err)
}

func readResponse(r *http.Response) (*Response, error) {
	body, err := read(r.Body)
	return &Response{Status: r.StatusCode, Header: r.Header, Body: body}, err
}

// read reads a body.
func read(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err == nil && len(body) > maxBody {
		err = errors.New("it is too large")
	}
	return body, err
}
