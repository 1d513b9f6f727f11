package loader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"serve/engine"
	"serve/engine/llama"
	"serve/engine/remote"
	"serve/hostmem"
	"serve/sandbox"
	"serve/worker"
)

// open loads a model from these files, with the first of the kernels to try that works.
func (l *Loader) open(ctx context.Context, q request, files *openedFiles, use *usage) (*remote.Model, *answer, error) {
	var err error
	q.GPUs, err = l.expectGPUs(ctx)
	if err != nil {
		return nil, nil, err
	}

	trial := l.chooseKernels(ctx, &q, files.names)
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	var failures []error
	for i, name := range trial.order {
		q.Kernels = name
		model, a, err := l.openWith(ctx, q, files, use)
		if err == nil {
			if len(q.GPUs) == 0 { // otherwise it may have been their driver
				l.refuse(q.Name, trial.failed)
			}
			trial.choice.Name = name
			trial.choice.Refused = l.kernels.Refused()
			a.kernels = trial.choice
			return model, a, nil
		}
		if !isKernelFailure(err) {
			return nil, nil, err
		}

		failures = append(failures, err)
		trial.failed[name] = strings.SplitN(err.Error(), "\n", 2)[0]
		if i+1 < len(trial.order) {
			l.o.Reporter.Warn("%s does not run with kernels %s: %v; trying %s",
				q.Name, name, err, trial.order[i+1])
		}
	}

	if len(failures) == 0 {
		return nil, nil, fmt.Errorf("%w: this CPU can run none of the kernels in this build", ErrModel)
	}
	return nil, nil, fmt.Errorf("it runs with none of the kernels (%s): %w", strings.Join(trial.order, ", "), failures[0])
}

// openWith loads a model with the kernels in the request, in a separate process unless isolation is
// off.
func (l *Loader) openWith(
	ctx context.Context, q request, files *openedFiles, use *usage,
) (*remote.Model, *answer, error) {
	o := &opening{l: l, q: q, files: files}
	if err := o.newCache(); err != nil {
		l.o.Reporter.Warn("there is no prefix cache beside the slots: %v", err)
	}
	for attempts := 1; ; attempts++ {
		model, a, err := o.load(ctx, use)
		if err == nil {
			a.cache = o.cache
			use.set(a)
			o.first.Store(a)
			return model, a, nil
		}

		lacked := o.margins.tell()
		if lacked == "" || attempts == maxAttempts || ctx.Err() != nil {
			o.closeCache()
			return nil, nil, err
		}
		l.o.Reporter.Warn("%s: %s: it is planned again", q.Name, lacked)
	}
}

// maxAttempts is how often a model is planned and loaded that is measured to fit, and then does not: with the last
// margin, 8 GiB are left free.
const maxAttempts = 6

// load loads the model once.
func (o *opening) load(ctx context.Context, use *usage) (*remote.Model, *answer, error) {
	model, text, err := o.start(ctx, use)
	if err != nil {
		return nil, nil, err
	}

	a, err := readAnswer(text, true)
	if err == nil && a.Failed != nil {
		err = a.Failed.err()
	}
	if err == nil {
		err = o.limitCache(a)
	}
	if err != nil && model != nil {
		model.Close()
	}
	return model, a, err
}

// opening loads a model, and loads it again whenever its process has died.
type opening struct {
	l     *Loader
	q     request
	files *openedFiles
	text  bool           // the process reads and writes text, and computes nothing
	cache *hostmem.Arena // to which the engine saves sequences; nil for none

	first   atomic.Pointer[answer] // of the first process
	margins margins
}

// start loads the model in a child process or in this one, and returns the answer.
func (o *opening) start(ctx context.Context, use *usage) (*remote.Model, []byte, error) {
	if !o.l.o.Isolate {
		load := func(a *answer, q *request) (*remote.Model, error) { return a.open(o.l.o.Hardware, q) }
		model, text := open(o.request(), errors.New("it runs in serve's own process"), load)
		return model, text, nil
	}

	child, text, err := remote.Start(ctx, remote.Options{
		Spawn:     o.spawn,
		Request:   o.request,
		Refused:   refusal,
		Fault:     o.fault,
		Restarted: func(text []byte) { use.restarted(o.l.o.Reporter, o.q.Name, o.margins.tell(), text) },
		Stall:     o.l.o.Stall,
		Load:      loadLimit(o.q.Expect.Bytes),
		Check: func(m *engine.ModelInfo, limits engine.Limits) error {
			return o.q.Expect.check(m, limits, &o.q.Options)
		},
		Report:  func(c remote.Crash) { o.l.reportCrash(o.q.Name, c) },
		Discard: o.discard,
		Prepare: o.prepare,
	})
	if failed := cardFailure(err); failed != nil {
		return nil, nil, failed
	}
	var device *DeviceError
	if errors.As(err, &device) {
		return nil, nil, device
	}
	if err != nil && ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, nil, &StartError{Err: err, GPUs: len(o.q.GPUs) > 0}
	}
	if child == nil {
		return nil, text, nil
	}
	use.process = child.Process
	return &remote.Model{Runner: child, Close: child.Close}, text, nil
}

