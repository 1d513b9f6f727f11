package loader

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"serve/engine"
	"serve/engine/llama"
	"serve/models"
	"serve/worker"
)

// Limits of what an engine's process says: the file that it reads may have taken it over.
const (
	maxAnswer  = 1 << 20 // bytes of an answer
	maxDevices = 256
	maxMemory  = 1 << 56 // bytes of a device's part
)

// How long a first load may take: for drivers that compile their code, and for each byte of the weights from a slow
// network file system. It is long because slow does not mean stuck.
const (
	loadTime     = 15 * time.Minute
	slowestBytes = 10 << 20 // in a second
)

// loadLimit is how long loading so many bytes may take.
func loadLimit(bytes uint64) time.Duration {
	return loadTime + time.Duration(bytes/slowestBytes)*time.Second
}

// expectation is what a model's header says of it, as Go has read it; zero values are unknown.
type expectation struct {
	Architecture string
	Vocabulary   int
	TrainContext int
	Bytes        uint64 // of all files of the weights
}

// expectationOf returns what the header of a model in these files says.
func expectationOf(h *models.Header, parts []string) expectation {
	e := expectation{
		Architecture: h.Architecture(),
		Vocabulary:   int(min(h.ArrayLengths["tokenizer.ggml.tokens"], 1<<30)),
		TrainContext: h.TrainContext(),
	}
	for _, part := range parts {
		if info, err := os.Stat(part); err == nil {
			e.Bytes += uint64(info.Size())
		}
	}
	return e
}

// check refuses what an engine's process says of a model if it cannot be the one of the header, or not as it was
// asked for.
func (e *expectation) check(m *engine.ModelInfo, l engine.Limits, o *ModelOptions) error {
	switch {
	case e.Architecture != "" && m.Architecture != e.Architecture:
		return fmt.Errorf("the file has a model of architecture %q, and the engine's process one of %q",
			e.Architecture, m.Architecture)
	case e.Vocabulary > 0 && len(m.Pieces) != e.Vocabulary:
		return fmt.Errorf("the file has %d tokens, and the engine's process %d", e.Vocabulary, len(m.Pieces))
	case e.TrainContext > 0 && m.TrainContext != e.TrainContext:
		return fmt.Errorf("the file's model was trained for %d tokens, and that of the engine's process for %d",
			e.TrainContext, m.TrainContext)
	case e.Bytes > 0 && m.Size > 2*e.Bytes:
		return fmt.Errorf("the files have %d bytes, and the weights in the engine's process %d", e.Bytes, m.Size)
	}
	if !m.Generates {
		return nil
	}

	sequences := max(o.Parallel, 1)
	context := o.Context
	if context == 0 {
		context = max(e.TrainContext, DefaultContext)
	}
	cells := max(o.Cells, context*sequences)
	none := l.Sequences < 1 || l.Context < 1 || l.Batch < 1
	if none || l.Sequences > sequences || l.Context > context || l.Cells > cells {
		return fmt.Errorf("the engine's process has %d sequences of %d tokens in %d cells, none or more than were asked for",
			l.Sequences, l.Context, l.Cells)
	}
	return nil
}

// readAnswer reads the answer of an engine's process. Its texts are fit for a terminal. Planned says that the process
// must have planned its memory.
func readAnswer(text []byte, planned bool) (*answer, error) {
	if len(text) > maxAnswer {
		return nil, fmt.Errorf("%w: the engine's process answers %d bytes", ErrModel, len(text))
	}
	a := new(answer)
	if err := json.Unmarshal(text, a); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModel, err)
	}
	if planned {
		if err := a.check(); err != nil {
			return nil, fmt.Errorf("%w: the engine's process: %w", ErrModel, err)
		}
	}

	texts := []*string{&a.Changed, &a.Decision.Choice, &a.Decision.Cost, &a.ChatError, &a.Unconfined, &a.NotSaved}
	for _, list := range [][]llama.Device{a.Devices, a.GPUs} {
		for i := range list {
			texts = append(texts, &list[i].Name, &list[i].Description, &list[i].Type)
		}
	}
	if f := a.Failed; f != nil {
		texts = append(texts, &f.Text)
		if f.NoRoom != nil {
			texts = append(texts, &f.NoRoom.Device)
		}
		if f.Device != nil {
			texts = append(texts, &f.Device.Text)
		}
	}
	if a.Memory != nil {
		for i := range a.Memory.Devices {
			texts = append(texts, &a.Memory.Devices[i].Name)
		}
	}
	for _, t := range texts {
		*t = worker.Printable(strings.ReplaceAll(*t, "\n", "; "))
	}
	return a, nil
}

// check refuses an answer with which nothing can be computed.
func (a *answer) check() error {
	if a.Failed != nil {
		return nil
	}
	if a.Memory == nil || len(a.Memory.Devices) == 0 {
		return errors.New("it says nothing of its memory")
	}
	if n := max(len(a.Memory.Devices), len(a.Devices), len(a.GPUs), len(a.Left)); n > maxDevices {
		return fmt.Errorf("it has %d devices", n)
	}
	for _, d := range a.Memory.Devices {
		for _, bytes := range []uint64{d.Free, d.Total, d.Weights, d.KV, d.Compute, d.Base, d.Later, d.Saved} {
			if bytes > maxMemory {
				return fmt.Errorf("it takes %d bytes of %q", bytes, d.Name)
			}
		}
	}
	return nil
}
