package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"serve/engine"
	"serve/engine/llama"
	"serve/engine/remote"
	"serve/kernels"
	"serve/machine"
	"serve/models"
	"serve/server"
)

// library makes models of references, and loads them.
type library struct {
	w     *workplace
	o     serveOptions
	store *models.Store

	projectors projectors
	kernels    *kernels.Record
	gpus       gpuProbe
	cache      func() string // folder for what drivers keep, empty for none; it is made when it is first asked for
	// What this machine had free before anything was loaded, and what the loaded
	// models were planned to take of it. Mapped weights count as free memory for
	// the kernel, which can drop them; we cannot.
	free atomic.Uint64
	used atomic.Uint64
}

func newLibrary(w *workplace, o serveOptions) (*library, error) {
	store, err := w.store()
	if err != nil {
		return nil, err
	}
	l := &library{
		w:          w,
		o:          o,
		store:      store,
		projectors: o.mmproj,
		kernels:    w.kernelsRecord(store.Home, o.threads),
	}
	l.free.Store(machine.FreeMemory())
	l.cache = sync.OnceValue(func() string {
		folder, err := driverCache(store.Home)
		if err != nil {
			w.t.note("warning: GPU drivers keep nothing, and compile anew at every start: %v", err)
		}
		return folder
	})
	return l, nil
}

// model finds or fetches a model and checks its files, but does not load it. The first
// of those served is the one that flags mean which name none.
func (l *library) model(ctx context.Context, name string, first bool) (m *server.Model, embeds bool, err error) {
	local, err := l.w.pull(ctx, l.store, name, false)
	if err != nil {
		return nil, false, err
	}
	if err := l.projectors.choose(l.w.t, local, first); err != nil {
		return nil, false, err
	}
	header, err := l.check(ctx, local)
	if err != nil {
		return nil, false, err
	}
	load := func(ctx context.Context, shrink bool) (*server.Instance, error) { return l.load(ctx, local, shrink) }
	return &server.Model{ID: local.Name, Created: time.Now(), Load: load}, header.Embeds(), nil
}

// check makes sure that the files of a model are what they should be, before C
// sees any. It is cheap when they have not been touched since the last time.
func (l *library) check(ctx context.Context, local *models.Local) (*models.Header, error) {
	if _, err := l.store.Verify(ctx, local, false); err != nil {
		return nil, err
	}
	header, err := models.ReadModel(local.Parts())
	if err == nil && local.Projector != nil {
		_, err = models.ReadProjector(local.Projector.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errModel, err)
	}
	return header, nil
}

// load plans a model's memory, loads it and starts its engine.
func (l *library) load(ctx context.Context, local *models.Local, shrink bool) (*server.Instance, error) {
	start := time.Now()
	header, err := l.check(ctx, local)
	if err != nil {
		return nil, err
	}
	taking := new(taking)
	runner, loaded, err := l.open(ctx, l.request(local, header, shrink), modelFiles(local), taking)
	if err != nil {
		return nil, err
	}
	why := l.whyProcessor(loaded)
	describe(l.w.t, l.o.modelOptions, local.Name, runner, loaded, why)
	in := l.start(runner, loaded.Memory)
	in.Kernels = loaded.Kernels
	in.Devices, in.WhyProcessor = deviceFacts(loaded.Devices), why
	taking.describeIn(in)
	l.w.t.fact("loaded", "in %s", time.Since(start).Round(time.Millisecond))
	taking.tell(l.w.t, local.Name)
	return in, nil
}

// open loads a model of these files: with the first kernels that compute it, of those to try.
func (l *library) open(ctx context.Context, q loadRequest, files []string, taking *taking) (engine.Runner, *loadAnswer, error) {
	var err error
	if q.GPUs, err = l.expectGPUs(ctx); err != nil {
		return nil, nil, err
	}

	trial := l.chooseKernels(ctx, &q, files)
	var failures []error
	for i, name := range trial.order {
		q.Kernels = name
		runner, a, err := l.openWith(ctx, q, files, taking)
		if err == nil {
			if len(q.GPUs) == 0 { // else it may have been their driver
				l.refuse(q.Name, trial.failed)
			}
			trial.choice.Name = name
			trial.choice.Refused = l.kernels.Refused()
			a.Kernels = trial.choice
			return runner, a, nil
		}
		if !kernelsFailure(err) {
			return nil, nil, err
		}
		failures = append(failures, err)
		trial.failed[name] = strings.SplitN(err.Error(), "\n", 2)[0]
		if i+1 < len(trial.order) {
			l.w.t.note("warning: %s with the kernels %s: %v; trying %s", q.Name, name, err, trial.order[i+1])
		}
	}
	if len(failures) == 0 {
		return nil, nil, fmt.Errorf("%w: this processor can run none of the kernels that this build has", errModel)
	}
	return nil, nil, fmt.Errorf("no kernels compute it (%s): %w", strings.Join(trial.order, ", "), failures[0])
}

