package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"serve/engine"
	"serve/engine/llama"
	"serve/engine/remote"
	"serve/kernels"
	"serve/models"
	"serve/sandbox"
	"serve/server"
	"serve/worker"
)

// loadRequest says what an engine is to load. It is plain data, for a process of its
// own or for this one.
type loadRequest struct {
	Name, Path, Projector string
	Parts                 []string // all files of the weights
	Shape                 string   // of the weights, for what was measured with others like them
	Kernels               string   // the processor's kernels to compute with
	TrainContext          int
	Shrink                bool
	Free                  uint64 // bytes of the host's memory, 0 if unknown
	Options               plannable
	Plan                  *llama.Options // as its predecessor was loaded; nil for the first
	GPUs                  []llama.Device // that must be there
	Unconfined            string         // why the process that started this one could not confine it
}

// plannable are the flags that a plan is made of.
type plannable struct {
	CtxSize, Parallel, KVCells, Threads int
	KVType, GPULayers                   string
	NoMMap, NoRepack                    bool
	Reserve                             memoryReserve
}

func (o *modelOptions) plannable() plannable {
	return plannable{
		CtxSize: o.ctxSize, Parallel: o.parallel, KVCells: o.kvCells, Threads: o.threads,
		KVType: o.kvType, GPULayers: o.gpuLayers,
		NoMMap: o.noMMap, NoRepack: o.noRepack,
		Reserve: o.reserve,
	}
}

func (p plannable) options() modelOptions {
	return modelOptions{
		ctxSize: p.CtxSize, parallel: p.Parallel, kvCells: p.KVCells, threads: p.Threads,
		kvType: p.KVType, gpuLayers: p.GPULayers,
		noMMap: p.NoMMap, noRepack: p.NoRepack,
		reserve: p.Reserve,
	}
}

// loadAnswer says what came of it.
type loadAnswer struct {
	Failed     *loadFailure `json:",omitempty"`
	Plan       llama.Options
	Memory     *llama.Memory     // as it was planned
	Left       map[string]uint64 // bytes free of each GPU that says so, once the model was loaded
	Changed    string            // what is not as its predecessor's, and why
	Devices    []llama.Device    // that compute the model
	GPUs       []llama.Device    // that its process sees
	Verified   time.Duration     // that it took to see that it computes
	ChatError  string            // why the model's template cannot write a chat
	Unconfined string            // why its process is not confined

	Kernels kernels.Choice `json:"-"` // the parent's
}

// loadFailure is an error that crosses to another process.
type loadFailure struct {
	Text, Hint string
	Code       int    // exitMemory, exitUsage, exitDevice or exitModel
	Wrong      bool   // it was loaded, and computed nonsense
	Short      uint64 // bytes that are missing, with exitMemory
}

// openModel plans a model's memory and loads it. unconfined is why this process is not
// confined, if it is not.
func openModel(request []byte, unconfined error) (engine.Runner, []byte) {
	var q loadRequest
	var a loadAnswer
	err := json.Unmarshal(request, &q)
	var runner engine.Runner
	if err == nil {
		runner, err = a.open(&q)
	}
	if q.Unconfined != "" {
		unconfined = errors.Join(unconfined, errors.New(q.Unconfined))
	}
	if unconfined != nil {
		a.Unconfined = strings.ReplaceAll(unconfined.Error(), "\n", "; ")
	}
	if err != nil {
		a = loadAnswer{Failed: failureOf(err)}
	}
	answer, err := json.Marshal(a)
	if err != nil && runner != nil {
		runner.Close()
		return nil, nil
	}
	return runner, answer
}

func (a *loadAnswer) open(q *loadRequest) (engine.Runner, error) {
	if err := errors.Join(beforeKernels(q.Kernels), llama.UseKernels(q.Kernels)); err != nil {
		return nil, fmt.Errorf("%w: %w", errModel, err)
	}
	list, err := askDrivers()
	if err != nil {
		return nil, err
	}
	// Before anything is planned: llama.cpp would compute on the processor instead.
	if missing := list.missing(q.GPUs); len(missing) > 0 {
		return nil, deviceError(missing, list.Warnings)
	}
	if o := q.Options.options(); !o.processorOnly() {
		a.GPUs = list.gpus()
	}

	if err := a.plan(q); err != nil {
		return nil, err
	}
	runner, err := llama.Load(q.Path, a.Plan)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errModel, err)
	}

	began := time.Now()
	if err := llama.Verify(runner, q.Plan != nil); err != nil {
		runner.Close()
		return nil, fmt.Errorf("%w: %w", errModel, err)
	}
	a.Verified = time.Since(began)

	if runner.Model().Generates {
		if _, err := runner.Render(engine.Chat{Messages: []byte(`[{"role":"user","content":"Hello"}]`)}); err != nil {
			a.ChatError = err.Error()
		}
	}
	llama.Trim()
	a.Left = freeOfCards(a.Memory)
	a.Devices = computing(list.Devices, a.Memory, a.Plan.Model.GPULayers)
	return runner, nil
}

func failureOf(err error) *loadFailure {
	f := &loadFailure{Text: err.Error(), Code: exitCode(err), Wrong: errors.Is(err, llama.ErrWrong)}
	var hint interface{ Hint() string }
	if errors.As(err, &hint) {
		f.Hint = hint.Hint()
	}
	var short *server.NoRoomError
	if errors.As(err, &short) {
		f.Short = short.Short
	}
	return f
}

