package llama

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"serve/engine"
	"serve/kernels"
)

// Kernels lists what this build has to compute with on the processor: ggml's CPU backend, compiled for one kind of
// processor after another, or for the machine that built it alone.
func Kernels() []kernels.Variant {
	list := make([]kernels.Variant, C.serve_kernels_count())
	for i := range list {
		list[i] = kernels.Variant{
			Name:  C.GoString(C.serve_kernels_name(C.int32_t(i))),
			Score: int(C.serve_kernels_score(C.int32_t(i))),
		}
	}
	return list
}

// KernelsBuild tells builds of the kernels apart: it changes with their source, their options and the compiler.
func KernelsBuild() string { return C.GoString(C.serve_kernels_build()) }

// UseKernels makes models that are loaded after it compute with the kernels named. Without it they are the best by
// llama.cpp's own score. A model's contexts must be made while its kernels are in use.
func UseKernels(name string) error {
	initialize()
	i := slices.IndexFunc(Kernels(), func(k kernels.Variant) bool { return k.Name == name })
	if i < 0 {
		return fmt.Errorf("this build has no kernels %q", name)
	}
	var e C.serve_error
	C.serve_kernels_use(C.int32_t(i), &e)
	return goError(&e)
}

// CurrentKernels are those that models are loaded with now.
func CurrentKernels() string {
	initialize()
	return C.GoString(C.serve_kernels_current())
}

// How kernels are timed.
const (
	excerptBytes  = 32 << 20
	timingPrompt  = 32
	timingRows    = 8
	timingRepeats = 4
	timingRounds  = 6
	timingBudget  = time.Second // after which no further round begins
	// hopeless is how many times as long as the fastest kernels may take and still be timed again.
	hopeless = 1.5
	// obsolete is the same for the first token, after which nothing else is timed.
	obsolete = 3
)

// TimeKernels times kernels on an excerpt of a model, whose files are paths: in rounds, so that a machine whose speed
// varies is the same for all, and the best of each counts. Those that are much slower than another are not timed to
// the end. Name the most capable first. Trying is told which kernels come next: it is all that anyone learns should
// they end the process.
func TimeKernels(paths []string, o Options, names []string, trying func(string)) ([]kernels.Timing, error) {
	initialize()
	e, err := newExcerpt(paths, excerptBytes)
	if err != nil {
		return nil, err
	}
	defer e.close()

	var trials []*kernelsTrial
	for _, name := range names {
		trying(name)
		t, err := e.trial(name, o)
		if err != nil {
			return nil, fmt.Errorf("kernels %s: %w", name, err)
		}
		defer t.model.Close()
		trials = append(trials, t)
	}

	began := time.Now()
	for round := 0; round < 2 || round < timingRounds && time.Since(began) < timingBudget; round++ {
		var best kernels.Timing
		for _, t := range trials {
			trying(t.Kernels)
			if err := t.round(best.Decode / obsolete); err != nil {
				return nil, fmt.Errorf("kernels %s: %w", t.Kernels, err)
			}
			if t.Speed() > best.Speed() {
				best = t.Timing
			}
		}
		for _, t := range trials {
			t.dropped = t.dropped || t.Speed()*hopeless < best.Speed()
		}
	}

	timings := make([]kernels.Timing, len(trials))
	for i, t := range trials {
		timings[i] = t.Timing
	}
	return timings, nil
}

// excerpt is a small model out of a large one: see excerpt.cpp.
type excerpt struct {
	c          *C.serve_excerpt
	vocabulary int
	share      float64 // of the model's layers
}

// newExcerpt takes as much of a model as fits into maxBytes, but at least one layer.
func newExcerpt(paths []string, maxBytes uint64) (*excerpt, error) {
	cpaths := make([]*C.char, len(paths))
	for i, path := range paths {
		cpaths[i] = C.CString(path)
		defer C.free(unsafe.Pointer(cpaths[i]))
	}
	var failed C.serve_error
	e := &excerpt{c: C.serve_excerpt_new(unsafe.SliceData(cpaths), C.int32_t(len(cpaths)), C.uint64_t(maxBytes), &failed)}
	if err := goError(&failed); err != nil {
		return nil, err
	}
	var vocabulary C.int32_t
	var share C.double
	C.serve_excerpt_share(e.c, &vocabulary, &share)
	e.vocabulary = int(vocabulary)
	e.share = float64(share)
	if e.vocabulary == 0 {
		e.close()
		return nil, errors.New("the model has no tokens")
	}
	return e, nil
}

func (e *excerpt) close() { C.serve_excerpt_free(e.c) }

// kernelsTrial is an excerpt loaded with some kernels, and what was measured so far.
type kernelsTrial struct {
	kernels.Timing

	model   *Model
	context ContextOptions
	share   float64
	dropped bool // too slow to be timed again
}

func (e *excerpt) trial(name string, o Options) (*kernelsTrial, error) {
	if err := UseKernels(name); err != nil {
		return nil, err
	}
	var failed C.serve_error
	m := &Model{c: C.serve_excerpt_load(e.c, &failed)}
	if err := goError(&failed); err != nil {
		return nil, err
	}
	m.info.Vocabulary = e.vocabulary

	c := o.contextOptions(m)
	c.BackendSampling = false
	c.Sequences = timingRows
	c.Cells = timingRows * 2 * timingPrompt
	c.Batch = timingPrompt
	c.Outputs = timingPrompt
	c.Shared = false
	return &kernelsTrial{Timing: kernels.Timing{Kernels: name}, model: m, context: c, share: e.share}, nil
}

// round times each shape in a context of its own: the threads of an old one would still be spinning. It stops after
// the first token where that comes at less than least a second.
func (t *kernelsTrial) round(least float64) error {
	if t.dropped {
		return nil
	}
	if err := UseKernels(t.Kernels); err != nil {
		return err
	}
	c, err := NewContext(t.model, t.context)
	if err != nil {
		return err
	}
	defer c.Close()

	// The first decode of a context also lays out its graphs.
	for i := range timingRepeats {
		decode, err := t.time(c, 1, 1, i)
		if err != nil {
			return err
		}
		t.Decode = max(t.Decode, decode)
	}
	if t.Decode < least {
		t.dropped = true
		return nil
	}
	c.ClearKV()
	prefill, err := t.time(c, 1, timingPrompt, 0)
	if err != nil {
		return err
	}
	for seq := 1; seq < timingRows; seq++ {
		c.CopyKV(0, seq)
	}
	t.Prefill = max(t.Prefill, prefill)
	for i := range timingRepeats {
		decode, err := t.time(c, timingRows, 1, timingPrompt+i)
		if err != nil {
			return err
		}
		t.Decode8 = max(t.Decode8, decode)
	}
	for i := range timingRepeats {
		decode, err := t.time(c, 1, 1, timingPrompt+timingRepeats+i)
		if err != nil {
			return err
		}
		t.Decode = max(t.Decode, decode)
	}
	return nil
}

// time decodes n tokens of each of the first sequences, and returns how many tokens a second the whole model would.
func (t *kernelsTrial) time(c *Context, sequences, n, position int) (float64, error) {
	var b engine.Batch
	for seq := range sequences {
		for i := range n {
			// Any tokens will do; unlike ones take unlike rows of the embeddings.
			token := engine.Token((7919*(position+i) + 104729*seq) % t.model.info.Vocabulary)
			b.Add(token, position+i, seq, true)
		}
	}
	began := time.Now()
	if err := c.Decode(&b); err != nil {
		return 0, err
	}
	return float64(b.Len()) * t.share / time.Since(began).Seconds(), nil
}
