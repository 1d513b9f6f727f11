// Package loader brings a model's file into memory and starts its engine: it plans the memory,
// chooses devices and kernels, starts the engine's process in its sandbox, sees that the model
// computes, and plans anew when that process is started again.
//
// It reads no flag and no variable of the environment: what it needs to know is in Options.
package loader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"serve/engine"
	"serve/engine/llama"
	"serve/engine/remote"
	"serve/kernels"
	"serve/machine"
	"serve/models"
)

// Options say how models are loaded. Store, Hardware and Reporter are required.
type Options struct {
	Model  ModelOptions
	Engine engine.Options

	Isolate bool          // compute in a process of its own for each model
	Stall   time.Duration // that a step may take before the engine is restarted; 2 minutes

	Store    *models.Store
	Hardware *Hardware
	Reporter Reporter
	Environ  []string  // of the processes that are started
	LogLevel string    // theirs
	Log      io.Writer // takes what they write to stderr
	Version  string    // of this program, for crash reports
}

// Reporter tells a person what a loader does. Texts begin with no capital and end with no period.
type Reporter interface {
	Warn(format string, args ...any)
	Error(format string, args ...any)
	Hint(format string, args ...any)
	Fact(label, format string, args ...any)
}

// Loader loads models. It may be used by several goroutines.
type Loader struct {
	o       Options
	workers *Workers
	kernels *kernels.Record
	gpus    gpuList
	noCache sync.Once // warns that drivers have no folder to write in

	// What this machine had free before anything was loaded, and what the loaded models were
	// planned to take of it. Mapped weights count as free memory for the kernel, which can drop
	// them; we cannot.
	free atomic.Uint64
	used atomic.Uint64
}

// New returns a Loader. What is free now is what it plans with.
func New(o Options) *Loader {
	record, err := OpenRecord(o.Store.Home, o.Model.Threads)
	if err != nil {
		o.Reporter.Warn("%v; kernels will be measured again", err)
	}

	l := &Loader{
		o:       o,
		workers: NewWorkers(o.Hardware, o.Environ, o.Store.Home),
		kernels: record,
	}
	l.free.Store(machine.FreeMemory())
	return l
}

// driverCache creates the folder for what drivers keep, and warns if that fails.
func (l *Loader) driverCache() {
	if _, err := l.workers.Cache(); err != nil {
		l.noCache.Do(func() {
			l.o.Reporter.Warn("GPU drivers have no cache, and compile their code at every start: %v", err)
		})
	}
}

// Check makes sure that the files of a model are what they should be, before C sees any. It is
// cheap when they have not been touched since the last time.
func (l *Loader) Check(ctx context.Context, local *models.Local) (*models.Header, error) {
	if _, err := l.o.Store.Verify(ctx, local, false); err != nil {
		return nil, err
	}
	header, err := models.ReadModel(local.Parts())
	if err == nil && local.Projector != nil {
		_, err = models.ReadProjector(local.Projector.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModel, err)
	}
	return header, nil
}

// Instance is a model in memory, whose engine runs.
type Instance struct {
	Engine *engine.Engine
	Model  *engine.Model
	Limits engine.Limits

	Plan       llama.Options
	Memory     *llama.Memory  // as it was planned
	Devices    []llama.Device // that compute the model
	WhyCPU     string         // it is computed without the machine's GPUs; empty if it is not
	Kernels    kernels.Choice // of the CPU
	Verified   time.Duration  // that it took to see that the model computes
	ChatError  string         // why the model's chat template cannot write a chat
	Unconfined string         // why the engine's process is not confined

	Done    <-chan struct{} // closed when the engine has ended and its memory is free
	Stop    func()          // ends the engine; Done tells when it has
	Failed  func() error    // says why the engine cannot go on, if it cannot
	Process func() int      // ID of the process that computes, 0 while there is none; nil if that is this one

	usage *usage
}

// Usage returns what the model was planned to take of each device, and takes, the host last.
func (in *Instance) Usage() []DeviceUse { return in.usage.now() }

// WarnOfUsage reports where the model takes another amount of memory than was planned.
func (in *Instance) WarnOfUsage(r Reporter, name string) { in.usage.warn(r, name) }

// Load plans a model's memory, loads it and starts its engine. With shrink it makes do with
// what is free: fewer KV cells than would be best. Without room the error is a NoRoomError.
func (l *Loader) Load(ctx context.Context, local *models.Local, shrink bool) (*Instance, error) {
	header, err := l.Check(ctx, local)
	if err != nil {
		return nil, err
	}

	use := new(usage)
	runner, a, err := l.open(ctx, l.request(local, header, shrink), modelFiles(local), use)
	if err != nil {
		return nil, err
	}

	in := &Instance{
		Model:      runner.Model(),
		Limits:     runner.Limits(),
		Plan:       a.Plan,
		Memory:     a.Memory,
		Devices:    a.Devices,
		WhyCPU:     l.whyCPU(a),
		Kernels:    a.kernels,
		Verified:   a.Verified,
		ChatError:  a.ChatError,
		Unconfined: a.Unconfined,
		Process:    use.process,
		usage:      use,
	}
	l.start(in, runner)
	return in, nil
}

// request says what to load of a model.
func (l *Loader) request(local *models.Local, header *models.Header, shrink bool) request {
	return request{
		Name:         local.Name,
		Path:         local.Path(),
		Parts:        local.Parts(),
		Shape:        shape(header, l.o.Model.KVType),
		Projector:    projectorFile(local),
		TrainContext: header.TrainContext(),
		Shrink:       shrink,
		Free:         l.hostFree(0),
		Options:      l.o.Model,
	}
}

// modelFiles are those that an engine opens.
func modelFiles(local *models.Local) []string {
	files := local.Parts()
	if name := projectorFile(local); name != "" {
		files = append(files, name)
	}
	return slices.Clip(files)
}

// start runs an engine until it is stopped.
func (l *Loader) start(in *Instance, runner engine.Runner) {
	in.Engine = engine.New(runner, l.o.Engine)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	host := hostShare(in.Memory)
	l.used.Add(host)

	in.Done = done
	in.Stop = sync.OnceFunc(stop)
	in.Failed = func() error { return nil }
	if child, ok := runner.(*remote.Runner); ok {
		// Also when nobody asks it for anything, and its loop sleeps.
		context.AfterFunc(child.Failed(), stop)
		in.Failed = func() error { return failureOfChild(child) }
	}

	go func() {
		defer close(done)
		defer l.used.Add(-host)
		err := in.Engine.Run(ctx)
		if failed := in.Failed(); failed != nil {
			l.o.Reporter.Error("engine: %v", failed)
		} else if err != nil && ctx.Err() == nil {
			l.o.Reporter.Error("engine: %v", err)
		}
	}()
}

// failureOfChild is why a child could not be started again; nil if it runs, or was stopped.
func failureOfChild(child *remote.Runner) error {
	if err := context.Cause(child.Failed()); !errors.Is(err, engine.ErrAborted) {
		return err
	}
	return nil
}

// hostFree returns what the machine has free for another model once a loaded one is gone that
// takes so much of it; 0 means unknown.
func (l *Loader) hostFree(gone uint64) uint64 {
	now := machine.FreeMemory()
	before := l.free.Load()
	used := l.used.Load()
	if now == 0 || before == 0 {
		return now
	}
	// Not 0, which would mean unknown.
	return max(1, min(now, before-min(before, used-min(used, gone))))
}
