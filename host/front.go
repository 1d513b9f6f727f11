package host

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of the HTTP server.
const (
	headerTimeout = 10 * time.Second // also for a TLS handshake
	idleTimeout   = 5 * time.Minute
	maxHeader     = 64 << 10

	// Of a connection of HTTP/2. A client that resets more streams than four times as many as it may have open loses
	// the connection.
	maxStreams     = 100
	streamWindow   = 128 << 10 // bytes of one stream's body that nobody has read
	connWindow     = 512 << 10 // those of all
	maxHeaderTable = 4 << 10
)

// frontOptions are the options of newFront.
type frontOptions struct {
	Limits     ConnectionLimits
	TLS        *tls.Config   // nil for plain HTTP
	WriteStall time.Duration // how long a client may accept nothing on a connection of HTTP/2; 0 for any time
}

// front is an HTTP server with its limits.
type front struct {
	http   *http.Server
	open   *connections
	secure bool // TLS; http sets its own configuration once it serves
}

// newFront returns a server whose requests end when ctx does.
func newFront(ctx context.Context, handler http.Handler, o frontOptions) *front {
	open := newConnections(o.Limits, o.TLS)

	return &front{
		open:   open,
		secure: o.TLS != nil,
		http: &http.Server{
			Handler:           handler,
			TLSConfig:         o.TLS,
			ReadHeaderTimeout: headerTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeader,
			HTTP2: &http.HTTP2Config{
				MaxConcurrentStreams:          maxStreams,
				MaxDecoderHeaderTableSize:     maxHeaderTable,
				MaxEncoderHeaderTableSize:     maxHeaderTable,
				MaxReceiveBufferPerConnection: connWindow,
				MaxReceiveBufferPerStream:     streamWindow,
				// The deadlines of streams end streams; one that nothing can be told any more ends with its connection.
				WriteByteTimeout: o.WriteStall,
			},
			BaseContext: func(net.Listener) context.Context { return ctx },
			ConnState:   open.changed,
			ErrorLog:    slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
		},
	}
}

// serve answers the connections of a listener until the server is closed.
func (f *front) serve(l net.Listener) error {
	l = f.open.limit(l)
	if f.secure {
		return f.http.ServeTLS(l, "", "")
	}
	return f.http.Serve(l)
}
