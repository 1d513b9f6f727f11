package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// maxClients is how many connections a Server has at the same time: each has a process.
const maxClients = 16

// pause is for how long nothing is accepted after the system has refused to: there may be too many open files.
const pause = 100 * time.Millisecond

// Server accepts connections of clients that use this machine's devices.
type Server struct {
	Listener net.Listener

	// Work lets a client use the devices, in a process of its own, until its connection is closed or ctx ends. It closes
	// the file.
	Work func(ctx context.Context, connection *os.File) error
}

// Run serves until ctx ends, and returns when no client is served any more.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.Listener.Close() })
	defer stop()

	var clients sync.WaitGroup
	defer clients.Wait()
	free := make(chan struct{}, maxClients)
	for {
		connection, err := s.Listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			slog.Warn("no connection accepted", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			continue
		}

		select {
		case free <- struct{}{}:
		default:
			slog.Warn("client refused", "address", connection.RemoteAddr(), "clients", maxClients)
			connection.Close()
			continue
		}
		clients.Go(func() {
			defer func() { <-free }()
			s.serve(ctx, connection)
		})
	}
}

// serve lets one client use the devices.
func (s *Server) serve(ctx context.Context, connection net.Conn) {
	address := connection.RemoteAddr()
	file, err := handOver(connection)
	connection.Close()
	if err == nil {
		slog.Info("client connected", "address", address)
		err = s.Work(ctx, file)
	}
	if err != nil && ctx.Err() == nil {
		slog.Error("client lost", "address", address, "error", err)
		return
	}
	slog.Info("client gone", "address", address)
}

// Listen listens on an address that may be used for this. The warning is as CheckListen's.
func Listen(address string) (l net.Listener, warning string, err error) {
	if l, err = net.Listen("tcp", address); err != nil {
		return nil, "", fmt.Errorf("listen on %s: %w", address, cause(err))
	}
	if warning, err = CheckListen(l.Addr()); err != nil {
		l.Close()
		return nil, "", err
	}
	return l, warning, nil
}