// openWith loads a model with the kernels named, in a process of its own unless that is not wanted.
func (l *library) openWith(ctx context.Context, q loadRequest, files []string, taking *taking) (engine.Runner, *loadAnswer, error) {
	// A child that comes after the first is to be like it, as far as what is free by then allows.
	var first atomic.Pointer[loadAnswer]
	var unconfined atomic.Pointer[string]
	request := func() []byte {
		q := q
		if a := first.Load(); a != nil {
			q.Plan = &a.Plan
			q.Free = l.freeWithout(hostShare(a.Memory))
			q.GPUs = append(slices.Clone(q.GPUs), deviceList{Devices: q.GPUs}.missing(a.GPUs)...)
		}
		if why := unconfined.Load(); why != nil {
			q.Unconfined = *why
		}
		text, err := json.Marshal(&q)
		if err != nil {
			return nil // as a request that says nothing, it is refused
		}
		return text
	}
	var runner engine.Runner
	var text []byte
	if l.o.isolate {
		spawn := func() (*remote.Process, error) {
			p, open, err := l.spawn(files)
			if open != nil {
				why := open.Error()
				unconfined.Store(&why)
			}
			return p, err
		}
		o := remote.Options{
			Spawn:     spawn,
			Request:   request,
			Refused:   refusal,
			Restarted: func(answer []byte) { taking.restarted(l.w.t, q.Name, answer) },
			Stall:     l.o.stall,
			Report:    func(c remote.Crash) { l.report(q.Name, c) },
		}
		child, answer, err := remote.Start(ctx, o)
		if err != nil {
			err = fmt.Errorf("%w: %w", errModel, err)
			if len(q.GPUs) > 0 {
				err = withHint(err, "serve doctor tries the GPU's driver in the sandbox")
			}
			return nil, nil, err
		}
		if text = answer; child != nil {
			runner = child
			taking.process = child.Process
		}
	} else {
		runner, text = openModel(request(), errors.New("it computes in serve's own"))
	}
	a := new(loadAnswer)
	if err := json.Unmarshal(text, a); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errModel, err)
	}
	if a.Failed != nil {
		return nil, nil, a.Failed.err()
	}
	taking.set(a)
	first.Store(a)
	return runner, a, nil
}

// refusal is the error in the answer of a child that did not load its model.
func refusal(answer []byte) error {
	var a loadAnswer
	if err := json.Unmarshal(answer, &a); err != nil {
		return fmt.Errorf("%w: %w", errModel, err)
	}
	if a.Failed == nil {
		return fmt.Errorf("%w: the engine's process does not say why", errModel)
	}
	err := a.Failed.err()
	if errors.Is(err, errMemory) {
		err = fmt.Errorf("%w: %w", remote.ErrLater, err)
	}
	return err
}

// modelFiles are those that an engine opens.
func modelFiles(local *models.Local) []string {
	files := local.Parts()
	if name := projector(local); name != "" {
		files = append(files, name)
	}
	return files
}

// start runs an engine until it is stopped.
func (l *library) start(runner engine.Runner, memory *llama.Memory) *server.Instance {
	e := engine.New(runner, engine.Options{
		MaxWaiting:       l.o.maxWaiting,
		MaxWaitingTokens: l.o.maxWaitingTokens,
		MaxWait:          l.o.maxWait,
		Gap:              l.o.streamGap,
	})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	host := hostShare(memory)
	l.used.Add(host)

	in := &server.Instance{Engine: e, Done: done, Stop: sync.OnceFunc(stop)}
	in.Failed = func() error { return nil }
	if child, ok := runner.(*remote.Runner); ok {
		// Also when nobody asks it for anything, and its loop sleeps.
		context.AfterFunc(child.Failed(), stop)
		in.Failed = func() error { return failureOfChild(child) }
	}

	go func() {
		defer close(done)
		defer l.used.Add(-host)
		err := e.Run(ctx)
		if failed := in.Failed(); failed != nil {
			l.w.t.note("error: engine: %v", failed)
		} else if err != nil && ctx.Err() == nil {
			l.w.t.note("error: engine: %v", err)
		}
	}()
	return in
}

// failureOfChild is why a child could not be started again; nil if it runs, or was stopped.
func failureOfChild(child *remote.Runner) error {
	if err := context.Cause(child.Failed()); !errors.Is(err, engine.ErrAborted) {
		return err
	}
	return nil
}

// hostFree is what the machine has free for another model; 0 means unknown.
func (l *library) hostFree() uint64 { return l.freeWithout(0) }

// freeWithout is what the machine has free once a loaded model is gone that takes so much of it.
func (l *library) freeWithout(host uint64) uint64 {
	now, before, used := machine.FreeMemory(), l.free.Load(), l.used.Load()
	if now == 0 || before == 0 {
		return now
	}
	// Not 0, which would mean unknown.
	return max(1, min(now, before-min(before, used-min(used, host))))
}

// describe says what is being served, in plain lines.
func describe(t *terminal, o modelOptions, name string, r engine.Runner, a *loadAnswer, whyProcessor string) {
	m, limits := r.Model(), r.Limits()
	t.fact("model", "%s: %s %s, %s parameters, %s", name, m.Architecture, m.Quantization, count(m.Parameters), machine.FormatSize(m.Size))
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
		if a.ChatError != "" {
			t.note("warning: the model's chat template cannot write a chat, completions work: %s", a.ChatError)
		}
	}
	if a.Plan.EmbedLimit > 0 && m.Generates {
		t.note("warning: there is no memory to embed inputs of more than %d tokens", limits.EmbedTokens)
	}
	if a.Plan.Projector != "" {
		t.fact("images", "seen by %s", filepath.Base(a.Plan.Projector))
	}
	for _, d := range a.Memory.Devices {
		if d.Needs() > 0 {
			t.fact("memory", "%s: %s", d.Name, needs(d))
		}
	}
	t.fact("kernels", "%s, verified in %s", kernelsText(a.Kernels), a.Verified.Round(time.Millisecond))
	if a.Unconfined != "" {
		t.note("warning: the engine's process is not confined as it should be: %s", a.Unconfined)
	}
	for _, d := range a.Devices {
		switch {
		case d.Type != "cpu":
			t.fact("device", "%s %s", d.Name, d.Description)
		case whyProcessor != "":
			t.fact("device", "%s, %d threads; %s", strings.TrimSpace(d.Description), a.Plan.Threads, whyProcessor)
		default:
			t.fact("device", "%s, %d threads", strings.TrimSpace(d.Description), a.Plan.Threads)
		}
	}
}