// err is the error again, with what its callers look for.
func (f *loadFailure) err() error {
	kind := errModel
	switch f.Code {
	case exitMemory:
		kind = errMemory
	case exitUsage:
		kind = errUsage
	case exitDevice:
		kind = errDevice
	}
	var err error = &told{f.Text, kind}
	if f.Wrong {
		err = &told{f.Text, errors.Join(kind, llama.ErrWrong)}
	}
	if f.Hint != "" {
		err = withHint(err, "%s", f.Hint)
	}
	switch f.Code {
	case exitMemory:
		err = &server.NoRoomError{Err: err, Short: f.Short}
	case exitDevice:
		err = &server.DeviceError{Err: err}
	}
	return err
}

// told is an error by its text, and what it is.
type told struct {
	text string
	kind error
}

func (e *told) Error() string { return e.text }
func (e *told) Unwrap() error { return e.kind }

// newEngineCommand is what serve starts for each model: the same program, as a child
// that computes. It has two sockets and nothing else to talk to.
func newEngineCommand(t *terminal) *cobra.Command {
	var check, timing, devices, probe bool
	var checked string
	var first int
	cmd := &cobra.Command{
		Use:    "engine",
		Short:  "compute for the serve that started this",
		Hidden: true,
		Args:   arguments(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			switch {
			case check:
				return checkConfinement(t)
			case devices:
				return printDevices(t)
			case probe:
				return tryDevices(t)
			case timing:
				_ = sandbox.ForbidNetwork() // the engine itself says so if it cannot
				return timeForParent(os.Stdin, t.out)
			case checked != "":
				_ = sandbox.ForbidNetwork() // likewise
				return computeForParent(t.out, checked, first)
			}
			return serveEngine()
		},
	}
	cmd.Flags().BoolVar(&timing, "time-kernels", false, "time the processor's kernels as the request on stdin says, and exit")
	cmd.Flags().BoolVar(&check, "check", false, "print the sandbox restrictions that are not in force, and exit")
	cmd.Flags().BoolVar(&devices, "devices", false, "print the devices that drivers show to this process, and exit")
	cmd.Flags().BoolVar(&probe, "probe", false, "compute on each device, print what comes of it, and exit")
	cmd.Flags().StringVar(&checked, "check-kernels", "", "compute with each of the kernels named, print what came of it, and exit")
	cmd.Flags().IntVar(&first, "first-kernel", 0, "with --check-kernels: how many of them to leave out")
	return cmd
}

// serveEngine computes for the process that started this one.
func serveEngine() error {
	conn, err := remote.Join(os.NewFile(3, "steps"), os.NewFile(4, "calls"))
	if err != nil {
		return withHint(fmt.Errorf("%w: serve starts this command itself: %w", errUsage, err), "serve --help")
	}

	// What stops a service stops its parent, which lets answers end first.
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	unconfined := sandbox.ForbidNetwork()
	return remote.Serve(conn, func(request []byte) (engine.Runner, []byte) { return openModel(request, unconfined) })
}

// printDevices lists devices for the process that started this one.
func printDevices(t *terminal) error {
	list, err := askDrivers()
	if err != nil {
		return err
	}
	return t.printJSON(list)
}

// checkConfinement tells doctor how an engine is confined.
func checkConfinement(t *terminal) error {
	var said checkup
	if err := sandbox.ForbidNetwork(); err != nil {
		said.Network = err.Error()
	} else if c, err := net.Dial("udp", "127.0.0.1:9"); err == nil {
		c.Close()
		said.Network = "a socket could be opened"
	}
	return t.printJSON(said)
}

// spawn starts a child, which may read the files named. unconfined is why it is not kept
// to that, if it is not.
func (l *library) spawn(files []string) (p *remote.Process, unconfined, err error) {
	cache := l.cache()
	cmd, err := engineCommand(cache, "--log-level", l.w.logLevel)
	if err != nil {
		return nil, nil, err
	}
	parent, ends, err := remote.Pair()
	if err != nil {
		return nil, nil, err
	}
	defer ends[0].Close()
	defer ends[1].Close()

	cmd.ExtraFiles = ends
	child, err := worker.Start(cmd, worker.NewLog(l.w.t.err), func() (err error) {
		unconfined, err = sandbox.Start(cmd, sandbox.Rules{Files: files, Cache: cache})
		return err
	})
	if err != nil {
		parent.Steps.Close()
		parent.Calls.Close()
		return nil, nil, err
	}
	return &remote.Process{
		ID:   child.ID(),
		Conn: parent,
		Kill: child.Kill,
		Wait: func() remote.Exit { return remote.Exit(child.Wait()) },
	}, unconfined, nil
}

// request says what to load of a model.
func (l *library) request(local *models.Local, header *models.Header, shrink bool) loadRequest {
	return loadRequest{
		Name:         local.Name,
		Path:         local.Path(),
		Parts:        local.Parts(),
		Shape:        shape(header, l.o.kvType),
		Projector:    projector(local),
		TrainContext: header.TrainContext(),
		Shrink:       shrink,
		Free:         l.hostFree(),
		Options:      l.o.plannable(),
	}
}
