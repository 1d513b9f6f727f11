package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"serve/loader"
	"serve/machine"
	"serve/models"
	"serve/server"
)

// library finds or fetches models, and has them loaded for the server.
type library struct {
	w          *workplace
	o          loader.ModelOptions
	store      *models.Store
	loader     *loader.Loader
	projectors projectors
}

func newLibrary(w *workplace, o serveOptions) (*library, error) {
	store, err := w.store()
	if err != nil {
		return nil, err
	}
	return &library{
		w:          w,
		o:          o.modelOptions.ModelOptions,
		store:      store,
		loader:     loader.New(w.loaderOptions(o, store)),
		projectors: o.mmproj,
	}, nil
}

// loaderOptions are what the flags of serve say of loading models.
func (w *workplace) loaderOptions(o serveOptions, store *models.Store) loader.Options {
	return loader.Options{
		Model:    o.modelOptions.ModelOptions,
		Engine:   o.engine,
		Isolate:  o.isolate,
		Stall:    o.stall,
		Store:    store,
		Hardware: hardware,
		Reporter: w.t,
		Environ:  os.Environ(),
		LogLevel: w.logLevel,
		Log:      w.t.err,
		Version:  versionText(),
	}
}

// model finds or fetches a model and checks its files, but does not load it. The first of those
// served is the one that flags mean which name none.
func (l *library) model(ctx context.Context, name string, first bool) (m *server.Model, embeds bool, err error) {
	local, err := l.w.pull(ctx, l.store, name, false)
	if err != nil {
		return nil, false, err
	}
	if err := l.projectors.choose(l.w.t, local, first); err != nil {
		return nil, false, err
	}
	header, err := l.loader.Check(ctx, local)
	if err != nil {
		return nil, false, err
	}

	load := func(ctx context.Context, shrink bool) (*server.Instance, error) { return l.load(ctx, local, shrink) }
	return &server.Model{ID: local.Name, Created: time.Now(), Load: load}, header.Embeds(), nil
}

// load loads a model and says what was loaded.
func (l *library) load(ctx context.Context, local *models.Local, shrink bool) (*server.Instance, error) {
	start := time.Now()
	in, err := l.loader.Load(ctx, local, shrink)
	if err != nil {
		return nil, serverError(err)
	}

	describe(l.w.t, l.o, local.Name, in)
	l.w.t.fact("loaded", "in %s", time.Since(start).Round(time.Millisecond))
	in.WarnOfUsage(l.w.t, local.Name)
	return serverInstance(in), nil
}

// serverInstance is an instance as the server knows it.
func serverInstance(in *loader.Instance) *server.Instance {
	s := &server.Instance{
		Engine:       in.Engine,
		Done:         in.Done,
		Stop:         in.Stop,
		Kernels:      in.Kernels,
		WhyProcessor: in.WhyCPU,
		Memory:       func() []server.DeviceMemory { return deviceMemory(in) },
		Failed:       func() error { return serverError(in.Failed()) },
	}
	for _, d := range deviceMemory(in) {
		s.Bytes += d.Planned
		s.Later += d.Later
	}
	for _, d := range in.Devices {
		s.Devices = append(s.Devices, server.Device{Name: d.Name, Description: strings.TrimSpace(d.Description)})
	}
	if in.Process != nil {
		s.Process = func() server.Process {
			id := in.Process()
			return server.Process{ID: id, Resident: machine.ResidentMemory(id)}
		}
	}
	return s
}

// deviceMemory is what a model takes of devices, as the server tells it.
func deviceMemory(in *loader.Instance) (list []server.DeviceMemory) {
	for _, u := range in.Usage() {
		if u.Planned.Most() > 0 {
			list = append(list, server.DeviceMemory{
				Device:  u.Planned.Name,
				Planned: u.Planned.Needs(),
				Later:   u.Planned.Later,
				Taken:   u.Taken,
			})
		}
	}
	return list
}

// serverError marks the errors of a load that the server does something about.
func serverError(err error) error {
	var short *loader.NoRoomError
	var missing *loader.DeviceError
	switch {
	case errors.As(err, &short):
		return &server.NoRoomError{Err: err, Short: short.Short}
	case errors.As(err, &missing):
		return &server.DeviceError{Err: err}
	}
	return err
}

// describe says what was loaded.
func describe(t *terminal, o loader.ModelOptions, name string, in *loader.Instance) {
	m := in.Model
	t.fact("model", "%s: %s %s, %s parameters, %s", name, m.Architecture, m.Quantization, count(m.Parameters), machine.FormatSize(m.Size))
	describeContext(t, o, in)
	if in.Plan.Projector != "" {
		t.fact("images", "read with %s", filepath.Base(in.Plan.Projector))
	}
	for _, d := range in.Memory.Devices {
		if d.Needs() > 0 {
			t.fact("memory", "%s: %s", d.Name, loader.DescribeMemory(d))
		}
	}
	t.fact("kernels", "%s, verified in %s", loader.DescribeKernels(in.Kernels), in.Verified.Round(time.Millisecond))
	if in.Unconfined != "" {
		t.Warn("the engine's process is not fully confined: %s", in.Unconfined)
	}

	for _, d := range in.Devices {
		switch {
		case d.Type != "cpu":
			t.fact("device", "%s %s", d.Name, d.Description)
		case in.WhyCPU != "":
			t.fact("device", "%s, %d threads; %s", strings.TrimSpace(d.Description), in.Plan.Threads, in.WhyCPU)
		default:
			t.fact("device", "%s, %d threads", strings.TrimSpace(d.Description), in.Plan.Threads)
		}
	}
}

// describeContext says how long requests may be, and what is odd about the model's text.
func describeContext(t *terminal, o loader.ModelOptions, in *loader.Instance) {
	m, limits := in.Model, in.Limits
	if !m.Generates {
		t.fact("context", "embeddings of inputs of up to %d tokens", limits.EmbedTokens)
		return
	}

	shared := ""
	if limits.Shared {
		shared = fmt.Sprintf(", sharing %d KV cells", limits.Cells)
	}
	t.fact("context", "%d tokens for each of %d concurrent requests%s; KV cache type %s", limits.Context, limits.Sequences, shared, o.KVType)
	if o.Context > m.TrainContext && m.TrainContext > 0 {
		t.Warn("the model was trained for %d tokens; beyond that it may write nonsense", m.TrainContext)
	}
	if m.ChatTemplate == "" {
		t.Warn("the file has no chat template; chats are written as ChatML")
	}
	if in.ChatError != "" {
		t.Warn("the model's chat template fails, so only completions work: %s", in.ChatError)
	}
	if in.Plan.EmbedLimit > 0 {
		t.Warn("there is not enough memory to embed inputs of more than %d tokens", limits.EmbedTokens)
	}
}
