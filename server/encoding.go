package server

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/zstd"

	"serve/fault"
)

// encodings are the values of Accept-Encoding for requests.
const encodings = "gzip, deflate, zstd"

// maxWindow is the size of the window that a zstd body may need, in bytes: what RFC 8878 recommends
// decoders to have.
const maxWindow = 8 << 20

// decoders open compressed bodies.
var decoders = map[string]func(io.Reader) (io.ReadCloser, error){
	"gzip":    func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) },
	"x-gzip":  func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) },
	"deflate": inflate,
	"zstd": func(r io.Reader) (io.ReadCloser, error) {
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	},
}

// inflate reads zlib's format, which deflate means, or deflate without it, which some clients send.
func inflate(r io.Reader) (io.ReadCloser, error) {
	const method = 8
	buffered := bufio.NewReader(r)
	head, err := buffered.Peek(2)
	if err != nil {
		return nil, err
	}
	if head[0]&0x0f == method && (int(head[0])<<8|int(head[1]))%31 == 0 {
		return zlib.NewReader(buffered)
	}
	return flate.NewReader(buffered), nil
}

// decodeBody returns the body of a request as it was before its client compressed it, at most limit
// bytes of it. What has come over the network may be as much.
func decodeBody(w http.ResponseWriter, r *http.Request, limit int64) (io.ReadCloser, *fault.Error) {
	sent := limitedBody{http.MaxBytesReader(w, r.Body, limit)}
	coding := strings.ToLower(strings.TrimSpace(strings.Join(r.Header.Values("Content-Encoding"), ",")))
	if coding == "" || coding == "identity" {
		return sent, nil
	}

	open, known := decoders[coding]
	if !known {
		w.Header().Set("Accept-Encoding", encodings)
		return nil, fault.New(fault.UnknownEncoding, "",
			"The request body has the unsupported encoding %q; supported encodings: %s.", coding, encodings)
	}
	return limitedBody{http.MaxBytesReader(w, &decodedBody{
		coding: coding,
		sent:   sent,
		open:   open,
	}, limit)}, nil
}

// decodedBody decodes a body. It is opened by the first Read.
type decodedBody struct {
	coding string
	sent   io.ReadCloser
	open   func(io.Reader) (io.ReadCloser, error)
	text   io.ReadCloser // nil until it is open
	err    error
}

// Read implements io.Reader.
func (b *decodedBody) Read(p []byte) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.text == nil {
		if b.text, err = b.open(b.sent); err != nil {
			b.text = nil
			return 0, b.fail(err)
		}
	}
	n, err = b.text.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, b.fail(err)
	}
	return n, err
}

// fail returns an error of the body itself as it is, and any other as one of its encoding.
func (b *decodedBody) fail(err error) error {
	var known *fault.Error
	if !errors.As(err, &known) {
		known = fault.New(fault.Malformed, "", "The request body is not valid %s.", b.coding)
	}
	b.err = known
	return b.err
}

// Close implements io.Closer.
func (b *decodedBody) Close() error {
	if b.text == nil {
		return b.sent.Close()
	}
	return errors.Join(b.text.Close(), b.sent.Close())
}
