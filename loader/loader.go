// Package loader loads models and starts their engines: it plans the memory, chooses devices
// and kernels, starts the engine's process in its sandbox, verifies that the model computes
// correctly, and plans again when that process is restarted.
//
// It reads no flags or environment variables: everything that it needs is in Options.
package loader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"serve/engine"
	"serve/engine/llama"
	"serve/engine/remote"
	"serve/kernels"
	"serve/machine"
	"serve/models"
)

// Options are the options of a Loader. Store, Hardware and Reporter are required.
type Options struct {
	Model  ModelOptions
	Engine engine.Options

	Isolate bool          // run each model in its own process
	Stall   time.Duration // duration of a step after which the engine is restarted; 2 minutes by default

	Store    *models.Store
	Hardware *Hardware
	Connect  Connect // to the workers of Model.RPC
	Reporter Reporter
	Environ  []string  // environment of engine processes
	LogLevel string    // of engine processes
	Log      io.Writer // receives the stderr of engine processes
	Version  string    // of this program, for crash reports
}

// Reporter tells the user what a loader does. Texts have no initial capital and no final period.
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
	folder  sharedFolder
	noCache sync.Once // for the warning that drivers have no folder to write to

	// The memory that was free before anything was loaded, and the planned memory of loaded
	// models. The kernel counts mapped weights as free memory, because it can drop them; we
	// cannot.
	free atomic.Uint64
	used atomic.Uint64
}

// New returns a Loader, which plans with the memory that is free now.
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

// driverCache creates the folder for the drivers' caches, and warns if that fails.
func (l *Loader) driverCache() {
	if _, err := l.workers.Cache(); err != nil {
		l.noCache.Do(func() {
			l.o.Reporter.Warn("GPU drivers have no cache, and compile their code at every start: %v", err)
		})
	}
}

// Check verifies the files of a model before C code sees them, and that it may be used. It is cheap if they have not
// been touched since the last time. Options that contradict each other are refused before files are read.
func (l *Loader) Check(ctx context.Context, local *models.Local) (*models.Header, error) {
	if err := checkPaths(local); err != nil {
		return nil, err
	}
	if err := l.o.Model.check(); err != nil {
		return nil, err
	}
	if err := l.o.Model.checkHost(local, l.o.Isolate); err != nil {
		return nil, err
	}

	if _, err := l.o.Store.Verify(ctx, local, false); err != nil {
		return nil, err
	}
	if err := l.o.Store.Admitted(ctx, local); err != nil {
		return nil, err
	}

	header, err := models.ReadModel(local.Parts())
	if err == nil && local.Projector != nil {
		_, err = models.ReadProjector(local.Projector.Name)
	}
	if err != nil {
		return nil, &fileError{err}
	}
	if err := l.o.Model.replaceMetadata(header); err != nil {
		return nil, err
	}

	for _, odd := range header.Oddities() {
		l.o.Reporter.Warn("%s: %s", local.Name, odd)
	}
	return header, nil
}

// checkPaths refuses paths that are not UTF-8: on Linux a file's name is any bytes, but requests to an engine's
// process, answers and logs are text, in which such a path would be another one.
func checkPaths(local *models.Local) error {
	paths := local.Parts()
	if local.Projector != nil {
		paths = append(paths, local.Projector.Name)
	}
	for _, path := range paths {
		if !utf8.ValidString(path) {
			return &models.Error{
				Kind: ErrModel,
				Text: fmt.Sprintf("the path %q is not UTF-8", path),
				Todo: "rename the file, or make a link to it and serve that",
			}
		}
	}
	return nil
}

