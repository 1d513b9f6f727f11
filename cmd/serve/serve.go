package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"serve/engine"
	"serve/engine/llama"
	"serve/models"
	"serve/server"
)

// loaded is a model that can answer: its engine runs until stop.
type loaded struct {
	server.Model
	engine *engine.Engine
	stop   context.CancelFunc
	done   chan struct{} // closed when Run has returned err
	err    error
}

// runServe loads the models, listens, and serves until ctx is done or an engine
// fails.
func runServe(ctx context.Context, t *terminal, o serveOptions, paths []string) error {
	if err := o.check(); err != nil {
		return err
	}
	// The port first: a load can take minutes.
	listener, err := net.Listen("tcp", net.JoinHostPort(o.host, strconv.Itoa(o.port)))
	if err != nil {
		return withHint(fmt.Errorf("listen: %w", err), "choose another --port, or 0 for any free one")
	}
	defer listener.Close()
	list, err := loadAll(ctx, t, o, paths)
	defer stopAll(list)
	if err != nil {
		return err
	}
	if err := nameAliases(list, o.aliases); err != nil {
		return err
	}
	return listen(ctx, t, o, listener, list)
}

// check refuses flags that make no sense before anything is loaded.
func (o *serveOptions) check() error {
	bounds := []struct {
		flag       string
		value      int
		least, max int
	}{
		{"port", o.port, 0, 65535},
		{"ctx-size", o.ctxSize, 0, 1 << 24},
		{"parallel", o.parallel, 1, 256},
		{"kv-cells", o.kvCells, 0, 1 << 28},
		{"threads", o.threads, 0, 512},
		{"max-waiting", o.maxWaiting, 1, 1 << 20},
	}
	for _, b := range bounds {
		if b.value < b.least || b.value > b.max {
			return fmt.Errorf("%w: --%s %d: from %d to %d", errUsage, b.flag, b.value, b.least, b.max)
		}
	}
	switch o.kvType {
	case "f16", "q8_0", "q4_0":
	default:
		return fmt.Errorf("%w: --kv-type %q: f16, q8_0 or q4_0", errUsage, o.kvType)
	}
	return nil
}

// loadAll loads models one after another. With an error it returns those that
// were loaded before it.
func loadAll(ctx context.Context, t *terminal, o serveOptions, paths []string) ([]*loaded, error) {
	var list []*loaded
	for _, path := range paths {
		m, err := load(ctx, t, o, path)
		if err != nil {
			return list, err
		}
		list = append(list, m)
	}
	return list, nil
}

// load checks a file, plans its memory, loads it and starts its engine.
func load(ctx context.Context, t *terminal, o serveOptions, path string) (*loaded, error) {
	start := time.Now()
	header, err := readModel(path)
	if err != nil {
		return nil, err
	}
	lo, memory, err := planMemory(o, header.TrainContext(), func(lo llama.Options) (*llama.Memory, error) { return measure(path, lo) })
	if err != nil {
		return nil, err
	}
	lo.Model.Progress = func(float32) bool { return ctx.Err() == nil }
	runner, err := llama.Load(path, lo)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: %w", errModel, err)
	}
	describe(t, o, path, runner, lo, memory)
	m := &loaded{engine: engine.New(runner, engine.Options{MaxWaiting: o.maxWaiting}), done: make(chan struct{})}
	m.Model = server.Model{ID: models.Name(path), Created: time.Now(), Engine: m.engine}
	// The engine outlives the signal: it stops when the last answer has gone out.
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	m.stop = stop
	go func() {
		defer close(m.done)
		m.err = m.engine.Run(run)
	}()
	t.fact("loaded", "in %s", time.Since(start).Round(time.Millisecond))
	return m, nil
}

// maxMeasured is the most KV cells that are laid out only to measure them:
// llama.cpp takes seconds for many millions.
const maxMeasured = 1 << 20

// measure is llama.Measure with this process's free memory. What many cells take
// follows from what fewer do.
func measure(path string, lo llama.Options) (*llama.Memory, error) {
	scale := 1.0
	if cells := lo.Context * lo.Sequences; lo.Cells == 0 && cells > maxMeasured {
		lo.Context = maxMeasured / lo.Sequences
		scale = float64(cells) / float64(lo.Context*lo.Sequences)
	}
	m, err := llama.Measure(path, lo)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errModel, err)
	}
	for i := range m.Devices {
		d := &m.Devices[i]
		d.KV, d.Compute = uint64(float64(d.KV)*scale), uint64(float64(d.Compute)*scale)
	}
	if free := freeMemory(); free > 0 {
		m.Devices[len(m.Devices)-1].Free = free
	}
	return m, nil
}

