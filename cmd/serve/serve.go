package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"serve/archive"
	"serve/hub"
	"serve/loader"
	"serve/models/demo"
	"serve/server"
	"serve/web"
)

// runServe listens, brings the models here and into memory, and serves until ctx
// is done.
func runServe(ctx context.Context, w *workplace, o serveOptions, names []string) error {
	if err := o.check(); err != nil {
		return err
	}
	// The port first: a download takes longer than to find out that it is taken.
	listener, err := net.Listen("tcp", net.JoinHostPort(o.host, strconv.Itoa(o.port)))
	if err != nil {
		return withHint(fmt.Errorf("listen: %w", err), "choose another --port, or 0 for any free one")
	}
	defer listener.Close()
	lib, err := newLibrary(w, o)
	if err != nil {
		return err
	}
	so := server.Options{MaxBody: o.maxBody, AllowedOrigins: o.origins, KeepAlive: o.keepAlive, LoadWait: o.loadWait, Version: versionText(), PID: os.Getpid(), MaxWaiting: o.engine.MaxWaiting, Moderator: o.moderator, Page: web.Page()}
	try := trySentence // what to ask the first model, for who has just started it
	if so.ImageHosts = o.imageHosts; len(o.imageHosts) > 0 {
		network, err := w.network()
		if err != nil {
			return err
		}
		if network.Offline {
			return fmt.Errorf("%w: --image-host and --offline contradict each other", errUsage)
		}
		if so.ImageTransport, err = hub.Transport(network); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
	}
	if o.otlp != "" {
		tracer, stop, err := w.tracer(ctx, o.otlp)
		if err != nil {
			return err
		}
		defer stop()
		so.Tracer = tracer
	}
	if len(names) == 0 {
		names = []string{demo.Name}
		w.t.note("no model is named: demo, the tiny one that serve carries, answers; serve mistral-7b fetches a real one")
	}
	for i, name := range names {
		m, embeds, err := lib.model(ctx, name, i == 0)
		if err != nil {
			return err
		}
		so.Models = append(so.Models, m)
		if i == 0 && embeds {
			try = tryEmbedding
		}
	}
	if err := lib.projectors.check(); err != nil {
		return err
	}
	if err := nameAliases(so.Models, o.aliases); err != nil {
		return err
	}
	if o.dataDir != "" {
		if so.Archive, err = archive.Open(hub.ExpandHome(o.dataDir, w.lookup), o.keepFor); err != nil {
			return withHint(err, "choose another --data-dir, or stop the serve that uses it")
		}
		defer so.Archive.Close()
	}
	return listen(ctx, w, o, listener, so, try)
}

// check refuses flags that make no sense before anything is loaded.
func (o *serveOptions) check() error {
	if o.engine.MaxWaiting < 1 || o.engine.MaxWaiting > 1<<20 {
		return fmt.Errorf("%w: --max-waiting %d: from 1 to %d", errUsage, o.engine.MaxWaiting, 1<<20)
	}
	if o.engine.MaxWaitingTokens < 1 || o.engine.MaxWaitingTokens > 1<<40 {
		return fmt.Errorf("%w: --max-waiting-tokens %d: from 1 to %d", errUsage, o.engine.MaxWaitingTokens, 1<<40)
	}
	if o.engine.MaxWait < 0 {
		return fmt.Errorf("%w: --max-wait %s: not less than nothing", errUsage, o.engine.MaxWait)
	}
	if o.engine.Gap < 0 || o.engine.Gap > time.Minute {
		return fmt.Errorf("%w: --stream-gap %s: from 0 to %s", errUsage, o.engine.Gap, time.Minute)
	}
	if o.port < 0 || o.port > 65535 {
		return fmt.Errorf("%w: --port %d: from 0 to 65535", errUsage, o.port)
	}
	if o.stall <= 0 {
		return fmt.Errorf("%w: --stall-timeout %s: more than nothing", errUsage, o.stall)
	}
	return o.modelOptions.check()
}

// check refuses what no model could be loaded with.
func (o *modelOptions) check() error {
	bounds := []struct {
		flag       string
		value      int
		least, max int
	}{
		{"ctx-size", o.Context, 0, 1 << 24},
		{"parallel", o.Parallel, 1, 256},
		{"kv-cells", o.Cells, 0, 1 << 28},
		{"threads", o.Threads, 0, 512},
	}
	for _, b := range bounds {
		if b.value < b.least || b.value > b.max {
			return fmt.Errorf("%w: --%s %d: from %d to %d", errUsage, b.flag, b.value, b.least, b.max)
		}
	}
	switch o.KVType {
	case "f16", "q8_0", "q4_0":
	default:
		return fmt.Errorf("%w: --kv-type %q: f16, q8_0 or q4_0", errUsage, o.KVType)
	}
	if err := loader.ValidKernels(o.Kernels); err != nil {
		return fmt.Errorf("%w: --kernels %q: %w", errUsage, o.Kernels, err)
	}
	return nil
}

