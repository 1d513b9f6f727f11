package loader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"serve/engine"
	"serve/engine/llama"
	"serve/engine/remote"
	"serve/fit"
	"serve/hostmem"
	"serve/kernels"
	"serve/sandbox"
)

// request tells an engine what to load. It is plain data, for another process or for this one.
type request struct {
	Name         string
	Path         string
	Projector    string   // its file, empty for none
	Parts        []string // all files of the weights
	Shape        string   // of the weights, to find measurements with models like this
	Kernels      string   // the CPU's kernels to compute with
	Apart        bool     // another process reads and writes text
	TrainContext int
	Shrink       bool
	Free         uint64 // bytes of the host's memory, 0 if unknown
	Options      ModelOptions
	Facts        *fit.Model     // what the model's header says; nil if unknown
	Plan         *llama.Options // the predecessor's; nil for the first
	GPUs         []llama.Device // that must be present
	RPC          []rpcDevices   // some of them
	Cache        cacheRequest
	Expect       expectation // for the parent
}

// answer is the answer to a request.
type answer struct {
	Failed     *failure `json:",omitempty"`
	Plan       llama.Options
	Memory     *llama.Memory     // as it was planned
	Left       map[string]uint64 // bytes free after the load, on each GPU that reports them
	Decision   Decision          // how it was planned
	Changed    string            // what differs from its predecessor
	Devices    []llama.Device    // that compute the model
	GPUs       []llama.Device    // that its process sees
	Verified   time.Duration     // time that the verification took
	ChatError  string            // why the model's chat template does not work
	Unconfined string            // why its process is not confined
	NotSaved   string            // why sequences of the model cannot be saved

	kernels kernels.Choice // the parent's
	cache   *hostmem.Arena // the parent's, to which sequences are saved; nil for none
}

// ServeEngine runs an engine for the process that started this one, over two sockets.
func ServeEngine(h *Hardware) error {
	return serveParent(func(text []byte, unconfined error) (*remote.Model, []byte) {
		return open(text, unconfined, func(a *answer, q *request) (*remote.Model, error) { return a.open(h, q) })
	})
}

// ServeText reads and writes text for a model that another process computes.
func ServeText() error {
	return serveParent(func(text []byte, unconfined error) (*remote.Model, []byte) {
		return open(text, unconfined, (*answer).openText)
	})
}

// serveParent serves what load loads.
func serveParent(load func(request []byte, unconfined error) (*remote.Model, []byte)) error {
	conn, err := remote.Join(os.NewFile(3, "steps"), os.NewFile(4, "calls"))
	if err != nil {
		return errParent(err)
	}

	// Signals that stop the service are for the parent, which lets answers finish first.
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	unconfined := sandbox.Seal()
	return remote.Serve(conn, func(text []byte) (*remote.Model, []byte) { return load(text, unconfined) })
}

// WriteDevices lists devices, in the process that ListDevices starts, with those of workers.
func WriteDevices(h *Hardware, out io.Writer, workers string) error {
	handed, err := parseRPC(workers)
	if err != nil {
		return errParent(err)
	}
	if err := h.addRPC(handed); err != nil {
		return err
	}
	list, err := h.listDevices()
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(list)
}

// WriteSandbox reports how this process, which CheckSandbox starts, is confined: it tries what the sandbox refuses.
func WriteSandbox(in io.Reader, out io.Writer) error {
	var scene sandbox.Scene
	if err := json.NewDecoder(in).Decode(&scene); err != nil {
		return errParent(err)
	}

	var said sandboxLine
	if err := sandbox.Seal(); err != nil {
		said.Unconfined = oneLine(err)
	}
	said.Results = sandbox.Probe(scene)
	return json.NewEncoder(out).Encode(said)
}

// oneLine returns an error's text without line breaks.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// open has load load what is asked for, and answers. unconfined says why this process is not confined; nil if it is.
func open(
	text []byte, unconfined error, load func(*answer, *request) (*remote.Model, error),
) (*remote.Model, []byte) {
	var q request
	var a answer
	var model *remote.Model
	err := json.Unmarshal(text, &q)
	if err == nil {
		model, err = load(&a, &q)
	}

	if unconfined != nil {
		a.Unconfined = oneLine(unconfined)
	}
	if err != nil {
		a = answer{Failed: failureOf(err)}
	}

	result, err := json.Marshal(a)
	if err != nil && model != nil {
		model.Close()
		return nil, nil
	}
	return model, result
}

