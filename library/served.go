package library

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"serve/host"
	"serve/loader"
	"serve/machine"
	"serve/models"
	"serve/pool"
	"serve/terminal"
)

// Served finds or downloads the models of a server, and loads them when they are requested.
type Served struct {
	*Resolver
	Loader     *loader.Loader
	Options    loader.ModelOptions // of the loader
	Projectors loader.Projectors

	mu     sync.Mutex // guards what follows
	opened []opened
}

// opened is a model that is served, and its files.
type opened struct {
	local *models.Local
	model *pool.Model
}

// note remembers a model that is served.
func (s *Served) note(local *models.Local, m *pool.Model) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = append(s.opened, opened{local, m})
}

// forget forgets a model that was removed.
func (s *Served) forget(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = slices.DeleteFunc(s.opened, func(o opened) bool { return o.local.Path() == path })
}

// find returns a served model by its ID or its first file; either may be empty.
func (s *Served) find(id, path string) (opened, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.opened {
		if o.model.ID == id || o.local.Path() == path {
			return o, true
		}
	}
	return opened{}, false
}

// Model finds or downloads a model and checks its files, but does not load it. Flags without a
// model's name refer to the first model served.
func (s *Served) Model(ctx context.Context, name string, first bool) (m *pool.Model, embeds bool, err error) {
	local, err := s.Pull(ctx, name, false)
	if err != nil {
		return nil, false, err
	}
	return s.prepare(ctx, local, &s.Projectors, first)
}

// prepare checks the files of a model, which takes the projector that is meant for it.
func (s *Served) prepare(
	ctx context.Context, local *models.Local, given *loader.Projectors, first bool,
) (m *pool.Model, embeds bool, err error) {
	if err := s.ChooseProjector(given, local, first); err != nil {
		return nil, false, err
	}
	header, err := s.Loader.Check(ctx, local)
	if err != nil {
		return nil, false, err
	}

	load := func(ctx context.Context, shrink bool) (*pool.Instance, error) { return s.load(ctx, local, shrink) }
	m = &pool.Model{ID: local.Name, Created: time.Now(), Load: load}
	s.note(local, m)
	return m, header.Embeds(), nil
}

// load loads a model and reports what was loaded.
func (s *Served) load(ctx context.Context, local *models.Local, shrink bool) (*pool.Instance, error) {
	start := time.Now()
	in, err := s.Loader.Load(ctx, local, shrink)
	if err != nil {
		return nil, host.LoadError(err)
	}

	describe(s.Terminal, s.Options, local, in)
	s.Terminal.Fact("loaded", "in %s", time.Since(start).Round(time.Millisecond))
	in.WarnOfUsage(s.Terminal, local.Name)
	return host.Instance(in), nil
}

// describe reports what was loaded.
func describe(t *terminal.Terminal, o loader.ModelOptions, local *models.Local, in *loader.Loaded) {
	m := in.Model
	t.Fact("model", "%s: %s %s, %s parameters, %s", local.Name, m.Architecture, m.Quantization,
		terminal.FormatCount(m.Parameters), machine.FormatSize(m.Size))
	describeContext(t, o, in)
	if in.Plan.Projector != "" {
		t.Fact("images", "read with %s", filepath.Base(local.Projector.Name))
	}
	if in.Decision.Cost != "" || len(in.Memory.Devices) > 1 {
		t.Fact("plan", "%s", in.Decision)
	}
	for _, d := range in.Memory.Devices {
		if d.Needs() > 0 {
			t.Fact("memory", "%s: %s", d.Name, loader.DescribeMemory(d))
		}
	}
	t.Fact("kernels", "%s, verified in %s", loader.DescribeKernels(in.Kernels), in.Verified.Round(time.Millisecond))
	if in.NotSaved != "" {
		t.Warn("there is no prefix cache beside the slots: %s", in.NotSaved)
	}
	if in.Unconfined != "" {
		t.Warn("the engine's process is not fully confined: %s", in.Unconfined)
	}

	for _, d := range in.Devices {
		switch {
		case d.Type != "cpu":
			t.Fact("device", "%s %s", d.Name, d.Description)
		case in.WhyCPU != "":
			t.Fact("device", "%s, %d threads; %s", strings.TrimSpace(d.Description), in.Plan.Threads, in.WhyCPU)
		default:
			t.Fact("device", "%s, %d threads", strings.TrimSpace(d.Description), in.Plan.Threads)
		}
	}
}

// describeContext reports how long requests may be, and warns about limitations of the model.
func describeContext(t *terminal.Terminal, o loader.ModelOptions, in *loader.Loaded) {
	m := in.Model
	limits := in.Limits
	if !m.Generates {
		t.Fact("context", "embeddings of inputs of up to %d tokens", limits.EmbedTokens)
		return
	}

	shared := ""
	if limits.Shared {
		shared = fmt.Sprintf(", sharing %d KV cells", limits.Cells)
	}
	trained := ""
	if m.TrainContext > limits.Context {
		trained = fmt.Sprintf("; the model was trained for %d: for more, use --ctx-size, --kv-type q8_0 "+
			"or a smaller --parallel", m.TrainContext)
	}
	t.Fact("context", "%d tokens for each of %d concurrent requests%s; KV cache type %s%s",
		limits.Context, limits.Sequences, shared, o.DescribeKVType(), trained)
	if o.Context > m.TrainContext && m.TrainContext > 0 {
		t.Warn("the model was trained for %d tokens; output may degrade beyond that", m.TrainContext)
	}
	if m.ChatTemplate == "" {
		t.Warn("the file has no chat template; chats are formatted as ChatML")
	}
	if in.ChatError != "" {
		t.Warn("the model's chat template fails, so only completions work: %s", in.ChatError)
	}
	if in.Plan.EmbedLimit > 0 {
		t.Warn("there is not enough memory to embed inputs of more than %d tokens", limits.EmbedTokens)
	}
}