// request returns the request for a process. A restarted process should load the model as the first
// one did, as far as free memory allows.
func (o *opening) request() []byte {
	q := o.q
	if o.l.o.Isolate {
		o.files.inEngine(&q)
	}
	if o.cache != nil {
		q.Cache.Descriptor = int(o.cache.File().Fd())
		if o.l.o.Isolate {
			q.Cache.Descriptor = firstHanded + len(o.files.handed)
		}
	}
	q.Options.Reserve.More = o.margins.now()
	if o.l.o.Isolate {
		q.RPC = q.Options.handed(o.firstConnection())
	}
	if a := o.first.Load(); a != nil {
		q.Plan = &a.Plan
		q.Cache.Bytes = a.Memory.Host().Saved
		q.Free = o.l.hostFree(hostShare(a.Memory))
		q.GPUs = o.gpus()
	}

	text, err := json.Marshal(&q)
	if err != nil {
		return nil // an empty request is refused
	}
	return text
}

// gpus returns the GPUs that a process must see: those that drivers report outside of the sandbox, and those that the
// first process saw.
func (o *opening) gpus() []llama.Device {
	if a := o.first.Load(); a != nil {
		return append(slices.Clone(o.q.GPUs), DeviceList{Devices: o.q.GPUs}.Missing(a.GPUs)...)
	}
	return o.q.GPUs
}

// fault says what the end of a process says of its GPUs. The next plan leaves more free where memory ran out.
func (o *opening) fault(exit remote.ChildExit) remote.Fault {
	f, device := deviceFault(exit.Log, o.gpus())
	if f.Kind == remote.FaultOfMemory {
		o.margins.widen(device, o.gpus())
	}
	return f
}

// firstConnection is the descriptor of the first connection to a worker in an engine's process.
func (o *opening) firstConnection() int {
	first := firstHanded + len(o.files.handed)
	if o.cache != nil {
		first++
	}
	return first
}

// connect connects to the workers whose devices a child uses: one that reads and writes text uses none.
func (o *opening) connect() ([]*os.File, error) {
	if o.text {
		return nil, nil
	}
	return o.l.o.Model.connect(context.Background(), o.l.o.Connect)
}

// spawn starts a child, which may read the model's files.
func (o *opening) spawn() (*remote.Child, error) {
	l := o.l
	if err := o.files.check(); err != nil {
		return nil, err
	}
	connections, err := o.connect()
	if err != nil {
		return nil, err
	}
	defer closeAll(connections)
	l.driverCache()
	cmd, cache, err := l.workers.command(o.flags()...)
	if err != nil {
		return nil, err
	}
	parent, ends, err := remote.Pair()
	if err != nil {
		return nil, err
	}
	defer ends[0].Close()
	defer ends[1].Close()

	cmd.ExtraFiles = append(ends, o.files.handed...)
	if o.cache != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, o.cache.File())
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, connections...)
	rules := l.workers.rules(cache)
	rules.Files = o.files.names
	rules.Handed = o.files.inSandbox()
	rules.Devices = ownGPUs(o.q.GPUs)
	child, err := worker.Start(cmd, worker.NewLog(l.o.Log), func() error { return sandbox.Start(cmd, rules) })
	if err != nil {
		parent.Steps.Close()
		parent.Calls.Close()
		return nil, err
	}

	return &remote.Child{
		ID:   child.ID(),
		Conn: parent,
		Kill: child.Kill,
		Wait: func() remote.ChildExit { return remote.ChildExit(child.Wait()) },
	}, nil
}

// flags returns the flags of a process.
func (o *opening) flags() []string {
	flags := []string{"--" + FlagLogLevel, o.l.o.LogLevel}
	if o.text {
		flags = append(flags, "--"+FlagText)
	}
	return flags
}

// refusal returns the error in the answer of a child that did not load its model.
func refusal(text []byte) error {
	a, err := readAnswer(text, true)
	if err != nil {
		return err
	}
	if a.Failed == nil {
		return fmt.Errorf("%w: the engine's process gave no reason", ErrModel)
	}

	err = a.Failed.err()
	if errors.Is(err, ErrMemory) {
		err = fmt.Errorf("%w: %w", remote.ErrLater, err)
	}
	return err
}