// readModel reads the header of every part of a model, before C sees any.
func readModel(path string) (*models.Header, error) {
	parts, err := models.Parts(path)
	if err != nil {
		return nil, err
	}
	var first *models.Header
	for _, part := range parts {
		header, err := models.ReadHeader(part)
		if errors.Is(err, os.ErrNotExist) {
			return nil, withHint(fmt.Errorf("%w: %w", errModel, err), "a model is the path of a GGUF file")
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errModel, err)
		}
		first = cmp.Or(first, header)
	}
	if first.Architecture() == "" {
		return nil, fmt.Errorf("%w: %s does not say its architecture", models.ErrFormat, path)
	}
	return first, nil
}

// describe says what is being served, in plain lines.
func describe(t *terminal, o serveOptions, path string, r engine.Runner, lo llama.Options, memory *llama.Memory) {
	m, limits := r.Model(), r.Limits()
	t.fact("model", "%s: %s %s, %s parameters, %s", models.Name(path), m.Architecture, m.Quantization, count(m.Parameters), size(m.Size))
	if !m.Generates {
		t.fact("context", "embeddings of inputs of up to %d tokens", limits.EmbedTokens)
	} else {
		shared := ""
		if limits.Shared {
			shared = fmt.Sprintf(", which share %d KV cells", limits.Cells)
		}
		t.fact("context", "%d tokens for each of %d requests at a time%s; KV cells are %s", limits.Context, limits.Sequences, shared, o.kvType)
		if o.ctxSize > m.TrainContext && m.TrainContext > 0 {
			t.note("warning: the model was trained for %d tokens; beyond that it may write nonsense", m.TrainContext)
		}
		if m.ChatTemplate == "" {
			t.note("warning: the file has no chat template; chats are written as ChatML")
		}
	}
	for _, d := range memory.Devices {
		if d.Needs() > 0 {
			t.fact("memory", "%s: %s = %s weights + %s KV cells + %s compute; %s free",
				d.Name, size(d.Needs()), size(d.Weights), size(d.KV), size(d.Compute), size(d.Free))
		}
	}
	devices, err := llama.Devices()
	if err != nil {
		return
	}
	for _, d := range devices {
		if d.Type == "cpu" {
			t.fact("device", "%s, %d threads", strings.TrimSpace(d.Description), cmp.Or(lo.Threads, llama.Threads()))
		} else {
			t.fact("device", "%s %s", d.Name, d.Description)
		}
	}
}

// nameAliases gives models other names: name=model, or a name for the first one.
func nameAliases(list []*loaded, aliases []string) error {
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

// listen serves HTTP until ctx is done or an engine fails: then it refuses new
// work, lets what runs end until the drain timeout, cancels the rest, and only
// then stops the engines.
func listen(ctx context.Context, t *terminal, o serveOptions, listener net.Listener, list []*loaded) error {
	so := server.Options{MaxBody: o.maxBody, AllowedOrigins: o.origins}
	for _, m := range list {
		so.Models = append(so.Models, &m.Model)
	}
	if ip := net.ParseIP(o.host); o.host == "localhost" || ip != nil && ip.IsLoopback() {
		so.Hosts = []string{"localhost"}
	} else {
		t.note("warning: anyone who can reach %s can use the server; there are no keys yet", listener.Addr())
	}
	s, err := server.New(so)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
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
	invite(t, listener, list[0])

	err = wait(ctx, list, served)
	s.Drain()
	t.note("stopping: %s for running requests, another signal to stop at once", o.drainTimeout)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.drainTimeout)
	defer cancel()
	if h.Shutdown(drain) != nil {
		cancelRequests()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if h.Shutdown(last) != nil {
			h.Close()
		}
	}
	return err
}

// wait returns when the server must stop, with the reason if it is a failure.
func wait(ctx context.Context, list []*loaded, served chan error) error {
	failed := make(chan error, len(list))
	for _, m := range list {
		go func() {
			<-m.done
			failed <- fmt.Errorf("engine of %s: %w", m.ID, m.err)
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	}
}

// invite says where the server is and how to try it.
func invite(t *terminal, listener net.Listener, m *loaded) {
	address := "http://" + listener.Addr().String()
	defer t.fact("ready", "%s/v1", address)
	if m.engine.Model().Generates {
		fmt.Fprintf(t.out, "curl %s/v1/chat/completions -H 'Content-Type: application/json' -d '{\"model\":%q,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'\n", address, m.ID)
	} else {
		fmt.Fprintf(t.out, "curl %s/v1/embeddings -H 'Content-Type: application/json' -d '{\"model\":%q,\"input\":\"Hello\"}'\n", address, m.ID)
	}
}

// stopAll stops the engines and waits until their memory is free.
func stopAll(list []*loaded) {
	var wg sync.WaitGroup
	for _, m := range list {
		wg.Go(func() {
			m.stop()
			<-m.done
		})
	}
	wg.Wait()
}