// Loaded is a loaded model with a running engine.
type Loaded struct {
	Engine *engine.Engine
	Model  *engine.ModelInfo
	Limits engine.Limits

	Plan       llama.Options
	Memory     *llama.Memory  // as it was planned
	Decision   Decision       // how it was planned
	Devices    []llama.Device // that compute the model, at first
	WhyCPU     string         // why the machine's GPUs are not used then; empty if they are or there are none
	Kernels    kernels.Choice // of the CPU
	Verified   time.Duration  // time that the verification of the model took
	ChatError  string         // why the model's chat template does not work; empty if it does
	Unconfined string         // why the engine's process is not confined; empty if it is
	NotSaved   string         // why there is no prefix cache though there is memory for it; empty if there is one

	Done    <-chan struct{} // closed when the engine has ended and its memory is free
	Stop    func()          // stops the engine; Done is closed afterwards
	Failed  func() error    // returns why the engine has failed, if it has
	Process func() int      // returns the ID of the engine's process, 0 while there is none; nil if it is this one

	usage  *usage
	whyCPU func([]llama.Device) string
	folder *keptFolder // nil for none
}

// Computing returns the devices that compute the model now, and why the machine's GPUs are not used: another plan may
// have been made since it was loaded.
func (in *Loaded) Computing() (devices []llama.Device, whyCPU string) {
	devices = in.usage.computing()
	return devices, in.whyCPU(devices)
}

// Usage returns the planned and actual memory of the model on each device, the host last.
func (in *Loaded) Usage() []DeviceUse { return in.usage.now() }

// Resident returns the main memory that the model's processes take now: of the engine, and of those that read text.
func (in *Loaded) Resident() uint64 {
	if in.Process == nil {
		return 0
	}
	return machine.ResidentMemory(in.Process()) + in.usage.ofReaders()
}

// WarnOfUsage warns if the model's memory use differs from the plan.
func (in *Loaded) WarnOfUsage(r Reporter, name string) { in.usage.warn(r, name) }

// Load plans a model's memory, loads it and starts its engine. With shrink it makes do with
// the memory that is free, by using fewer KV cells. If it does not fit, the error is a
// MemoryError.
func (l *Loader) Load(ctx context.Context, local *models.Local, shrink bool) (*Loaded, error) {
	files, header, err := l.verified(ctx, local)
	if err != nil {
		return nil, err
	}
	loaded := false
	var a *answer
	defer func() {
		if !loaded {
			files.close()
			a.closeCache()
		}
	}()

	use := new(usage)
	facts, err := factsOf(header, local.Parts(), &l.o.Model)
	if err != nil {
		return nil, err
	}
	q := l.request(local, header, shrink)
	q.Facts = facts
	var text *textProcess
	if l.o.Isolate {
		if text, err = l.openText(ctx, q, files, use); err != nil {
			return nil, err
		}
		q.Apart = true
		q.Free = l.hostFree(0) // it has taken some
	}
	var model *remote.Model
	model, a, err = l.open(ctx, q, files, use)
	if err != nil {
		text.close()
		return nil, err
	}
	if err := files.check(); err != nil {
		model.Close()
		text.close()
		return nil, err
	}
	if text != nil {
		text.join(model, a)
	}

	folder, err := l.useFolder(ctx, files.model, a)
	if err != nil {
		model.Close()
		text.close()
		return nil, err
	}

	in := l.describe(a, model.Runner, use)
	loaded = true
	in.folder = folder
	use.keep(folder)
	l.start(in, model, text)
	go func() {
		<-in.Done
		files.close()
		a.closeCache()
	}()
	return in, nil
}

// describe returns what there is to say of a model that is open.
func (l *Loader) describe(a *answer, runner engine.Runner, use *usage) *Loaded {
	return &Loaded{
		Model:      runner.Model(),
		Limits:     runner.Limits(),
		Plan:       a.Plan,
		Memory:     a.Memory,
		Decision:   a.Decision,
		Devices:    a.Devices,
		WhyCPU:     l.whyCPU(a.Devices),
		Kernels:    a.kernels,
		Verified:   a.Verified,
		ChatError:  a.ChatError,
		Unconfined: a.Unconfined,
		NotSaved:   a.NotSaved,
		Process:    use.process,
		usage:      use,
		whyCPU:     l.whyCPU,
	}
}

