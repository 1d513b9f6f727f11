// Package host runs a server, from loading its models to finishing the last answers after a signal to
// stop.
package host

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"serve/certs"
	"serve/egress"
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
	Home     string          // folder where serve ps looks for servers
	Manager  *egress.Manager // of the service
	// Certificate is the server's, for TLS on all listeners; nil for plain HTTP.
	Certificate *certs.Certificate

	Connections  ConnectionLimits
	Lazy         bool             // load each model on its first request
	DrainTimeout time.Duration    // how long running requests may continue after ctx is done
	WriteStall   time.Duration    // how long a client may accept nothing on a connection of HTTP/2
	Stall        time.Duration    // after which the server itself restarts a stuck engine
	Embeds       bool             // the first model computes embeddings and generates no text
	Page         bool             // there is a web UI
	Ready        func(url string) // called when the server is ready; nil prints the address, and how to try it
}

const lastTimeout = 5 * time.Second // how long canceled requests may take to end

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
	f := newFront(requests, o.Server.Handler(), frontOptions{
		Limits:     o.Connections,
		TLS:        o.tlsConfig(),
		WriteStall: o.WriteStall,
	})
	listeners := append([]net.Listener{o.Listener}, o.Also...)
	served := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { served <- f.serve(l) }()
	}
	defer o.announce(ctx)()

	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
		err = fmt.Errorf("serve: %w", err)
	}

	o.Server.Drain()
	o.notify(daemon.SdNotifyStopping)
	o.stopping()
	o.shutDown(context.WithoutCancel(ctx), f.http, cancelRequests)
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

// tlsConfig returns the configuration of connections; nil for plain HTTP.
func (o *Options) tlsConfig() *tls.Config {
	if o.Certificate == nil {
		return nil
	}
	return o.Certificate.Config()
}

// entry returns what serve ps and other programs of this machine must know to reach the server.
func (o *Options) entry() registry.Server {
	s := registry.Server{PID: os.Getpid(), URL: "http://" + registry.Address(o.Listener.Addr())}
	if o.Certificate != nil {
		s.URL = "https://" + registry.Address(o.Listener.Addr())
		s.Fingerprint = o.Certificate.Fingerprint()
	}
	return s
}

// announce makes the server visible to serve ps, and notifies the service manager and the user that
// it is ready. The service manager's watchdog is pinged, and the certificate's files are watched, until end is called.
func (o *Options) announce(ctx context.Context) (end func()) {
	remove := func() {}
	register := func() {
		removal, err := registry.Add(o.Home, o.entry())
		if err != nil {
			o.Terminal.Warn("serve ps will not find this server: %v", err)
			return
		}
		remove = removal
	}
	register()

	o.notify(daemon.SdNotifyReady)
	// The server is healthy while it drains, too.
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	go o.watchdog(watching)
	var watches sync.WaitGroup
	if o.Certificate != nil {
		watches.Go(func() { o.Certificate.Watch(watching, register) })
	}

	o.ready()
	return func() {
		stop()
		watches.Wait()
		remove()
	}
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