// open plans a model's memory and loads it.
func (a *answer) open(h *Hardware, q *request) (*remote.Model, error) {
	if err := h.UseKernels(q.Kernels); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModel, err)
	}
	if q.Options.NUMA != "" {
		if err := llama.UseNUMA(q.Options.NUMA); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrOptions, err)
		}
	}
	if err := h.addRPC(q.RPC); err != nil {
		return nil, err
	}
	list, err := h.listDevices()
	if err != nil {
		return nil, err
	}

	// Check before planning: otherwise llama.cpp would compute on the CPU instead.
	if missing := list.Missing(q.GPUs); len(missing) > 0 {
		return nil, &DeviceError{
			Text: withRemedy(fmt.Sprintf("%s is on this machine, but the engine's process cannot use it%s",
				DescribeDevices(missing), JoinWarnings(list.Warnings))),
			Missing: true,
		}
	}
	if err := q.Options.reproducible(list.GPUs()); err != nil {
		return nil, err
	}
	if err := q.Options.checkDevices(list.GPUs()); err != nil {
		return nil, err
	}
	if !q.Options.cpuOnly() {
		a.GPUs = list.GPUs()
	}

	if err := a.plan(q); err != nil {
		return nil, err
	}
	a.Plan.Model.NoChat = q.Apart
	runner, err := llama.Load(q.Path, a.Plan)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModel, err)
	}
	model := &remote.Model{Runner: runner, Close: runner.Close}
	if !q.Apart {
		model.Text = runner
	}
	if err := a.verify(model, runner, q.Plan != nil); err != nil {
		runner.Close()
		return nil, err
	}
	if err := a.useCache(q, runner); err != nil {
		runner.Close()
		return nil, err
	}

	a.Plan.NotReproducible = runner.Model().Generates && !runner.Limits().Reproducible
	llama.Trim()
	a.Left = freeOfCards(a.Memory)
	a.Devices = computing(list.Devices, a.Memory, a.Plan.Model.GPULayers)
	return model, nil
}

// verify checks that a model computes correctly, and that its chat template works. again is set for a
// model that was verified before, in another process.
func (a *answer) verify(model *remote.Model, runner *llama.Runner, again bool) error {
	began := time.Now()
	err := llama.Verify(runner, again)
	if errors.Is(err, llama.ErrNotReproducible) {
		return badOption("--reproducible cannot be held with this model on this machine (kernels %s): %v",
			llama.CurrentKernels(), err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrModel, err)
	}
	a.Verified = time.Since(began)

	if model.Text != nil && runner.Model().Generates {
		a.greet(model.Text)
	}
	return nil
}

// greet checks that a chat template works.
func (a *answer) greet(t engine.Text) {
	hello := engine.Chat{Messages: []byte(`[{"role":"user","content":"Hello"}]`)}
	if _, err := t.Render(context.Background(), hello); err != nil {
		a.ChatError = err.Error()
	}
}

// plan decides how a model is loaded. The first engine of a model is free to choose; a restarted one
// must be like the first, but is planned again: memory that was free then may not be free now.
func (a *answer) plan(q *request) (err error) {
	measure := func(lo llama.Options) (*llama.Memory, error) { return measure(q.Path, lo, q.Free) }
	if q.Plan == nil {
		first := planner{
			o:         q.Options,
			projector: q.Projector,
			train:     q.TrainContext,
			facts:     q.Facts,
			shrink:    q.Shrink,
			measure:   measure,
		}
		a.Plan, a.Memory, err = first.plan()
		a.Decision = first.decision(a.Plan, a.Memory)
		return err
	}

	again := replanner{o: q.Options, facts: q.Facts, measure: measure, sleep: time.Sleep}
	a.Plan, a.Memory, err = again.plan(*q.Plan)
	if err == nil {
		a.Memory.Host().Saved = q.Cache.Bytes // which has taken what it has of it already
	}
	if err == nil {
		a.Changed = again.changes(*q.Plan, a.Plan)
	}
	return err
}