// verified opens the files of a model, and checks what is in them.
func (l *Loader) verified(ctx context.Context, local *models.Local) (*openedFiles, *models.Header, error) {
	if err := checkPaths(local); err != nil {
		return nil, nil, err
	}
	files := &openedFiles{names: modelFiles(local), model: local}
	if l.o.Isolate {
		opened, err := openFiles(local, l.o.Store.Home)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrModel, err)
		}
		files = opened
	}

	checked, err := files.model.Identity()
	if err == nil {
		files.check = func() error { return unchanged(files.model, checked) }
		var header *models.Header
		if header, err = l.Check(ctx, files.model); err == nil {
			return files, header, nil
		}
	}
	files.close()
	if _, named := l.Check(ctx, local); named != nil {
		err = named // the same, with the names of the files
	}
	return nil, nil, err
}

// request returns the request to load a model.
func (l *Loader) request(local *models.Local, header *models.Header, shrink bool) request {
	options := l.o.Model
	options.PrefixFolder = "" // which the engine's process has nothing to do with
	return request{
		Name:         local.Name,
		Path:         local.Path(),
		Parts:        local.Parts(),
		Shape:        shape(header, l.o.Model.DescribeKVType()),
		Projector:    projectorFile(local),
		TrainContext: header.TrainContext(),
		Shrink:       shrink,
		Free:         l.hostFree(0),
		Options:      options,
		Expect:       expectationOf(header, local.Parts()),
	}
}

// unchanged returns an error if the files of a model are not what they were.
func unchanged(local *models.Local, checked string) error {
	now, err := local.Identity()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrModel, err)
	}
	if now != checked {
		return &models.Error{
			Kind: ErrModel,
			Text: "the files of " + local.Name + " have changed since they were verified",
			Todo: "restart serve, which verifies them again",
		}
	}
	return nil
}

// modelFiles returns the files that an engine opens.
func modelFiles(local *models.Local) []string {
	files := local.Parts()
	if name := projectorFile(local); name != "" {
		files = append(files, name)
	}
	return slices.Clip(files)
}

// start runs an engine until it is stopped.
func (l *Loader) start(in *Loaded, model *remote.Model, text *textProcess) {
	o := l.o.Engine
	o.Reproducible = l.o.Model.Reproducible
	o.PrefixCache = int64(in.Memory.Host().Saved)
	if in.folder != nil {
		o.Folder = in.folder.Model
	}
	in.Engine = engine.New(model.Runner, model.Text, o)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	host := hostShare(in.Memory)
	l.used.Add(host)

	in.Done = done
	in.Stop = sync.OnceFunc(stop)
	in.Failed = func() error { return nil }
	if child, ok := model.Runner.(*remote.Runner); ok {
		// Needed if there are no requests, and the loop sleeps.
		context.AfterFunc(child.Failed(), stop)
		in.Failed = func() error { return failureOfChild(child) }
	}
	if text != nil {
		// Without it, no request can be read any more.
		context.AfterFunc(text.Failed(), stop)
		ofEngine := in.Failed
		in.Failed = func() error { return cmp.Or(ofEngine(), failureOfChild(text.Runner)) }
		// The engine waits for calls under way before it ends.
		context.AfterFunc(ctx, text.Abort)
	}

	go func() {
		defer close(done)
		defer l.used.Add(-host)
		defer text.close()
		defer in.folder.close()
		err := in.Engine.Run(ctx)
		if failed := in.Failed(); failed != nil {
			l.o.Reporter.Error("engine: %v", failed)
		} else if err != nil && ctx.Err() == nil {
			l.o.Reporter.Error("engine: %v", err)
		}
	}()
}

// failureOfChild returns why a child could not be restarted; nil if it runs or was stopped.
func failureOfChild(child *remote.Runner) error {
	if err := context.Cause(child.Failed()); !errors.Is(err, engine.ErrAborted) {
		return err
	}
	return nil
}

// hostFree returns the bytes that the machine has free for another model, after a loaded one
// that was planned to take gone bytes has ended; 0 means unknown.
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
