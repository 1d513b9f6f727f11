package loader

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"serve/engine"
	"serve/engine/llama"
	"serve/engine/remote"
)

// Limits of the process that reads and writes text for a model. What clients send can make it busy, or end it, but
// it has nobody's KV cells.
const (
	// textTime is the CPU time that a call may take, and as much again for each MiB that it sends. The slowest
	// patterns of tokenizers split 1 MiB in about a second.
	textTime = 2 * time.Second

	// textMemory bounds the memory of a process; a vocabulary of 260,000 tokens takes about 150 MB. Stacks for long
	// words count, though most of them is never touched.
	textMemory = 3 << 29
)

// textProcess reads and writes text for a model.
type textProcess struct {
	*remote.Runner

	l         *Loader
	chatError string
	taken     uint64
}

// openText starts a process that has the vocabulary and the chat template of a model, and a spare one. It is the
// first that meets the model's file and its template, under a limit of time.
func (l *Loader) openText(ctx context.Context, q request, files *openedFiles, use *usage) (*textProcess, error) {
	o := &opening{l: l, q: q, files: files, text: true}
	child, said, err := remote.Start(ctx, remote.Options{
		Name:    "tokenizer",
		Spawn:   o.spawn,
		Request: o.request,
		Refused: refusal,
		Stall:   l.o.Stall,
		Load:    l.o.Stall,
		CPU:     textTime,
		Spare:   true,
		Report:  func(c remote.Crash) { l.reportCrash(q.Name, c) },
	})
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, &StartError{Err: err}
	}
	if child == nil {
		return nil, refusal(said)
	}

	a, err := readAnswer(said, false)
	if err != nil {
		child.Close()
		return nil, err
	}
	t := &textProcess{Runner: child, l: l, chatError: a.ChatError}
	use.readers = child.Processes
	t.taken = 2 * use.ofReaders() // and the spare one
	use.reading = t.taken
	l.used.Add(t.taken)
	return t, nil
}

// join makes the process the Text of a model that another process computes.
func (t *textProcess) join(model *remote.Model, a *answer) {
	model.Text = t.Runner
	if model.Runner.Model().Generates {
		a.ChatError = t.chatError
	}
}

// close ends the process. There may be none.
func (t *textProcess) close() {
	if t != nil {
		t.l.used.Add(-t.taken)
		t.Close()
	}
}

// openText loads a vocabulary and chat templates, in the process for them.
func (a *answer) openText(q *request) (*remote.Model, error) {
	limit := syscall.Rlimit{Cur: textMemory, Max: textMemory}
	if err := syscall.Setrlimit(syscall.RLIMIT_DATA, &limit); err != nil {
		return nil, fmt.Errorf("limit the memory: %w", err)
	}
	t, err := llama.LoadText(q.Path, q.Options.Metadata)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModel, err)
	}
	a.greet(t)
	return &remote.Model{Text: t, Vocabulary: t.Vocabulary(), Close: t.Close, Release: llama.Trim}, nil
}

var _ engine.Text = (*llama.Text)(nil)
