// Package host runs a server, from loading its models to finishing the last answers after a signal to
// stop.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"serve/pool"
	"serve/registry"
	"serve/server"
	"serve/terminal"
)

// Options are the options of Run. Those without a condition are required.
type Options struct {
	Listener net.Listener
	Also     []net.Listener // on other addresses, if there are any
	Server   *server.Server
	Models   []*pool.Model // of the server; unless Lazy, Run fails if the first cannot be loaded
	Terminal *terminal.Terminal
	Home     string // folder where serve ps looks for servers

	Connections  ConnectionLimits
	Lazy         bool                        // load each model on its first request
	DrainTimeout time.Duration               // how long running requests may continue after ctx is done
	Stall        time.Duration               // after which the server itself restarts a stuck engine
	Ready        func(url string)            // called when the server is ready
	Stopping     func(timeout time.Duration) // called when it begins to drain, if not nil
}

// Limits of the HTTP server.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 5 * time.Minute
	maxHeader     = 64 << 10
	lastTimeout   = 5 * time.Second // how long canceled requests may take to end
)

// Run serves HTTP until ctx is done: then it refuses new work, lets running requests finish until the
// drain timeout, and cancels the rest. The server's engines run until it is closed.
func Run(ctx context.Context, o Options) error {
	if !o.Lazy {
		if err := o.preload(ctx); err != nil {
			return err
		}
	}
	// Only now: a batch must not take the memory of the models that are loaded at the start.
	if err := o.Server.Resume(); err != nil {
		return err
	}

	requests, cancelRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelRequests()
	open := newConnections(o.Connections)
	h := httpServer(o.Server.Handler(), requests)
	h.ConnState = open.changed
	listeners := append([]net.Listener{o.Listener}, o.Also...)
	served := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { served <- h.Serve(open.limit(l)) }()
	}
	defer o.announce(ctx)()

	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
		err = fmt.Errorf("serve: %w", err)
	}

	o.Server.Drain()
	notify(o.Terminal, daemon.SdNotifyStopping)
	if o.Stopping != nil {
		o.Stopping(o.DrainTimeout)
	}
	o.shutDown(context.WithoutCancel(ctx), h, cancelRequests)
	return err
}

// preload loads the first model, and as many of the others as fit.
func (o *Options) preload(ctx context.Context) error {
	for i, m := range o.Models {
		err := o.Server.Preload(ctx, m)
		var short *pool.NoRoomError
		if i > 0 && errors.As(err, &short) {
			o.Terminal.Note("%s will be loaded on its first request: %v", m.ID, err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// httpServer returns a server whose requests end when ctx does.
func httpServer(handler http.Handler, ctx context.Context) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
}

// announce makes the server visible to serve ps, and notifies the service manager and the user that
// it is ready. The service manager's watchdog is pinged until end is called.
func (o *Options) announce(ctx context.Context) (end func()) {
	remove, err := registry.Add(o.Home, o.Listener.Addr())
	if err != nil {
		o.Terminal.Warn("serve ps will not find this server: %v", err)
		remove = func() {}
	}

	notify(o.Terminal, daemon.SdNotifyReady)
	// The server is healthy while it drains, too.
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	go o.watchdog(watching)

	o.Ready("http://" + registry.Address(o.Listener.Addr()))
	return func() { stop(); remove() }
}

// shutDown lets running requests finish until the drain timeout, and cancels the rest.
func (o *Options) shutDown(ctx context.Context, h *http.Server, cancelRequests func()) {
	drain, cancel := context.WithTimeout(ctx, o.DrainTimeout)
	defer cancel()
	if h.Shutdown(drain) != nil {
		cancelRequests()
		last, cancel := context.WithTimeout(ctx, lastTimeout)
		defer cancel()
		if h.Shutdown(last) != nil {
			h.Close()
		}
	}
	o.Server.Wait(drain)
}