// nameAliases gives models other names: name=model, or a name for the first one.
func nameAliases(list []*server.Model, aliases []string) error {
	for _, alias := range aliases {
		name, target, named := strings.Cut(alias, "=")
		m := list[0]
		if named {
			m = nil
			for _, l := range list {
				if l.ID == target {
					m = l
				}
			}
		}
		if m == nil || name == "" {
			return fmt.Errorf("%w: --alias %q names no model", errUsage, alias)
		}
		m.Aliases = append(m.Aliases, name)
	}
	return nil
}

// listen serves HTTP until ctx is done: then it refuses new work, lets what runs
// end until the drain timeout, cancels the rest, and only then stops the engines.
func listen(ctx context.Context, w *workplace, o serveOptions, listener net.Listener, so server.Options, try string) error {
	t := w.t
	if ip := net.ParseIP(o.host); o.host == "localhost" || ip != nil && ip.IsLoopback() {
		so.Hosts = []string{"localhost"}
	} else {
		t.note("warning: anyone who can reach %s can use the server; there are no keys yet", listener.Addr())
	}
	s, err := server.New(so)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	defer s.Close()
	if !o.lazy {
		if err := preload(ctx, t, s, so.Models); err != nil {
			return err
		}
	}
	requests, cancelRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelRequests()
	h := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return requests },
		ErrorLog:    slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(listener) }()
	defer w.announce(ctx, o, listener, s)()
	if o.ready != nil {
		o.ready("http://" + reachable(listener.Addr()))
	} else {
		invite(t, listener, so, try)
	}
	select {
	case <-ctx.Done():
	case err = <-served:
		err = fmt.Errorf("serve: %w", err)
	}
	s.Drain()
	t.notify(daemon.SdNotifyStopping)
	if o.ready == nil {
		t.note("stopping: %s for running requests, another signal to stop at once", o.drainTimeout)
	}
	shutDown(context.WithoutCancel(ctx), h, s, o.drainTimeout, cancelRequests)
	return err
}

// announce makes the server known to serve ps, and tells the service manager that it is
// ready and, until the function that it returns is called, that it is well.
func (w *workplace) announce(ctx context.Context, o serveOptions, listener net.Listener, s *server.Server) (end func()) {
	forget, err := w.register(listener)
	if err != nil {
		w.t.note("warning: serve ps will not find this server: %v", err)
		forget = func() {}
	}
	w.t.notify(daemon.SdNotifyReady)
	// It is well while it drains, too.
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	go watchdog(watching, w.t, s, o.stall)
	return func() { stop(); forget() }
}

// shutDown lets running requests end, and cancels those that have not by then.
func shutDown(ctx context.Context, h *http.Server, s *server.Server, patience time.Duration, cancelRequests func()) {
	drain, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if h.Shutdown(drain) != nil {
		cancelRequests()
		last, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if h.Shutdown(last) != nil {
			h.Close()
		}
	}
	s.Wait(drain)
}

// preload loads the first model, and as many of the others as fit beside it.
func preload(ctx context.Context, t *terminal, s *server.Server, list []*server.Model) error {
	for i, m := range list {
		err := s.Preload(ctx, m)
		var short *server.NoRoomError
		if i > 0 && errors.As(err, &short) {
			t.note("%s waits for its first request: %v", m.ID, err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Commands to paste: the address, then the model's name.
const (
	trySentence  = "curl %s/v1/chat/completions -H 'Content-Type: application/json' -d '{\"model\":%q,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'\n"
	tryEmbedding = "curl %s/v1/embeddings -H 'Content-Type: application/json' -d '{\"model\":%q,\"input\":\"Hello\"}'\n"
)

// invite says where the server is and how to try it.
func invite(t *terminal, listener net.Listener, so server.Options, try string) {
	address := "http://" + listener.Addr().String()
	fmt.Fprintf(t.out, try, address, so.Models[0].ID)
	if so.Page != nil {
		t.fact("page", "%s/", address)
	}
	t.fact("ready", "%s/v1", address)
}
